package middleware_test

import (
	"slices"
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// R9: the successor keeps the session and its lifetimes. Tests of Reload are in reload_test.go.

// Right after a log-out everywhere, issue instants run ahead of the clock. Every token has its own jti all the same.
func TestR9EveryTokenHasItsOwnID(t *testing.T) {
	eachMode(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		auth := server(noGrace)
		if err := auth.RevokeSubject(t.Context(), "admin"); err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		tokens := issueTokens(t, auth, middleware.Identity{})
		for range 5 {
			for _, text := range slices.Compact([]string{refreshable(tokens), tokens.AccessToken}) {
				id := membersOf(t, text)["jti"]
				if seen[id] {
					t.Errorf("R9: jti %s twice", id)
				}
				seen[id] = true
			}
			tokens = refreshTokens(t, auth, tokens)
		}
	})
}

// The lifetimes of the login hold for the whole session.
func TestR9PairLifetimesOfOneLogin(t *testing.T) {
	inPairMode(t, func(t *testing.T, auth, _ *middleware.Auth) {
		tokens := issueTokens(t, auth, middleware.Identity{TTL: 20 * time.Second, RefreshTTL: 30 * time.Minute})
		deadline := time.Now().Add(30 * time.Minute)
		for range 4 {
			if tokens.ExpiresAt.Sub(tokens.Claims.IssuedAt) != 20*time.Second || !tokens.RefreshUntil.Equal(deadline) {
				t.Errorf("R9: the token expires at %v, can be refreshed until %v and was issued at %v, want a TTL of 20 s and the deadline %v", tokens.ExpiresAt, tokens.RefreshUntil, tokens.Claims.IssuedAt, deadline)
			}
			if ttl := membersOf(t, tokens.RefreshToken)["access_ttl"]; ttl != "20" {
				t.Errorf("R9: access_ttl is %s, want 20", ttl)
			}
			wait(20*time.Second - time.Microsecond)
			wantVerify(t, "R9: before exp", auth, tokens.AccessToken, "")
			wait(time.Microsecond)
			wantVerify(t, "R9: at exp", auth, tokens.AccessToken, middleware.CodeTokenExpired)
			tokens = refreshTokens(t, auth, tokens)
		}
		wait(time.Until(deadline))
		wantRefresh(t, "R9: at the deadline", auth, tokens.RefreshToken, middleware.CodeRefreshExpired)
	})
	auth := newAuth(t, pair)
	tokens := issueTokens(t, auth, middleware.Identity{})
	for name, ttl := range notDates {
		wantRefresh(t, "R1: access_ttl "+name, auth, forgeLike(tokens.RefreshToken, membersOf(t, tokens.RefreshToken).with("access_ttl", ttl)), middleware.CodeTokenInvalid)
	}
	for _, required := range []string{"access_ttl", "exp", "iat", "sub", "jti", "sid", "auth_time"} {
		wantRefresh(t, "R1: without "+required, auth, forgeLike(tokens.RefreshToken, membersOf(t, tokens.RefreshToken).without(required)), middleware.CodeTokenInvalid)
	}
	refreshTokens(t, auth, tokens)
}
