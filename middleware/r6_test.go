package middleware_test

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// R6 and R6a: a refresh swaps the current token atomically, at most once per grace period.

// A refresh that loses the swap to another server returns the same successor. Each refresh calls Reload once.
func TestR6LostSwapInBothModes(t *testing.T) {
	for mode, inMode := range modes {
		t.Run(mode, func(t *testing.T) {
			asked := 0
			store := &faulty{Store: newMemory(t)}
			shared := func(c *middleware.Config) {
				c.Store = store
				c.Reload = func(_ context.Context, claims middleware.Claims) (any, error) {
					asked++
					return gin.H{"role": "admin"}, nil
				}
			}
			auth, other := newAuth(t, inMode, shared), newAuth(t, inMode, shared)
			first := issueTokens(t, auth, middleware.Identity{})
			var theirs middleware.Tokens
			store.fault.Store(&fault{swap: func(context.Context) (bool, error) {
				store.fault.Store(nil)
				theirs = refreshTokens(t, other, first)
				return true, nil
			}})
			ours := refreshTokens(t, auth, first)
			if ours.AccessToken != theirs.AccessToken || ours.RefreshToken != theirs.RefreshToken || asked != 2 {
				t.Errorf("R6: the loser of the swap returns %+v, the winner %+v; %d calls of Reload, want 2", ours.Claims, theirs.Claims, asked)
			}
		})
	}
}

// Within the grace period a refresh of the new token, or of its predecessor, returns the new token again.
func TestR6aOneSwapPerGrace(t *testing.T) {
	eachMode(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		auth, other := server(), server()
		first := issueTokens(t, auth, middleware.Identity{})
		second := refreshTokens(t, auth, first)
		if second.Claims.ID == first.Claims.ID {
			t.Fatal("R6: the first refresh after a login does not swap")
		}
		for range 5 {
			wait(2 * time.Second)
			for _, text := range []string{refreshable(second), refreshable(first)} {
				again, err := other.Refresh(t.Context(), text)
				if err != nil || again.AccessToken != second.AccessToken || again.RefreshToken != second.RefreshToken {
					t.Fatalf("R6a: a refresh within the grace period returns %v, %v, want the same token again", again.Claims.ID, err)
				}
			}
		}
		wait(time.Millisecond)
		third := refreshTokens(t, auth, second)
		if third.Claims.ID == second.Claims.ID {
			t.Error("R6: after the grace period the token is not swapped")
		}
		wantRefresh(t, "R8: the first token, long after its grace period", auth, refreshable(first), middleware.CodeTokenReused)
	})
}

// A token that has expired is not returned again: it is swapped.
func TestR6aADeadAnswerIsNotRepeated(t *testing.T) {
	eachMode(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		auth := server(func(c *middleware.Config) { c.TTL = 3 * time.Second })
		second := refreshTokens(t, auth, issueTokens(t, auth, middleware.Identity{}))
		wait(3*time.Second - time.Millisecond)
		if again := refreshTokens(t, auth, second); again.Claims.ID != second.Claims.ID {
			t.Error("R6a: a token that is still valid is swapped within the grace period")
		}
		wait(time.Millisecond)
		if third := refreshTokens(t, auth, second); third.Claims.ID == second.Claims.ID {
			t.Error("R6a: the refresh returns an expired token")
		}
	})
}

// A token that is returned again has the claims of the latest Reload.
func TestR6aReloadsTheClaims(t *testing.T) {
	eachMode(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		n := 0
		auth := server(func(c *middleware.Config) {
			c.Reload = func(context.Context, middleware.Claims) (any, error) { n++; return gin.H{"n": n}, nil }
		})
		second := refreshTokens(t, auth, issueTokens(t, auth, middleware.Identity{}))
		again := refreshTokens(t, auth, second)
		var own struct{ N int }
		if err := again.Claims.Decode(&own); err != nil || own.N != 2 || again.Claims.ID != second.Claims.ID {
			t.Errorf("R6a: claims %+v of %s, want those of the second Reload in %s", own, again.Claims.ID, second.Claims.ID)
		}
	})
}

// A cookie that the browser already has is not set again. That response could arrive after the one that sets the
// successor.
func TestR6aARepeatedCookieIsNotSetAgain(t *testing.T) {
	for mode, row := range cookieModes {
		auth := newAuth(t, row.change, withCookie(middleware.Cookie{}))
		s := direct(t, cookieRoutes(auth, mode))
		next := refreshTokens(t, auth, issueTokens(t, auth, middleware.Identity{}))
		r := s.send("POST", "/refresh", header("Cookie", row.name+"="+refreshable(next)))
		r.cookieAnswer(t)
		for _, line := range r.header.Values("Set-Cookie") {
			if strings.HasPrefix(line, row.name+"=") {
				t.Errorf("R6a, %s: the cookie is set again", mode)
			}
		}
	}
}

// A page fires twenty refreshes at once, again and again, over a slow network, each with the cookie that the browser has
// at that moment.
func TestForcedParallelRefreshesWithACookie(t *testing.T) {
	t.Parallel()
	const parallel = 20
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(1, 2))
		var mu sync.Mutex
		upTo := func(d time.Duration) time.Duration {
			mu.Lock()
			defer mu.Unlock()
			return time.Duration(random.Int64N(int64(d)))
		}
		var swaps []time.Time
		counting := &counting{Store: newMemory(t), swapped: func() {
			mu.Lock()
			defer mu.Unlock()
			swaps = append(swaps, time.Now())
		}}
		auth := newAuth(t, withCookie(middleware.Cookie{}), func(c *middleware.Config) { c.Store = counting })
		s := direct(t, cookieRoutes(auth, "one token"))
		var browser tokenJar
		browser.take(s.send("POST", "/login?user=admin"))
		for round := range rounds(50, 500) {
			var wg sync.WaitGroup
			for range parallel {
				wg.Go(func() {
					wait(upTo(2 * time.Second))
					sent := browser.get()
					wait(upTo(3 * time.Second)) // the request's way
					r := s.send("POST", "/refresh", header("Cookie", "__Host-access_token="+sent))
					wait(upTo(3 * time.Second)) // the response's way
					if r.status != http.StatusOK {
						t.Errorf("round %d: response %d %s to a refresh", round, r.status, r.body)
					}
					browser.take(r)
				})
			}
			wg.Wait()
			s.send("GET", "/required", header("Cookie", "__Host-access_token="+browser.get())).passed(t, "admin")
			if t.Failed() {
				t.Fatalf("failed in round %d", round)
			}
			wait(upTo(15 * time.Second))
		}
		for i := 2; i < len(swaps); i++ { // the first refresh after a login always swaps
			if pause := swaps[i].Sub(swaps[i-1]); pause < 10*time.Second {
				t.Errorf("R6a: two swaps within %v, want at least the grace period", pause)
			}
		}
	})
}

// tokenJar holds the browser's cookie. Responses can overtake each other, so the last to arrive wins.
type tokenJar struct {
	mu   sync.Mutex
	text string
}

func (j *tokenJar) get() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text
}

func (j *tokenJar) take(r reply) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if cookie, set := r.cookies()["access_token"]; set {
		j.text = cookie.Value
	}
}

// counting calls swapped after each successful swap.
type counting struct {
	middleware.Store
	swapped func()
}

func (s *counting) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	swapped, err := s.Store.CompareAndSwap(ctx, key, old, new, expires)
	if swapped {
		s.swapped()
	}
	return swapped, err
}
