package middleware_test

import (
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// Alive is about the session, and not about the token of the claims.
func TestAlive(t *testing.T) {
	eachMode(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		auth, other := server(), server()
		open := func() (middleware.Tokens, func(what string, code middleware.Code)) {
			tokens := issueTokens(t, auth, middleware.Identity{})
			claims := verify(t, auth, tokens.AccessToken)
			return tokens, func(what string, code middleware.Code) {
				t.Helper()
				wantCode(t, what, auth.Alive(t.Context(), claims), code)
			}
		}

		tokens, alive := open()
		alive("after the login", "")
		tokens = refreshTokens(t, other, tokens)
		wait(time.Minute)
		alive("long after another tab has refreshed", "")
		wantCode(t, "logout", other.Logout(t.Context(), tokens.AccessToken), "")
		alive("after a logout with a newer token", middleware.CodeTokenRevoked)

		_, alive = open()
		wantCode(t, "log out everywhere", other.RevokeSubject(t.Context(), "admin"), "")
		alive("after a log-out everywhere", middleware.CodeTokenRevoked)

		_, alive = open()
		wait(time.Hour)
		alive("while the last token may live", "")
		wait(time.Minute)
		alive("after the last token", middleware.CodeRefreshExpired)
		wantCode(t, "no claims", auth.Alive(t.Context(), middleware.Claims{}), middleware.CodeTokenInvalid)
	})
}
