package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A server is a redis-server, or a Sentinel, with a directory of its own.
type server struct {
	lab  *lab
	ip   string
	port int
	dir  string
	args []string

	command *exec.Cmd
	exited  chan struct{}
	log     *bytes.Buffer
}

// redis starts a server on 127.0.0.1. By default it stores nothing on disk.
func (l *lab) redis(settings ...string) *server {
	return l.redisAt("127.0.0.1", settings...)
}

// redisAt starts a server on an address. That is also the source address of the connections that the server makes.
func (l *lab) redisAt(ip string, settings ...string) *server {
	s := &server{lab: l, ip: ip, port: l.freePort(ip), dir: l.newDir()}
	s.args = append([]string{
		"--port", strconv.Itoa(s.port), "--bind", ip, "--bind-source-addr", ip, "--dir", s.dir,
		"--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0",
	}, settings...)
	l.cleanup(s.kill)
	s.start()
	return s
}

// freePort returns a port of the address below the range of outgoing connections. The port 10,000 above it is free as
// well, because a node of a Cluster needs both.
func (l *lab) freePort(ip string) int {
	for range 100 {
		port := 12000 + rand.IntN(10000)
		if canListen(ip, port) && canListen(ip, port+10000) {
			return port
		}
	}
	l.must(fmt.Errorf("no free port on %s", ip))
	return 0
}

func canListen(ip string, port int) bool {
	listener, err := net.Listen("tcp", net.JoinHostPort(ip, strconv.Itoa(port)))
	if err != nil {
		return false
	}
	listener.Close()
	return true
}

func (s *server) addr() string { return net.JoinHostPort(s.ip, strconv.Itoa(s.port)) }

// start starts a server, or starts a killed one again with its files, and waits until it answers.
func (s *server) start() {
	s.log = new(bytes.Buffer)
	s.command = exec.Command("redis-server", s.args...)
	s.command.Stdout, s.command.Stderr = s.log, s.log
	s.lab.must(s.command.Start())
	s.exited = make(chan struct{})
	go func(command *exec.Cmd, exited chan struct{}) {
		_ = command.Wait()
		close(exited)
	}(s.command, s.exited)
	s.lab.until("redis-server answers", func() bool {
		select {
		case <-s.exited:
			s.lab.must(fmt.Errorf("redis-server has exited: %s", s.log))
		default:
		}
		return s.says("PONG", "PING")
	})
}

// kill kills the server with SIGKILL and waits until it is gone.
func (s *server) kill() {
	if s.exited != nil {
		_ = s.command.Process.Kill()
		<-s.exited
	}
}

func (s *server) freeze() { s.lab.must(s.command.Process.Signal(syscall.SIGSTOP)) }
func (s *server) thaw()   { s.lab.must(s.command.Process.Signal(syscall.SIGCONT)) }

// try runs a command with redis-cli, with a connection of its own.
func (s *server) try(args ...string) (string, error) {
	args = append([]string{"-e", "-h", s.ip, "-p", strconv.Itoa(s.port)}, args...)
	out, err := exec.CommandContext(s.lab.ctx, "redis-cli", args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("redis-cli %q: %w: %s", args, err, out)
	}
	return strings.TrimSpace(string(out)), err
}

func (s *server) do(args ...string) string {
	out, err := s.try(args...)
	s.lab.must(err)
	return out
}

// says reports whether the reply to a command contains a text.
func (s *server) says(text string, args ...string) bool {
	out, err := s.try(args...)
	return err == nil && strings.Contains(out, text)
}

// redisCluster starts a Cluster. The first half of its nodes are primaries, and each has one replica.
func (l *lab) redisCluster(nodes int, nodeTimeout time.Duration) []*server {
	cluster := make([]*server, nodes)
	create := []string{"--cluster", "create"}
	for i := range cluster {
		cluster[i] = l.redis("--cluster-enabled", "yes", "--cluster-node-timeout", strconv.Itoa(int(nodeTimeout/time.Millisecond)))
		create = append(create, cluster[i].addr())
	}
	out, err := exec.CommandContext(l.ctx, "redis-cli", append(create, "--cluster-replicas", "1", "--cluster-yes")...).CombinedOutput()
	if err != nil {
		l.must(fmt.Errorf("redis-cli --cluster create: %w: %s", err, out))
	}
	for i, s := range cluster {
		l.until("the Cluster is complete", func() bool {
			return s.says("cluster_state:ok", "CLUSTER", "INFO") && (i < nodes/2 || s.says("master_link_status:up", "INFO", "replication"))
		})
	}
	return cluster
}
