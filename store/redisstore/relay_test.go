//go:build unix

package redisstore_test

import (
	"bytes"
	"net"
	"sync"
	"testing"
)

// A relay forwards connections to a server. It can hold back what goes through the connections of feeds, which it knows
// by the command TRACKING, and reset connections.
type relay struct {
	listener net.Listener
	wg       sync.WaitGroup

	mu       sync.Mutex
	changed  *sync.Cond
	server   string
	conns    map[net.Conn]bool
	requests bool // of feeds, held back
	replies  bool // of feeds, held back
	answers  bool // the replies on all other connections, held back
	held     int  // counts what was held back
}

func newRelay(t testing.TB, server string) *relay {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: listener, server: server, conns: map[net.Conn]bool{}}
	r.changed = sync.NewCond(&r.mu)
	r.wg.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			r.wg.Go(func() { r.serve(client) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		r.hold(false, false)
		r.holdAnswers(false)
		r.reset()
		r.wg.Wait()
	})
	return r
}

func (r *relay) addr() string { return r.listener.Addr().String() }

// hold holds back the requests and the replies of feeds, or lets them go on.
func (r *relay) hold(requests, replies bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests, r.replies = requests, replies
	r.changed.Broadcast()
}

// holdAnswers holds back the replies on all connections that are not those of feeds, or lets them go on.
func (r *relay) holdAnswers(hold bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answers, r.held = hold, 0
	r.changed.Broadcast()
}

// untilHeld waits until something was held back.
func (r *relay) untilHeld() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.held == 0 {
		r.changed.Wait()
	}
}

// redirect connects further clients to another server. Open connections stay.
func (r *relay) redirect(server string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.server = server
}

// reset closes all open connections.
func (r *relay) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for conn := range r.conns {
		conn.Close()
	}
}

func (r *relay) serve(client net.Conn) {
	r.mu.Lock()
	address := r.server
	r.mu.Unlock()
	server, err := net.Dial("tcp", address)
	if err != nil {
		client.Close()
		return
	}
	r.mu.Lock()
	r.conns[client], r.conns[server] = true, true
	r.mu.Unlock()
	feeds := false // guarded by r.mu
	pump := func(to, from net.Conn, held *bool) {
		defer to.Close()
		defer from.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := from.Read(buf)
			if err != nil {
				return
			}
			r.mu.Lock()
			feeds = feeds || held == &r.requests && bytes.Contains(buf[:n], []byte("TRACKING"))
			if feeds && *held || !feeds && held == &r.replies && r.answers {
				r.held++
				r.changed.Broadcast()
			}
			for feeds && *held || !feeds && held == &r.replies && r.answers {
				r.changed.Wait()
			}
			r.mu.Unlock()
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { pump(server, client, &r.requests) })
	wg.Go(func() { pump(client, server, &r.replies) })
	wg.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, client)
	delete(r.conns, server)
}
