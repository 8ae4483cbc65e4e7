package main

import (
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/bench/internal/contest"
	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
)

// sizes are how much a scenario is made of.
type sizes struct {
	warm       int // tokens that are used again and again
	once       int // tokens that are used once
	onceRSA    int // the same, fewer, as it takes long to sign them
	background int // records of other sessions in the blacklist
}

// measured are the sizes of the benchmarks. More tokens are used once than the cache of verified tokens holds.
var measured = sizes{warm: 1000, once: 20_000, onceRSA: 2000, background: 100_000}

// fixture is what the scenarios of one algorithm share. Its parts are made when they are first wanted.
type fixture struct {
	sizes
	key   contest.Key
	store *store.Memory

	warm, once, expired, forged, revoked, malformed func() []string

	mu  sync.Mutex
	own map[string][]string // of contestants with tokens of their own
}

func newFixture(algorithm middleware.Algorithm, n sizes) *fixture {
	f := &fixture{sizes: n, key: contest.NewKey(algorithm), store: store.NewMemory(), own: map[string][]string{}}
	if algorithm == middleware.RS256 {
		f.sizes.once = n.onceRSA
	}
	if err := contest.FillStore(f.store, n.background); err != nil {
		panic(err)
	}
	auth := contest.NewAuth(f.key, f.store, contest.WithoutCache)
	f.warm = headers(func() []string {
		tokens := contest.Issue(auth, n.warm)
		contest.RefreshHalf(auth, tokens)
		return tokens
	})
	f.once = headers(func() []string { return contest.Issue(auth, f.sizes.once) })
	f.expired = headers(func() []string { return contest.Expired(f.key, f.sizes.once) })
	f.forged = headers(func() []string { return contest.Forged(contest.Issue(auth, f.sizes.once)) })
	f.malformed = headers(func() []string { return contest.Malformed(contest.Issue(auth, f.sizes.once)) })
	f.revoked = headers(func() []string {
		tokens := contest.Issue(auth, f.sizes.once)
		contest.EndSessions(auth, tokens)
		return tokens
	})
	return f
}

func headers(tokens func() []string) func() []string {
	return sync.OnceValue(func() []string { return contest.Bearer(tokens()) })
}

// accepted are the tokens that a contestant accepts: those of ginrefresh, the same for all, or its own.
func (f *fixture) accepted(c contest.Contestant, once bool) []string {
	if c.Tokens == nil {
		if once {
			return f.once()
		}
		return f.warm()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.own[c.ID] == nil {
		f.own[c.ID] = contest.Bearer(c.Tokens(f.key, max(f.sizes.warm, f.sizes.once)))
	}
	if once {
		return f.own[c.ID][:f.sizes.once]
	}
	return f.own[c.ID][:f.sizes.warm]
}

// scenario is one benchmark: requests, and who answers them.
type scenario struct {
	name     string
	server   func() contest.Server
	requests func() []string
	once     bool // no server may see a request twice
	status   int
}

func (s scenario) serve(t testing.TB, server contest.Server, requests []string) {
	for _, authorization := range requests {
		if status := server.Serve(authorization); status != s.status {
			t.Fatalf("%s answered %d, not %d", s.name, status, s.status)
		}
	}
}

// benchmark measures the requests alone: new servers, and their first request, are left out.
func (s scenario) benchmark(b *testing.B) {
	b.ReportAllocs()
	if s.once {
		s.benchmarkOnce(b)
		return
	}
	requests, server := s.requests(), s.server()
	s.warmUp(b, server, requests)
	runtime.GC()
	b.ResetTimer()
	before := processorTime()
	for done := 0; done < b.N; done += len(requests) {
		s.serve(b, server, requests[:min(len(requests), b.N-done)])
	}
	reportProcessor(b, processorTime()-before)
}

// reportProcessor adds the processor time to what the benchmark says.
func reportProcessor(b *testing.B, took time.Duration) {
	b.ReportMetric(float64(took.Nanoseconds())/float64(b.N), processorUnit)
}

// benchmarkOnce takes a new server whenever the requests are used up.
func (s scenario) benchmarkOnce(b *testing.B) {
	requests := s.requests()
	b.StopTimer()
	b.ResetTimer()
	var took time.Duration
	for done := 0; done < b.N; done += len(requests) {
		server := s.server()
		server.Serve(nobodys)
		runtime.GC() // what making the server left behind is not the requests'
		b.StartTimer()
		before := processorTime()
		s.serve(b, server, requests[:min(len(requests), b.N-done)])
		took += processorTime() - before
		b.StopTimer()
	}
	reportProcessor(b, took)
}

// warmUp serves the requests a few times: a cache may want to see a token again before it keeps it.
func (s scenario) warmUp(t testing.TB, server contest.Server, requests []string) {
	for range 3 {
		s.serve(t, server, requests)
	}
}

// nobodys is a header that nobody accepts.
const nobodys = "Bearer a.b.c"

// scenarios returns all, in the order of the tables.
func scenarios(n sizes) []scenario {
	fixtures := map[middleware.Algorithm]func() *fixture{}
	for _, algorithm := range contest.Algorithms {
		fixtures[algorithm] = sync.OnceValue(func() *fixture { return newFixture(algorithm, n) })
	}
	var all []scenario
	for _, c := range contest.Contestants[:2] {
		all = append(all, guarded("None/"+c.ID, fixtures[middleware.HS256], c, false))
	}
	for _, algorithm := range contest.Algorithms {
		for _, c := range contest.Contestants[2:] {
			all = append(all, guarded(fmt.Sprintf("Warm/%s/%s", algorithm, c.ID), fixtures[algorithm], c, false))
		}
	}
	for _, algorithm := range contest.Algorithms {
		for _, c := range contest.Contestants[2:] {
			if c.ID != contest.OursLooking { // whose first look at a token is that of ginrefresh
				all = append(all, guarded(fmt.Sprintf("Cold/%s/%s", algorithm, c.ID), fixtures[algorithm], c, true))
			}
		}
	}
	return slices.Concat(all, refusals(fixtures[middleware.HS256]), logins(fixtures))
}

func guarded(name string, f func() *fixture, c contest.Contestant, once bool) scenario {
	return scenario{
		name: name, once: once, status: http.StatusOK,
		server:   func() contest.Server { return c.Guarded(f().key, f().store) },
		requests: func() []string { return f().accepted(c, once) },
	}
}

// refusals are of HS256, where the rest of the work shows most. No peer knows that a token was revoked.
func refusals(f func() *fixture) []scenario {
	var all []scenario
	for _, kind := range []struct {
		name   string
		tokens func() []string
	}{
		{"expired", func() []string { return f().expired() }},
		{"forged", func() []string { return f().forged() }},
		{"malformed", func() []string { return f().malformed() }},
		{"revoked", func() []string { return f().revoked() }},
	} {
		for _, c := range contest.Contestants[2:] {
			if kind.name == "revoked" && c.ID != contest.Ours || c.Tokens != nil || c.ID == contest.OursLooking {
				continue
			}
			s := scenario{
				name: fmt.Sprintf("Refused/%s/%s", kind.name, c.ID), status: http.StatusUnauthorized,
				server:   func() contest.Server { return c.Guarded(f().key, f().store) },
				requests: func() []string { return kind.tokens()[:f().sizes.warm] },
			}
			all = append(all, s)
			if c.ID == contest.Ours {
				s.name, s.once, s.requests = fmt.Sprintf("RefusedOnce/%s/%s", kind.name, c.ID), true, kind.tokens
				all = append(all, s)
			}
		}
	}
	return all
}

// logins are refreshes, each of another session, and logins. Refreshing uses a token up, so each server starts
// with a blacklist that knows nothing of the sessions.
func logins(fixtures map[middleware.Algorithm]func() *fixture) []scenario {
	var all []scenario
	for _, algorithm := range contest.Algorithms {
		f := fixtures[algorithm]
		for _, id := range []string{contest.Ours, contest.GinJWT} {
			if !contest.CanIssue(id, algorithm) {
				continue
			}
			c := contest.Find(id)
			if id == contest.GinJWT {
				c = contest.Find(contest.GinJWTOwn) // it refreshes no other tokens than its own
			}
			all = append(all, scenario{
				name: fmt.Sprintf("Refresh/%s/%s", algorithm, id), once: true, status: http.StatusOK,
				server:   func() contest.Server { return contest.Refreshing(id, f().key, emptyStore(f().key)) },
				requests: func() []string { return f().accepted(c, true) },
			}, scenario{
				name: fmt.Sprintf("Login/%s/%s", algorithm, id), status: http.StatusOK,
				server:   func() contest.Server { return contest.LoggingIn(id, f().key, f().store) },
				requests: func() []string { return make([]string, f().sizes.warm) },
			})
		}
	}
	return all
}

var lastStore = map[middleware.Algorithm]*store.Memory{}

// emptyStore ends the last one of the key: the sweeper of a store runs until it is closed.
func emptyStore(k contest.Key) *store.Memory {
	if last := lastStore[k.Algorithm]; last != nil {
		last.Close()
	}
	lastStore[k.Algorithm] = store.NewMemory()
	return lastStore[k.Algorithm]
}
