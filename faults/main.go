// Command faults breaks real stores under load and counts what the sessions lose:
//
//	go run . [-full] [-scenario NAME]
//
// It prints a row of a Markdown table for each scenario, and fails if a promise was broken. go test runs the scenarios
// that are short, with little load.
//
// Three Auths share a store. Honest clients log in, verify, refresh in two tabs at once, and log out, each time at any of
// the three. After a 503 they try again. A thief has copied one token of each session that was logged out. He tries the
// tokens while the load runs. When all is well again he tries every one of them at every Auth, for a request and for a
// refresh. A fork is a token with two successors.
//
// The servers are redis-servers that listen on addresses of 127.0.0.0/8. The program needs Linux, redis-server and
// redis-cli 7.0, and no privileges.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

var (
	little = size{before: 2 * time.Second, after: 4 * time.Second, clients: 4, sessions: 40, pause: 4 * time.Millisecond}
	full   = size{before: 6 * time.Second, after: 12 * time.Second, clients: 16, sessions: 40, pause: 2 * time.Millisecond}
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("faults: ")
	fullSize := flag.Bool("full", false, "more load, for longer")
	only := flag.String("scenario", "", "run only the scenarios whose name contains `text`")
	flag.Parse()
	size := little
	if *fullSize {
		size = full
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	fmt.Print(header)
	failed := false
	for _, s := range scenarios {
		if ctx.Err() != nil || !strings.Contains(s.name, *only) {
			continue
		}
		r, err := s.run(ctx, size)
		if err != nil {
			log.Print(err)
			failed = true
			continue
		}
		fmt.Println(r)
		for _, text := range s.broken(r) {
			log.Print("broken: ", text)
			failed = true
		}
	}
	if failed {
		stop()
		log.Fatal("failed")
	}
}
