package middleware_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// Signing and verifying with every algorithm.

// Tokens of every algorithm are accepted here and by golang-jwt, and rejected after any change.
func TestEveryAlgorithm(t *testing.T) {
	t.Parallel()
	all := signers()
	if len(all) != 13 {
		t.Fatalf("%d algorithms, want 13", len(all))
	}
	for alg, key := range all {
		for mode, inMode := range modes {
			t.Run(string(alg)+", "+mode, func(t *testing.T) {
				auth := newAuth(t, inMode, keys(key))
				_, isSecret := key.Key.([]byte)
				tokens := issueTokens(t, auth, middleware.Identity{Claims: trickyClaims})
				for range 2 {
					verify(t, auth, tokens.AccessToken)
					for _, text := range []string{tokens.AccessToken, refreshable(tokens)} {
						head := headerOf(t, text)
						if kid, _ := head["kid"].(string); head["alg"] != string(alg) || (len(kid) == 43) == isSecret {
							t.Errorf("the header is %v", head)
						}
						verifiedByGolangJWT(t, text, key)
						for i, segment := range strings.Split(text, ".") {
							changed := strings.Replace(text, segment, flipped(segment), 1)
							wantVerify(t, fmt.Sprintf("R1: with segment %d changed", i), auth, changed, middleware.CodeTokenInvalid)
							wantRefresh(t, fmt.Sprintf("R1: with segment %d changed", i), auth, changed, middleware.CodeTokenInvalid)
						}
					}
					tokens = refreshTokens(t, auth, tokens)
				}
			})
		}
	}
}

// flipped changes the character in the middle.
func flipped(segment string) string {
	b := []byte(segment)
	if i := len(b) / 2; b[i] == 'A' {
		b[i] = 'B'
	} else {
		b[i] = 'A'
	}
	return string(b)
}

// The HMAC states are pooled. Goroutines that sign and verify at the same time must not share one.
func TestHMACStatesAreNotShared(t *testing.T) {
	auth := newAuth(t, pair, func(c *middleware.Config) { c.TokenCache = -1 })
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			subject := strings.Repeat(fmt.Sprint("user ", i), 100*(i%2)+1)
			for range 200 {
				tokens, err := auth.Issue(t.Context(), middleware.Identity{Subject: subject})
				if err != nil {
					t.Error(err)
					return
				}
				claims, err := auth.Verify(t.Context(), tokens.AccessToken)
				if _, changed := auth.Verify(t.Context(), tokens.AccessToken+"A"); err != nil || changed == nil || claims.Subject != subject {
					t.Errorf("a genuine token: %v, a changed one: %v, want success and an error", err, changed)
					return
				}
			}
		})
	}
	all.Wait()
}
