//go:build unix

// Package redistest starts redis-servers for tests and simulates their failures.
package redistest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
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

// Server is a redis-server on a free port of this machine, with its files in a temporary directory of the test.
type Server struct {
	t    testing.TB
	dir  string
	port int
	args []string
	file string // its configuration file, "" for none

	mu      sync.Mutex
	command *exec.Cmd
	done    chan struct{}
	log     *bytes.Buffer
}

// Start starts a server with the given settings, for instance "--appendonly", "yes". The server is killed at the end of
// the test. By default it stores nothing on disk. If redis-server is not installed, Start skips the test, or fails it
// if the environment variable CI is set.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	return start(t, "", args...)
}

func start(t testing.TB, file string, args ...string) *Server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("redis-server is not installed, but CI requires it")
		}
		t.Skip("redis-server is not installed")
	}
	s := &Server{t: t, dir: t.TempDir(), port: freePort(t), args: args, file: file}
	t.Cleanup(s.Kill)
	s.Restart()
	return s
}

// taken are the ports that freePort has returned.
var taken sync.Map

// freePort returns a port below the range from which the system takes the ports of outgoing connections, which could
// otherwise use it before the server does. The port 10,000 above it is free as well: a node of a cluster needs both.
func freePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 12000 + rand.IntN(10000)
		if _, used := taken.LoadOrStore(port, true); used || listens(port) || listens(port+10000) {
			continue
		}
		return port
	}
	t.Fatal("no free port found")
	return 0
}

// listens reports whether a server may be listening on the port.
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

// Restart starts a killed server again, on the same port and with its files, and waits until it answers.
func (s *Server) Restart() {
	s.t.Helper()
	log := new(bytes.Buffer)
	args := append([]string{
		"--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--dir", s.dir, "--save", "", "--appendonly", "no",
		"--cluster-node-timeout", "2000", "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1",
	}, s.args...)
	if s.file != "" {
		args = append([]string{s.file}, args...)
	}
	command := exec.Command("redis-server", args...)
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		s.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = command.Wait() // it was killed, or its log has the reason
	}()
	s.mu.Lock()
	s.command, s.done, s.log = command, done, log
	s.mu.Unlock()
	s.until("it does not answer", func() bool {
		select {
		case <-done:
			s.t.Fatalf("redis-server has exited: %s", log)
		default:
		}
		reply, err := s.ask("PING")
		return err == nil && reply == "+PONG"
	})
}

// until waits until ok returns true. problem describes the state until then.
func (s *Server) until(problem string, ok func() bool) {
	s.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			s.t.Fatalf("redis-server at %s: after 20 s %s", s.Addr(), problem)
		}
	}
}

// Kill kills the server with SIGKILL, even if it is frozen.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.command != nil {
		_ = s.command.Process.Kill() // it may have exited already
		<-s.done
		s.command = nil
	}
}

// Freeze suspends the server. Its connections stay open, but it does not answer.
func (s *Server) Freeze() { s.signal(syscall.SIGSTOP) }

// Thaw resumes a frozen server.
func (s *Server) Thaw() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.command.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// Do sends a command on a new connection and returns the reply: its first line, or the content of a bulk string.
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
	reply := bufio.NewReader(conn)
	line, err := reply.ReadString('\n')
	line = strings.TrimSpace(line)
	if size, ok := strings.CutPrefix(line, "$"); ok && err == nil {
		n, err := strconv.Atoi(size)
		content := make([]byte, max(n, 0))
		if err == nil {
			_, err = io.ReadFull(reply, content)
		}
		return string(content), err
	}
	return line, err
}

func (s *Server) mustDo(args ...string) {
	s.t.Helper()
	if reply := s.Do(args...); reply != "+OK" {
		s.t.Fatalf("%q: %s", args, reply)
	}
}

// says reports whether the reply to a command, such as INFO, has the line.
func (s *Server) says(line string, command ...string) bool {
	reply, err := s.ask(command...)
	return err == nil && strings.Contains("\n"+reply, "\n"+line+"\r")
}
