package main

import (
	"fmt"
	"math"
	"strings"

	"github.com/ginrefresh/ginrefresh/bench/internal/report"
)

const (
	// headroom is how much of what was measured may be used at most: there are peaks, and failovers.
	headroom = 0.5

	// nodeBytes is how much data one Redis may have: more takes too long to load and to copy to a replica.
	nodeBytes = float64(16 << 30)

	// processRequests is how many requests per second one process answers, application included. A store
	// that lives in the process serves no more sessions than the process does.
	processRequests = 20_000
)

var sizes = []float64{10_000, 1_000_000, 100_000_000}

type document struct {
	options
	stores      []costs
	simulations []simulation
}

func (d document) text() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("# Scale\n")
	p("What many sessions ask of the blacklist, and which store is enough. Written by `go run ./scale` in `bench/`;")
	p("%s.\n", report.Machine())
	p("The blacklist grows with sessions and not with refreshes: a session has no record until it is refreshed or ended, and")
	p("one from then on, until its deadline and one token's lifetime after it.\n")
	p("## What a record and a check cost\n")
	p("Measured with %s records in memory and %s in the other stores, asked by %d goroutines of one process that", thousands(d.sample), thousands(d.sample/5), workers)
	p("shares the machine with the store. A check reads two keys, a session's and a subject's, in one round trip. Where the")
	p("store is a server, its own processor time says what it could do if it were asked fast enough.\n")
	p("%s", d.measured())
	p("## What sessions ask for\n")
	p("Sessions are those begun in the last 14 days; 1 in 30 is logged out each day. Rates are per second. The last column is")
	p("what a blacklist of replaced tokens would hold, one record for each until its session's deadline.\n")
	for _, profile := range profiles {
		p("**%s**\n", profile.name)
		p("%s", asked(profile))
	}
	p("The formula: sessions begin at a rate λ = sessions ÷ D, uses come at random with the rate u, logouts with h. With T the")
	p("token's lifetime and D the refresh window, a session of age a has no record with probability")
	p("S(a) = e^(−ha) up to T and e^(−ha−u(a−T)) after it. So there are λ·(∫₀ᴰ (1−S(a)) da + T·(1−S(D))) records, and")
	p("λ·(1−e^(−hD))/h ÷ (T + 1/u) refreshes per second. A request costs one read, a login one, a refresh and a logout one and")
	p("a swap each.\n")
	p("## Does the formula hold?\n")
	p("Sessions simulated one by one, their uses, refreshes and logouts at random: the records at one instant, and the")
	p("refreshes of a day. A test runs ten thousand sessions through the middleware itself, on a clock that jumps, and counts")
	p("the records of its store and the calls to it: they are within a tenth.\n")
	p("%s", d.simulated())
	p("## Which store is enough\n")
	p("The share is of what was measured above, of its own time where the store is a server, reads and swaps together. Half of")
	p("it may be used, and 16 GiB of memory. A process is taken to answer %s requests per second at most,", thousands(processRequests))
	p("application included; a store in memory or on disk belongs to one process.\n")
	p("%s", d.enough())
	d.whereRedisEnds(p)
	return b.String()
}

func thousands(n int) string { return report.Thousands(float64(n)) }

func (d document) measured() string {
	table := report.Table{Head: []string{"store", "memory, B/record", "disk, B/record", "checks/s", "swaps/s", "checks/s of its own time", "swaps/s of its own time"}}
	for _, c := range d.stores {
		table.Row(c.name, report.Thousands(c.memory), orDash(c.disk), report.Thousands(c.checks), report.Thousands(c.swaps),
			orDash(c.ownChecks), orDash(c.ownSwaps))
	}
	return table.String()
}

func orDash(f float64) string {
	if f == 0 {
		return "–"
	}
	return report.Thousands(f)
}

func asked(p profile) string {
	table := report.Table{Head: []string{"sessions", "records", "logins", "refreshes", "requests", "reads", "swaps", "records if one per replaced token"}}
	for _, n := range sizes {
		l := p.expect(n)
		table.Row(report.Thousands(n), report.Thousands(l.records), report.Number(l.logins), report.Number(l.refreshes),
			report.Number(l.requests), report.Number(l.reads()), report.Number(l.swaps()), report.Thousands(l.perToken))
	}
	return table.String()
}

func (d document) simulated() string {
	table := report.Table{Head: []string{"profile", "sessions", "records", "formula", "off by", "refreshes/s", "formula", "off by"}}
	for _, s := range d.simulations {
		name, _, _ := strings.Cut(s.name, ":")
		table.Row(name, report.Thousands(s.got.sessions),
			report.Thousands(s.got.records), report.Thousands(s.expected.records), off(s.got.records, s.expected.records),
			report.Number(s.got.refreshes), report.Number(s.expected.refreshes), off(s.got.refreshes, s.expected.refreshes))
	}
	return table.String()
}

func off(got, expected float64) string { return fmt.Sprintf("%+.1f %%", 100*(got/expected-1)) }

// share is how much of the store's time a load takes.
func (c costs) share(l load) float64 {
	checks, swaps := c.capacity()
	return l.reads()/checks + l.swaps()/swaps
}

// nodes is how many of the store a load needs, for whichever of time and memory asks for more.
func (c costs) nodes(l load) float64 {
	return max(1, math.Ceil(c.share(l)/headroom), math.Ceil(l.records*c.memory/nodeBytes))
}

func (d document) enough() string {
	table := report.Table{Head: []string{"profile", "sessions", "store", "memory, MiB", "share of its time", "enough?"}}
	for _, p := range profiles {
		name, _, _ := strings.Cut(p.name, ":")
		for _, n := range sizes {
			l := p.expect(n)
			for _, c := range d.stores {
				table.Row(name, report.Thousands(n), c.name, report.Number(l.records*c.memory/(1<<20)),
					report.Number(100*c.share(l))+" %", c.verdict(l))
			}
		}
	}
	return table.String()
}

func (c costs) verdict(l load) string {
	if c.name == redisName {
		if nodes := c.nodes(l); nodes > 1 {
			return fmt.Sprintf("Cluster of %s", report.Thousands(nodes))
		}
		return "yes"
	}
	switch {
	case l.requests > processRequests:
		return "no: more than one process answers"
	case c.share(l) > headroom:
		return "no: too slow"
	case l.records*c.memory > nodeBytes:
		return "no: too much memory"
	}
	return "yes, for one process"
}

const redisName = "Redis"

// whereRedisEnds says for how many sessions one Redis is enough.
func (d document) whereRedisEnds(p func(string, ...any)) {
	for _, c := range d.stores {
		if c.name != redisName {
			continue
		}
		p("## Where one Redis ends and a Cluster begins\n")
		p("At half of what was measured, or at %s of data, whichever is first:\n", "16 GiB")
		p("%s", c.ends())
		p("Each key is asked for by a command of its own, and swapped by a script with one key, so a Cluster splits the work")
		p("without further ado; a check then goes to two of its nodes at once. Before a Cluster comes MaxStaleness: it answers from")
		p("the process's memory what was asked less than that ago, which helps where a session sends several requests to one")
		p("process within it. And in pair mode, with short access tokens, a service that only verifies can do without the store")
		p("(DangerouslyIgnoreRevocation), where a logout need not count before the token's end.\n")
		return
	}
	p("There was no redis-server on the PATH: what one Redis is enough for is not worked out here.\n")
}

// ends is a table of the sessions at which one of the two is used up. Both grow in proportion.
func (c costs) ends() string {
	const some = 1_000_000
	table := report.Table{Head: []string{"profile", "by its time", "by its memory", "one Redis is enough for"}}
	for _, p := range profiles {
		name, _, _ := strings.Cut(p.name, ":")
		l := p.expect(some)
		byTime, byMemory := headroom/c.share(l)*some, nodeBytes/(l.records*c.memory)*some
		table.Row(name, millions(byTime), millions(byMemory), millions(min(byTime, byMemory))+" sessions")
	}
	return table.String()
}

func millions(n float64) string { return report.Number(n/1e6) + " million" }
