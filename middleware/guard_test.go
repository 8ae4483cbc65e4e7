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
		// a CORS preflight carries no token, and nothing that it carries counts
		d.send("OPTIONS", path).passed(t, "guest")
		d.send("OPTIONS", path, bearer("a.b.c")).passed(t, "guest")
		preflight := d.send("OPTIONS", path, bearer(aged(t, d.text, 2*time.Hour)))
		preflight.passed(t, "guest")
		if preflight.header.Get("Authorization") != "" {
			t.Errorf("OPTIONS %s renews a token", path)
		}
	}
	d.send("OPTIONS", "/never").passed(t, "guest")
	everything := gin.New()
	everything.NoRoute(d.auth.Required(), whoami)
	all := listen(t, everything)
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "options", "Options", "OPTIONSX"} {
		if r := all.send(method, "/"); r.status != http.StatusUnauthorized {
			t.Errorf("%s without a token is answered %d %s", method, r.status, r.body)
		}
	}
}

// The login counts, not the last refresh.
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

func TestNestedGuards(t *testing.T) {
	auth := newAuth(t)
	anybody := auth.Allow(func(_ *gin.Context, claims middleware.Claims) bool { return claims.ExpiresAt.After(time.Now()) })
	nobody := auth.Allow(func(*gin.Context, middleware.Claims) bool { return false })
	required, autoRefresh, optional, fresh := auth.Required(), auth.AutoRefresh(time.Minute), auth.Optional(), auth.Fresh(10*time.Minute)
	r := gin.New()
	for path, guards := range map[string][]gin.HandlerFunc{
		"/renewed-required": {autoRefresh, required, optional, anybody},
		"/required-renewed": {required, autoRefresh},
		"/renewed-fresh":    {autoRefresh, fresh},
		"/required-nobody":  {required, nobody},
		"/optional":         {optional, required},
		"/optional-nobody":  {optional, nobody},
	} {
		r.GET(path, append(guards, whoami)...)
	}
	s := listen(t, r)
	text := login(t, auth)
	expired := aged(t, text, 2*time.Hour)
	s.send("GET", "/required-renewed", bearer(expired)).rejected(t, middleware.CodeTokenExpired)
	s.send("GET", "/renewed-required", bearer(expired)).passed(t, "admin")
	s.send("GET", "/renewed-fresh", bearer(expired)).rejected(t, middleware.CodeLoginTooOld, `, max_age="600"`)
	text = login(t, auth)
	s.send("GET", "/required-nobody", bearer(text)).rejected(t, middleware.CodeForbidden)
	s.send("GET", "/optional-nobody", bearer(text)).rejected(t, middleware.CodeForbidden)
	s.send("GET", "/optional-nobody").rejected(t, middleware.CodeTokenMissing)
	s.send("GET", "/optional").rejected(t, middleware.CodeTokenMissing)
	s.send("GET", "/optional", bearer(text)).passed(t, "admin")
}

// What one Auth let through is not let through by another.
func TestTwoAuthsInOneRequest(t *testing.T) {
	first := newAuth(t)
	second := newAuth(t, func(c *middleware.Config) {
		c.Keys = []middleware.Key{hs256("", bytes.Repeat([]byte("k"), 32))}
	})
	sameKey := newAuth(t) // but another blacklist
	r := gin.New()
	yes := func(*gin.Context, middleware.Claims) bool { return true }
	for path, guards := range map[string][]gin.HandlerFunc{
		"/required": {first.Required(), second.Required()},
		"/optional": {first.Required(), second.Optional()},
		"/renewed":  {first.AutoRefresh(0), second.AutoRefresh(0)},
		"/fresh":    {first.Required(), second.Fresh(time.Hour)},
		"/allow":    {first.Required(), second.Allow(yes)},
		"/same-key": {first.Required(), sameKey.Required()},
	} {
		r.GET(path, append(guards, whoami)...)
	}
	s := listen(t, r)
	text := login(t, first)
	for _, path := range []string{"/required", "/optional", "/renewed", "/fresh", "/allow"} {
		s.send("GET", path, bearer(text)).rejected(t, middleware.CodeTokenInvalid)
	}
	s.send("GET", "/same-key", bearer(text)).passed(t, "admin")
	if err := sameKey.Logout(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	s.send("GET", "/same-key", bearer(text)).rejected(t, middleware.CodeTokenRevoked)
}

// A refused request reaches no handler behind the guard.
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
			t.Fatalf("%s refuses, and yet the next handler runs", route.Path)
		}
	}
}

func TestMustClaims(t *testing.T) {
	c, _ := gin.CreateTestContext(httptest.NewRecorder())
	if claims, ok := middleware.ClaimsFrom(c); ok || claims.Subject != "" {
		t.Errorf("ClaimsFrom without a guard gives %v", claims)
	}
	mustPanic(t, "MustClaims", func() { middleware.MustClaims(c) }, "MustClaims", "auth.Required()")

	auth := newAuth(t)
	r := gin.New()
	r.GET("/", auth.Required(), func(c *gin.Context) { c.String(http.StatusOK, middleware.MustClaims(c).Subject) })
	listen(t, r).send("GET", "/", bearer(login(t, auth))).passed(t, "admin")
}

// Mistakes in the routes are told at start-up.
func TestConstructorsPanic(t *testing.T) {
	auth := newAuth(t)
	mustPanic(t, "AutoRefresh(-1)", func() { auth.AutoRefresh(-1) }, "AutoRefresh", "within >= 0")
	mustPanic(t, "Fresh(0)", func() { auth.Fresh(0) }, "Fresh", "maxAge > 0")
	mustPanic(t, "Fresh(-1)", func() { auth.Fresh(-time.Hour) }, "Fresh", "maxAge > 0")
	mustPanic(t, "Allow(nil)", func() { auth.Allow(nil) }, "Allow", "condition")
}
