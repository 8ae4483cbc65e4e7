package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/ginrefresh/ginrefresh/bench/internal/contest"
	"github.com/ginrefresh/ginrefresh/bench/internal/report"
)

// server is a process that serves one contestant, and what was measured of it.
type server struct {
	setup
	load
	address     string
	connections []net.Conn
	legs        []leg
	byWrk       []float64 // requests per second of each round, of those that wrk is for
	command     *exec.Cmd
	stdin       io.Closer
}

// start runs this program again as a server, on one processor.
func start(s setup, l load) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	command := exec.Command(self, "-serve")
	if os.Getenv(pinned) != "" {
		command = exec.Command("taskset", "-c", "0", self, "-serve")
	}
	command.Env = append(os.Environ(), "GOMAXPROCS=1")
	command.Stderr = os.Stderr
	stdin, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	running := &server{setup: s, load: l, command: command, stdin: stdin}
	if err := json.NewEncoder(stdin).Encode(s); err != nil {
		running.stop()
		return nil, err
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		running.stop()
		return nil, errors.New("the server has not started")
	}
	running.address = strings.TrimSpace(line)
	return running, nil
}

func (s *server) stop() {
	for _, connection := range s.connections {
		_ = connection.Close()
	}
	_ = s.stdin.Close()
	_ = s.command.Wait()
}

const warmUpRequests = 5 * tokens

// warmUp opens the connections, which stay open, and sends each request a few times.
func (s *server) warmUp(ctx context.Context, connections int) (err error) {
	if s.connections, err = connect(ctx, s.address, connections); err != nil {
		return err
	}
	_, err = drive(ctx, s.connections, s.requests, bounds{duration: time.Minute, requests: warmUpRequests})
	return err
}

// goOn drives the server for one turn more of its last leg.
func (s *server) goOn(ctx context.Context, limit bounds) error {
	before := processorTime(s.pid())
	l, err := drive(ctx, s.connections, s.requests, limit)
	if err != nil {
		return err
	}
	l.processor = processorTime(s.pid()) - before
	s.legs[len(s.legs)-1].add(l)
	return ctx.Err()
}

func (s *server) pid() int { return s.command.Process.Pid }

func (s *server) name() string {
	name := contest.Find(s.Contestant).Label
	if s.Store != noStore {
		name += ", " + s.Store
	}
	return name
}

// each is a figure of every round.
func (s *server) each(figure func(leg) float64) []float64 {
	values := make([]float64, len(s.legs))
	for i, l := range s.legs {
		values[i] = figure(l)
	}
	return values
}

// median of a figure over the rounds.
func (s *server) median(figure func(leg) float64) float64 { return report.Median(s.each(figure)) }

// perSecond are the requests per second of each round.
func (s *server) perSecond() []float64 { return s.each(leg.perSecond) }

// quantile is in microseconds.
func (s *server) quantile(share float64) float64 {
	return s.median(func(l leg) float64 { return float64(l.latencies.quantile(share).Nanoseconds()) / 1000 })
}

// processor is the microseconds of its processor that a request takes.
func (s *server) processor() float64 {
	return s.median(func(l leg) float64 {
		return l.processor.Seconds() * 1e6 / float64(max(1, l.latencies.count))
	})
}
