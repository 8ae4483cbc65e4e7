package middleware_test

import (
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// Tabs share a session: one tab's refresh must not cost another its access token.
func TestR4PairAccessTokensLiveTheirTTL(t *testing.T) {
	inPairMode(t, func(t *testing.T, auth, other *middleware.Auth) {
		first := issueTokens(t, auth, middleware.Identity{})
		last := first
		for range 5 {
			wait(11 * time.Second)
			last = refreshTokens(t, other, last)
		}
		wait(5*time.Second - time.Microsecond)
		wantVerify(t, "R4: after five refreshes, a microsecond before its end", auth, first.AccessToken, "")
		wait(time.Microsecond)
		wantVerify(t, "R2: at its end", auth, first.AccessToken, middleware.CodeTokenExpired)
		wantVerify(t, "the last one", auth, last.AccessToken, "")
	}, noGrace)
}
