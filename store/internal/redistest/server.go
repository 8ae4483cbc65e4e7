//go:build unix

// Package redistest starts real redis-servers for tests, and harms them.
package redistest

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Server is a redis-server on a free port of this machine, with its files in a directory of the test's.
type Server struct {
	t    testing.TB
	dir  string
	port int
	args []string

	mu      sync.Mutex
	command *exec.Cmd
	done    chan struct{}
	log     *bytes.Buffer
}

// Start starts a server with the given settings, say "--appendonly", "yes", and ends it with the test. By default it
// keeps nothing on disk. Without a redis-server on this machine the test is skipped, but on a CI machine it fails.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("there is no redis-server on this machine, which CI must have")
		}
		t.Skip("there is no redis-server on this machine")
	}
	s := &Server{t: t, dir: t.TempDir(), port: freePort(t), args: args}
	t.Cleanup(s.Kill)
	s.Restart()
	return s
}

// freePort returns a port below those that the system gives to outgoing connections, which could take it in between,
// and with room for the port 10,000 above it, which a cluster's node takes, too.
func freePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 12000 + rand.IntN(10000)
		if listens(port) || listens(port+10000) {
			continue
		}
		return port
	}
	t.Fatal("no free port found")
	return 0
}

func listens(port int) bool {
	l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
	if err != nil {
		return true
	}
	l.Close()
	return false
}

// Addr returns the server's address.
func (s *Server) Addr() string { return "127.0.0.1:" + strconv.Itoa(s.port) }

// Restart starts the server again on its port, after Kill, with whatever it has on disk.
func (s *Server) Restart() {
	s.t.Helper()
	log := new(bytes.Buffer)
	command := exec.Command("redis-server", append([]string{
		"--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--dir", s.dir, "--save", "", "--appendonly", "no",
		"--cluster-node-timeout", "2000", "--repl-diskless-sync-delay", "0",
	}, s.args...)...)
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		s.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = command.Wait() // it was killed, or says why in its log
	}()
	s.mu.Lock()
	s.command, s.done, s.log = command, done, log
	s.mu.Unlock()
	s.until("it answers", func() bool {
		select {
		case <-done:
			s.t.Fatalf("redis-server ended: %s", log)
		default:
		}
		reply, err := s.ask("PING")
		return err == nil && reply == "+PONG"
	})
}

func (s *Server) until(what string, ok func() bool) {
	s.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			s.t.Fatalf("redis-server at %s: not so in time: %s", s.Addr(), what)
		}
	}
}

// Kill ends the server at once, as kill -9 does, also while it is frozen.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.command != nil {
		_ = s.command.Process.Kill() // it may have ended by itself
		<-s.done
		s.command = nil
	}
}

// Freeze stops the server without closing its connections: it is there, and does not answer.
func (s *Server) Freeze() { s.signal(syscall.SIGSTOP) }

// Thaw lets a frozen server go on.
func (s *Server) Thaw() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.command.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// Do sends a command on a connection of its own, and returns the first line of the reply.
func (s *Server) Do(args ...string) string {
	s.t.Helper()
	reply, err := s.ask(args...)
	if err != nil {
		s.t.Fatalf("%q: %v", args, err)
	}
	return reply
}

func (s *Server) ask(args ...string) (string, error) {
	conn, err := net.DialTimeout("tcp", s.Addr(), time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	var request strings.Builder
	fmt.Fprintf(&request, "*%d\r\n", len(args))
	for _, arg := range args {
		fmt.Fprintf(&request, "$%d\r\n%s\r\n", len(arg), arg)
	}
	if _, err := conn.Write([]byte(request.String())); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	return strings.TrimSpace(line), err
}

// StartCluster starts a cluster of n primaries without replicas, and waits until all of its slots are served.
func StartCluster(t testing.TB, n int) []*Server {
	t.Helper()
	const slots = 16384
	servers := make([]*Server, n)
	for i := range servers {
		servers[i] = Start(t, "--cluster-enabled", "yes")
	}
	for i, s := range servers {
		s.mustDo("CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(i*slots/n), strconv.Itoa((i+1)*slots/n-1))
		s.mustDo("CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
	}
	for _, s := range servers[1:] {
		s.mustDo("CLUSTER", "MEET", "127.0.0.1", strconv.Itoa(servers[0].port))
	}
	for _, s := range servers {
		s.until("the cluster is whole", func() bool {
			return s.clusterSays("cluster_state:ok") && s.clusterSays(fmt.Sprintf("cluster_known_nodes:%d", n))
		})
	}
	return servers
}

func (s *Server) mustDo(args ...string) {
	s.t.Helper()
	if reply := s.Do(args...); reply != "+OK" {
		s.t.Fatalf("%q: %s", args, reply)
	}
}

func (s *Server) clusterSays(what string) bool {
	conn, err := net.DialTimeout("tcp", s.Addr(), time.Second)
	if err != nil {
		return false
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := conn.Write([]byte("CLUSTER INFO\r\n")); err != nil {
		return false
	}
	reply := bufio.NewScanner(conn)
	for reply.Scan() {
		line := strings.TrimSpace(reply.Text())
		if line == what {
			return true
		}
		if strings.HasPrefix(line, "total_cluster_links_buffer_limit_exceeded") || strings.HasPrefix(line, "-") {
			return false
		}
	}
	return false
}
