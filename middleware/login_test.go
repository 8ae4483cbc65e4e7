package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// The responses of LoginHandler and RefreshHandler.
func TestLoginAndRefreshAnswer(t *testing.T) {
	d := newServer(t, func(c *middleware.Config) { c.TTL, c.RefreshTTL = time.Minute, time.Hour })
	near := func(value any, want int64) bool {
		return fmt.Sprint(value) == fmt.Sprint(want) || fmt.Sprint(value) == fmt.Sprint(want-1)
	}
	first := d.send("POST", "/login?user=admin")
	for path, r := range map[string]reply{
		"/login":   first,
		"/refresh": d.send("POST", "/refresh", bearer(first.token(t))),
	} {
		fields := r.fields(t)
		if got, want := slices.Sorted(maps.Keys(fields)), []string{"access_token", "expires_in", "refresh_expires_in", "token_type"}; !slices.Equal(got, want) {
			t.Errorf("%s: the members are %v, want %v", path, got, want)
		}
		if fields["token_type"] != "Bearer" || !near(fields["expires_in"], 60) || !near(fields["refresh_expires_in"], 3600) {
			t.Errorf("%s: response %s", path, r.body)
		}
		if !strings.HasPrefix(r.header.Get("Content-Type"), "application/json") || r.header.Get("WWW-Authenticate") != "" {
			t.Errorf("%s: headers %v", path, r.header)
		}
		r.notStored(t)
		d.send("GET", "/required", bearer(r.token(t))).passed(t, "admin")
	}
}

// Each error of Authenticate has its response.
func TestAuthenticate(t *testing.T) {
	outage := errors.New("dial tcp 10.0.0.7:5432: refused")
	_, notGenuine := newAuth(t).Verify(t.Context(), "a.b.c")
	for name, row := range map[string]struct {
		id   middleware.Identity
		err  error
		code middleware.Code
	}{
		"refused":             {err: middleware.ErrRefused, code: middleware.CodeInvalidCredentials},
		"refused, wrapped":    {err: fmt.Errorf("no user: %w", middleware.ErrRefused), code: middleware.CodeInvalidCredentials},
		"refused, identity":   {id: middleware.Identity{Subject: "admin"}, err: middleware.ErrRefused, code: middleware.CodeInvalidCredentials},
		"bad request":         {err: middleware.ErrBadRequest, code: middleware.CodeBadRequest},
		"bad request, joined": {err: errors.Join(outage, middleware.ErrBadRequest), code: middleware.CodeBadRequest},
		"unavailable":         {err: outage, code: middleware.CodeStoreUnavailable},
		"too late":            {err: context.DeadlineExceeded, code: middleware.CodeStoreUnavailable},
		"token_invalid":       {err: fmt.Errorf("second factor: %w", notGenuine), code: middleware.CodeTokenInvalid},
		"no subject":          {code: middleware.CodeServerError},
		"unusable claims":     {id: middleware.Identity{Subject: "admin", Claims: map[string]int{"SUB": 5432}}, code: middleware.CodeServerError},
		"negative TTL":        {id: middleware.Identity{Subject: "admin", TTL: -time.Hour}, code: middleware.CodeServerError},
	} {
		t.Run(name, func(t *testing.T) {
			d := newServer(t, authenticating(func(*gin.Context) (middleware.Identity, error) { return row.id, row.err }))
			r := d.send("POST", "/login")
			r.rejected(t, row.code)
			r.notStored(t)
			if strings.Contains(r.body, "5432") || strings.Contains(r.body, "no user") || strings.Contains(r.body, "factor") {
				t.Errorf("the response shows the cause: %s", r.body)
			}
		})
	}
	t.Run("nil", func(t *testing.T) {
		newServer(t, authenticating(nil)).send("POST", "/login?user=admin").rejected(t, middleware.CodeServerError)
	})
}

// The response does not tell an unknown user from a wrong password.
func TestSameWordsForUnknownAndWrong(t *testing.T) {
	d := newServer(t, authenticating(func(c *gin.Context) (middleware.Identity, error) {
		return middleware.Identity{}, fmt.Errorf("%s: %w", c.Query("user"), middleware.ErrRefused)
	}))
	unknown, wrong := d.send("POST", "/login?user=nobody"), d.send("POST", "/login?user=admin")
	unknown.header.Del("Date")
	wrong.header.Del("Date")
	if unknown.status != wrong.status || unknown.body != wrong.body || !maps.EqualFunc(unknown.header, wrong.header, slices.Equal) {
		t.Errorf("unknown user: %v, wrong password: %v", unknown, wrong)
	}
	unknown.rejected(t, middleware.CodeInvalidCredentials)
}

// If Authenticate has written a response itself, LoginHandler adds nothing and issues no token.
func TestAuthenticateAnswersItself(t *testing.T) {
	admin := middleware.Identity{Subject: "admin"}
	slow := func(c *gin.Context) {
		c.Header("Retry-After", "60")
		c.AbortWithStatusJSON(http.StatusTooManyRequests, gin.H{"error": "slow_down"})
	}
	for name, row := range map[string]struct {
		answer func(c *gin.Context)
		id     middleware.Identity
		err    error
		status int
		body   string
	}{
		"429":                   {slow, middleware.Identity{}, nil, 429, `{"error":"slow_down"}`},
		"429, refused":          {slow, middleware.Identity{}, middleware.ErrRefused, 429, `{"error":"slow_down"}`},
		"429, another error":    {slow, middleware.Identity{}, errors.New("too many"), 429, `{"error":"slow_down"}`},
		"429, identity":         {slow, admin, nil, 429, `{"error":"slow_down"}`},
		"status only":           {func(c *gin.Context) { c.AbortWithStatus(429) }, admin, nil, 429, ""},
		"aborted, not written":  {func(c *gin.Context) { c.Status(423); c.Abort() }, admin, nil, 423, ""},
		"written, not aborted":  {func(c *gin.Context) { c.String(202, "second factor") }, admin, nil, 202, "second factor"},
		"redirect, not aborted": {func(c *gin.Context) { c.String(303, "elsewhere") }, admin, middleware.ErrRefused, 303, "elsewhere"},
	} {
		t.Run(name, func(t *testing.T) {
			var onError atomic.Bool
			d := newServer(t, func(c *middleware.Config) { c.OnError = func(*gin.Context, *middleware.Error) { onError.Store(true) } },
				authenticating(func(c *gin.Context) (middleware.Identity, error) { row.answer(c); return row.id, row.err }))
			r := d.send("POST", "/login")
			if r.status != row.status || r.body != row.body || r.header.Get("WWW-Authenticate") != "" || onError.Load() {
				t.Errorf("response %d %q %v, want %d %q", r.status, r.body, r.header, row.status, row.body)
			}
		})
	}
}

// OnError learns why a login request cannot be read. Neither it nor the client sees the password.
func TestBadLoginTellsItsCause(t *testing.T) {
	t.Parallel()
	var got atomic.Pointer[middleware.Error]
	d := newServer(t, func(c *middleware.Config) {
		c.OnError = func(c *gin.Context, err *middleware.Error) {
			got.Store(err)
			c.JSON(err.Status, gin.H{"said": err.Description})
		}
	}, authenticating(func(c *gin.Context) (middleware.Identity, error) {
		var login struct {
			User     string `json:"user" form:"user" binding:"required"`
			Password string `json:"password" form:"password" binding:"required,min=30"`
		}
		if err := c.ShouldBind(&login); err != nil {
			return middleware.Identity{}, fmt.Errorf("%w: %w", middleware.ErrBadRequest, err)
		}
		return middleware.Identity{Subject: login.User}, nil
	}))
	for name, row := range map[string]struct {
		edit  edit
		cause string
	}{
		"no user":     {jsonBody(`{"password":"hunter2-hunter2-hunter2-hunter2"}`), "'User'"},
		"too short":   {jsonBody(`{"user":"admin","password":"hunter2"}`), "'min'"},
		"form":        {body(form, "user=admin&password=hunter2"), "'min'"},
		"a number":    {jsonBody(`{"user":"admin","password":772244}`), "number"},
		"a list":      {jsonBody(`{"user":"admin","password":["hunter2"]}`), "array"},
		"an object":   {jsonBody(`{"user":"admin","password":{"hunter2":1}}`), "object"},
		"cut":         {jsonBody(`{"user":"admin","password":"hunter2`), "EOF"},
		"not escaped": {jsonBody("{\"user\":\"admin\",\"password\":\"hunter2\n\"}"), "invalid character"},
	} {
		r := d.send("POST", "/login", row.edit)
		err := got.Swap(nil)
		if r.status != http.StatusBadRequest || err == nil || err.Code != middleware.CodeBadRequest || !errors.Is(err, middleware.ErrBadRequest) {
			t.Errorf("%s: response %d %s, OnError gets %v", name, r.status, r.body, err)
			continue
		}
		cause := strings.Join(errorTexts(err), " ")
		if !strings.Contains(cause, row.cause) || strings.Contains(r.body, row.cause) {
			t.Errorf("%s: the cause is %s, want %s, and the client sees %s", name, cause, row.cause, r.body)
		}
		if strings.Contains(cause+r.body, "hunter2") || strings.Contains(cause+r.body, "772244") {
			t.Errorf("%s: the password is in %s or %s", name, cause, r.body)
		}
	}
}

// LoginHandler limits the body that Authenticate can read.
func TestLoginBodyIsBounded(t *testing.T) {
	t.Parallel()
	d := newServer(t, authenticating(func(c *gin.Context) (middleware.Identity, error) {
		var login struct{ User string }
		if err := c.ShouldBindJSON(&login); err != nil {
			return middleware.Identity{}, err
		}
		return middleware.Identity{Subject: login.User}, nil
	}))
	d.send("POST", "/login", jsonBody(`{"user":"admin"}`)).token(t)
	d.send("POST", "/login", jsonBody(`{"user":"`+strings.Repeat("x", 1<<20)+`"}`)).rejected(t, middleware.CodeBadRequest)
}

// Any text in UTF-8 is a subject, and no other.
func TestSubjects(t *testing.T) {
	auth := newAuth(t)
	for _, subject := range []string{"", "\xff", "admin\xc0\xaf", "a\xed\xa0\x80"} {
		if tokens, err := auth.Issue(t.Context(), middleware.Identity{Subject: subject}); err == nil || tokens.AccessToken != "" {
			t.Errorf("Issue accepts the subject %q", subject)
		}
	}
	seen := map[string]bool{}
	for _, subject := range []string{
		"a", "A", " ", "a ", "a.b", "u:a", `"`, `\`, `a","sub":"root`, "<b>&", "\x00", "\n", "\x7f", "\u2028", "é", "e\u0301", "漢字", "🙂", "\ufffd", strings.Repeat("x", 1000),
	} {
		text := issue(t, auth, middleware.Identity{Subject: subject})
		for range 2 {
			claims := verify(t, auth, text)
			if claims.Subject != subject || seen[claims.ID] {
				t.Errorf("the subject %q is read as %q, with jti %s", subject, claims.Subject, claims.ID)
			}
			seen[claims.ID] = true
			text = refresh(t, auth, text)
		}
	}
}

// An application may return an *Error of its own from Authenticate. Without a status it must not be answered 200.
func TestLoginErrorWithoutStatus(t *testing.T) {
	d := newServer(t, func(c *middleware.Config) {
		c.Authenticate = func(*gin.Context) (middleware.Identity, error) {
			return middleware.Identity{}, &middleware.Error{Code: "locked"}
		}
	})
	d.send("POST", "/login").rejected(t, middleware.CodeServerError)
}
