package middleware_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
)

// A refresh of a client that has gone uses nothing up.
func TestR10AClientThatHasGoneKeepsItsToken(t *testing.T) {
	auth := newAuth(t, noGrace)
	tokens := issueTokens(t, auth, middleware.Identity{})
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := auth.Refresh(gone, tokens.AccessToken); !hasCode(err, middleware.CodeStoreUnavailable) {
		t.Errorf("R10: %v, want store_unavailable", err)
	}
	refreshTokens(t, auth, tokens)
}

// A browser drops a cookie of more than 4096 bytes without a word, so no such token is made (R10).
func TestR10TokensThatFitNoCookie(t *testing.T) {
	const most = 4096
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
			if largest > most || largest < most-3 {
				t.Errorf("the largest cookie has %d bytes, want nearly %d", largest, most)
			}
			if _, err := auth.Issue(t.Context(), middleware.Identity{Subject: "admin", Claims: padded(pad)}); err == nil || !strings.Contains(err.Error(), "4096") {
				t.Errorf("Issue says %v, want how long it may be", err)
			}

			tokens := issueTokens(t, auth, middleware.Identity{})
			inCookie := header("Cookie", row.name+"="+refreshable(tokens))
			r.answer.Store(&reloaded{claims: padded(pad)})
			answer = s.send("POST", "/refresh", inCookie)
			if answer.rejected(t, middleware.CodeServerError); answer.header.Get("Set-Cookie") != "" {
				t.Errorf("cookies that are too large: %v", answer.header)
			}
			r.answer.Store(&reloaded{claims: padded(pad - 1)})
			s.send("POST", "/refresh", inCookie).cookieAnswer(t) // it was not used up
		})
	}
}

// The store freezes between look and swap. When it wakes up, the swap must be void, or the retry looks like theft.
func TestR10aASwapDoesNotTakeEffectLate(t *testing.T) {
	eachMode(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		s := &frozen{Memory: newMemory(t)}
		auth := server(func(c *middleware.Config) { c.Store = s })
		tokens := issueTokens(t, auth, middleware.Identity{})
		s.until = time.Now().Add(12 * time.Second)
		wantRefresh(t, "R14: a refresh while the store is frozen", auth, refreshable(tokens), middleware.CodeStoreUnavailable)
		wait(13 * time.Second)
		next, err := auth.Refresh(t.Context(), refreshable(tokens))
		if err != nil {
			t.Fatalf("R10a: the retry after the store woke up: %v", err)
		}
		wantVerify(t, "R10a: its token", auth, next.AccessToken, "")
	})
}

// frozen is a backend that runs what it was asked when it wakes up, and by then is to leave out what came too late.
type frozen struct {
	*store.Memory
	until time.Time
}

func (s *frozen) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	if time.Now().Before(s.until) {
		go func() {
			wait(time.Until(s.until))
			_, _ = s.Memory.CompareAndSwap(keepDeadline{ctx}, key, old, new, expires)
		}()
		<-ctx.Done()
		return false, ctx.Err()
	}
	return s.Memory.CompareAndSwap(ctx, key, old, new, expires)
}

// keepDeadline is a context of which only the deadline is left, as a backend sees it.
type keepDeadline struct{ context.Context }

func (keepDeadline) Done() <-chan struct{} { return nil }

func (keepDeadline) Err() error { return nil }
