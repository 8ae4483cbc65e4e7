package middleware_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// RevokeHandler (RFC 7009), and the requests that it has in common with IntrospectHandler.

// tokenForm is a body according to RFC 7009 §2.1 and RFC 7662 §2.1.
func tokenForm(text string) edit {
	return body(form, url.Values{"token": {text}, "token_type_hint": {"refresh_token"}}.Encode())
}

// endpoints are the routes of the handlers that read the parameter token.
var endpoints = []string{"/revoke", "/introspect"}

// A revocation ends the session, whichever of its tokens is sent.
func TestRevokeEndsTheSession(t *testing.T) {
	for mode, inMode := range modes {
		for name, pick := range map[string]func(first, second middleware.Tokens) string{
			"access token":   func(_, second middleware.Tokens) string { return second.AccessToken },
			"renewable":      func(_, second middleware.Tokens) string { return refreshable(second) },
			"replaced":       func(first, _ middleware.Tokens) string { return refreshable(first) },
			"expired access": func(_, second middleware.Tokens) string { return aged(t, second.AccessToken, 2*time.Hour) },
		} {
			t.Run(mode+", "+name, func(t *testing.T) {
				memory := newMemory(t)
				shared := func(c *middleware.Config) { c.Store = memory }
				auth, other := newAuth(t, inMode, shared, noGrace), newAuth(t, inMode, shared, noGrace)
				s := listen(t, routes(auth))
				first := issueTokens(t, auth, middleware.Identity{})
				second, apart := refreshTokens(t, auth, first), issueTokens(t, auth, middleware.Identity{})
				for range 2 { // RFC 7009 §2.2: a revoked token is not an error
					r := s.send("POST", "/revoke", tokenForm(pick(first, second)))
					if r.status != http.StatusOK || r.body != "" {
						t.Errorf("response %d %q, want 200 and no body", r.status, r.body)
					}
					r.notStored(t)
				}
				wantVerify(t, "R11: after the revocation", other, second.AccessToken, middleware.CodeTokenRevoked)
				wantRefresh(t, "R11: after the revocation", other, refreshable(second), middleware.CodeTokenRevoked)
				verify(t, other, apart.AccessToken)
			})
		}
	}
}

// RFC 7009 §2.2: the response to an invalid token is 200, because the client could not do anything about an error.
func TestRevokeIgnoresWhatIsNotOurs(t *testing.T) {
	var j eventLog
	auth := newAuth(t, func(c *middleware.Config) { c.OnEvent = j.record })
	s := listen(t, routes(auth))
	text := login(t, auth)
	foreign := login(t, newAuth(t, keys(hs256("", []byte("another secret, of 32 bytes also")))))
	j.take()
	for name, offered := range map[string]string{
		"foreign": foreign, "garbage": "garbage", "changed": text + "A", "an opaque token": "45ghiukldjahdnhzdauz", "spaces": "   ", "1 KiB": strings.Repeat("x", 1024),
		"none": segment(`{"alg":"none","typ":"JWT"}`) + "." + strings.Split(text, ".")[1] + ".", "after the window": aged(t, text, 15*day),
	} {
		if r := s.send("POST", "/revoke", tokenForm(offered)); r.status != http.StatusOK || r.body != "" {
			t.Errorf("%s: response %d %q, want 200 and no body", name, r.status, r.body)
		}
		if events := j.take(); len(events) > 0 {
			t.Errorf("%s has the events %+v, want none", name, events)
		}
	}
	verify(t, auth, text)
	s.send("POST", "/revoke", tokenForm(text))
	if events := j.take(); len(events) != 1 || events[0].Kind != middleware.EventLogout || events[0].Subject != "admin" || events[0].SessionID != membersOf(t, text).sid() {
		t.Errorf("a revocation has the events %+v", events)
	}
}

// Both handlers reject requests without exactly one token parameter in the body.
func TestOAuthRequests(t *testing.T) {
	t.Parallel()
	auth := newAuth(t)
	s := listen(t, routes(auth))
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
			if r.rejected(t, middleware.CodeBadRequest); t.Failed() {
				t.Fatalf("%s: %s", path, name)
			}
			r.notStored(t)
		}
	}
	verify(t, auth, text)
}
