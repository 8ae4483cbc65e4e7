package middleware_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// OnTokens writes the responses to logins and refreshes. The origin check comes before it.
func TestOnTokens(t *testing.T) {
	for mode := range cookieModes {
		t.Run(mode, func(t *testing.T) {
			auth := newAuth(t, modes[mode], withCookie(middleware.Cookie{}), func(c *middleware.Config) {
				c.OnTokens = func(c *gin.Context, tokens middleware.Tokens) { c.Redirect(http.StatusSeeOther, "/required") }
			})
			b := browse(t, auth, mode)
			b.send("POST", "/login?user=admin", header("Sec-Fetch-Site", "cross-site")).rejected(t, middleware.CodeCrossOrigin)
			b.send("POST", "/login?user=admin").passed(t, "admin") // the browser has followed the redirect
			b.send("POST", "/refresh").passed(t, "admin")
		})
	}
}

func TestOnTokensWithOtherNames(t *testing.T) {
	d := newServer(t, func(c *middleware.Config) {
		c.OnTokens = func(c *gin.Context, tokens middleware.Tokens) {
			c.JSON(http.StatusOK, gin.H{"token": tokens.AccessToken, "expire": tokens.ExpiresAt})
		}
	})
	r := d.send("POST", "/login?user=admin")
	d.send("GET", "/required", bearer(r.fields(t)["token"].(string))).passed(t, "admin")
	r.notStored(t)
}

// Tokens are encoded as LoginHandler answers.
func TestTokensAsJSON(t *testing.T) {
	for mode, change := range modes {
		auth := newAuth(t, change)
		tokens := issueTokens(t, auth, middleware.Identity{})
		var got, want map[string]any
		b := must(json.Marshal(tokens))
		must(0, json.Unmarshal(b, &got))
		want = map[string]any{"access_token": tokens.AccessToken, "token_type": "Bearer", "expires_in": 3600.0, "refresh_expires_in": 14 * 24 * 3600.0}
		if mode == "pair" {
			want["refresh_token"] = tokens.RefreshToken
		}
		for name, value := range want {
			if n, ok := value.(float64); ok && got[name] == n-1 {
				continue // a second has passed
			}
			if got[name] != value {
				t.Errorf("%s: %s is %v, want %v", mode, name, got[name], value)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: %s", mode, b)
		}
	}
}

// Answer responds as LoginHandler does.
func TestAnswer(t *testing.T) {
	register := func(auth *middleware.Auth) *gin.Engine {
		r := routes(auth)
		r.POST("/register", func(c *gin.Context) {
			tokens, err := auth.Issue(c.Request.Context(), middleware.Identity{Subject: c.Query("user")})
			if err != nil {
				_ = c.AbortWithError(http.StatusInternalServerError, err)
				return
			}
			auth.Answer(c, tokens)
		})
		r.POST("/forget", func(c *gin.Context) { auth.ClearCookies(c) })
		return r
	}
	auth := newAuth(t)
	s := direct(t, register(auth))
	s.send("GET", "/required", bearer(s.send("POST", "/register?user=admin").token(t))).passed(t, "admin")

	auth = newAuth(t, withCookie(middleware.Cookie{}))
	s = direct(t, register(auth))
	old := issueTokens(t, auth, middleware.Identity{}).AccessToken
	r := s.send("POST", "/register?user=admin", header("Cookie", "__Host-access_token="+old))
	r.cookieAnswer(t)
	wantVerify(t, "R16: the session of the cookie", auth, old, middleware.CodeTokenRevoked)
	if cookies := s.send("POST", "/forget").header.Values("Set-Cookie"); len(cookies) != 1 {
		t.Errorf("ClearCookies sent %q", cookies)
	}
	mustPanic(t, "ClearCookies", func() { newAuth(t).ClearCookies(nil) }, "Config.Cookie")
}

// An Authenticate that redirects has responded, although nothing is written yet.
func TestARedirectInAuthenticate(t *testing.T) {
	auth := newAuth(t, authenticating(func(c *gin.Context) (middleware.Identity, error) {
		c.Redirect(http.StatusSeeOther, "/second-factor")
		return middleware.Identity{Subject: "admin"}, nil
	}))
	r := direct(t, routes(auth)).send("POST", "/login")
	if r.status != http.StatusSeeOther || r.header.Get("Location") != "/second-factor" || r.body != "" {
		t.Errorf("response %d %q %q, want the redirect", r.status, r.header.Get("Location"), r.body)
	}
}

func TestPresentedToken(t *testing.T) {
	auth := newAuth(t, withCookie(middleware.Cookie{}))
	r := gin.New()
	echo := func(c *gin.Context) { c.String(http.StatusOK, auth.PresentedToken(c)) }
	r.GET("/guarded", auth.Required(), echo)
	r.GET("/unguarded", echo)
	text := login(t, auth)
	for path, want := range map[string]string{"/guarded": text, "/unguarded": ""} {
		for _, edit := range []edit{bearer(text), header("Cookie", "__Host-access_token="+text)} {
			if r := direct(t, r).send("GET", path, edit); r.status != http.StatusOK || r.body != want {
				t.Errorf("%s: response %d %q, want %q", path, r.status, r.body, want)
			}
		}
	}
}

// AnswerError responds as the handlers do.
func TestAnswerError(t *testing.T) {
	own := &middleware.Error{Code: "weak_password", Status: http.StatusUnprocessableEntity, Type: "invalid_request", Description: "the password is too short"}
	for name, row := range map[string]struct {
		err    error
		status int
		code   middleware.Code
	}{
		"the store":          {issueWithoutStore(t), http.StatusServiceUnavailable, middleware.CodeStoreUnavailable},
		"refused":            {middleware.ErrRefused, http.StatusUnauthorized, middleware.CodeInvalidCredentials},
		"refused, wrapped":   {fmt.Errorf("user 7: %w", middleware.ErrRefused), http.StatusUnauthorized, middleware.CodeInvalidCredentials},
		"bad request":        {fmt.Errorf("%w: no email", middleware.ErrBadRequest), http.StatusBadRequest, middleware.CodeBadRequest},
		"another error":      {errors.New("the database is down"), http.StatusInternalServerError, middleware.CodeServerError},
		"the application's":  {own, http.StatusUnprocessableEntity, "weak_password"},
		"one without status": {&middleware.Error{Code: "weak_password"}, http.StatusInternalServerError, middleware.CodeServerError},
	} {
		t.Run(name, func(t *testing.T) {
			r := gin.New()
			auth, errs := newAuth(t), 0
			r.GET("/", func(c *gin.Context) { auth.AnswerError(c, row.err); errs = len(c.Errors) }, func(c *gin.Context) {
				t.Error("the next handler runs")
			})
			w := httptest.NewRecorder()
			r.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
			var got struct{ Code middleware.Code }
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != row.status || got.Code != row.code {
				t.Errorf("%d %s, want %d %s", w.Code, w.Body, row.status, row.code)
			}
			if logged := errs == 1; logged != (row.status == http.StatusInternalServerError) {
				t.Errorf("%d errors for the application's log", errs)
			}
			for header, want := range map[string]bool{"Cache-Control": true, "Retry-After": row.status == 503, "WWW-Authenticate": row.status == 401} {
				if got := w.Header().Get(header) != ""; got != want {
					t.Errorf("%s is set: %v, want %v", header, got, want)
				}
			}
		})
	}
}

// issueWithoutStore returns the error of a login whose store is down.
func issueWithoutStore(t *testing.T) error {
	broken := &faulty{Store: newMemory(t)}
	broken.fault.Store(&fault{get: failing})
	_, err := newAuth(t, func(c *middleware.Config) { c.Store = broken }).Issue(t.Context(), middleware.Identity{Subject: "ann"})
	return err
}
