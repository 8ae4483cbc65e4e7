package main

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
)

// A network connects hosts, which are addresses in 127.0.0.0/8. Each server on a host is reached through a proxy, which
// knows the host at the other end from the source address. So the network can be partitioned without any privilege.
//
// A partition is like that of a real network: nothing gets through, no connection is closed, and what was sent arrives
// when the partition ends. One difference remains: a new connection is accepted during the partition, but silent.
type network struct {
	prefix string // of the addresses of the hosts

	mu      sync.Mutex
	changed *sync.Cond
	held    map[[2]string]bool // what the first host sends to the second does not arrive for now
	closed  bool
}

var networks atomic.Int64

func (l *lab) newNetwork() *network {
	n := &network{
		prefix: fmt.Sprintf("127.%d.%d.", 1+os.Getpid()%250, networks.Add(1)%250),
		held:   map[[2]string]bool{},
	}
	n.changed = sync.NewCond(&n.mu)
	l.cleanup(func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.closed = true
		n.changed.Broadcast()
	})
	return n
}

// host returns the address of a host.
func (n *network) host(i int) string { return n.prefix + strconv.Itoa(i+1) }

// authHost returns the number of the address of an Auth. It is another one than that of the Redis on the same host.
func authHost(server int) int { return servers + server }

// hold holds back what one host sends to another, or lets it through.
func (n *network) hold(from, to int, held bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.held[[2]string{n.host(from), n.host(to)}] = held
	n.changed.Broadcast()
}

// isolate holds back everything between host 0, with its Auth, and the others, or lets it through.
func (n *network) isolate(held bool) {
	for _, here := range []int{0, authHost(0)} {
		for other := 1; other < servers; other++ {
			for _, there := range []int{other, authHost(other)} {
				n.hold(here, there, held)
				n.hold(there, here, held)
			}
		}
	}
}

// pass waits while the link is held. It returns false at the end of the scenario.
func (n *network) pass(from, to string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for !n.closed && n.held[[2]string{from, to}] {
		n.changed.Wait()
	}
	return !n.closed
}

// proxy returns a port of a host that leads to another port of the same host.
func (l *lab) proxy(n *network, host int, announced, port int) {
	listener, err := net.Listen("tcp", net.JoinHostPort(n.host(host), strconv.Itoa(announced)))
	l.must(err)
	l.cleanup(func() { listener.Close() })
	go func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", net.JoinHostPort(n.host(host), strconv.Itoa(port)))
			if err != nil {
				in.Close()
				continue
			}
			from, _, _ := net.SplitHostPort(in.RemoteAddr().String())
			go n.copy(out, in, from, n.host(host))
			go n.copy(in, out, n.host(host), from)
		}
	}()
}

// copy forwards what one end sends, and closes the connection when that end has closed it.
func (n *network) copy(dst, src net.Conn, from, to string) {
	defer src.Close()
	defer dst.Close()
	buffer := make([]byte, 32<<10)
	for {
		count, err := src.Read(buffer)
		if !n.pass(from, to) {
			return
		}
		if _, failed := dst.Write(buffer[:count]); err != nil || failed != nil {
			return
		}
	}
}
