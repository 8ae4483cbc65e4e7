package middleware_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// R10 and R10a: nothing is used up without an answer, and a swap takes effect in time or never.

// If the client hangs up before the swap, its token is not replaced.
func TestR10AClientThatHasGoneKeepsItsToken(t *testing.T) {
	auth := newAuth(t, noGrace)
	tokens := issueTokens(t, auth, middleware.Identity{})
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := auth.Refresh(gone, tokens.AccessToken); !hasCode(err, middleware.CodeStoreUnavailable) {
		t.Errorf("R10: refresh of a client that has hung up: %v, want store_unavailable", err)
	}
	refreshTokens(t, auth, tokens)
}

// A browser silently drops a cookie of more than 4096 bytes, so no such token is issued.
func TestR10TokensThatFitNoCookie(t *testing.T) {
	const limit = 4096
	padded := func(n int) gin.H { return gin.H{"pad": strings.Repeat("x", n)} }
	for mode, row := range cookieModes {
		t.Run(mode, func(t *testing.T) {
			var r reloader
			pad, largest := 2700, 0
			auth := newAuth(t, row.change, noGrace, withCookie(middleware.Cookie{}), reloading(&r), authenticating(func(*gin.Context) (middleware.Identity, error) {
				return middleware.Identity{Subject: "admin", Claims: padded(pad)}, nil
			}))
			s := direct(t, cookieRoutes(auth, mode))
			var answer reply
			for ; ; pad++ {
				if answer = s.send("POST", "/login"); answer.status != http.StatusOK {
					break
				}
				for _, cookie := range (&http.Response{Header: answer.header}).Cookies() {
					largest = max(largest, len(cookie.Name)+len(cookie.Value))
				}
			}
			if answer.rejected(t, middleware.CodeServerError); answer.header.Get("Set-Cookie") != "" {
				t.Errorf("cookies that are too large: %v", answer.header)
			}
			if largest > limit || largest < limit-3 {
				t.Errorf("the largest cookie has %d bytes, want almost %d", largest, limit)
			}
			if _, err := auth.Issue(t.Context(), middleware.Identity{Subject: "admin", Claims: padded(pad)}); err == nil || !strings.Contains(err.Error(), "4096") {
				t.Errorf("Issue returns %v, want an error that states the limit", err)
			}

			tokens := issueTokens(t, auth, middleware.Identity{})
			inCookie := header("Cookie", row.name+"="+refreshable(tokens))
			r.answer.Store(&reloaded{claims: padded(pad)})
			answer = s.send("POST", "/refresh", inCookie)
			if answer.rejected(t, middleware.CodeServerError); answer.header.Get("Set-Cookie") != "" {
				t.Errorf("cookies that are too large: %v", answer.header)
			}
			r.answer.Store(&reloaded{claims: padded(pad - 1)})
			s.send("POST", "/refresh", inCookie).cookieAnswer(t) // the token was not replaced
		})
	}
}

// The store freezes between the read and the swap. When it wakes up, the swap must have no effect. Otherwise the retry
// would look like reuse.
func TestR10aASwapDoesNotTakeEffectLate(t *testing.T) {
	eachMode(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		s := &frozen{Store: newMemory(t)}
		auth := server(func(c *middleware.Config) { c.Store = s })
		tokens := issueTokens(t, auth, middleware.Identity{})
		s.until = time.Now().Add(12 * time.Second)
		wantRefresh(t, "R14: a refresh while the store is frozen", auth, refreshable(tokens), middleware.CodeStoreUnavailable)
		wait(13 * time.Second)
		next, err := auth.Refresh(t.Context(), refreshable(tokens))
		if err != nil {
			t.Fatalf("R10a: the retry, after the store woke up: %v", err)
		}
		wantVerify(t, "R10a: the token of the retry", auth, next.AccessToken, "")
	})
}

// frozen is a store that executes the pending swaps when it wakes up.
type frozen struct {
	middleware.Store
	until time.Time
}

func (s *frozen) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	if time.Now().Before(s.until) {
		go func() {
			wait(time.Until(s.until))
			_, _ = s.Store.CompareAndSwap(keepDeadline{ctx}, key, old, new, expires)
		}()
		<-ctx.Done()
		return false, ctx.Err()
	}
	return s.Store.CompareAndSwap(ctx, key, old, new, expires)
}

// keepDeadline is a context that is never done, but still has its deadline, as a backend sees it.
type keepDeadline struct{ context.Context }

func (keepDeadline) Done() <-chan struct{} { return nil }

func (keepDeadline) Err() error { return nil }
