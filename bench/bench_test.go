package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
)

// BenchmarkGuard sends requests with valid tokens: the same 1,000 again and again, or each token once ("first-use").
func BenchmarkGuard(b *testing.B) { benchmark(b, "Guard") }

// BenchmarkRefuse sends requests with tokens that are refused.
func BenchmarkRefuse(b *testing.B) { benchmark(b, "Refuse") }

// BenchmarkRefresh refreshes each token once.
func BenchmarkRefresh(b *testing.B) { benchmark(b, "Refresh") }

// BenchmarkLogin logs in without a password. A password hash would take a hundred times as long as the rest.
func BenchmarkLogin(b *testing.B) { benchmark(b, "Login") }

// benchmark runs the scenarios of a group.
func benchmark(b *testing.B, group string) {
	for _, s := range measured() {
		if name, ok := strings.CutPrefix(s.name, group+"/"); ok {
			b.Run(name, s.benchmark)
		}
	}
}

// sizes are numbers of tokens and of records.
type sizes struct {
	warm       int // tokens that are sent again and again
	once       int // tokens that are sent once
	background int // records of other sessions in the blacklist
}

// measured returns the scenarios as they are benchmarked: more tokens are sent once than the token cache holds.
var measured = sync.OnceValue(func() []scenario {
	return scenarios(sizes{warm: 1000, once: 20_000, background: 100_000})
})

// scenario is one benchmark.
type scenario struct {
	name     string
	handler  func(testing.TB) any
	requests func() []string // their Authorization headers
	once     bool            // no server receives a request twice
	status   int             // of every response
}

// start returns a new server after its first request, which allocates more than the others.
func (s scenario) start(t testing.TB) server {
	serve := newServer(s.handler(t))
	serve("Bearer a.b.c")
	return serve
}

func (s scenario) send(t testing.TB, serve server, requests []string) {
	for _, authorization := range requests {
		if status := serve(authorization); status != s.status {
			t.Fatalf("%s: status %d, want %d", s.name, status, s.status)
		}
	}
}

// warmUp sends the requests a few times, because a cache may admit a token only when it sees it again.
func (s scenario) warmUp(t testing.TB, serve server, requests []string) {
	for range 3 {
		s.send(t, serve, requests)
	}
}

func (s scenario) benchmark(b *testing.B) {
	b.ReportAllocs()
	requests, serve := s.requests(), s.start(b)
	if !s.once {
		s.warmUp(b, serve, requests)
	}
	runtime.GC()
	var cpu time.Duration
	b.ResetTimer()
	for sent := 0; sent < b.N; sent += len(requests) {
		if s.once && sent > 0 {
			b.StopTimer()
			serve = s.start(b)
			runtime.GC()
			b.StartTimer()
		}
		before := cpuTime()
		s.send(b, serve, requests[:min(len(requests), b.N-sent)])
		cpu += cpuTime() - before
	}
	b.ReportMetric(float64(cpu.Nanoseconds())/float64(b.N), "cpu-ns/op")
}

// fixture holds the key, the blacklist and the tokens of one algorithm.
type fixture struct {
	key   key
	store middleware.Store
	auth  *middleware.Auth
	sizes sizes

	warm, once func() []string
}

func newFixture(algorithm middleware.Algorithm, target middleware.Store, n sizes) *fixture {
	if algorithm == middleware.RS256 {
		n.once = min(n.once, 2000) // one signature takes a millisecond
	}
	f := &fixture{key: newKey(algorithm), store: target, sizes: n}
	f.auth = newAuth(f.key, f.store, withoutCache)
	if _, err := fill(f.store, n.background); err != nil {
		panic(err)
	}
	f.warm = headers(func() []string { return refreshHalf(f.auth, issue(f.auth, n.warm)) })
	f.once = headers(func() []string { return issue(f.auth, n.once) })
	return f
}

// headers makes the tokens when they are first used.
func headers(tokens func() []string) func() []string {
	return sync.OnceValue(func() []string { return bearer(tokens()) })
}

// scenarios returns all of them, in the order of the tables.
func scenarios(n sizes) []scenario {
	all := refusals(sync.OnceValue(func() *fixture { return newFixture(middleware.HS256, store.NewMemory(), n) }))
	for _, algorithm := range algorithms {
		f := sync.OnceValue(func() *fixture { return newFixture(algorithm, store.NewMemory(), n) })
		all = append(all, guards(algorithm, f)...)
		all = append(all, logins(algorithm, f)...)
	}
	return all
}

func guards(algorithm middleware.Algorithm, f func() *fixture) (all []scenario) {
	for _, c := range contestants {
		s := scenario{
			name: fmt.Sprintf("Guard/alg=%s/who=%s", algorithm, c.who), status: http.StatusOK,
			handler:  func(testing.TB) any { return c.guard(f().key, f().store) },
			requests: func() []string { return f().warm() },
		}
		if c.tokens != nil {
			s.requests = headers(func() []string { return c.tokens(f().key, f().sizes.warm) })
		}
		all = append(all, s)
		if c.who == "ginrefresh" {
			s.name, s.once, s.requests = s.name+"-first-use", true, func() []string { return f().once() }
			all = append(all, s)
		}
	}
	return all
}

// refusals use HS256, because the signature hides the other work least. Only ginrefresh refuses revoked tokens.
func refusals(f func() *fixture) (all []scenario) {
	for _, kind := range []struct {
		name   string
		tokens func() []string
	}{
		{"expired", func() []string { return expired(f().key, f().sizes.once) }},
		{"forged", func() []string { return forged(issue(f().auth, f().sizes.once)) }},
		{"malformed", func() []string { return malformed(issue(f().auth, f().sizes.once)) }},
		{"revoked", func() []string { return revoked(f().auth, f().sizes.once) }},
	} {
		requests := headers(kind.tokens)
		for _, c := range contestants[2:] {
			if c.tokens != nil || c.who == "ginrefresh-always-peek" || kind.name == "revoked" && c.who != "ginrefresh" {
				continue
			}
			s := scenario{
				name: fmt.Sprintf("Refuse/kind=%s/who=%s", kind.name, c.who), status: http.StatusUnauthorized,
				handler:  func(testing.TB) any { return c.guard(f().key, f().store) },
				requests: func() []string { return requests()[:f().sizes.warm] },
			}
			all = append(all, s)
			if c.who == "ginrefresh" {
				s.name, s.once, s.requests = s.name+"-first-use", true, requests
				all = append(all, s)
			}
		}
	}
	return all
}

// logins are logins and refreshes. A refresh uses up its token, so each server starts with an empty blacklist.
// gin-jwt signs with HMAC and RSA only, and refreshes only its own tokens.
func logins(algorithm middleware.Algorithm, f func() *fixture) []scenario {
	refresh := func(who string, tokens func() []string, handler func(testing.TB) any) scenario {
		return scenario{fmt.Sprintf("Refresh/alg=%s/who=%s", algorithm, who), handler, tokens, true, http.StatusOK}
	}
	login := func(who string, handler func(testing.TB) any) scenario {
		noTokens := func() []string { return make([]string, f().sizes.warm) }
		return scenario{fmt.Sprintf("Login/alg=%s/who=%s", algorithm, who), handler, noTokens, false, http.StatusOK}
	}
	all := []scenario{
		refresh("ginrefresh", func() []string { return f().once() }, func(t testing.TB) any {
			blacklist := store.NewMemory(store.DangerouslyAcceptOlderSessions()) // the tokens were issued with another store
			t.Cleanup(func() { blacklist.Close() })
			return posting(newAuth(f().key, blacklist).RefreshHandler)
		}),
		login("ginrefresh", func(testing.TB) any { return posting(newAuth(f().key, f().store).LoginHandler) }),
	}
	if algorithm == middleware.HS256 || algorithm == middleware.RS256 {
		own := headers(func() []string { return ginJWTTokens(f().key, f().sizes.once) })
		all = append(all,
			refresh("gin-jwt", own, func(testing.TB) any { return posting(newGinJWT(f().key).RefreshHandler) }),
			login("gin-jwt", func(testing.TB) any { return posting(newGinJWT(f().key).LoginHandler) }))
	}
	return all
}

// TestScenarios sends one request of each scenario, and checks the allocations of ginrefresh's guard.
func TestScenarios(t *testing.T) {
	ceilings := map[string]float64{
		"Guard/alg=HS256/who=ginrefresh":           5,
		"Guard/alg=RS256/who=ginrefresh":           5,
		"Guard/alg=ES256/who=ginrefresh":           5,
		"Guard/alg=EdDSA/who=ginrefresh":           5,
		"Guard/alg=HS256/who=ginrefresh-first-use": 20,
	}
	for _, s := range scenarios(sizes{warm: 20, once: 20, background: 100}) {
		t.Run(s.name, func(t *testing.T) {
			requests, serve := s.requests(), s.start(t)
			if !s.once {
				s.warmUp(t, serve, requests)
			}
			next := 0
			allocations := testing.AllocsPerRun(len(requests)-1, func() {
				s.send(t, serve, requests[next:next+1])
				next++
			})
			if ceiling, ok := ceilings[s.name]; ok && allocations > ceiling {
				t.Errorf("%.1f allocations per request, want at most %.0f", allocations, ceiling)
			}
			delete(ceilings, s.name)
		})
	}
	if len(ceilings) > 0 {
		t.Errorf("not checked: %v", ceilings)
	}
}

// TestRefusedTokens checks that the tokens are refused for the reason that the benchmark names, and that no other
// library refuses a revoked token.
func TestRefusedTokens(t *testing.T) {
	f := newFixture(middleware.HS256, store.NewMemory(), sizes{})
	ended := revoked(f.auth, 1)
	for want, tokens := range map[middleware.Code][]string{
		middleware.CodeTokenExpired: expired(f.key, 1),
		middleware.CodeTokenRevoked: ended,
	} {
		var refused *middleware.Error
		if _, err := f.auth.Verify(context.Background(), tokens[0]); !errors.As(err, &refused) || refused.Code != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	for _, c := range contestants {
		if c.tokens != nil {
			continue // it does not accept the tokens of ginrefresh
		}
		want := http.StatusOK
		if strings.HasPrefix(c.who, "ginrefresh") {
			want = http.StatusUnauthorized
		}
		if status := newServer(c.guard(f.key, f.store))(bearer(ended)[0]); status != want {
			t.Errorf("%s: status %d for a revoked token, want %d", c.who, status, want)
		}
	}
}
