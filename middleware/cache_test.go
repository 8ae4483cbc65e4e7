package middleware

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/store"
)

// discard is a ResponseWriter that costs nothing itself.
type discard struct {
	header http.Header
	status int
}

func (w *discard) Header() http.Header         { return w.header }
func (w *discard) Write(b []byte) (int, error) { return len(b), nil }
func (w *discard) WriteHeader(status int)      { w.status = status }

// The ceilings are what the paths took when they were written. Gin itself takes two for c.Set.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	gin.SetMode(gin.ReleaseMode)
	memory := store.NewMemory()
	defer func() { _ = memory.Close() }()
	newAuth := func(cache int) *Auth {
		a, err := New(Config{Keys: []Key{{Algorithm: HS256, Key: testSecret}}, Store: memory, TokenCache: cache})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	warm, cold := newAuth(0), newAuth(-1)
	issue := func(subject string) string {
		tokens, err := warm.Issue(context.Background(), Identity{Subject: subject, Claims: map[string]any{"role": "admin"}})
		if err != nil {
			t.Fatal(err)
		}
		return tokens.AccessToken
	}
	genuine, gone, replaced := issue("alice"), issue("bob"), issue("carol")
	if err := warm.RevokeSubject(context.Background(), "bob"); err != nil {
		t.Fatal(err)
	}
	if _, err := warm.Refresh(context.Background(), replaced); err != nil {
		t.Fatal(err)
	}
	const required, renewing, refresh = "/required", "/renewing", "/refresh"
	for _, test := range []struct {
		name   string
		auth   *Auth
		path   string
		token  string
		status int
		most   float64
	}{
		{"warm", warm, required, genuine, 204, 2},
		{"warm and replaced, in the grace", warm, required, replaced, 204, 2},
		{"warm, AutoRefresh", warm, renewing, genuine, 204, 2},
		{"cold", cold, required, genuine, 204, 7},
		{"revoked", warm, required, gone, 401, 2},
		{"forged", cold, required, genuine[:len(genuine)-8] + "AAAAAAAA", 401, 3},
		{"malformed", cold, required, "a.b", 401, 2},
		{"missing", cold, required, "", 401, 2},
		{"refresh", warm, refresh, replaced, 200, 40},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := gin.New()
			r.GET(required, test.auth.Required(), func(c *gin.Context) { c.Status(http.StatusNoContent) })
			r.GET(renewing, test.auth.AutoRefresh(time.Minute), func(c *gin.Context) { c.Status(http.StatusNoContent) })
			r.GET(refresh, test.auth.RefreshHandler)
			request, _ := http.NewRequest(http.MethodGet, test.path, nil)
			if test.token != "" {
				request.Header.Set("Authorization", "Bearer "+test.token)
			}
			w := &discard{header: http.Header{}}
			run := func() {
				clear(w.header)
				r.ServeHTTP(w, request)
			}
			run() // two looks at a token before it is kept
			run()
			if got := testing.AllocsPerRun(200, run); got > test.most || w.status != test.status {
				t.Errorf("%v allocations and status %d, want at most %v and %d", got, w.status, test.most, test.status)
			}
		})
	}
}

// A token that was accepted from the cache a moment ago is refused right after what ends it.
func TestACachedTokenEndsWithItsSession(t *testing.T) {
	otherKey := []Key{{Algorithm: HS256, Key: []byte("another secret of thirty-two bytes")}}
	for name, end := range map[string]struct {
		act  func(a *Auth, tokens Tokens) error
		want Code
	}{
		"logout":             {func(a *Auth, tokens Tokens) error { return a.Logout(context.Background(), tokens.AccessToken) }, CodeTokenRevoked},
		"log out everywhere": {func(a *Auth, _ Tokens) error { return a.RevokeSubject(context.Background(), "alice") }, CodeTokenRevoked},
		"SetKeys":            {func(a *Auth, _ Tokens) error { return a.SetKeys(otherKey) }, CodeTokenInvalid},
		"expiry": {func(*Auth, Tokens) error {
			wait(time.Minute)
			return nil
		}, CodeTokenExpired},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w world) {
				a := w.server()
				tokens := w.login(a, Identity{})
				for range 3 {
					w.verifies(a, tokens.AccessToken, "")
				}
				if _, watch, _ := a.recall(a.verifier.Load(), tokens.AccessToken); watch == nil {
					w.t.Fatal("the token is not in the cache")
				}
				var started, done sync.WaitGroup
				ended := make(chan struct{})
				for range 64 {
					started.Add(1)
					done.Go(func() {
						w.verifies(a, tokens.AccessToken, "")
						started.Done()
						<-ended
						w.verifies(a, tokens.AccessToken, end.want)
					})
				}
				started.Wait()
				if err := end.act(a, tokens); err != nil {
					w.t.Fatal(err)
				}
				close(ended)
				done.Wait()
			})
		})
	}
}

func TestTheCacheKeepsGenuineTokensThatComeAgainAndNoOthers(t *testing.T) {
	inBubble(t, func(w world) {
		a := w.server(func(c *Config) { c.TokenCache = 100 })
		cache := a.verifier.Load().cache
		token := w.login(a, Identity{}).AccessToken
		for range 3 {
			w.verifies(a, token[:len(token)-4]+"AAAA", CodeTokenInvalid)
		}
		w.verifies(a, token, "")
		if n := cache.tokens.EstimatedSize(); n != 0 {
			w.t.Errorf("%d tokens are kept, though none came twice", n)
		}
		for range 1000 {
			token := w.login(a, Identity{}).AccessToken
			w.verifies(a, token, "")
			w.verifies(a, token, "")
			w.verifies(a, token, "")
		}
		// By chance a trace may be taken for another token's.
		if hits, misses := a.CacheStats(); hits < 990 || hits > 1010 || hits+misses != 3001 {
			w.t.Errorf("%d hits and %d misses, want about 1000 and 2001", hits, misses)
		}
		cache.tokens.CleanUp()
		if n := cache.tokens.EstimatedSize(); n == 0 || n > 100 {
			w.t.Errorf("%d tokens are kept, want 1 to 100", n)
		}
		inFront := 0
		for i := range cache.front {
			if v := cache.front[i].Load(); v != nil {
				inFront++
				if _, kept := cache.tokens.GetEntryQuietly(cache.hash(v.text)); !kept {
					w.t.Error("a token is in front that is no longer kept")
				}
			}
		}
		if inFront == 0 {
			w.t.Error("no token is in front")
		}
	})
}

// What is found by the end of its signature must be the same from the beginning.
func TestR1_ACachedTokenIsTakenByItsWholeText(t *testing.T) {
	inBubble(t, func(w world) {
		a := w.server()
		token := w.login(a, Identity{}).AccessToken
		for range 2 * usesUntilWatched {
			w.verifies(a, token, "")
		}
		for i := range len(token) - signatureTail {
			if altered := token[:i] + "A" + token[i+1:]; altered != token {
				w.verifies(a, altered, CodeTokenInvalid)
			}
			w.verifies(a, token[:i]+token[i+1:], CodeTokenInvalid)
		}
		w.verifies(a, "A"+token, CodeTokenInvalid)
		w.verifies(a, token, "")
	})
}

// crowd uses n tokens in turn until each was used the given number of times, and returns the share of hits.
func crowd(c *tokenCache, name string, n, times int) float64 {
	none := &blacklist{}
	hits := 0
	for range times {
		for i := range n {
			text := fmt.Sprintf("%s %016d", name, i)
			hash := c.hash(text)
			if c.get(hash, text) != nil {
				hits++
			} else {
				c.put(hash, text, &token{}, none)
			}
		}
	}
	return float64(hits) / float64(n*times)
}

// Tokens by far too many cost few looks, and do not keep the cache from those that come afterwards.
func TestTheCacheIsSparedWhatItCannotHold(t *testing.T) {
	c := newTokenCache(1000)
	looked := func() (n int) {
		for i := range uint64(1024) {
			if c.share.has(i << shareBits) {
				n++
			}
		}
		return n
	}
	if crowd(c, "few", 500, 20) < 0.8 || looked() != 1024 {
		t.Fatalf("for few tokens %d of 1024 are looked for", looked())
	}
	crowd(c, "many", 200_000, 2)
	const least, times = 1024 / leastShare, 20
	lowest, sum := looked(), 0
	for i := range times { // now and then a few samples mislead it, for one decision
		crowd(c, fmt.Sprint("many ", i), 10_000, 1)
		lowest = min(lowest, looked())
		sum += looked()
	}
	if lowest != least || sum > times*2*least {
		t.Errorf("for many tokens %d of 1024 are looked for at the least and %d on average, want %d", lowest, sum/times, least)
	}
	crowd(c, "few again", 500, 1000)
	if looked() != 1024 {
		t.Errorf("for few tokens again %d of 1024 are looked for", looked())
	}
	if hits := crowd(c, "few again", 500, 1); hits < 0.9 {
		t.Errorf("%.0f %% of few tokens are found, want nearly all", 100*hits)
	}
}

func TestNoHandlerChangesWhatAnotherSees(t *testing.T) {
	inBubble(t, func(w world) {
		a := w.server()
		token := w.login(a, Identity{Claims: map[string]any{"roles": []string{"user"}, "n": 1}}).AccessToken
		for range 4 {
			claims, err := a.Verify(context.Background(), token)
			if err != nil {
				w.t.Fatal(err)
			}
			var own struct{ Roles []string }
			if err := claims.Decode(&own); err != nil || own.Roles[0] != "user" || claims.Subject != "alice" {
				w.t.Fatalf("claims %+v, %+v, %v", claims, own, err)
			}
			text, _ := claims.MarshalJSON()
			own.Roles[0], claims.Subject = "admin", "mallory"
			for i := range text {
				text[i] = 'x'
			}
		}
	})
}
