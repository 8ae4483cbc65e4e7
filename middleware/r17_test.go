package middleware_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// R17: a session is listed before its tokens are answered. At rest a session is listed if and only if it lives.

func limited(n int) change { return func(c *middleware.Config) { c.MaxSessions = n } }

func sessionsOf(t testing.TB, auth *middleware.Auth, subject string) (ids []string) {
	t.Helper()
	sessions, err := auth.Sessions(t.Context(), subject)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sessions {
		ids = append(ids, s.ID)
	}
	return ids
}

// wantSessions checks which sessions of admin are listed, in this order.
func wantSessions(t testing.TB, what string, auth *middleware.Auth, want ...middleware.Tokens) {
	t.Helper()
	var ids []string
	for _, tokens := range want {
		ids = append(ids, tokens.Claims.SessionID)
	}
	if got := sessionsOf(t, auth, "admin"); !slices.Equal(got, ids) {
		t.Errorf("R17: %s: the sessions %q are listed, want %q", what, got, ids)
	}
}

func TestR17ListedAndAlive(t *testing.T) {
	eachMode(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		auth, other := server(limited(3)), server(limited(3))
		logins := func(n int) (all []middleware.Tokens) {
			for range n {
				wait(time.Second)
				all = append(all, issueTokens(t, other, middleware.Identity{}))
			}
			return all
		}
		all := logins(3)
		wantSessions(t, "three logins", auth, all...)
		all = append(all, logins(1)...)
		wantSessions(t, "at the limit", auth, all[1:]...)
		wantDead(t, "R17: the oldest session", auth, all[0])
		wantCode(t, "logout", auth.Logout(t.Context(), all[2].AccessToken), "")
		wantSessions(t, "after a logout", auth, all[1], all[3])
		all = append(all, logins(1)...)
		wantSessions(t, "a login after the logout ends nothing", auth, all[1], all[3], all[4])
		wantCode(t, "end", auth.RevokeSession(t.Context(), all[3].Claims.SessionID), "")
		wantSessions(t, "after RevokeSession", auth, all[1], all[4])
		wantCode(t, "log out everywhere", auth.RevokeSubject(t.Context(), "admin"), "")
		wantSessions(t, "after a log-out everywhere", auth)
		last := logins(1)
		wantSessions(t, "a login after the log-out everywhere", auth, last...)
		wait(2 * time.Hour)
		wantSessions(t, "after the deadline", auth)
	})
}

// Logins in the second after a log-out everywhere are born at the same instant. They still end each other in their order.
func TestR17LoginsOfOneBirth(t *testing.T) {
	eachMode(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		auth := server(limited(5))
		wantCode(t, "log out everywhere", auth.RevokeSubject(t.Context(), "admin"), "")
		var all []middleware.Tokens
		for range 10 {
			all = append(all, issueTokens(t, auth, middleware.Identity{}))
		}
		wantSessions(t, "ten logins", auth, all[5:]...)
	})
}

func TestR17WhatIsListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auth := newAuth(t, limited(3), func(c *middleware.Config) { c.TTL, c.RefreshTTL, c.IdleTTL = time.Minute, time.Hour, 10*time.Minute })
		long := strings.Repeat("é", 40)
		first := issueTokens(t, auth, middleware.Identity{Label: "Firefox on Linux"})
		issueTokens(t, auth, middleware.Identity{Label: long})
		wait(time.Minute)
		next := refreshTokens(t, auth, first)
		sessions, err := auth.Sessions(t.Context(), "admin")
		if err != nil || len(sessions) != 2 {
			t.Fatalf("%v, %v", sessions, err)
		}
		for i, want := range []middleware.Session{
			{Label: "Firefox on Linux", RefreshedAt: next.Claims.IssuedAt},
			{Label: long[:64]},
		} {
			got := sessions[i]
			if got.Label != want.Label || !got.RefreshedAt.Truncate(time.Second).Equal(want.RefreshedAt) ||
				!got.LoginAt.Equal(first.Claims.AuthTime) || !got.RefreshUntil.Equal(first.RefreshUntil) {
				t.Errorf("R17: listed is %+v, want %+v", got, want)
			}
		}
		wait(9*time.Minute + time.Second)
		wantSessions(t, "one session was idle for too long", auth, first)
	})
}

// The cookie's session ends with the login, so that it takes nobody's place (R16).
func TestR17ALoginWithACookie(t *testing.T) {
	auth := newAuth(t, limited(2), withCookie(middleware.Cookie{}))
	other := issueTokens(t, auth, middleware.Identity{})
	b := browse(t, auth, "one token")
	b.send("POST", "/login?user=admin").cookieAnswer(t)
	first := sessionsOf(t, auth, "admin")
	b.send("POST", "/login?user=admin").cookieAnswer(t)
	second := sessionsOf(t, auth, "admin")
	if len(first) != 2 || len(second) != 2 || second[0] != other.Claims.SessionID || second[1] == first[1] {
		t.Errorf("R16, R17: listed were %q, and then %q", first, second)
	}
}

func TestR17RevokeOthers(t *testing.T) {
	eachMode(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		auth := server(limited(5))
		var all []middleware.Tokens
		for range 4 {
			all = append(all, issueTokens(t, auth, middleware.Identity{}))
		}
		wantCode(t, "RevokeOthers", auth.RevokeOthers(t.Context(), all[2].Claims), "")
		wantSessions(t, "after RevokeOthers", auth, all[2])
		wantVerify(t, "R17: the session itself", auth, all[2].AccessToken, "")
		for _, i := range []int{0, 1, 3} {
			wantDead(t, "R17: another session", auth, all[i])
		}
		next := issueTokens(t, auth, middleware.Identity{})
		wantSessions(t, "a login afterwards", auth, all[2], next)
	})
}

// RevokeOthers follows a password change, and a login has checked the old password.
func TestR12RevokeOthersDuringALogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var auth *middleware.Auth
		var own middleware.Tokens
		during := func() {}
		auth = newAuth(t, limited(5), authenticating(func(*gin.Context) (middleware.Identity, error) {
			during()
			return middleware.Identity{Subject: "admin"}, nil
		}))
		own = issueTokens(t, auth, middleware.Identity{})
		site := direct(t, routes(auth))
		during = func() { wantCode(t, "RevokeOthers", auth.RevokeOthers(t.Context(), own.Claims), "") }
		site.send("POST", "/login").rejected(t, middleware.CodeStoreUnavailable)
		wantSessions(t, "after the refused login", auth, own)
		during = func() {}
		site.send("POST", "/login").token(t)
	})
}

func TestR17ManyLoginsAtOnce(t *testing.T) {
	for range rounds(10, 200) {
		auth := newAuth(t, limited(5), func(c *middleware.Config) { c.StoreTimeout = 5 * time.Second })
		all := make([]middleware.Tokens, 64)
		var wg sync.WaitGroup
		for i := range all {
			wg.Go(func() {
				tokens, err := auth.Issue(t.Context(), middleware.Identity{Subject: "admin"})
				if err != nil {
					t.Error(err)
				}
				all[i] = tokens
			})
		}
		wg.Wait()
		var alive []string
		for _, tokens := range all {
			if _, err := auth.Verify(t.Context(), tokens.AccessToken); err == nil {
				alive = append(alive, tokens.Claims.SessionID)
			}
		}
		listed := sessionsOf(t, auth, "admin")
		slices.Sort(alive)
		if len(alive) != 5 || !slices.Equal(alive, listed) {
			t.Fatalf("R17: alive are %q, listed %q, want the same five", alive, listed)
		}
	}
}

func TestR17Handlers(t *testing.T) {
	auth := newAuth(t, limited(5))
	r := gin.New()
	r.GET("/sessions", auth.Required(), auth.SessionsHandler)
	r.DELETE("/sessions/:id", auth.Required(), auth.EndSessionHandler)
	r.POST("/logout/others", auth.Required(), auth.LogoutOthersHandler)
	r.GET("/unguarded", auth.SessionsHandler)
	site := direct(t, r)
	var all []middleware.Tokens
	for i := range 4 {
		all = append(all, issueTokens(t, auth, middleware.Identity{Label: fmt.Sprintf("device %d", i)}))
	}
	stranger := issueTokens(t, auth, middleware.Identity{Subject: "alice"})
	own := bearer(all[1].AccessToken)
	list := func() (sessions []middleware.Session) {
		var body struct{ Sessions []middleware.Session }
		if r := site.send("GET", "/sessions", own); r.status != http.StatusOK || json.Unmarshal([]byte(r.body), &body) != nil {
			t.Fatalf("response %d %s", r.status, r.body)
		}
		return body.Sessions
	}
	sessions := list()
	for i, s := range sessions {
		if s.ID != all[i].Claims.SessionID || s.Label != fmt.Sprintf("device %d", i) || s.Current != (i == 1) {
			t.Errorf("R17: session %d is %+v", i, s)
		}
	}
	if r := site.send("DELETE", "/sessions/"+sessions[0].ID, own); r.status != http.StatusNoContent {
		t.Errorf("response %d %s, want 204", r.status, r.body)
	}
	wantDead(t, "R17: the session that was ended", auth, all[0])
	site.send("DELETE", "/sessions/"+stranger.Claims.SessionID, own).rejected(t, middleware.CodeNotFound)
	site.send("DELETE", "/sessions/x", own).rejected(t, middleware.CodeNotFound)
	wantVerify(t, "R17: the session of another subject", auth, stranger.AccessToken, "")
	if r := site.send("POST", "/logout/others", own); r.status != http.StatusNoContent {
		t.Errorf("response %d %s, want 204", r.status, r.body)
	}
	if left := list(); len(left) != 1 || !left[0].Current {
		t.Errorf("R17: after a logout of the others: %+v", left)
	}
	site.send("GET", "/unguarded").rejected(t, middleware.CodeServerError)
}

func TestR17Off(t *testing.T) {
	auth := newAuth(t)
	tokens := issueTokens(t, auth, middleware.Identity{})
	wantCode(t, "Sessions without MaxSessions", errOf(auth.Sessions(t.Context(), "admin")), middleware.CodeServerError)
	wantCode(t, "RevokeOthers without MaxSessions", auth.RevokeOthers(t.Context(), tokens.Claims), middleware.CodeServerError)
}

// A login ends sessions only when nothing else can fail.
func TestR17AFailedLoginEndsNothing(t *testing.T) {
	auth := newAuth(t, limited(1))
	tokens := issueTokens(t, auth, middleware.Identity{})
	if _, err := auth.Issue(t.Context(), middleware.Identity{Subject: "admin", Claims: map[string]string{"x": strings.Repeat("x", 9000)}}); err == nil {
		t.Fatal("a token that is too long was issued")
	}
	wantSessions(t, "after a failed login", auth, tokens)
	wantVerify(t, "R17", auth, tokens.AccessToken, "")
}

func TestR17Events(t *testing.T) {
	var j eventLog
	auth := newAuth(t, limited(1), func(c *middleware.Config) { c.OnEvent = j.record })
	first := issueTokens(t, auth, middleware.Identity{Label: "old"})
	second := issueTokens(t, auth, middleware.Identity{Label: "new"})
	wantCode(t, "RevokeOthers", auth.RevokeOthers(t.Context(), second.Claims), "")
	var got []string
	for _, e := range j.take() {
		got = append(got, fmt.Sprint(e.Kind, " ", e.Label, " ", e.SessionID == first.Claims.SessionID))
	}
	if want := []string{"login old true", "logout old true", "login new false", "logout_others  false"}; !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
}
