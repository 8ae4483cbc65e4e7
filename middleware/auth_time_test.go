package middleware_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// Fresh and the refresh window count from Identity.AuthTime (R5), because an identity provider may vouch for a user whom it
// asked for the password long ago.
func TestAuthTime(t *testing.T) {
	eachMode(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		auth := server(limited(3))
		r := gin.New()
		r.GET("/fresh", auth.Fresh(10*time.Minute), whoami)
		site := direct(t, r)
		for age, code := range map[time.Duration]middleware.Code{0: "", 9 * time.Minute: "", 11 * time.Minute: middleware.CodeLoginTooOld} {
			began := time.Now()
			tokens := issueTokens(t, auth, middleware.Identity{AuthTime: began.Add(-age)})
			for range 2 {
				if reply := site.send("GET", "/fresh", bearer(tokens.AccessToken)); code == "" {
					reply.passed(t, "admin")
				} else {
					reply.rejected(t, code, `, max_age="600"`)
				}
				if want := began.Add(time.Hour - age); !tokens.RefreshUntil.Equal(want) || !tokens.Claims.AuthTime.Equal(began.Add(-age)) {
					t.Errorf("authenticated %v ago: deadline %v, want %v; auth_time %v", age, tokens.RefreshUntil, want, tokens.Claims.AuthTime)
				}
				tokens = refreshTokens(t, auth, tokens)
			}
			if sessions := must(auth.Sessions(t.Context(), "admin")); !sessions[len(sessions)-1].LoginAt.Equal(began) {
				t.Errorf("authenticated %v ago: the login is listed at %v, want %v", age, sessions[len(sessions)-1].LoginAt, began)
			}
			wait(time.Second)
		}
	})
}

func TestAuthTimeAtTheDeadline(t *testing.T) {
	eachMode(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		auth := server()
		last := issueTokens(t, auth, middleware.Identity{AuthTime: time.Now().Add(-time.Hour + time.Second)})
		if d := last.ExpiresAt.Sub(last.Claims.IssuedAt); d != time.Second {
			t.Errorf("R13: the first token lives for %v, longer than its refresh window of a second", d)
		}
		wait(time.Second)
		wantRefresh(t, "R5: RefreshTTL after the authentication", auth, refreshable(last), middleware.CodeRefreshExpired)

		_, err := auth.Issue(t.Context(), middleware.Identity{Subject: "admin", AuthTime: time.Now().Add(-time.Hour)})
		var e *middleware.Error
		if !errors.As(err, &e) || e.Code != middleware.CodeLoginTooOld || e.Status != http.StatusUnauthorized || e.MaxAge != time.Hour {
			t.Errorf("authenticated RefreshTTL ago: %#v, want login_too_old", err)
		}
	})
}

func TestAuthTimeMistakes(t *testing.T) {
	eachMode(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		auth := server()
		for name, at := range map[string]time.Time{"in the future": time.Now().Add(31 * time.Second), "before 1970": time.Unix(0, 0)} {
			_, err := auth.Issue(t.Context(), middleware.Identity{Subject: "admin", AuthTime: at})
			var e *middleware.Error
			if err == nil || errors.As(err, &e) {
				t.Errorf("%s: %v, want a mistake of the application", name, err)
			}
		}
		ahead := issueTokens(t, auth, middleware.Identity{AuthTime: time.Now().Add(29 * time.Second)})
		if !ahead.Claims.AuthTime.Equal(time.Now()) {
			t.Errorf("a provider whose clock is ahead: auth_time %v, want now", ahead.Claims.AuthTime)
		}
	})
}
