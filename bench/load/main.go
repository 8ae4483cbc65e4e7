// Command load measures requests per second over the loopback, and writes them into docs/performance.md:
//
//	go run ./load [-rounds 6] [-duration 2s] [-check]
//
// In each round it starts a server process on one processor for each contestant, sends the same requests to all over
// connections that stay open, to one server after the other in short turns, and ends by itself. Where wrk is installed, it
// measures the servers as well.
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

type options struct {
	limit       bounds
	connections int
	rounds      int
	docs        string
	quick       bool
	check       bool
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("load: ")
	var o options
	isServer := flag.Bool("serve", false, "be one of the servers: for the command itself")
	flag.IntVar(&o.rounds, "rounds", 6, "rounds")
	flag.DurationVar(&o.limit.duration, "duration", 2*time.Second, "how long each server is driven in a round, at most")
	flag.IntVar(&o.limit.requests, "requests", 1_000_000, "how many requests a server gets in a round, at most")
	flag.IntVar(&o.connections, "connections", 16, "connections to each server")
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
	loads := []load{newLoad(middleware.HS256), newLoad(middleware.RS256)}
	var servers []*server
	for round := range o.rounds {
		log.Printf("round %d of %d", round+1, o.rounds)
		again, err := measure(ctx, loads, redisAddress, o)
		if err != nil {
			return false, err
		}
		servers = join(servers, again)
	}
	d := document{servers: servers, options: o}
	section, met := d.section()
	fmt.Print(section)
	if o.quick {
		return met, nil
	}
	return met, report.Performance(o.docs, report.LoadSection, section)
}

// tokens is how many different ones are sent, again and again.
const tokens = 1000

// contenders are run for each algorithm.
var contenders = []struct{ id, store string }{
	{contest.Bare, noStore}, {contest.Header, noStore}, {contest.GinJWT, noStore},
	{contest.Ours, memory}, {contest.Ours, bolt}, {contest.Ours, redis}, {contest.Ours, redisStale},
}

// load is what is sent to all servers of an algorithm.
type load struct {
	key           contest.Key
	authorization string // of the first request
	requests      [][]byte
}

func newLoad(algorithm middleware.Algorithm) load {
	blacklist := store.NewMemory()
	defer blacklist.Close()
	key := contest.NewKey(algorithm)
	authorizations := contest.Bearer(contest.Issue(contest.NewAuth(key, blacklist), tokens))
	l := load{key: key, authorization: authorizations[0]}
	for _, authorization := range authorizations {
		l.requests = append(l.requests, fmt.Appendf(nil,
			"GET %s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: load\r\nAccept: */*\r\nAuthorization: %s\r\n\r\n", contest.Path, authorization))
	}
	return l
}

// startAll starts the servers. What stopAll ends may be less than all.
func startAll(loads []load, redisAddress string) (servers []*server, stopAll func(), err error) {
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
	for _, l := range loads {
		for _, c := range contenders {
			if redisAddress == "" && strings.HasPrefix(c.store, redis) {
				continue
			}
			s, err := start(setup{
				Contestant: c.id, Store: c.store, Algorithm: l.key.Algorithm, Key: l.key.Marshal(), Redis: redisAddress, Dir: dir,
			}, l)
			if err != nil {
				return servers, stopAll, fmt.Errorf("%s %s: %w", c.id, c.store, err)
			}
			servers = append(servers, s)
		}
	}
	return servers, stopAll, nil
}

// turn is how long one server is driven before it is the next one's turn. It is short, as the machine's own pace changes
// from second to second, and what is compared must have had the same.
const turn = 100 * time.Millisecond

// measure is one round: it starts the servers, since the layout of a process's memory has its say as well, warms them up,
// and then takes turns. Who comes first changes from turn to turn.
func measure(ctx context.Context, loads []load, redisAddress string, o options) ([]*server, error) {
	servers, stopAll, err := startAll(loads, redisAddress)
	defer stopAll()
	if err != nil {
		return nil, err
	}
	for _, s := range servers {
		if err := s.warmUp(ctx, o.connections); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name(), err)
		}
		s.legs = []leg{{}}
	}
	limit := o.limit
	turns := max(1, int(limit.duration/turn))
	limit.duration /= time.Duration(turns)
	limit.requests /= turns
	for i := range turns * len(servers) {
		s := servers[(i/len(servers)+i)%len(servers)]
		if err := s.goOn(ctx, limit); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name(), err)
		}
	}
	return servers, findWrk(o).measure(ctx, servers)
}

// join adds the legs of another round, which had the same servers in the same order.
func join(servers, again []*server) []*server {
	if servers == nil {
		return again
	}
	for i, s := range again {
		servers[i].legs = append(servers[i].legs, s.legs...)
		servers[i].byWrk = append(servers[i].byWrk, s.byWrk...)
	}
	return servers
}
