package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
	"github.com/ginrefresh/ginrefresh/store/boltstore"
	"github.com/ginrefresh/ginrefresh/store/redisstore"
)

// loopback is one server process, as JSON in the environment.
type loopback struct {
	Who       string
	Store     string // "memory", "bolt", "Redis", "Redis-MaxStaleness"; "" for a guard without one
	Algorithm middleware.Algorithm
	Redis     string // address
	Dir       string // of its files
}

const loopbackEnv = "BENCH_LOOPBACK"

// TestMain makes this program a server if the environment says so.
func TestMain(m *testing.M) {
	if text, ok := os.LookupEnv(loopbackEnv); ok {
		var l loopback
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			log.Fatal(err)
		}
		log.Fatal(l.serve())
	}
	os.Exit(m.Run())
}

// BenchmarkLoopback drives each server with wrk for a second: 16 connections, 1,000 tokens in turn. The server runs on
// the first processor alone, wrk on the others. Run it with -benchtime 1x.
func BenchmarkLoopback(b *testing.B) {
	for _, tool := range []string{"wrk", "taskset"} {
		if _, err := exec.LookPath(tool); err != nil {
			b.Skip(tool + " is not installed")
		}
	}
	if runtime.NumCPU() < 2 {
		b.Skip("the server and wrk need a processor each")
	}
	redis := startRedis(b)
	for _, l := range []loopback{
		{Who: "gin"}, {Who: "gin-header-set"}, {Who: "gin-jwt"}, {Who: "ginrefresh", Store: "memory"},
		{Who: "ginrefresh", Store: "bolt"}, {Who: "ginrefresh", Store: "Redis"}, {Who: "ginrefresh", Store: "Redis-MaxStaleness"},
	} {
		l.Redis = redis
		for _, l.Algorithm = range []middleware.Algorithm{middleware.HS256, middleware.RS256} {
			if l.Algorithm == middleware.RS256 && l.Store != "" && l.Store != "memory" {
				continue // the token cache spares the signature with each store
			}
			b.Run(fmt.Sprintf("alg=%s/who=%s", l.Algorithm, strings.TrimSuffix(l.Who+"-"+l.Store, "-")), l.benchmark)
		}
	}
}

func (l loopback) benchmark(b *testing.B) {
	l.Dir = b.TempDir()
	address, stop := l.start(b)
	url := "http://" + address + path
	wrk := exec.Command("taskset", "-c", fmt.Sprintf("1-%d", runtime.NumCPU()-1),
		"wrk", "-t1", "-c16", "-d1s", "-s", "wrk.lua", url, "--", l.tokensFile())
	out, err := wrk.CombinedOutput()
	if err != nil {
		b.Fatalf("wrk: %v: %s", err, out)
	}
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	var requests, rate, p50, p99, p999, failed float64
	_, err = fmt.Sscan(string(lines[len(lines)-1]), &requests, &rate, &p50, &p99, &p999, &failed)
	if err != nil || requests == 0 || failed > 0 {
		b.Fatalf("wrk: %v, %v requests, %v errors: %s", err, requests, failed, out)
	}
	b.ReportMetric(float64(stop().Microseconds())/requests, "server-cpu-us/request")
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(rate, "requests/s")
	b.ReportMetric(p50, "p50-us")
	b.ReportMetric(p99, "p99-us")
	b.ReportMetric(p999, "p99.9-us")
}

func (l loopback) tokensFile() string { return filepath.Join(l.Dir, "tokens") }

// start starts the server process and returns its address. stop ends it and returns the processor time that it has
// used for requests.
func (l loopback) start(b *testing.B) (address string, stop func() time.Duration) {
	command := exec.Command("taskset", "-c", "0", must(os.Executable()))
	command.Env = append(os.Environ(), "GOMAXPROCS=1", loopbackEnv+"="+string(must(json.Marshal(l))))
	command.Stderr = os.Stderr
	stdin, stdout := must(command.StdinPipe()), bufio.NewReader(must(command.StdoutPipe()))
	if err := command.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		stdin.Close()
		_ = command.Wait()
	})
	line := func() string {
		text, err := stdout.ReadString('\n')
		if err != nil {
			b.Fatalf("the server has ended: %v", err)
		}
		return strings.TrimSpace(text)
	}
	return line(), func() time.Duration {
		stdin.Close()
		return must(time.ParseDuration(line()))
	}
}

// serve writes the tokens to a file, warms the guard up, prints the address, and serves until its standard input is
// closed. Then it prints the processor time.
func (l loopback) serve() error {
	blacklist, err := l.open()
	if err != nil {
		return err
	}
	f := newFixture(l.Algorithm, blacklist, sizes{warm: 1000, background: 10_000})
	tokens := f.warm()
	if err := os.WriteFile(l.tokensFile(), []byte(strings.Join(tokens, "\n")), 0o600); err != nil {
		return err
	}
	handler := find(l.Who).guard(f.key, blacklist).(http.Handler)
	serve := newServer(handler)
	for range 3 {
		for _, authorization := range tokens {
			serve(authorization)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	before := cpuTime()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		fmt.Println(cpuTime() - before)
		os.Exit(0)
	}()
	fmt.Println(listener.Addr())
	return (&http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}).Serve(listener)
}

// open returns a store in memory also for a guard without a store: the garbage collector then marks the same heap.
func (l loopback) open() (middleware.Store, error) {
	options := redisstore.Options{}
	switch l.Store {
	case "bolt":
		return boltstore.Open(filepath.Join(l.Dir, "blacklist.db"))
	case "Redis-MaxStaleness":
		options.MaxStaleness = time.Second
		fallthrough
	case "Redis":
		client, err := dial(l.Redis)
		if err != nil {
			return nil, err
		}
		return redisstore.New(client, options)
	}
	return store.NewMemory(), nil
}
