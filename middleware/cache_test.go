package middleware

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/store"
)

// discard is a ResponseWriter that does not allocate.
type discard struct {
	header http.Header
	status int
}

func (w *discard) Header() http.Header         { return w.header }
func (w *discard) Write(b []byte) (int, error) { return len(b), nil }
func (w *discard) WriteHeader(status int)      { w.status = status }

// TestAllocations limits the allocations of each path. Gin itself makes two for c.Set.
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
		{"warm and replaced, in the grace period", warm, required, replaced, 204, 2},
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
			run() // a token is cached from its second use on
			run()
			if got := testing.AllocsPerRun(200, run); got > test.most || w.status != test.status {
				t.Errorf("%v allocations and status %d, want at most %v and %d", got, w.status, test.most, test.status)
			}
		})
	}
}

// A token that was accepted from the cache a moment ago is rejected as soon as its session or its key is gone.
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
				if _, memo, _ := a.decode(a.verifier.Load(), tokens.AccessToken); memo == nil {
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

func TestTheCacheTakesGenuineTokensThatComeAgain(t *testing.T) {
	inBubble(t, func(w world) {
		a := w.server(func(c *Config) { c.TokenCache = 100 })
		token := w.login(a, Identity{}).AccessToken
		for range 3 {
			w.verifies(a, token[:len(token)-4]+"AAAA", CodeTokenInvalid)
		}
		w.verifies(a, token, "")
		if hits, misses := a.CacheStats(); hits != 0 || misses != 1 {
			w.t.Errorf("%d hits and %d misses, want 0 and 1: forged tokens don't count", hits, misses)
		}
		for range 1000 {
			token := w.login(a, Identity{}).AccessToken
			w.verifies(a, token, "")
			w.verifies(a, token, "")
			w.verifies(a, token, "")
		}
		// By chance a token is taken for one that was seen before.
		if hits, misses := a.CacheStats(); hits < 990 || hits > 1010 || hits+misses != 3001 {
			w.t.Errorf("%d hits and %d misses, want about 1000 and 2001", hits, misses)
		}
	})
}

// The cache hashes only the end of a token, but compares all of it.
func TestR1_TheCacheComparesTheWholeToken(t *testing.T) {
	inBubble(t, func(w world) {
		a := w.server()
		token := w.login(a, Identity{}).AccessToken
		for range 2 * usesUntilMemo {
			w.verifies(a, token, "")
		}
		for i := range len(token) - 16 { // the cache hashes the last 16 bytes
			if altered := token[:i] + "A" + token[i+1:]; altered != token {
				w.verifies(a, altered, CodeTokenInvalid)
			}
			w.verifies(a, token[:i]+token[i+1:], CodeTokenInvalid)
		}
		w.verifies(a, "A"+token, CodeTokenInvalid)
		w.verifies(a, token, "")
	})
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
