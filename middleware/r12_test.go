package middleware_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// R12: log out everywhere ends the sessions of the subject that began before.

// Two servers revoke in turn, with logins in between. The clocks may differ by a second, so the second cutoff must not
// be earlier than the first.
func TestR12EachRevocationEndsTheLoginsBeforeIt(t *testing.T) {
	eachMode(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		a, b := server(), server()
		for range 4 { // all at the same instant
			between := issueTokens(t, b, middleware.Identity{})
			if err := a.RevokeSubject(t.Context(), "admin"); err != nil {
				t.Fatal(err)
			}
			wantDead(t, "R12: the first revocation", b, between)
			between = issueTokens(t, a, middleware.Identity{})
			wantVerify(t, "R12: the login after the first revocation", b, between.AccessToken, "")
			if err := b.RevokeSubject(t.Context(), "admin"); err != nil {
				t.Fatal(err)
			}
			wantDead(t, "R12: the second revocation", a, between)
		}
	})
}

// A login with the old password, in progress while the password changes, must not survive, whether both happen on one
// server or on two.
func TestR12ALoginAgainstAChangeOfPassword(t *testing.T) {
	for name, sameServer := range map[string]bool{"one server": true, "two servers": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				memory, db := newMemory(t), &passwordDB{password: "old", slow: 300 * time.Millisecond}
				with := func(c *middleware.Config) { c.Store, c.Authenticate = memory, db.authenticate }
				auth := newAuth(t, with)
				revoking := auth
				if !sameServer {
					revoking = newAuth(t, with)
				}
				s := direct(t, oneTokenRoutes(auth))
				answer := loginWhileThePasswordChanges(t, s, db, revoking)
				answer.rejected(t, middleware.CodeStoreUnavailable)
				s.send("POST", "/login?password=old").rejected(t, middleware.CodeInvalidCredentials)
				retry := s.send("POST", "/login?password=new")
				if sameServer { // a server knows the order of its own operations
					s.send("GET", "/required", bearer(retry.token(t))).passed(t, "admin")
				}
				wait(2 * time.Second)
				s.send("GET", "/required", bearer(s.send("POST", "/login?password=new").token(t))).passed(t, "admin")
			})
		})
	}
}

// loginWhileThePasswordChanges logs in with the old password. While it is being checked, the password is changed and the
// subject is revoked.
func loginWhileThePasswordChanges(t *testing.T, s site, db *passwordDB, revoking *middleware.Auth) (answer reply) {
	t.Helper()
	var wg sync.WaitGroup
	wg.Go(func() { answer = s.send("POST", "/login?password=old") })
	wait(100 * time.Millisecond)
	db.set("new")
	if err := revoking.RevokeSubject(t.Context(), "admin"); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	return answer
}

// The revocation takes longer than its cutoff is ahead of the clock, and the login is answered before it takes effect.
func TestR12ALoginAgainstASlowRevocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory, db := newMemory(t), &passwordDB{password: "old", slow: 1500 * time.Millisecond}
		auth := newAuth(t, func(c *middleware.Config) { c.Store, c.Authenticate = memory, db.authenticate })
		slow := newAuth(t, func(c *middleware.Config) {
			c.Store, c.StoreTimeout = &lateSwap{memory, 2 * time.Second}, 5*time.Second
		})
		s := direct(t, oneTokenRoutes(auth))
		answer := loginWhileThePasswordChanges(t, s, db, slow)
		s.send("GET", "/required", bearer(answer.token(t))).rejected(t, middleware.CodeTokenRevoked)
	})
}

// passwordDB is a database with one password. Its authenticate reads the password first and then takes its time.
type passwordDB struct {
	mu       sync.Mutex
	password string
	slow     time.Duration
}

func (d *passwordDB) set(password string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.password = password
}

func (d *passwordDB) authenticate(c *gin.Context) (middleware.Identity, error) {
	d.mu.Lock()
	password := d.password
	d.mu.Unlock()
	wait(d.slow)
	if c.Query("password") != password {
		return middleware.Identity{}, middleware.ErrRefused
	}
	return middleware.Identity{Subject: "admin"}, nil
}

// On the server that revoked, a login right after succeeds, also through LoginHandler.
func TestR12ALoginRightAfterARevocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auth := newAuth(t)
		s := direct(t, oneTokenRoutes(auth))
		for range 3 {
			if err := auth.RevokeSubject(t.Context(), "admin"); err != nil {
				t.Fatal(err)
			}
			s.send("GET", "/required", bearer(s.send("POST", "/login?user=admin").token(t))).passed(t, "admin")
		}
	})
}

// In pair mode either token can be presented, and both tokens of every session are revoked.
func TestR12PairLogoutAll(t *testing.T) {
	for name, with := range map[string]func(middleware.Tokens) string{
		"access token":  func(tokens middleware.Tokens) string { return tokens.AccessToken },
		"refresh token": refreshable,
	} {
		t.Run(name, func(t *testing.T) {
			inPairMode(t, func(t *testing.T, auth, other *middleware.Auth) {
				mine, elsewhere := issueTokens(t, auth, middleware.Identity{}), issueTokens(t, other, middleware.Identity{})
				alice := issueTokens(t, auth, middleware.Identity{Subject: "alice"})
				s := direct(t, routes(auth))
				s.send("POST", "/logout/all", bearer(with(mine))).accepted(t, "/logout/all")
				for _, tokens := range []middleware.Tokens{mine, elsewhere} {
					wantVerify(t, "R12: after the log-out everywhere", other, tokens.AccessToken, middleware.CodeTokenRevoked)
					wantRefresh(t, "R12: after the log-out everywhere", other, tokens.RefreshToken, middleware.CodeTokenRevoked)
				}
				wantVerify(t, "R12: another subject", other, refreshTokens(t, other, alice).AccessToken, "")
				again := issueTokens(t, other, middleware.Identity{})
				wantVerify(t, "R12: a login right after", auth, refreshTokens(t, auth, again).AccessToken, "")
			})
		})
	}
	inPairMode(t, func(t *testing.T, auth, _ *middleware.Auth) {
		tokens := issueTokens(t, auth, middleware.Identity{})
		wait(time.Minute)
		s := direct(t, routes(auth))
		s.send("POST", "/logout/all", bearer(tokens.AccessToken)).rejected(t, middleware.CodeTokenExpired)
		s.send("POST", "/logout/all", bearer(tokens.RefreshToken)).accepted(t, "/logout/all")
	})
}
