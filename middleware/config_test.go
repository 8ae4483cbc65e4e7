package middleware_test

import (
	"encoding/json"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// The defaults are as documented.
func TestDefaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := newConfig(t, withoutSweeper)
		auth, err := middleware.New(middleware.Config{Keys: config.Keys, Store: config.Store, Authenticate: config.Authenticate})
		if err != nil {
			t.Fatal(err)
		}
		s := direct(t, oneTokenRoutes(auth))
		wait := func(d time.Duration) { <-time.After(d) }

		first := s.send("POST", "/login?user=admin")
		fields := first.fields(t)
		if fields["expires_in"] != json.Number("3600") || fields["refresh_expires_in"] != json.Number("1209600") {
			t.Errorf("TTL and RefreshTTL by default: %s, want 1 h and 14 d", first.body)
		}
		text := first.token(t)
		wait(time.Second)
		next := refresh(t, auth, text)
		wait(10 * time.Second)
		s.send("GET", "/required", bearer(text)).passed(t, "admin")
		wait(time.Microsecond)
		s.send("GET", "/required", bearer(text)).rejected(t, middleware.CodeTokenRevoked) // Grace is 10 s, the realm is api

		wait(time.Hour - 10*time.Second - 2*time.Microsecond)
		s.send("GET", "/required", bearer(next)).passed(t, "admin")
		wait(time.Microsecond)
		s.send("GET", "/required", bearer(next)).rejected(t, middleware.CodeTokenExpired) // Leeway is 0
		wait(14*24*time.Hour - time.Hour - time.Second - time.Microsecond)
		next = refresh(t, auth, next) // IdleTTL is off
		wait(time.Microsecond)
		s.send("POST", "/refresh", bearer(next)).rejected(t, middleware.CodeRefreshExpired)
	})
}

func TestRealm(t *testing.T) {
	s := direct(t, oneTokenRoutes(newAuth(t, func(c *middleware.Config) { c.Realm = "my api" })))
	if got := s.send("GET", "/required").header.Get("WWW-Authenticate"); got != `Bearer realm="my api"` {
		t.Errorf("the challenge is %q", got)
	}
}

// The caller of New may reuse or wipe the keys.
func TestNewKeepsNoReferences(t *testing.T) {
	mine := slices.Clone(secret)
	list := []middleware.Key{hs256("", mine)}
	auth := newAuth(t, func(c *middleware.Config) { c.Keys = list })
	text := login(t, auth)
	clear(mine)
	list[0] = middleware.Key{}
	verify(t, auth, text)
	verify(t, newAuth(t), login(t, auth)) // it still signs with the original secret
}
