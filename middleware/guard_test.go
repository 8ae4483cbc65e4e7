package middleware_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// Every guard, with a valid token, an invalid one and none.
func TestGuards(t *testing.T) {
	d := newServer(t)
	for _, path := range []string{"/required", "/optional", "/autorefresh", "/fresh", "/allow"} {
		d.send("GET", path, bearer(d.text)).passed(t, "admin")
		d.send("GET", path, bearer("a.b.c")).rejected(t, middleware.CodeTokenInvalid)
		r := d.send("GET", path)
		if path == "/optional" {
			r.passed(t, "guest")
		} else {
			r.rejected(t, middleware.CodeTokenMissing)
		}
		// a CORS preflight has no token, so guards let OPTIONS through and ignore any token
		d.send("OPTIONS", path).passed(t, "guest")
		d.send("OPTIONS", path, bearer("a.b.c")).passed(t, "guest")
		preflight := d.send("OPTIONS", path, bearer(aged(t, d.text, 2*time.Hour)))
		preflight.passed(t, "guest")
		if preflight.header.Get("Authorization") != "" {
			t.Errorf("OPTIONS %s refreshes a token", path)
		}
	}
	d.send("OPTIONS", "/never").passed(t, "guest")
	everything := gin.New()
	everything.NoRoute(d.auth.Required(), whoami)
	all := listen(t, everything)
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "options", "Options", "OPTIONSX"} {
		if r := all.send(method, "/"); r.status != http.StatusUnauthorized {
			t.Errorf("%s without a token: response %d %s, want 401", method, r.status, r.body)
		}
	}
}

// Fresh measures from the login, not from the last refresh.
func TestFresh(t *testing.T) {
	d := newServer(t)
	d.send("GET", "/fresh", bearer(aged(t, d.text, 9*time.Minute))).passed(t, "admin")
	old := aged(t, d.text, 11*time.Minute)
	for _, text := range []string{old, refresh(t, d.auth, old)} {
		d.send("GET", "/fresh", bearer(text)).rejected(t, middleware.CodeLoginTooOld, `, max_age="600"`)
	}
	unknown := forge(ourHeader, membersOf(t, login(t, d.auth)).without("auth_time").object())
	d.send("GET", "/fresh", bearer(unknown)).rejected(t, middleware.CodeTokenInvalid)
}

// The condition of Allow can read the request.
func TestAllowSeesTheRequest(t *testing.T) {
	auth := newAuth(t)
	r := gin.New()
	r.GET("/:owner", auth.Allow(func(c *gin.Context, claims middleware.Claims) bool { return c.Param("owner") == claims.Subject }), whoami)
	s := listen(t, r)
	text := login(t, auth)
	s.send("GET", "/admin", bearer(text)).passed(t, "admin")
	s.send("GET", "/alice", bearer(text)).rejected(t, middleware.CodeForbidden)
	s.send("GET", "/admin").rejected(t, middleware.CodeTokenMissing)
}

// Several guards on one route.
func TestNestedGuards(t *testing.T) {
	auth := newAuth(t)
	anyone := auth.Allow(func(_ *gin.Context, claims middleware.Claims) bool { return claims.ExpiresAt.After(time.Now()) })
	never := auth.Allow(func(*gin.Context, middleware.Claims) bool { return false })
	required, autoRefresh, optional, fresh := auth.Required(), auth.AutoRefresh(time.Minute), auth.Optional(), auth.Fresh(10*time.Minute)
	r := gin.New()
	for path, guards := range map[string][]gin.HandlerFunc{
		"/refreshed-required": {autoRefresh, required, optional, anyone},
		"/required-refreshed": {required, autoRefresh},
		"/refreshed-fresh":    {autoRefresh, fresh},
		"/required-never":     {required, never},
		"/optional":           {optional, required},
		"/optional-never":     {optional, never},
	} {
		r.GET(path, append(guards, whoami)...)
	}
	s := listen(t, r)
	text := login(t, auth)
	expired := aged(t, text, 2*time.Hour)
	s.send("GET", "/required-refreshed", bearer(expired)).rejected(t, middleware.CodeTokenExpired)
	s.send("GET", "/refreshed-required", bearer(expired)).passed(t, "admin")
	s.send("GET", "/refreshed-fresh", bearer(expired)).rejected(t, middleware.CodeLoginTooOld, `, max_age="600"`)
	text = login(t, auth)
	s.send("GET", "/required-never", bearer(text)).rejected(t, middleware.CodeForbidden)
	s.send("GET", "/optional-never", bearer(text)).rejected(t, middleware.CodeForbidden)
	s.send("GET", "/optional-never").rejected(t, middleware.CodeTokenMissing)
	s.send("GET", "/optional").rejected(t, middleware.CodeTokenMissing)
	s.send("GET", "/optional", bearer(text)).passed(t, "admin")
}

// A guard of one Auth does not rely on the guard of another.
func TestTwoAuthsInOneRequest(t *testing.T) {
	first := newAuth(t)
	second := newAuth(t, func(c *middleware.Config) {
		c.Keys = []middleware.Key{hs256("", bytes.Repeat([]byte("k"), 32))}
	})
	sameKey := newAuth(t) // with another store
	r := gin.New()
	yes := func(*gin.Context, middleware.Claims) bool { return true }
	for path, guards := range map[string][]gin.HandlerFunc{
		"/required":  {first.Required(), second.Required()},
		"/optional":  {first.Required(), second.Optional()},
		"/refreshed": {first.AutoRefresh(0), second.AutoRefresh(0)},
		"/fresh":     {first.Required(), second.Fresh(time.Hour)},
		"/allow":     {first.Required(), second.Allow(yes)},
		"/same-key":  {first.Required(), sameKey.Required()},
	} {
		r.GET(path, append(guards, whoami)...)
	}
	s := listen(t, r)
	text := login(t, first)
	for _, path := range []string{"/required", "/optional", "/refreshed", "/fresh", "/allow"} {
		s.send("GET", path, bearer(text)).rejected(t, middleware.CodeTokenInvalid)
	}
	s.send("GET", "/same-key", bearer(text)).passed(t, "admin")
	if err := sameKey.Logout(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	s.send("GET", "/same-key", bearer(text)).rejected(t, middleware.CodeTokenRevoked)
}

// No handler after the guard runs for a rejected request.
func TestRefusedRequestsEnd(t *testing.T) {
	auth := newAuth(t)
	var ran atomic.Int32
	count := func(*gin.Context) { ran.Add(1) }
	r := gin.New()
	for path, guard := range map[string]gin.HandlerFunc{
		"/required": auth.Required(), "/optional": auth.Optional(), "/autorefresh": auth.AutoRefresh(0), "/fresh": auth.Fresh(time.Hour),
		"/allow": auth.Allow(func(*gin.Context, middleware.Claims) bool { return false }),
		"/login": auth.LoginHandler, "/refresh": auth.RefreshHandler, "/logout": auth.LogoutHandler, "/logout/all": auth.LogoutAllHandler,
	} {
		r.POST(path, guard, count)
	}
	s := listen(t, r)
	for _, route := range r.Routes() {
		s.send("POST", route.Path, bearer("a.b.c"))
		if ran.Load() != 0 {
			t.Fatalf("%s rejects the request, but the next handler runs", route.Path)
		}
	}
}

func TestMustClaims(t *testing.T) {
	c, _ := gin.CreateTestContext(httptest.NewRecorder())
	if claims, ok := middleware.ClaimsFrom(c); ok || claims.Subject != "" {
		t.Errorf("ClaimsFrom without a guard returns %v", claims)
	}
	mustPanic(t, "MustClaims", func() { middleware.MustClaims(c) }, "MustClaims", "auth.Required()")

	auth := newAuth(t)
	r := gin.New()
	r.GET("/", auth.Required(), func(c *gin.Context) { c.String(http.StatusOK, middleware.MustClaims(c).Subject) })
	listen(t, r).send("GET", "/", bearer(login(t, auth))).passed(t, "admin")
}

// Mistakes in the arguments of a guard panic at start-up.
func TestConstructorsPanic(t *testing.T) {
	auth := newAuth(t)
	mustPanic(t, "AutoRefresh(-1)", func() { auth.AutoRefresh(-1) }, "AutoRefresh", "within >= 0")
	mustPanic(t, "Fresh(0)", func() { auth.Fresh(0) }, "Fresh", "maxAge > 0")
	mustPanic(t, "Fresh(-1)", func() { auth.Fresh(-time.Hour) }, "Fresh", "maxAge > 0")
	mustPanic(t, "Allow(nil)", func() { auth.Allow(nil) }, "Allow", "condition")
}
