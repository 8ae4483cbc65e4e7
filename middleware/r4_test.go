package middleware_test

import (
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// R4: replaced tokens are rejected after the grace period; the access tokens of pair mode are not replaced.

// Tabs share a session: the refresh of one tab must not invalidate the access token of another.
func TestR4PairAccessTokensLiveTheirTTL(t *testing.T) {
	inPairMode(t, func(t *testing.T, auth, other *middleware.Auth) {
		first := issueTokens(t, auth, middleware.Identity{})
		last := first
		for range 5 {
			wait(11 * time.Second)
			last = refreshTokens(t, other, last)
		}
		wait(5*time.Second - time.Microsecond)
		wantVerify(t, "R4: after five refreshes, a microsecond before exp", auth, first.AccessToken, "")
		wait(time.Microsecond)
		wantVerify(t, "R2: at exp", auth, first.AccessToken, middleware.CodeTokenExpired)
		wantVerify(t, "R4: the last access token", auth, last.AccessToken, "")
	}, noGrace)
}
