package middleware_test

import (
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// R5: tokens can be refreshed until the deadline, and with IdleTTL until they have been idle for too long.

func TestR5PairWindow(t *testing.T) {
	inPairMode(t, func(t *testing.T, auth, _ *middleware.Auth) {
		tokens := issueTokens(t, auth, middleware.Identity{})
		deadline := tokens.RefreshUntil
		for range 5 { // a refresh does not move the deadline
			wait(11 * time.Minute)
			tokens = refreshTokens(t, auth, tokens)
		}
		wait(5*time.Minute - time.Microsecond)
		last := refreshTokens(t, auth, tokens)
		if !last.RefreshUntil.Equal(deadline) || last.ExpiresAt.Sub(last.Claims.IssuedAt) != time.Minute || !last.Claims.RefreshUntil.Equal(deadline) {
			t.Errorf("R9: the last refresh returns %+v, want the deadline %v and a TTL of one minute", last, deadline)
		}
		wait(time.Microsecond)
		wantRefresh(t, "R5: at the deadline", auth, last.RefreshToken, middleware.CodeRefreshExpired)
		wantVerify(t, "R9: the last access token after the deadline", auth, last.AccessToken, "")
		wait(time.Minute - time.Second)
		wantVerify(t, "R9: the last access token at exp", auth, last.AccessToken, middleware.CodeTokenExpired)
	})
	inPairMode(t, func(t *testing.T, auth, _ *middleware.Auth) {
		tokens := issueTokens(t, auth, middleware.Identity{})
		for range 3 {
			wait(10*time.Minute - time.Microsecond)
			tokens = refreshTokens(t, auth, tokens)
		}
		wait(10 * time.Minute)
		wantRefresh(t, "R5: idle for IdleTTL", auth, tokens.RefreshToken, middleware.CodeRefreshExpired)
	}, func(c *middleware.Config) { c.IdleTTL = 10 * time.Minute })
}
