package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/ginrefresh/ginrefresh/bench/internal/contest"
	"github.com/ginrefresh/ginrefresh/bench/internal/report"
	"github.com/ginrefresh/ginrefresh/middleware"
)

// What the project wants of itself, with the memory store.
const (
	leastOfHeader    = 0.95
	leastOfGinJWT    = 1.8
	leastOfGinJWTRSA = 3.6
)

type document struct {
	servers []*server
	options
}

func (d document) find(algorithm middleware.Algorithm, id, store string) *server {
	for _, s := range d.servers {
		if s.Algorithm == algorithm && s.Contestant == id && s.Store == store {
			return s
		}
	}
	return nil
}

// against is how many times the requests of the other server this one answers: the median of what it is in each round, as
// the machine's pace is another in the next.
func (d document) against(s *server, id string, perSecond func(*server) []float64) float64 {
	ratios := slices.Clone(perSecond(s))
	for i, other := range perSecond(d.find(s.Algorithm, id, noStore)) {
		ratios[i] /= other
	}
	return report.Median(ratios)
}

func byWrk(s *server) []float64 { return s.byWrk }

func (d document) hasWrk() bool { return len(d.servers[0].byWrk) > 0 }

func (d document) table() string {
	table := report.Table{Head: append(ratioHead(), "server's processor, µs/request", "p50, µs", "p99, µs", "p99.9, µs")}
	for _, s := range d.servers {
		table.Row(append(d.ratios(s, (*server).perSecond),
			report.Number(s.processor()),
			report.Thousands(s.quantile(0.5)), report.Thousands(s.quantile(0.99)), report.Thousands(s.quantile(0.999)))...)
	}
	return table.String()
}

func (d document) wrkTable() string {
	table := report.Table{Head: ratioHead()}
	for _, s := range d.servers {
		if len(s.byWrk) > 0 {
			table.Row(d.ratios(s, byWrk)...)
		}
	}
	return table.String()
}

func ratioHead() []string {
	return []string{"", "algorithm", "× Gin + header + `c.Set`", "× gin-jwt", "requests/s"}
}

func (d document) ratios(s *server, perSecond func(*server) []float64) []string {
	return []string{
		s.name(), string(s.Algorithm),
		"×" + report.Number(d.against(s, contest.Header, perSecond)), "×" + report.Number(d.against(s, contest.GinJWT, perSecond)),
		report.Thousands(report.Median(perSecond(s))),
	}
}

// goals are about one and the same request, and so wrk's where it is installed.
func (d document) goals() []report.Goal {
	by, perSecond := "memory", (*server).perSecond
	if d.hasWrk() {
		by, perSecond = "memory, wrk", byWrk
	}
	var goals []report.Goal
	for _, g := range []struct {
		algorithm middleware.Algorithm
		least     float64 // × gin-jwt
	}{{middleware.HS256, leastOfGinJWT}, {middleware.RS256, leastOfGinJWTRSA}} {
		ours := d.find(g.algorithm, contest.Ours, memory)
		text := fmt.Sprintf("%s, %s: requests/s, × ", g.algorithm, by)
		goals = append(goals,
			report.Goal{Text: text + "Gin + header + `c.Set`", Got: d.against(ours, contest.Header, perSecond), Limit: leastOfHeader, Least: true},
			report.Goal{Text: text + "gin-jwt", Got: d.against(ours, contest.GinJWT, perSecond), Limit: g.least, Least: true})
	}
	return goals
}

// section is the document's part, and whether the goals are met.
func (d document) section() (text string, met bool) {
	goals, met := report.Goals(d.goals())
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("## Over the loopback\n")
	p("%s; medians of %d rounds of %v each, in turns of %v; the ratios are medians of each round's own.\n",
		report.Machine(), d.rounds, d.limit.duration, turn)
	p("Each server is a process with one processor (GOMAXPROCS=1%s),", pinning())
	p("on net/http, and gets the same bytes: 1,000 tokens in turn, over %d connections that stay open. So it is at its limit,", d.connections)
	p("and the latencies are those of a server there. Most of a request's time is net/http's and the kernel's, which is why the")
	p("ratios are nearer to 1 than those above. The second line is the most that a guard can reach, against gin-jwt as well: it does")
	p("nothing but what every guard has to do. All processes hold the same %s records of a blacklist, also those that never look", report.Thousands(background))
	p("at them: the collector, which takes its share of each allocation, has the same heap to go through everywhere.\n")
	p("%s", d.table())
	p("With Redis a request waits for a round trip, and Redis and the generator of the load share what the server leaves over. With")
	p("MaxStaleness of a second an answer of Redis is used again for so long: a logout through another process counts up to a")
	p("second later.\n")
	if d.hasWrk() {
		p("And with `wrk -t1 -c%d`, in turns of a second, which sends one and the same request again and again: what a server has", d.connections)
		p("looked at for one request is still at hand for the next. The goals are about this one.\n")
		p("%s", d.wrkTable())
	}
	p("%s", goals)
	return b.String(), met
}

func pinning() string {
	if os.Getenv(pinned) == "" {
		return ""
	}
	return ", pinned to the first one, which the load's generator keeps off"
}
