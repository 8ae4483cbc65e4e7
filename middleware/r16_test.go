package middleware_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// R16: in cookie mode a login ends the session that it replaces.

// A login ends the session of the cookie in its request (OWASP ASVS 5.0, 7.2.4).
func TestR16ALoginEndsTheSessionItReplaces(t *testing.T) {
	for mode, row := range cookieModes {
		t.Run(mode, func(t *testing.T) {
			store := &faulty{Store: newMemory(t)}
			refusals := 0
			auth := newAuth(t, row.change, withCookie(middleware.Cookie{}), func(c *middleware.Config) {
				c.Store = store
				c.Authenticate = func(c *gin.Context) (middleware.Identity, error) {
					if c.Query("user") == "" {
						refusals++
						return middleware.Identity{}, middleware.ErrRefused
					}
					return middleware.Identity{Subject: c.Query("user")}, nil
				}
			})
			b := browse(t, auth, mode)
			b.send("POST", "/login?user=alice").cookieAnswer(t)
			alice := b.cookie("/", "__Host-access_token")
			b.send("POST", "/login").rejected(t, middleware.CodeInvalidCredentials)
			b.send("POST", "/login?user=mallory", header("Sec-Fetch-Site", "cross-site")).rejected(t, middleware.CodeCrossOrigin)
			wantVerify(t, "R16: the old session after a failed login", auth, alice, "")

			store.fault.Store(&fault{swap: failingSwap})
			r := b.send("POST", "/login?user=bob")
			if r.rejected(t, middleware.CodeStoreUnavailable); r.header.Get("Set-Cookie") != "" {
				t.Errorf("R16: a login that cannot end the old session sets cookies: %v", r.header)
			}
			store.fault.Store(nil)
			wantVerify(t, "R16: the old session after the store failed", auth, alice, "")

			b.send("POST", "/login?user=bob").cookieAnswer(t)
			wantVerify(t, "R16: the old session after a login", auth, alice, middleware.CodeTokenRevoked)
			b.send("GET", "/required").passed(t, "bob")

			bob := b.cookie("/", "__Host-access_token")
			b.send("GET", "/callback?user=carol").passed(t, "carol") // a login that uses SetCookies
			wantVerify(t, "R16: the old session after SetCookies", auth, bob, middleware.CodeTokenRevoked)

			// A cookie that is empty, not genuine or expired does not prevent a login.
			for _, text := range []string{"", "a.b.c", aged(t, bob, 30*24*time.Hour)} {
				direct(t, cookieRoutes(auth, mode)).send("POST", "/login?user=dave", header("Cookie", row.name+"="+text)).cookieAnswer(t)
			}
		})
	}
}

// SetCookies with the tokens of a refresh does not end the session that was refreshed.
func TestR16SetCookiesKeepsItsOwnSession(t *testing.T) {
	auth := newAuth(t, pair, withCookie(middleware.Cookie{}))
	tokens := issueTokens(t, auth, middleware.Identity{})
	r := gin.New()
	r.POST("/custom", func(c *gin.Context) {
		next := refreshTokens(t, auth, tokens)
		_ = auth.SetCookies(c, next)
		c.Status(http.StatusNoContent)
	})
	answer := direct(t, r).send("POST", "/custom", header("Cookie", "__Host-refresh_token="+tokens.RefreshToken))
	wantVerify(t, "R16: the refreshed session", auth, answer.cookies()["access_token"].Value, "")
}
