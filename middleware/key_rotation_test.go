package middleware_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// Auth.SetKeys. Its mistakes are tested in r15_key_test.go, its races with refreshes in r1a_test.go.

// A rotation: first the new key only verifies, then it signs, then the old key is removed, and its tokens are rejected.
func TestSetKeysRotation(t *testing.T) {
	old, next := signers()[middleware.RS256], signers()[middleware.ES256]
	for mode, inMode := range modes {
		t.Run(mode, func(t *testing.T) {
			auth := newAuth(t, inMode, keys(old))
			s := listen(t, routes(auth))
			set := func(keys ...middleware.Key) {
				t.Helper()
				if err := auth.SetKeys(keys); err != nil {
					t.Fatal(err)
				}
			}
			signs := func(tokens middleware.Tokens, alg string, published int) {
				t.Helper()
				for _, text := range []string{tokens.AccessToken, refreshable(tokens)} {
					if head := headerOf(t, text); head["alg"] != alg {
						t.Errorf("a token has the header %v, want alg %s", head, alg)
					}
				}
				var jwks struct{ Keys []jwk }
				if r := s.send("GET", "/jwks.json"); json.Unmarshal([]byte(r.body), &jwks) != nil || len(jwks.Keys) != published {
					t.Errorf("%d keys are published, want %d", len(jwks.Keys), published)
				}
			}
			first := issueTokens(t, auth, middleware.Identity{})
			signs(first, "RS256", 1)

			set(old, next)
			signs(issueTokens(t, auth, middleware.Identity{}), "RS256", 2)
			set(next, old)
			s.send("GET", "/required", bearer(first.AccessToken)).passed(t, "admin")
			s.send("GET", "/required", bearer(first.AccessToken)).passed(t, "admin") // the second time it may come from the token cache
			renewed := s.send("POST", "/refresh", bearer(refreshable(first))).tokens(t)
			signs(renewed, "ES256", 2)

			set(next)
			for _, path := range []string{"/required", "/refresh", "/logout"} {
				s.send("POST", path, bearer(first.AccessToken)).rejected(t, middleware.CodeTokenInvalid)
				s.send("POST", path, bearer(refreshable(first))).rejected(t, middleware.CodeTokenInvalid)
			}
			s.send("GET", "/required", bearer(renewed.AccessToken)).passed(t, "admin")
			signs(issueTokens(t, auth, middleware.Identity{}), "ES256", 1)

			for name, keys := range map[string][]middleware.Key{"public": {public(old)}, "public, then private": {public(old), next}, "none": nil, "nil": {{}}} {
				if auth.SetKeys(keys) == nil {
					t.Errorf("R15: SetKeys accepts keys that cannot sign: %s", name)
				}
			}
			s.send("GET", "/required", bearer(renewed.AccessToken)).passed(t, "admin")
			signs(issueTokens(t, auth, middleware.Identity{}), "ES256", 1)
		})
	}
	t.Run("verify-only", func(t *testing.T) {
		issuer, verifier := issuerAndVerifier(t)
		text := login(t, issuer)
		if err := verifier.SetKeys([]middleware.Key{public(old)}); err != nil {
			t.Fatal(err)
		}
		wantVerify(t, "after its key was removed", verifier, text, middleware.CodeTokenInvalid)
		if err := verifier.SetKeys([]middleware.Key{public(old), public(next)}); err != nil {
			t.Fatal(err)
		}
		verify(t, verifier, text)
	})
}

// While the keys are replaced again and again, 64 goroutines issue and verify tokens. No token is rejected whose key is in
// every set.
func TestSetKeysUnderLoad(t *testing.T) {
	t.Parallel()
	const goroutines = 64
	rotations := int64(rounds(100, 1000))
	a, b := hs256("a", secret), hs256("b", []byte("another secret, of 32 bytes also"))
	auth := newAuth(t, keys(a, b))
	text := map[string]string{"a": login(t, auth)}
	if err := auth.SetKeys([]middleware.Key{b, a}); err != nil {
		t.Fatal(err)
	}
	text["b"] = login(t, auth)
	var done atomic.Bool
	var verified atomic.Int64
	var readers sync.WaitGroup
	for i := range goroutines {
		readers.Go(func() {
			for n := i; !done.Load(); n++ {
				offered := text[[]string{"a", "b"}[n%2]]
				if n%8 == 0 { // a token that is issued during the replacements
					tokens, err := auth.Issue(t.Context(), middleware.Identity{Subject: "admin"})
					if err != nil {
						t.Error("issue:", err)
						return
					}
					offered = tokens.AccessToken
				}
				if _, err := auth.Verify(t.Context(), offered); err != nil {
					t.Errorf("a valid token is rejected: %v", err)
					return
				}
				verified.Add(1)
				runtime.Gosched()
			}
		})
	}
	for i := int64(0); i < rotations || verified.Load() < rotations && !t.Failed(); i++ { // on a busy machine the goroutines may start late
		third := hs256("third "+strconv.FormatInt(i, 10), bytes.Repeat([]byte{byte(i)}, 32))
		if err := auth.SetKeys([][]middleware.Key{{a, b, third}, {b, a}, {b, third, a}}[i%3]); err != nil {
			t.Fatal(err)
		}
		runtime.Gosched()
	}
	done.Store(true)
	readers.Wait()
}

// Secrets and Ed25519 keys are copied, so the caller may wipe them.
func TestSetKeysKeepsNoReferences(t *testing.T) {
	auth := newAuth(t)
	ed, hs := slices.Clone(edKey()), slices.Clone(secret)
	list := []middleware.Key{{Algorithm: middleware.EdDSA, Key: ed}, {Algorithm: middleware.HS256, Key: hs}}
	if err := auth.SetKeys(list); err != nil {
		t.Fatal(err)
	}
	clear(ed)
	clear(hs)
	list[0], list[1] = middleware.Key{}, middleware.Key{}
	verifiedByGolangJWT(t, login(t, auth), signers()[middleware.EdDSA])
	verify(t, auth, login(t, newAuth(t)))

	half := slices.Clone(edKey().Public().(ed25519.PublicKey))
	verifier := newAuth(t, authenticating(nil), keys(middleware.Key{Algorithm: middleware.EdDSA, Key: half}))
	clear(half)
	verify(t, verifier, login(t, newAuth(t, keys(signers()[middleware.EdDSA]))))
}
