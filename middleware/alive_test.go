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

// R5: a session ends when it has not been refreshed for IdleTTL, and Alive agrees with the refresh and with the list of
// sessions. A refresh with another tab's token counts.
func TestAliveIdle(t *testing.T) {
	eachMode(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		auth := server(limited(3), func(c *middleware.Config) { c.IdleTTL = 10 * time.Minute })
		tokens := issueTokens(t, auth, middleware.Identity{})
		claims := verify(t, auth, tokens.AccessToken)
		alive := func(what string, code middleware.Code, listed int) {
			t.Helper()
			wantCode(t, what, auth.Alive(t.Context(), claims), code)
			if sessions := must(auth.Sessions(t.Context(), claims.Subject)); len(sessions) != listed {
				t.Errorf("%s: %d sessions are listed, want %d", what, len(sessions), listed)
			}
		}
		wait(9 * time.Minute)
		refreshTokens(t, auth, tokens)
		wait(9 * time.Minute)
		alive("IdleTTL after the login, but refreshed", "", 1)
		wait(time.Minute)
		alive("IdleTTL after the refresh", middleware.CodeRefreshExpired, 0)
	})
}
