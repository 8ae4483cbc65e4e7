package middleware_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// R11: a logout ends the session, whichever of its tokens is presented.

// A logout is carried out even if the client hung up before the store was read.
func TestR11ALogoutOfAClientThatHasGone(t *testing.T) {
	auth := newAuth(t)
	tokens := issueTokens(t, auth, middleware.Identity{})
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	wantCode(t, "R11: logout", auth.Logout(gone, tokens.AccessToken), "")
	wantDead(t, "R11: after the logout", auth, tokens)
}

// A real connection breaks while the store is being read.
func TestR11ALogoutWhoseConnectionBreaks(t *testing.T) {
	s := &blocking{Store: newMemory(t), asked: make(chan struct{}), proceed: make(chan struct{})}
	auth := newAuth(t, func(c *middleware.Config) { c.Store = s })
	text := login(t, auth)
	s.armed = true
	noticed, done := make(chan struct{}), make(chan struct{})
	r := gin.New()
	r.POST("/logout", func(c *gin.Context) {
		defer close(done)
		context.AfterFunc(c.Request.Context(), func() { close(noticed) })
		auth.LogoutHandler(c)
	})
	server := httptest.NewServer(r)
	defer server.Close()
	ctx, hangUp := context.WithCancel(t.Context())
	request := must(http.NewRequestWithContext(ctx, "POST", server.URL+"/logout", nil))
	request.Header.Set("Authorization", "Bearer "+text)
	go func() {
		<-s.asked
		hangUp()
	}()
	if _, err := server.Client().Do(request); err == nil {
		t.Fatal("the request succeeded, want it to be cancelled")
	}
	<-noticed
	close(s.proceed)
	<-done
	wantVerify(t, "R11: after the logout", auth, text, middleware.CodeTokenRevoked)
}

// blocking holds every Get until the test closes proceed.
type blocking struct {
	middleware.Store
	armed          bool
	asked, proceed chan struct{}
	once           sync.Once
}

func (s *blocking) Get(ctx context.Context, keys ...string) ([]string, time.Time, error) {
	if s.armed {
		s.once.Do(func() { close(s.asked) })
		select {
		case <-s.proceed:
		case <-ctx.Done():
			return nil, time.Time{}, ctx.Err()
		}
	}
	return s.Store.Get(ctx, keys...)
}

// An access token may outlive the deadline. Until it expires, the session can be logged out.
func TestR11LogoutUntilTheLastTokenIsDead(t *testing.T) {
	eachMode(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		auth := server()
		first := issueTokens(t, auth, middleware.Identity{})
		wait(time.Hour - time.Microsecond)
		last := refreshTokens(t, auth, first)
		wait(30 * time.Second)
		wantVerify(t, "R9: after the deadline", auth, last.AccessToken, "")
		wantCode(t, "R11: logout after the deadline", auth.Logout(t.Context(), refreshable(first)), "")
		wantVerify(t, "R11: after the logout", auth, last.AccessToken, middleware.CodeTokenRevoked)
	})
}

func TestR11PairLogoutUntilTheLastTokenIsDead(t *testing.T) {
	inPairMode(t, func(t *testing.T, auth, _ *middleware.Auth) {
		first := issueTokens(t, auth, middleware.Identity{})
		wait(time.Hour - time.Microsecond)
		last := refreshTokens(t, auth, first)
		wait(time.Minute - time.Second)
		wantVerify(t, "R9: the last access token after the deadline", auth, last.AccessToken, "")
		for what, text := range map[string]string{"an expired access token": first.AccessToken, "the first refresh token": first.RefreshToken} {
			wantCode(t, "R11: logout with "+what+" while the last access token is valid", auth.Logout(t.Context(), text), "")
		}
		wantVerify(t, "R11: the last access token", auth, last.AccessToken, middleware.CodeTokenRevoked)
		wait(time.Second + time.Microsecond)
		for what, text := range map[string]string{"an access token": last.AccessToken, "a refresh token": last.RefreshToken} {
			wantCode(t, "R11: logout with "+what+" when all tokens have expired", auth.Logout(t.Context(), text), middleware.CodeRefreshExpired)
		}
	})
}

func TestR11PairLogoutWithEitherKillsBoth(t *testing.T) {
	type pairs = []middleware.Tokens
	for name, row := range map[string]struct {
		with func(all pairs) string
		late time.Duration
	}{
		"access token":           {func(all pairs) string { return all[2].AccessToken }, 0},
		"refresh token":          {func(all pairs) string { return all[2].RefreshToken }, 0},
		"expired access token":   {func(all pairs) string { return all[2].AccessToken }, 30 * time.Minute},
		"refresh token in grace": {func(all pairs) string { return all[1].RefreshToken }, 0},
		"replaced refresh token": {func(all pairs) string { return all[0].RefreshToken }, 30 * time.Minute},
		"older access token":     {func(all pairs) string { return all[0].AccessToken }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inPairMode(t, func(t *testing.T, auth, other *middleware.Auth) {
				all := pairs{issueTokens(t, auth, middleware.Identity{})}
				for range 2 {
					all = append(all, refreshTokens(t, auth, all[len(all)-1]))
				}
				apart := issueTokens(t, auth, middleware.Identity{})
				wait(row.late)
				for range 2 { // a second logout succeeds too
					if err := auth.Logout(t.Context(), row.with(all)); err != nil {
						t.Errorf("R11: logout with the %s: %v", name, err)
					}
				}
				refused := middleware.CodeTokenRevoked
				if row.late > 0 {
					refused = middleware.CodeTokenExpired
				}
				for i, tokens := range all {
					for where, server := range map[string]*middleware.Auth{"this": auth, "the other": other} {
						wantVerify(t, fmt.Sprintf("R11: access token %d at %s server", i, where), server, tokens.AccessToken, refused)
						wantRefresh(t, fmt.Sprintf("R11: refresh token %d at %s server", i, where), server, tokens.RefreshToken, middleware.CodeTokenRevoked)
					}
				}
				wantVerify(t, "R11: another session", other, refreshTokens(t, other, apart).AccessToken, "")
			})
		})
	}
}

// A session lasts thirty days. A logout at a server with a RefreshTTL of fourteen days must be remembered for all
// thirty, also if the client presents the access token.
func TestR11PairLogoutIsRememberedForTheSessionsWindow(t *testing.T) {
	const days = 24 * time.Hour
	synctest.Test(t, func(t *testing.T) {
		memory := newMemory(t)
		_ = memory.Close() // ends the sweeper
		window := func(d time.Duration) *middleware.Auth {
			return newAuth(t, withoutSweeper, pair, func(c *middleware.Config) { c.Store, c.RefreshTTL = memory, d })
		}
		month, fortnight := window(30*days), window(14*days)
		tokens := issueTokens(t, month, middleware.Identity{})
		if !tokens.Claims.RefreshUntil.Equal(tokens.RefreshUntil) || membersOf(t, tokens.AccessToken)["refresh_exp"] == "" {
			t.Errorf("R11: the deadline in the access token is %v, want %v", tokens.Claims.RefreshUntil, tokens.RefreshUntil)
		}
		wantCode(t, "logout", fortnight.Logout(t.Context(), tokens.AccessToken), "")
		wait(15 * days)
		wantRefresh(t, "R11: after the shorter RefreshTTL", month, tokens.RefreshToken, middleware.CodeTokenRevoked)
		wait(15*days - time.Second)
		wantRefresh(t, "R11: just before the deadline", month, tokens.RefreshToken, middleware.CodeTokenRevoked)
	})
}
