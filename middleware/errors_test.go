package middleware_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// What a rejected request is answered: the table of codes, OnError, and what errors must not tell.

// At least one request for every code, with its status, body and headers.
func TestWire(t *testing.T) {
	const day = 24 * time.Hour
	refusing := func(c *middleware.Config) {
		c.Reload = func(context.Context, middleware.Claims) (any, error) { return nil, middleware.ErrRefused }
	}
	for name, row := range map[string]struct {
		code   middleware.Code
		change change
		before func(d testServer)
		method string
		path   string
		age    time.Duration
		edit   edit
		more   string
	}{
		"two Authorization headers":    {code: middleware.CodeBadRequest, method: "GET", path: "/required", edit: header("Authorization", "Bearer x")},
		"unreadable body":              {code: middleware.CodeBadRequest, method: "POST", path: "/refresh", edit: func(r *http.Request) { r.Header.Del("Authorization"); jsonBody("{")(r) }},
		"no token":                     {code: middleware.CodeTokenMissing, method: "GET", path: "/required", edit: anonymous},
		"no token to refresh":          {code: middleware.CodeTokenMissing, method: "POST", path: "/refresh", edit: anonymous},
		"another scheme":               {code: middleware.CodeTokenMissing, method: "GET", path: "/required", edit: authorization("Basic YWRtaW46YWRtaW4=")},
		"R1 not genuine":               {code: middleware.CodeTokenInvalid, method: "GET", path: "/required", edit: authorization("Bearer a.b.c")},
		"R2 from the future":           {code: middleware.CodeTokenInvalid, method: "GET", path: "/required", age: -time.Hour},
		"R2 expired":                   {code: middleware.CodeTokenExpired, method: "GET", path: "/required", age: 2 * time.Hour},
		"R2 expired, optional":         {code: middleware.CodeTokenExpired, method: "GET", path: "/optional", age: 2 * time.Hour},
		"R3 logged out":                {code: middleware.CodeTokenRevoked, method: "GET", path: "/required", before: func(d testServer) { d.send("POST", "/logout", bearer(d.text)) }},
		"R3 logged out everywhere":     {code: middleware.CodeTokenRevoked, method: "GET", path: "/required", before: func(d testServer) { _ = d.auth.RevokeSubject(d.t.Context(), "admin") }},
		"R4 replaced":                  {code: middleware.CodeTokenRevoked, method: "GET", path: "/required", change: noGrace, before: func(d testServer) { refresh(d.t, d.auth, d.text) }},
		"R5 after the deadline":        {code: middleware.CodeRefreshExpired, method: "POST", path: "/refresh", age: 15 * day},
		"R5 after it, AutoRefresh":     {code: middleware.CodeRefreshExpired, method: "GET", path: "/autorefresh", age: 15 * day},
		"R5 after it, logout":          {code: middleware.CodeRefreshExpired, method: "POST", path: "/logout", age: 15 * day},
		"R5 idle":                      {code: middleware.CodeRefreshExpired, method: "POST", path: "/refresh", age: 3 * time.Hour, change: func(c *middleware.Config) { c.IdleTTL = 2 * time.Hour }},
		"R8 reuse":                     {code: middleware.CodeTokenReused, method: "POST", path: "/refresh", change: noGrace, before: func(d testServer) { refresh(d.t, d.auth, d.text) }},
		"R8 reuse under AutoRefresh":   {code: middleware.CodeTokenReused, method: "GET", path: "/autorefresh", change: noGrace, before: func(d testServer) { refresh(d.t, d.auth, d.text) }},
		"R8 reuse of an expired token": {code: middleware.CodeTokenReused, method: "GET", path: "/autorefresh", age: 2 * time.Hour, change: noGrace, before: func(d testServer) { refresh(d.t, d.auth, d.text) }},
		"Reload refuses":               {code: middleware.CodeSubjectRefused, method: "POST", path: "/refresh", change: refusing},
		"Reload refuses, AutoRefresh":  {code: middleware.CodeSubjectRefused, method: "GET", path: "/autorefresh", age: 2 * time.Hour, change: refusing},
		"login refused":                {code: middleware.CodeInvalidCredentials, method: "POST", path: "/login", change: authenticating(func(*gin.Context) (middleware.Identity, error) { return middleware.Identity{}, middleware.ErrRefused })},
		"login too old":                {code: middleware.CodeLoginTooOld, method: "GET", path: "/fresh", age: 30 * time.Minute, more: `, max_age="600"`},
		"not allowed":                  {code: middleware.CodeForbidden, method: "GET", path: "/never"},
	} {
		t.Run(name, func(t *testing.T) {
			if row.edit == nil {
				row.edit = func(*http.Request) {}
			}
			d := newServer(t, row.change)
			if row.age != 0 {
				d.text = aged(t, d.text, row.age)
			}
			if row.before != nil {
				row.before(d)
			}
			r := d.send(row.method, row.path, bearer(d.text), row.edit)
			r.rejected(t, row.code, row.more)
			if row.method == "POST" {
				r.notStored(t)
			}
		})
	}
}

func TestOnErrorReplacesTheBody(t *testing.T) {
	store := &faulty{Store: newMemory(t)}
	d := newServer(t, func(c *middleware.Config) {
		c.Store = store
		c.OnError = func(c *gin.Context, err *middleware.Error) {
			c.String(http.StatusTeapot, "%s %d %v", err.Code, err.Status, err.MaxAge)
			err.Code, err.Status, err.Type, err.Description = "changed", 1, "changed", "changed" // must not affect the next request
		}
	})
	for range 2 {
		for _, row := range []struct{ path, edit, body, challenge string }{
			{"/required", "", "token_missing 401 0s", `Bearer realm="api"`},
			{"/required", "Bearer a.b.c", "token_invalid 401 0s", `Bearer realm="api", error="invalid_token", error_description="`},
			{"/fresh", "Bearer " + aged(t, d.text, 11*time.Minute), "login_too_old 401 10m0s", `Bearer realm="api", error="insufficient_user_authentication", error_description="`},
			{"/never", "Bearer " + d.text, "forbidden 403 0s", ""},
		} {
			r := d.send("GET", row.path, authorization(row.edit))
			challenge := r.header.Get("WWW-Authenticate")
			if r.status != http.StatusTeapot || r.body != row.body || !strings.HasPrefix(challenge, row.challenge) || (row.challenge == "") != (challenge == "") {
				t.Errorf("%s with OnError: response %d %q %q, want 418 %q %q", row.path, r.status, r.body, challenge, row.body, row.challenge)
			}
		}
	}
	store.fault.Store(&fault{get: failing})
	if r := d.send("GET", "/required", bearer(d.text)); r.header.Get("Retry-After") != "1" || r.body != "store_unavailable 503 0s" {
		t.Errorf("R14 with OnError: %d %q %v", r.status, r.body, r.header)
	}
}

// If OnError writes nothing, the response still has the status of the error, not 200.
func TestOnErrorThatWritesNothing(t *testing.T) {
	d := newServer(t, func(c *middleware.Config) { c.OnError = func(*gin.Context, *middleware.Error) {} })
	for _, route := range tokenRoutes {
		if r := d.send(route.method, route.path, bearer("a.b.c")); r.status != http.StatusUnauthorized || strings.Contains(r.body, "admin") {
			t.Errorf("%s with an empty OnError: response %d %q, want 401", route.path, r.status, r.body)
		}
	}
}

// The text of an error contains neither the token nor the subject.
func TestErrorsAreSilent(t *testing.T) {
	auth := newAuth(t, noGrace)
	text := issue(t, auth, middleware.Identity{Subject: "a-subject-to-be-found"})
	parts := strings.Split(text, ".")
	offered := []string{
		text + "A", text + "\n", parts[0] + "." + parts[1] + "." + parts[1], parts[1] + "." + parts[1] + "." + parts[2],
		forge(`{"alg":"none"}`, membersOf(t, text).object()), forge(ourHeader, membersOf(t, text).object(`"sub":"a-subject-to-be-found"`)),
		aged(t, text, 10000*time.Hour), aged(t, text, -time.Hour), strings.Repeat(text, 30),
		forge(ourHeader, membersOf(t, text).with("jti", `"x"`).object()), forge(ourHeader, membersOf(t, text).with("sid", `"x"`).object()),
		forge(ourHeader, membersOf(t, text).with("exp", `"x"`).object()), forge(ourHeader, membersOf(t, text).object()+"x"),
	}
	refresh(t, auth, text)
	for _, offered := range append(offered, text) {
		for name, call := range steps(auth) {
			err := call(t.Context(), offered)
			if err == nil && name != "Logout" {
				t.Errorf("%s accepts %q", name, offered)
			}
			told := strings.Join(errorTexts(err), " ")
			wantNoSecret(t, told, offered, text)
			if strings.Contains(told, "a-subject-to-be-found") {
				t.Errorf("the error of %s shows the subject: %s", name, told)
			}
		}
	}
}
