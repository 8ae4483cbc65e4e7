// Command load measures requests per second over the loopback, and writes them into docs/performance.md:
//
//	go run ./load [-rounds 6] [-duration 2s] [-check]
//
// In each round it starts a server process on one processor for each contestant, sends all the same requests over a fixed
// number of connections, to one server after the other in short turns, and ends by itself.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/ginrefresh/ginrefresh/bench/internal/contest"
	"github.com/ginrefresh/ginrefresh/bench/internal/redisserver"
	"github.com/ginrefresh/ginrefresh/bench/internal/report"
	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
)

// tokens is how many different ones are sent, again and again.
const tokens = 1000

type options struct {
	limit  bounds
	rounds int
	docs   string
	quick  bool
	check  bool
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("load: ")
	var o options
	isServer := flag.Bool("serve", false, "be one of the servers: for the command itself")
	flag.IntVar(&o.rounds, "rounds", 6, "rounds")
	flag.DurationVar(&o.limit.duration, "duration", 2*time.Second, "how long each server is driven in a round, at most")
	flag.IntVar(&o.limit.requests, "requests", 1_000_000, "how many requests a server gets in a round, at most")
	flag.IntVar(&o.limit.connections, "connections", 16, "connections that are kept alive")
	flag.StringVar(&o.docs, "docs", "../docs", "where performance.md is")
	flag.BoolVar(&o.quick, "quick", false, "one short round, to see that everything works; no document is written")
	flag.BoolVar(&o.check, "check", false, "exit with status 1 if a goal is missed")
	flag.Parse()
	if *isServer {
		log.Fatal(serve(os.Stdin, os.Stdout))
	}
	keepOffFirst()
	met, err := run(o)
	if err != nil {
		log.Fatal(err)
	}
	if o.check && !met {
		log.Fatal("a goal is missed")
	}
}

// pinned marks the process that keepOffFirst has started.
const pinned = "BENCH_LOAD_PINNED"

// keepOffFirst leaves the first processor to the servers, where that can be had: it replaces this process by one
// that may not run there.
func keepOffFirst() {
	taskset, err := exec.LookPath("taskset")
	if err != nil || runtime.NumCPU() < 2 || os.Getenv(pinned) != "" {
		return
	}
	self, err := os.Executable()
	if err != nil {
		return
	}
	args := append([]string{taskset, "-c", fmt.Sprintf("1-%d", runtime.NumCPU()-1), self}, os.Args[1:]...)
	log.Printf("not pinned: %v", syscall.Exec(taskset, args, append(os.Environ(), pinned+"=1")))
}

func run(o options) (met bool, err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if o.quick {
		o.rounds, o.limit.duration = 1, 100*time.Millisecond
	}
	redisAddress := ""
	if redisserver.Available() {
		server, err := redisserver.Start()
		if err != nil {
			return false, err
		}
		defer server.Close()
		redisAddress = server.Address
	}
	var servers []*server
	for round := range o.rounds {
		log.Printf("round %d of %d", round+1, o.rounds)
		again, err := measure(ctx, redisAddress, o.limit)
		if err != nil {
			return false, err
		}
		servers = join(servers, again)
	}
	d := document{servers: servers, options: o}
	fmt.Print(d.table())
	goals, met := report.Goals(d.goals())
	fmt.Print("\n" + goals)
	if o.quick {
		return met, nil
	}
	return met, report.Performance(o.docs, report.LoadSection, d.section())
}

// startAll starts a server for each contestant and algorithm. What stopAll ends may be less than all.
func startAll(redisAddress string) (servers []*server, stopAll func(), err error) {
	dir, err := os.MkdirTemp("", "bench-load")
	if err != nil {
		return nil, func() {}, err
	}
	stopAll = func() {
		for _, s := range servers {
			s.stop()
		}
		os.RemoveAll(dir)
	}
	for _, algorithm := range []middleware.Algorithm{middleware.HS256, middleware.RS256} {
		key := contest.NewKey(algorithm)
		requests := makeRequests(key)
		for _, c := range []struct{ id, store string }{
			{contest.Bare, noStore}, {contest.Header, noStore}, {contest.GinJWT, noStore},
			{contest.Ours, memory}, {contest.Ours, bolt}, {contest.Ours, redis}, {contest.Ours, redisStale},
		} {
			if redisAddress == "" && strings.HasPrefix(c.store, redis) {
				continue
			}
			s, err := start(setup{
				Contestant: c.id, Store: c.store, Algorithm: algorithm, Key: key.Marshal(), Redis: redisAddress, Dir: dir,
			}, requests)
			if err != nil {
				return servers, stopAll, fmt.Errorf("%s %s: %w", c.id, c.store, err)
			}
			servers = append(servers, s)
		}
	}
	return servers, stopAll, nil
}

// makeRequests makes the bytes that all servers get.
func makeRequests(key contest.Key) [][]byte {
	blacklist := store.NewMemory()
	defer blacklist.Close()
	requests := make([][]byte, tokens)
	for i, authorization := range contest.Bearer(contest.Issue(contest.NewAuth(key, blacklist), tokens)) {
		requests[i] = fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: load\r\nAccept: */*\r\nAuthorization: %s\r\n\r\n", contest.Path, authorization)
	}
	return requests
}

// turn is how long one server is driven before it is the next one's turn. It is short, as the machine's own pace changes
// from second to second, and what is compared must have had the same.
const turn = 100 * time.Millisecond

// measure is one round: it starts the servers, since the layout of a process's memory has its say as well, warms them up,
// and then takes turns. Who comes first changes from turn to turn.
func measure(ctx context.Context, redisAddress string, limit bounds) ([]*server, error) {
	servers, stopAll, err := startAll(redisAddress)
	defer stopAll()
	if err != nil {
		return nil, err
	}
	for _, s := range servers {
		warmUp := bounds{connections: limit.connections, duration: time.Minute, requests: 5 * tokens}
		if _, err := drive(ctx, s.address, s.requests, warmUp); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name(), err)
		}
		s.legs = []leg{{}}
	}
	turns := max(1, int(limit.duration/turn))
	limit.duration /= time.Duration(turns)
	limit.requests /= turns
	for i := range turns * len(servers) {
		s := servers[(i/len(servers)+i)%len(servers)]
		if err := s.goOn(ctx, limit); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name(), err)
		}
	}
	return servers, nil
}

// join adds the legs of another round, which had the same servers in the same order.
func join(servers, again []*server) []*server {
	if servers == nil {
		return again
	}
	for i, s := range again {
		servers[i].legs = append(servers[i].legs, s.legs...)
	}
	return servers
}
