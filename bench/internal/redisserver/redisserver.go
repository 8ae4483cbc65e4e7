// Package redisserver starts a Redis of its own for a measurement, if redis-server is on the PATH.
package redisserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// Server is a running redis-server. It keeps what it has to in a directory that Close removes.
type Server struct {
	Address string
	command *exec.Cmd
	dir     string
}

// Available reports whether there is a redis-server to start.
func Available() bool {
	_, err := exec.LookPath("redis-server")
	return err == nil
}

// Start starts a server on a free port of the loopback, with an append-only file as the store wants it.
func Start() (*Server, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "bench-redis")
	if err != nil {
		return nil, err
	}
	host, port, _ := net.SplitHostPort(address)
	s := &Server{Address: address, dir: dir}
	s.command = exec.Command("redis-server", "--bind", host, "--port", port, "--dir", dir,
		"--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction")
	if err := s.command.Start(); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	if err := s.wait(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func (s *Server) wait() error {
	for range 200 {
		if conn, err := net.Dial("tcp", s.Address); err == nil {
			return conn.Close()
		}
		time.Sleep(25 * time.Millisecond)
	}
	return errors.New("redis-server does not answer")
}

// Dial returns a client as the application would make it.
func Dial(address string) (rueidis.Client, error) {
	return rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{address}, DisableCache: true})
}

// UsedMemory is what the data and its books take, in bytes.
func UsedMemory(ctx context.Context, client rueidis.Client) (float64, error) {
	return sum(ctx, client, "memory", "used_memory:")
}

// UsedCPU is the processor time that the server has taken, in seconds.
func UsedCPU(ctx context.Context, client rueidis.Client) (float64, error) {
	return sum(ctx, client, "cpu", "used_cpu_user:", "used_cpu_sys:")
}

// sum adds fields of a section of INFO.
func sum(ctx context.Context, client rueidis.Client, section string, fields ...string) (total float64, err error) {
	info, err := client.Do(ctx, client.B().Info().Section(section).Build()).ToString()
	if err != nil {
		return 0, err
	}
	found := 0
	for line := range strings.Lines(info) {
		for _, field := range fields {
			if text, ok := strings.CutPrefix(strings.TrimSpace(line), field); ok {
				value, err := strconv.ParseFloat(text, 64)
				if err != nil {
					return 0, err
				}
				total += value
				found++
			}
		}
	}
	if found != len(fields) {
		return 0, fmt.Errorf("INFO %s has not %v", section, fields)
	}
	return total, nil
}

// Close ends the server and removes what it has written.
func (s *Server) Close() {
	_ = s.command.Process.Kill()
	_ = s.command.Wait()
	os.RemoveAll(s.dir)
}
