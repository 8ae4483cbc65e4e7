package middleware_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// R8: token reuse ends the session.

// Under AutoRefresh and at the RefreshHandler. One of the two tokens is stolen, and nobody can tell which, so both are
// revoked.
func TestR8Reuse(t *testing.T) {
	for _, keep := range []bool{false, true} {
		for _, route := range []struct{ method, path string }{{"GET", "/autorefresh"}, {"POST", "/refresh"}} {
			for name, age := range map[string]time.Duration{"living": 0, "expired": 2 * time.Hour} {
				t.Run(fmt.Sprintf("%s %s keep=%v", route.path, name, keep), func(t *testing.T) {
					d := newServer(t, noGrace, func(c *middleware.Config) { c.KeepSessionOnReuse = keep })
					old := aged(t, d.text, age)
					newest := refresh(t, d.auth, old)
					if age == 0 {
						d.send("GET", "/required", bearer(old)).rejected(t, middleware.CodeTokenRevoked)
						d.send("GET", "/required", bearer(newest)).passed(t, "admin") // only AutoRefresh and the refresh detect reuse
					}
					d.send(route.method, route.path, bearer(old)).rejected(t, middleware.CodeTokenReused)
					r := d.send("GET", "/required", bearer(newest))
					if keep {
						r.passed(t, "admin")
					} else {
						r.rejected(t, middleware.CodeTokenRevoked)
						d.send("POST", "/refresh", bearer(newest)).rejected(t, middleware.CodeTokenRevoked)
					}
				})
			}
		}
	}
}

func TestR8PairReuse(t *testing.T) {
	for _, keep := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			auth := newAuth(t, pair, noGrace, func(c *middleware.Config) { c.KeepSessionOnReuse = keep })
			s := direct(t, routes(auth))
			first := issueTokens(t, auth, middleware.Identity{})
			second := refreshTokens(t, auth, first)
			s.send("GET", "/required", bearer(first.AccessToken)).passed(t, "admin") // using an access token is not reuse
			s.send("POST", "/refresh", bearer(first.RefreshToken)).rejected(t, middleware.CodeTokenReused)
			want := middleware.CodeTokenRevoked
			if keep {
				want = ""
			}
			wantVerify(t, fmt.Sprintf("R8: keep %v", keep), auth, second.AccessToken, want)
			wantRefresh(t, fmt.Sprintf("R8: keep %v", keep), auth, second.RefreshToken, want)
		})
	}
}

// Tokens with a short TTL can be swapped twice within one grace period. A late request with the first is rejected, but
// not taken for reuse.
func TestR8TwoStepsBackWithinTheGraceIsNoReuse(t *testing.T) {
	eachMode(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		auth := server(func(c *middleware.Config) { c.TTL = time.Second })
		first := issueTokens(t, auth, middleware.Identity{})
		second := refreshTokens(t, auth, first)
		wait(2 * time.Second)
		third := refreshTokens(t, auth, second)
		wantRefresh(t, "R8: two steps back", auth, refreshable(first), middleware.CodeTokenRevoked)
		wantVerify(t, "R8: the session is still alive", auth, third.AccessToken, "")
		wait(10 * time.Second)
		wantRefresh(t, "R8: two steps back, after the grace period", auth, refreshable(first), middleware.CodeTokenReused)
	})
}

// A client that hangs up does not cancel its logout, and a thief cannot avoid reuse detection by hanging up.
func TestR8R11R12GoOnWithoutTheClient(t *testing.T) {
	type step = func(ctx context.Context, auth *middleware.Auth, tokens middleware.Tokens) error
	byHandler := func(path string) step {
		return func(ctx context.Context, auth *middleware.Auth, tokens middleware.Tokens) error {
			r := gin.New()
			r.POST("/logout/all", auth.LogoutAllHandler)
			r.POST("/autorefresh", auth.AutoRefresh(0), whoami)
			request := must(http.NewRequestWithContext(ctx, "POST", path, nil))
			request.Header.Set("Authorization", "Bearer "+tokens.AccessToken)
			recorder := httptest.NewRecorder()
			r.ServeHTTP(recorder, request)
			if recorder.Code < 400 {
				return nil
			}
			var answer struct{ Code middleware.Code }
			if err := json.Unmarshal(recorder.Body.Bytes(), &answer); err != nil {
				return err
			}
			return &middleware.Error{Code: answer.Code, Status: recorder.Code}
		}
	}
	for name, row := range map[string]struct {
		late bool // the token was replaced longer ago than the grace period
		step step
		code middleware.Code
	}{
		"R11 logout": {false, func(ctx context.Context, auth *middleware.Auth, tokens middleware.Tokens) error {
			return auth.Logout(ctx, tokens.AccessToken)
		}, ""},
		"R11 session": {false, func(ctx context.Context, auth *middleware.Auth, tokens middleware.Tokens) error {
			return auth.RevokeSession(ctx, tokens.Claims.SessionID)
		}, ""},
		"R12 log out everywhere": {false, func(ctx context.Context, auth *middleware.Auth, _ middleware.Tokens) error {
			return auth.RevokeSubject(ctx, "admin")
		}, ""},
		"R12 handler": {false, byHandler("/logout/all"), ""},
		"R8 reuse": {true, func(ctx context.Context, auth *middleware.Auth, tokens middleware.Tokens) error {
			_, err := auth.Refresh(ctx, tokens.AccessToken)
			return err
		}, middleware.CodeTokenReused},
		"R8 reuse, AutoRefresh": {true, byHandler("/autorefresh"), middleware.CodeTokenReused},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, hangUp := context.WithCancel(t.Context())
				defer hangUp()
				store := &hangingUp{Store: newMemory(t), hangUp: hangUp}
				auth := newAuth(t, func(c *middleware.Config) { c.Store = store })
				tokens := issueTokens(t, auth, middleware.Identity{})
				last := tokens
				if row.late {
					last = refreshTokens(t, auth, tokens)
					wait(11 * time.Second)
				}
				store.armed = true
				wantCode(t, name, row.step(ctx, auth, tokens), row.code)
				if ctx.Err() == nil {
					t.Fatal("the client has not hung up")
				}
				wantDead(t, name, auth, last)
			})
		})
	}
}

// hangingUp cancels the request's context after a Get.
type hangingUp struct {
	middleware.Store
	hangUp context.CancelFunc
	armed  bool
}

func (s *hangingUp) Get(ctx context.Context, keys ...string) ([]string, time.Time, error) {
	values, since, err := s.Store.Get(ctx, keys...)
	if s.armed {
		s.hangUp()
	}
	return values, since, err
}
