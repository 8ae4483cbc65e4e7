package middleware_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// tokenForm is a body as RFC 7009 §2.1 and RFC 7662 §2.1 have it.
func tokenForm(text string) edit {
	return body(form, url.Values{"token": {text}, "token_type_hint": {"refresh_token"}}.Encode())
}

// endpoints are those that take the form field token.
var endpoints = []string{"/revoke", "/introspect"}

func TestRevokeEndsTheSession(t *testing.T) {
	for mode, inMode := range modes {
		for name, pick := range map[string]func(first, second middleware.Tokens) string{
			"access token":   func(_, second middleware.Tokens) string { return second.AccessToken },
			"renewable":      func(_, second middleware.Tokens) string { return renewable(second) },
			"replaced":       func(first, _ middleware.Tokens) string { return renewable(first) },
			"expired access": func(_, second middleware.Tokens) string { return backdated(t, second.AccessToken, 2*time.Hour) },
		} {
			t.Run(mode+", "+name, func(t *testing.T) {
				memory := newMemory(t)
				shared := func(c *middleware.Config) { c.Store = memory }
				auth, other := newAuth(t, inMode, shared, noGrace), newAuth(t, inMode, shared, noGrace)
				s := listen(t, sharedRoutes(auth))
				first := begin(t, auth, middleware.Identity{})
				second, apart := renew(t, auth, first), begin(t, auth, middleware.Identity{})
				for range 2 { // RFC 7009 §2.2: what is over already is no error
					r := s.send("POST", "/revoke", tokenForm(pick(first, second)))
					if r.status != http.StatusOK || r.body != "" {
						t.Errorf("answer %d %q, want 200 and nothing", r.status, r.body)
					}
					r.notStored(t)
				}
				verifies(t, "R11", other, second.AccessToken, middleware.CodeTokenRevoked)
				refreshes(t, "R11", other, renewable(second), middleware.CodeTokenRevoked)
				verify(t, other, apart.AccessToken)
			})
		}
	}
}

// RFC 7009 §2.2: a client cannot do anything about a token that is none, so it is told nothing.
func TestRevokeIgnoresWhatIsNotOurs(t *testing.T) {
	var j journal
	auth := newAuth(t, func(c *middleware.Config) { c.OnEvent = j.write })
	s := listen(t, sharedRoutes(auth))
	text := login(t, auth)
	foreign := login(t, newAuth(t, keys(hs256("", []byte("another secret, of 32 bytes also")))))
	j.read()
	for name, offered := range map[string]string{
		"foreign": foreign, "garbage": "garbage", "changed": text + "A", "an opaque token": "45ghiukldjahdnhzdauz", "spaces": "   ", "1 KiB": strings.Repeat("x", 1024),
		"none": segment(`{"alg":"none","typ":"JWT"}`) + "." + strings.Split(text, ".")[1] + ".", "after the window": aged(t, text, 15*day),
	} {
		if r := s.send("POST", "/revoke", tokenForm(offered)); r.status != http.StatusOK || r.body != "" {
			t.Errorf("%s: answer %d %q, want 200 and nothing", name, r.status, r.body)
		}
		if events := j.read(); len(events) > 0 {
			t.Errorf("%s makes the events %+v", name, events)
		}
	}
	verify(t, auth, text)
	s.send("POST", "/revoke", tokenForm(text))
	if events := j.read(); len(events) != 1 || events[0].Kind != middleware.EventLogout || events[0].Subject != "admin" || events[0].SessionID != membersOf(t, text).sid() {
		t.Errorf("a revocation makes the events %+v", events)
	}
}

// Both endpoints read the same parameter.
func TestOAuthRequests(t *testing.T) {
	auth := newAuth(t)
	s := listen(t, sharedRoutes(auth))
	text := login(t, auth)
	for _, path := range endpoints {
		for name, edit := range map[string]edit{
			"no body":               func(*http.Request) {},
			"another parameter":     body(form, "refresh_token="+text+"&access_token="+text),
			"empty":                 body(form, "token="),
			"in the URL":            func(r *http.Request) { r.URL.RawQuery = "token=" + text },
			"in the URL and a form": func(r *http.Request) { r.URL.RawQuery = "token=" + text; body(form, "a=1")(r) },
			"in the header":         bearer(text),
			"in a cookie":           header("Cookie", "token="+text),
			"twice":                 body(form, "token="+text+"&token="+text),
			"broken":                body(form, "token="+text+"%zz"),
			"unknown type":          body("text/plain", "token="+text),
			"JSON, no token":        jsonBody(`{}`),
			"JSON, a number":        jsonBody(`{"token":1}`),
			"1 MiB":                 body(form, "a="+strings.Repeat("x", 1<<20)+"&token="+text),
		} {
			r := s.send("POST", path, edit)
			if r.refused(t, middleware.CodeBadRequest); t.Failed() {
				t.Fatalf("%s: %s", path, name)
			}
			r.notStored(t)
		}
	}
	verify(t, auth, text)
}

func TestR14OAuthStoreDown(t *testing.T) {
	for mode, inMode := range modes {
		store := &faulty{Store: newMemory(t)}
		auth := newAuth(t, inMode, func(c *middleware.Config) { c.Store = store })
		s := listen(t, sharedRoutes(auth))
		tokens := begin(t, auth, middleware.Identity{})
		store.fault.Store(&fault{get: failing})
		for _, path := range endpoints {
			for _, text := range []string{tokens.AccessToken, renewable(tokens)} {
				r := s.send("POST", path, tokenForm(text))
				if r.refused(t, middleware.CodeStoreUnavailable); strings.Contains(r.body, "s3cret") || strings.Contains(r.body, "active") {
					t.Errorf("R14: %s in %s mode answers %s", path, mode, r.body)
				}
			}
		}
		if r := s.send("POST", "/introspect", tokenForm("garbage")); r.body != `{"active":false}` {
			t.Errorf("garbage needs no store: %d %s", r.status, r.body)
		}
		store.fault.Store(nil)
		renew(t, auth, tokens)
	}
}

// introspected is the answer for an active token. A refresh token has no token_type (RFC 6749 §5.1).
func introspected(t *testing.T, s site, text string) map[string]any {
	t.Helper()
	r := s.send("POST", "/introspect", tokenForm(text))
	r.notStored(t)
	fields := r.fields(t)
	want := any("Bearer")
	if headerOf(t, text)["typ"] == "refresh+jwt" {
		want = nil
	}
	if r.status != http.StatusOK || fields["active"] != true || fields["token_type"] != want {
		t.Fatalf("an active token is answered %d %s", r.status, r.body)
	}
	return fields
}

func inactive(t *testing.T, what string, s site, text string) {
	t.Helper()
	r := s.send("POST", "/introspect", tokenForm(text))
	if r.status != http.StatusOK || r.body != `{"active":false}` || r.header.Get("WWW-Authenticate") != "" {
		t.Errorf("RFC 7662 §2.2: %s: %d %s %v, want it to be inactive and no more", what, r.status, r.body, r.header)
	}
	r.notStored(t)
}

func TestIntrospect(t *testing.T) {
	for mode, inMode := range modes {
		t.Run(mode, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				auth := newAuth(t, inMode, noGrace, func(c *middleware.Config) {
					c.TTL, c.RefreshTTL, c.Issuer, c.Audience = time.Minute, time.Hour, "https://we.example", "api"
				})
				s := direct(t, sharedRoutes(auth))
				first := begin(t, auth, middleware.Identity{Claims: gin.H{"role": "admin", "active_since": 2000}})
				for _, text := range []string{first.AccessToken, renewable(first)} {
					fields := introspected(t, s, text)
					for name, value := range membersOf(t, text) {
						if got, err := json.Marshal(fields[name]); err != nil || string(got) != value {
							t.Errorf("%s is %s, want %s", name, got, value)
						}
					}
					delete(fields, "active")
					delete(fields, "token_type")
					if len(fields) != len(membersOf(t, text)) {
						t.Errorf("the answer has %v as well", slices.Sorted(maps.Keys(fields)))
					}
				}
				foreign := begin(t, newAuth(t, inMode, func(c *middleware.Config) { c.Issuer = "https://they.example" }), middleware.Identity{})
				for _, text := range []string{"garbage", first.AccessToken + "A", foreign.AccessToken, renewable(foreign)} {
					inactive(t, "not ours", s, text)
				}
				second := renew(t, auth, first)
				inactive(t, "a replaced token", s, renewable(first))
				introspected(t, s, second.AccessToken)

				wait(time.Minute)
				inactive(t, "an expired access token", s, second.AccessToken)
				if mode == "pair" {
					introspected(t, s, second.RefreshToken)
				}
				third := renew(t, auth, second)
				introspected(t, s, third.AccessToken)
				if err := auth.Logout(t.Context(), third.AccessToken); err != nil {
					t.Fatal(err)
				}
				inactive(t, "logged out", s, third.AccessToken)
				inactive(t, "logged out", s, renewable(third))

				late := begin(t, auth, middleware.Identity{})
				wait(time.Hour)
				inactive(t, "after the window", s, renewable(late))
			})
		})
	}
}

// A refresh token of pair mode is no token of one-token mode.
func TestIntrospectAcrossModes(t *testing.T) {
	single := newAuth(t)
	inactive(t, "a pair's refresh token in one-token mode", direct(t, sharedRoutes(single)), begin(t, newAuth(t, pair), middleware.Identity{}).RefreshToken)
}

// No claim of the application can say that a token is active, or of another type.
func TestIntrospectionMembersAreNotClaims(t *testing.T) {
	for mode, inMode := range modes {
		auth := newAuth(t, inMode)
		s := listen(t, sharedRoutes(auth))
		tokens := begin(t, auth, middleware.Identity{Claims: gin.H{"active": false, "token_type": "N_A", "scope": "read", "client_id": "app", "username": "Admin"}})
		for _, text := range []string{tokens.AccessToken, renewable(tokens)} {
			fields := introspected(t, s, text)
			if fmt.Sprintf("%v %v %v", fields["scope"], fields["client_id"], fields["username"]) != "read app Admin" {
				t.Errorf("%s: the answer is %v", mode, fields)
			}
		}
		tokens = begin(t, auth, middleware.Identity{Claims: gin.H{"active": true}})
		if err := auth.Logout(t.Context(), tokens.AccessToken); err != nil {
			t.Fatal(err)
		}
		inactive(t, "logged out, with a claim named active", s, tokens.AccessToken)
	}
}
