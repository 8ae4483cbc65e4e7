package main

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// profile describes how the users of an application use their sessions.
type profile struct {
	name       string
	ttl        time.Duration
	refreshTTL time.Duration
	pause      time.Duration // from one use to the next, on average; each use may need a refresh
	logout     time.Duration // from the login to the logout, on average
	requests   float64       // per day, of a session that is not logged out
}

const day = 24 * time.Hour

var profiles = []profile{
	{name: "now and then: 3 uses and 30 requests a day, TTL 1 h", ttl: time.Hour, refreshTTL: 14 * day, pause: 8 * time.Hour, logout: 30 * day, requests: 30},
	{name: "at work: a use every hour, 1,000 requests a day, TTL 1 h", ttl: time.Hour, refreshTTL: 14 * day, pause: time.Hour, logout: 30 * day, requests: 1000},
	{name: "always on: a request every 15 s, TTL 15 min", ttl: 15 * time.Minute, refreshTTL: 14 * day, pause: 15 * time.Second, logout: 30 * day, requests: 5760},
}

// load is the load that a number of sessions puts on a store. Rates are per second.
type load struct {
	records, logins, refreshes, logouts, requests float64

	perToken float64 // records, if each replaced token had one until the deadline of its session
}

// reads are calls of Get: one per request, login, refresh and logout.
func (l load) reads() float64 { return l.requests + l.logins + l.refreshes + l.logouts }

// swaps are calls of CompareAndSwap.
func (l load) swaps() float64 { return l.refreshes + l.logouts }

// expect is the formula of docs/scale.md, for a number of sessions that began within refreshTTL, at a steady rate.
func (p profile) expect(sessions float64) load {
	t, d := p.ttl.Seconds(), p.refreshTTL.Seconds()
	u, h := 1/p.pause.Seconds(), 1/p.logout.Seconds()
	withoutRecord := (1-math.Exp(-h*t))/h + math.Exp(-h*t)*(1-math.Exp(-(h+u)*(d-t)))/(h+u) // ∫₀ᴰ S(a) da
	neverRecorded := math.Exp(-h*d - u*(d-t))                                               // S(D)
	logins := sessions / d
	live := logins * (1 - math.Exp(-h*d)) / h
	cycle := t + 1/u
	return load{
		records:   logins * (d - withoutRecord + t*(1-neverRecorded)),
		logins:    logins,
		refreshes: live / cycle,
		logouts:   logins * (1 - math.Exp(-h*d)),
		requests:  live * p.requests / day.Seconds(),
		perToken:  logins / cycle * (d/h - (1-math.Exp(-h*d))/(h*h)),
	}
}

const (
	headroom        = 0.5               // the share of a store's rates that may be used: there are peaks and failovers
	maxMemory       = float64(16 << 30) // of a store: a larger Redis takes too long to load and to copy
	processRequests = 20_000            // per second that one process answers, application included
)

// loadTable shows the load of a million sessions. All of it is proportional to the sessions.
func loadTable() table {
	t := table{"load", [][]string{{"1,000,000 sessions", "records", "logins/s", "refreshes/s", "requests/s", "reads/s", "swaps/s", "records, if one per replaced token"}}}
	for _, p := range profiles {
		cells, l := []string{p.name}, p.expect(1e6)
		for _, f := range []float64{l.records, l.logins, l.refreshes, l.requests, l.reads(), l.swaps(), l.perToken} {
			cells = append(cells, number(f))
		}
		t.rows = append(t.rows, cells)
	}
	return t
}

// limitTable shows for how many sessions each of the measured stores is enough.
func limitTable(r results) table {
	t := table{"limit", [][]string{{"million sessions, at most", "memory", "bolt", "Redis"}}}
	for _, p := range profiles {
		name, _, _ := strings.Cut(p.name, ":")
		cells := []string{name}
		for _, store := range t.rows[0][1:] {
			cells = append(cells, r.limit("Store/store="+store, p.expect(1)))
		}
		t.rows = append(t.rows, cells)
	}
	return t
}

// limit returns at how many sessions the first limit is reached, and names that limit.
func (r results) limit(store string, each load) string {
	checks, swaps := r.median(store, "checks/cpu-s"), r.median(store, "swaps/cpu-s")
	server := checks > 0
	if !server {
		checks, swaps = r.median(store, "checks/s"), r.median(store, "swaps/s")
	}
	if checks == 0 {
		return "–"
	}
	sessions, reason := maxMemory/(each.records*r.median(store, "B/record")), "memory"
	if n := headroom / (each.reads()/checks + each.swaps()/swaps); n < sessions {
		sessions, reason = n, "time"
	}
	if n := processRequests / each.requests; !server && n < sessions {
		sessions, reason = n, "one process"
	}
	return fmt.Sprintf("%s (%s)", number(sessions/1e6), reason)
}
