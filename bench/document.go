package main

import (
	"fmt"
	"strings"

	"github.com/ginrefresh/ginrefresh/bench/internal/contest"
	"github.com/ginrefresh/ginrefresh/bench/internal/report"
	"github.com/ginrefresh/ginrefresh/middleware"
)

// document makes the tables and the chart of the results.
type document struct {
	results   []result
	rounds    int
	benchtime string
}

var refusalKinds = []string{"expired", "forged", "malformed", "revoked"}

// find returns the medians of one benchmark, zeros if it has not run.
func (d document) find(group string, parts ...any) figures {
	name := group
	for _, part := range parts {
		name = fmt.Sprintf("%s/%v", name, part)
	}
	for _, r := range d.results {
		if r.name == name {
			return r.median()
		}
	}
	return figures{}
}

func (d document) toHeader(f figures) float64 { return ratio(f, d.find("None", contest.Header)) }

// times writes a ratio, or a dash for none.
func times(f float64) string {
	if f == 0 {
		return "–"
	}
	return "×" + report.Number(f)
}

// everything is the table of all figures.
func (d document) everything() string {
	table := report.Table{Head: []string{"benchmark", "× Gin + header + `c.Set`", "× gin-jwt", "processor ns/op", "ns/op", "B/op", "allocs/op"}}
	for _, r := range d.results {
		m := r.median()
		table.Row(r.name, times(d.toHeader(m)), times(ratio(m, d.ginJWTBeside(r.name))),
			report.Number(m.ns), report.Number(m.clock), report.Thousands(m.bytes), report.Thousands(m.allocs))
	}
	return table.String()
}

// ginJWTBeside is what gin-jwt came to in the same benchmark.
func (d document) ginJWTBeside(name string) figures {
	i := strings.LastIndexByte(name, '/')
	return d.find(name[:i], contest.GinJWT)
}

func (d document) section() string {
	goals, _ := report.Goals(d.goals())
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("## A guarded request\n")
	p("%s; medians of %d rounds of %s each, on one processor.", report.Machine(), d.rounds, d.benchtime)
	p("What is compared is processor time, the collector's included, so that what else runs on the machine does not count.\n")
	p("![What a guarded request costs](performance.svg)\n")
	p("How many times as much as the same request takes in Gin with the least guard there can be, one that reads the header")
	p("and calls `c.Set` once:\n")
	p("%s", d.guarded())
	p("ginrefresh does more in that time than the others: each of its requests, also one whose token is in the cache of")
	p("verified tokens, is checked against the blacklist, the session's record and the subject's, so a logout is in force at the")
	p("next request. Where a look found nothing against a token, it is good for as long as nothing changes in those two")
	p("thousandths of the blacklist, which costs two loads to find out; *blacklist changed since* is when each request has to")
	p("look again. The blacklist here holds 100,000 records, and half of the tokens' sessions have one. No peer has a")
	p("blacklist; none of them refuses a token whose session was ended.\n")
	p("What is compared: the same token for all, except where the table says otherwise, and except for auth0's, which also has")
	p("the issuer and the audience that it insists on. The route answers `ok`. Requests go straight into")
	p("the router, without a socket, through a request and a writer that allocate nothing. gin-jwt knows HMAC and RSA itself, and")
	p("got the other two through its `KeyFunc`. Fiber runs on fasthttp, chi and auth0 on net/http, echo on its own router. The same")
	p("1,000 tokens come again and again; *first use* sends each token once. Peers have no cache and take as long either way.\n")
	p("Where the time of a warm request goes, and its allocations:")
	p("`go test -run '^$' -bench 'Warm/HS256/ginrefresh$' -cpu 1 -cpuprofile cpu.out -memprofile mem.out` and `go tool pprof`.\n")
	p("## Goals\n")
	p("%s", goals)
	p("The refused tokens come again and again, as an attacker's or a forgotten client's would, or *each once*. The load over")
	p("the loopback and the million tokens have goals of their own below.\n")
	p("## Refused requests\n")
	p("HS256; × Gin + header + `c.Set`. In brackets: each token once.\n")
	p("%s", d.refused())
	p("## Refresh and login\n")
	p("Processor time per request, and × gin-jwt. A login here is without the check of the password, which takes as long as the hash is")
	p("told to. A refresh by ginrefresh verifies, signs, and swaps the session's record in the blacklist in one atomic step;")
	p("gin-jwt's signs a second token and leaves the first one good.\n")
	p("%s", d.loginTable())
	p("<details><summary>All figures</summary>\n")
	p("%s", d.everything())
	p("</details>")
	return b.String()
}

func (d document) guarded() string {
	table := report.Table{Head: []string{"", "HS256", "RS256", "ES256", "EdDSA", "B, HS256", "allocations, HS256"}}
	for _, id := range []string{contest.Bare, contest.Header} {
		f := d.find("None", id)
		ratio := times(d.toHeader(f))
		table.Row(contest.Find(id).Label, ratio, ratio, ratio, ratio, report.Thousands(f.bytes), report.Thousands(f.allocs))
	}
	for _, c := range contest.Contestants[2:] {
		table.Row(d.guardedRow(label(c), "Warm", c.ID)...)
		if c.ID == contest.Ours {
			table.Row(d.guardedRow(label(c)+", first use", "Cold", c.ID)...)
		}
	}
	return table.String()
}

// label puts the version behind the name and before what else there is to say.
func label(c contest.Contestant) string {
	name, rest, more := strings.Cut(c.Label, ",")
	if version := c.Version(); version != "" {
		name += " " + version
	}
	if more {
		name += "," + rest
	}
	return name
}

func (d document) guardedRow(label, group, id string) []string {
	row := []string{label}
	for _, algorithm := range contest.Algorithms {
		row = append(row, times(d.toHeader(d.find(group, algorithm, id))))
	}
	f := d.find(group, middleware.HS256, id)
	return append(row, report.Thousands(f.bytes), report.Thousands(f.allocs))
}

func (d document) refused() string {
	table := report.Table{Head: append([]string{""}, refusalKinds...)}
	for _, c := range contest.Contestants[2:] {
		row := []string{label(c)}
		for _, kind := range refusalKinds {
			cell := times(d.toHeader(d.find("Refused", kind, c.ID)))
			if once := d.find("RefusedOnce", kind, c.ID); once.ns > 0 {
				cell += " (" + times(d.toHeader(once)) + ")"
			}
			row = append(row, cell)
		}
		if c.Tokens == nil && c.ID != contest.OursLooking {
			table.Row(row...)
		}
	}
	return table.String()
}

func (d document) loginTable() string {
	table := report.Table{Head: []string{"", "refresh, µs", "× gin-jwt", "allocations", "login, µs", "× gin-jwt", "allocations"}}
	for _, algorithm := range contest.Algorithms {
		row := []string{string(algorithm)}
		for _, group := range []string{"Refresh", "Login"} {
			f := d.find(group, algorithm, contest.Ours)
			row = append(row, report.Number(f.ns/1000), times(ratio(f, d.find(group, algorithm, contest.GinJWT))), report.Thousands(f.allocs))
		}
		table.Row(row...)
	}
	return table.String()
}

// short are the names that fit beside a bar.
var short = map[string]string{
	contest.Ours: "ginrefresh", contest.GinJWT: "gin-jwt v2", "echo-jwt": "echo-jwt v4", "fiber-jwt": "fiber jwt",
	"jwtauth": "chi jwtauth v5", "auth0": "auth0 v2", "golang-jwt": "golang-jwt v5, typed",
}

func (d document) chart() report.Chart {
	chart := report.Chart{
		Title: "What a guarded request costs",
		Note:  "Multiples of Gin + reading the header + one c.Set (= ×1), logarithmic; the shorter the better. ginrefresh also checks its blacklist each time.",
	}
	for _, algorithm := range contest.Algorithms {
		panel := report.Panel{Title: string(algorithm)}
		for _, c := range contest.Contestants[2:] {
			if short[c.ID] == "" {
				continue
			}
			f := d.find("Warm", algorithm, c.ID)
			panel.Bars = append(panel.Bars, report.Bar{Label: short[c.ID], Value: d.toHeader(f), Ours: c.ID == contest.Ours})
			if c.ID == contest.Ours {
				cold := d.find("Cold", algorithm, c.ID)
				panel.Bars = append(panel.Bars, report.Bar{Label: "… first use of a token", Value: d.toHeader(cold), Faint: true})
			}
		}
		chart.Panels = append(chart.Panels, panel)
	}
	return chart
}
