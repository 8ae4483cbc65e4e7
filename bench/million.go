package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"time"

	"github.com/ginrefresh/ginrefresh/bench/internal/contest"
	"github.com/ginrefresh/ginrefresh/bench/internal/report"
	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
)

// million is what more live tokens than the cache can hold did to it.
type million struct {
	tokens    int
	rounds    int
	workloads []workload
}

// workload is one order in which the tokens come.
type workload struct {
	name    string
	ratio   float64    // of the throughput with the cache to that without, the median of the rounds' own
	perSec  [2]float64 // with the cache, without
	heapMiB float64    // that the cache holds afterwards
}

// maxCacheMiB bounds 10,000 tokens with their claims and the cache's own books, generously.
const maxCacheMiB = 32

// block is how many requests one server gets before it is the other's turn. They are few, so that noise hits both
// alike, and so that their tokens are in the processor's own cache, as those are that net/http has just read.
const block = 500

func measureMillion(n, rounds int, progress io.Writer) million {
	key := contest.NewKey(middleware.HS256)
	blacklist := store.NewMemory()
	defer blacklist.Close()
	fmt.Fprintf(progress, "signing %s tokens\n", report.Thousands(float64(n)))
	requests := arena(contest.Bearer(contest.Issue(contest.NewAuth(key, blacklist, contest.WithoutCache), n)))
	m := million{tokens: n, rounds: rounds}
	for _, w := range []struct {
		name  string
		order func(i int) int
	}{
		{"in turn, each as often as any other", func(i int) int { return i % n }},
		{"at random, all alike", func(int) int { return rand.IntN(n) }},
		{"at random, a few much more often (Zipf 1.1)", zipf(n)},
	} {
		fmt.Fprintln(progress, w.name)
		m.workloads = append(m.workloads, m.measure(w.name, key, blacklist, requests, w.order))
	}
	return m
}

// arena puts the strings into one piece of memory, so that the collector's work on a million of them is not
// measured with the rest.
func arena(values []string) []string {
	all := strings.Join(values, "")
	at := 0
	for i, v := range values {
		values[i] = all[at : at+len(v)]
		at += len(v)
	}
	return values
}

func zipf(n int) func(int) int {
	z := rand.NewZipf(rand.New(rand.NewPCG(1, 2)), 1.1, 1, uint64(n-1))
	return func(int) int { return int(z.Uint64()) }
}

// measure sends as many requests as there are tokens in each round, to both servers.
func (m million) measure(name string, key contest.Key, blacklist middleware.Store, requests []string, order func(int) int) workload {
	before := heapMiB()
	servers := [2]contest.Server{
		contest.Guarded(contest.NewAuth(key, blacklist)),
		contest.Guarded(contest.NewAuth(key, blacklist, contest.WithoutCache)),
	}
	chosen := make([]string, block)
	var rates [2][]float64
	var ratios []float64
	for range m.rounds {
		var took [2]time.Duration
		for first := 0; first < m.tokens; first += block {
			for i := range chosen {
				chosen[i] = requests[order(first+i)]
			}
			chosen = arena(chosen)
			for turn := range servers {
				i := (first/block + turn) % len(servers)
				took[i] += serveAll(servers[i], chosen)
			}
		}
		for i := range took {
			rates[i] = append(rates[i], float64(m.tokens)/took[i].Seconds())
		}
		ratios = append(ratios, took[1].Seconds()/took[0].Seconds())
	}
	w := workload{
		name: name, ratio: report.Median(ratios), perSec: [2]float64{report.Median(rates[0]), report.Median(rates[1])},
		heapMiB: heapMiB() - before,
	}
	runtime.KeepAlive(servers)
	return w
}

func serveAll(server contest.Server, requests []string) time.Duration {
	start := time.Now()
	for _, authorization := range requests {
		if status := server.Serve(authorization); status != 200 {
			panic(fmt.Sprintf("a live token was answered %d", status))
		}
	}
	return time.Since(start)
}

func heapMiB() float64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return float64(stats.HeapAlloc) / (1 << 20)
}

func (m million) String() string {
	table := report.Table{Head: []string{"the tokens come", "throughput, × without the cache", "requests/s with", "without", "the cache holds, MiB"}}
	for _, w := range m.workloads {
		table.Row(w.name, times(w.ratio), report.Thousands(w.perSec[0]), report.Thousands(w.perSec[1]), report.Number(max(0, w.heapMiB)))
	}
	return table.String()
}

// noise is how far two medians of the same thing differ here. "No worse" cannot be told more finely.
const noise = 0.03

func (m million) goals() []report.Goal {
	var goals []report.Goal
	for _, w := range m.workloads {
		goals = append(goals,
			report.Goal{Text: w.name + ": throughput, × without the cache", Got: w.ratio, Limit: 1 - noise, Least: true},
			report.Goal{Text: w.name + ": MiB held", Got: max(0, w.heapMiB), Limit: maxCacheMiB})
	}
	return goals
}

func (m million) section() string {
	goals, _ := report.Goals(m.goals())
	return fmt.Sprintf(`## More tokens than the cache holds

%s; HS256, where a cache has the least to save; medians of %d rounds.

%s live tokens, one request after the other, through an Auth with the default cache of %s verified tokens and through
one without a cache, in turns of %d requests; the ratios are medians of each round's own:

%s
%s`, report.Machine(), m.rounds, report.Thousands(float64(m.tokens)), report.Thousands(middleware.DefaultTokenCache), block, m, goals)
}
