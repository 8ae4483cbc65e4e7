package middleware_test

import (
	"strings"
	"testing"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// Verify-only services: Configs with public keys only.

func TestVerifyOnly(t *testing.T) {
	for mode, inMode := range modes {
		t.Run(mode, func(t *testing.T) {
			issuer, verifier := issuerAndVerifier(t, inMode, noGrace)
			s := listen(t, routes(verifier))
			tokens := issueTokens(t, issuer, middleware.Identity{})
			s.send("GET", "/required", bearer(tokens.AccessToken)).passed(t, "admin")

			if _, err := verifier.Issue(t.Context(), middleware.Identity{Subject: "admin"}); err == nil || !strings.Contains(err.Error(), "only public keys") {
				t.Errorf("Issue: %v, want an error that says why", err)
			}
			if _, err := verifier.Refresh(t.Context(), refreshable(tokens)); err == nil || !strings.Contains(err.Error(), "only public keys") {
				t.Errorf("Refresh: %v, want an error that says why", err)
			}
			for _, path := range []string{"/login?user=admin", "/refresh"} {
				r := s.send("POST", path, bearer(refreshable(tokens)))
				r.rejected(t, middleware.CodeServerError)
			}
			next := refreshTokens(t, issuer, tokens) // R10: the token was not replaced
			s.send("GET", "/required", bearer(next.AccessToken)).passed(t, "admin")

			if err := issuer.Logout(t.Context(), next.AccessToken); err != nil {
				t.Fatal(err)
			}
			s.send("GET", "/required", bearer(next.AccessToken)).rejected(t, middleware.CodeTokenRevoked)
			other := issueTokens(t, issuer, middleware.Identity{})
			s.send("POST", "/logout", bearer(other.AccessToken)).accepted(t, "/logout") // a verify-only service can revoke
			wantVerify(t, "R11: logged out at the verifier", issuer, other.AccessToken, middleware.CodeTokenRevoked)
		})
	}
}

func TestVerifyOnlyConfiguration(t *testing.T) {
	es, ed := signers()[middleware.ES256], signers()[middleware.EdDSA]
	blind := func(c *middleware.Config) { c.Store, c.DangerouslyIgnoreRevocation = nil, true }
	reload := reloading(new(reloader))
	for name, row := range map[string]struct {
		changes []change
		words   []string // nil if it is accepted
	}{
		"public keys and a store":      {[]change{authenticating(nil), keys(public(es), public(ed))}, nil},
		"public keys, blind":           {[]change{authenticating(nil), keys(public(es)), blind}, nil},
		"private, then public":         {[]change{keys(es, public(ed))}, nil},
		"private, a secret, public":    {[]change{keys(es, hs256("old", secret), public(ed))}, nil},
		"public with Authenticate":     {[]change{keys(public(es))}, []string{"Authenticate", "verify-only"}},
		"public with Reload":           {[]change{authenticating(nil), keys(public(es)), reload}, []string{"Reload", "verify-only"}},
		"public with both":             {[]change{keys(public(es)), reload}, []string{"Authenticate", "Reload"}},
		"public without a store":       {[]change{authenticating(nil), keys(public(es)), func(c *middleware.Config) { c.Store = nil }}, []string{"Store is missing"}},
		"private and blind":            {[]change{keys(es), blind}, []string{"DangerouslyIgnoreRevocation", "public keys"}},
		"a secret and blind":           {[]change{blind}, []string{"DangerouslyIgnoreRevocation", "public keys"}},
		"blind, and yet with a store":  {[]change{authenticating(nil), keys(public(es)), func(c *middleware.Config) { c.DangerouslyIgnoreRevocation = true }}, []string{"DangerouslyIgnoreRevocation", "Store"}},
		"private, blind, with a store": {[]change{keys(es), func(c *middleware.Config) { c.DangerouslyIgnoreRevocation = true }}, []string{"DangerouslyIgnoreRevocation"}},
	} {
		_, err := middleware.New(newConfig(t, row.changes...))
		if (err == nil) != (row.words == nil) {
			t.Errorf("R15: %s: %v", name, err)
		}
		for _, word := range row.words {
			if err != nil && !strings.Contains(err.Error(), word) {
				t.Errorf("R15: %s: %q, want %q in it", name, err, word)
			}
		}
	}
}

// With DangerouslyIgnoreRevocation a service accepts tokens after a logout, and it cannot revoke.
func TestBlindVerifier(t *testing.T) {
	key := signers()[middleware.EdDSA]
	issuer := newAuth(t, keys(key))
	blind := newAuth(t, authenticating(nil), keys(public(key)), func(c *middleware.Config) { c.Store, c.DangerouslyIgnoreRevocation = nil, true })
	s := listen(t, routes(blind))
	text := login(t, issuer)
	if err := issuer.Logout(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	s.send("GET", "/required", bearer(text)).passed(t, "admin")
	s.send("GET", "/required", bearer(text+"A")).rejected(t, middleware.CodeTokenInvalid)
	for _, path := range []string{"/logout", "/logout/all", "/refresh"} {
		s.send("POST", path, bearer(text)).rejected(t, middleware.CodeServerError)
	}
	wantCode(t, "RevokeSubject", blind.RevokeSubject(t.Context(), "admin"), middleware.CodeServerError)
	wantCode(t, "RevokeSession", blind.RevokeSession(t.Context(), "sid"), middleware.CodeServerError)
	if err := blind.SetKeys([]middleware.Key{key}); err == nil {
		t.Error("R15: an Auth that ignores revocations accepts keys that sign")
	}
	if tokens, err := blind.Issue(t.Context(), middleware.Identity{Subject: "admin"}); err == nil {
		t.Errorf("an Auth that ignores revocations issues %v", tokens)
	}
}
