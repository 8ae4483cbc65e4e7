package middleware_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// Pair mode, and what must hold in both modes.

// The life of a session: login, request, expiry, refresh, logout.
func TestPairStory(t *testing.T) {
	const ttl = time.Minute
	auth := newAuth(t, pair, func(c *middleware.Config) { c.TTL = ttl })
	s := listen(t, routes(auth))

	r := s.send("POST", "/login?user=admin")
	r.notStored(t)
	first := r.tokens(t)
	answered := []string{"access_token", "expires_in", "refresh_expires_in", "refresh_token", "token_type"}
	if got := slices.Sorted(maps.Keys(r.fields(t))); !slices.Equal(got, answered) {
		t.Errorf("the members of a login are %v, want %v", got, answered)
	}
	access, refresh := membersOf(t, first.AccessToken), membersOf(t, first.RefreshToken)
	for what, row := range map[string]struct {
		text string
		m    members
		typ  string
		want []string
	}{
		"access token":  {first.AccessToken, access, "JWT", []string{"access_ttl", "auth_time", "exp", "iat", "jti", "refresh_exp", "sid", "sub"}},
		"refresh token": {first.RefreshToken, refresh, "refresh+jwt", []string{"access_ttl", "auth_time", "exp", "iat", "jti", "sid", "sub"}},
	} {
		if got := slices.Sorted(maps.Keys(row.m)); !slices.Equal(got, row.want) {
			t.Errorf("the %s has the claims %v, want %v", what, got, row.want)
		}
		if head, _, _ := strings.Cut(row.text, "."); head != segment(`{"alg":"HS256","typ":"`+row.typ+`"}`) {
			t.Errorf("the %s has the header %s", what, head)
		}
	}
	if access["sid"] != refresh["sid"] || access["jti"] == refresh["jti"] || access.integer("exp") != access.integer("iat")+60 ||
		refresh.integer("exp") != refresh.integer("iat")+14*24*3600 || refresh["access_ttl"] != "60" {
		t.Errorf("the pair is %v and %v", access, refresh)
	}
	s.send("GET", "/required", bearer(first.AccessToken)).passed(t, "admin")

	expired := aged(t, first.AccessToken, ttl)
	s.send("GET", "/required", bearer(expired)).rejected(t, middleware.CodeTokenExpired)
	r = s.send("POST", "/refresh", bearer(first.RefreshToken))
	r.notStored(t)
	if got := slices.Sorted(maps.Keys(r.fields(t))); !slices.Equal(got, answered) {
		t.Errorf("the members of a refresh are %v, want %v", got, answered)
	}
	second := r.tokens(t)
	s.send("GET", "/required", bearer(second.AccessToken)).passed(t, "admin")
	s.send("GET", "/required", bearer(expired)).rejected(t, middleware.CodeTokenExpired)
	ids := map[string]bool{}
	for _, text := range []string{first.AccessToken, first.RefreshToken, second.AccessToken, second.RefreshToken} {
		m := membersOf(t, text)
		if ids[m["jti"]] || m["sid"] != access["sid"] || m["auth_time"] != access["auth_time"] {
			t.Errorf("R9: the token %v is not a new token of the session %s", m, access["sid"])
		}
		ids[m["jti"]] = true
	}
	s.send("POST", "/logout", bearer(second.RefreshToken)).accepted(t, "/logout")
	for _, path := range []string{"/required", "/optional", "/fresh"} {
		s.send("GET", path, bearer(second.AccessToken)).rejected(t, middleware.CodeTokenRevoked)
	}
	s.send("POST", "/refresh", bearer(second.RefreshToken)).rejected(t, middleware.CodeTokenRevoked)
}

func TestPairRefreshFromEverywhere(t *testing.T) {
	for place, at := range refreshPlaces {
		t.Run(place, func(t *testing.T) {
			auth := newAuth(t, pair, noGrace, allowPlace(place))
			s := listen(t, routes(auth))
			tokens := s.send("POST", "/login?user=admin").tokens(t)
			for range 3 {
				next := s.send("POST", "/refresh", at(tokens.RefreshToken)).tokens(t)
				if next.RefreshToken == "" || next.RefreshToken == tokens.RefreshToken || next.AccessToken == tokens.AccessToken {
					t.Fatalf("a refresh returns %q and %q, want two new tokens", next.AccessToken, next.RefreshToken)
				}
				tokens = next
				s.send("GET", "/required", bearer(tokens.AccessToken)).passed(t, "admin")
			}
			s.send("POST", "/logout", at(tokens.RefreshToken)).accepted(t, "/logout")
			s.send("GET", "/required", bearer(tokens.AccessToken)).rejected(t, middleware.CodeTokenRevoked)
		})
	}
}

// Features that both modes have.
func TestBothModes(t *testing.T) {
	const max600 = `, max_age="600"`
	for name, row := range map[string]struct {
		change change
		test   func(t *testing.T, auth *middleware.Auth, s site)
	}{
		"Fresh": {nil, func(t *testing.T, auth *middleware.Auth, s site) {
			tokens := issueTokens(t, auth, middleware.Identity{})
			wait(10 * time.Minute)
			tokens = refreshTokens(t, auth, tokens)
			s.send("GET", "/fresh", bearer(tokens.AccessToken)).passed(t, "admin")
			wait(time.Microsecond)
			s.send("GET", "/fresh", bearer(tokens.AccessToken)).rejected(t, middleware.CodeLoginTooOld, max600)
			s.send("GET", "/fresh", bearer(refreshTokens(t, auth, tokens).AccessToken)).rejected(t, middleware.CodeLoginTooOld, max600)
			s.send("GET", "/fresh", bearer(issueTokens(t, auth, middleware.Identity{}).AccessToken)).passed(t, "admin")
		}},
		"Allow": {nil, func(t *testing.T, auth *middleware.Auth, s site) {
			for role, allowed := range map[string]bool{"admin": true, "user": false} {
				tokens := issueTokens(t, auth, middleware.Identity{Claims: gin.H{"role": role}})
				for range 2 {
					if r := s.send("GET", "/admin", bearer(tokens.AccessToken)); allowed {
						r.passed(t, "admin")
					} else {
						r.rejected(t, middleware.CodeForbidden)
					}
					tokens = refreshTokens(t, auth, tokens)
				}
			}
		}},
		"Issuer and Audience": {func(c *middleware.Config) { c.Issuer, c.Audience = "https://we.example", "api" }, func(t *testing.T, auth *middleware.Auth, _ site) {
			tokens := issueTokens(t, auth, middleware.Identity{})
			for what, text := range map[string]string{"access": tokens.AccessToken, "refreshable": refreshable(tokens)} {
				m := membersOf(t, text)
				if m["iss"] != `"https://we.example"` || m["aud"] != `"api"` {
					t.Errorf("the %s token has the claims %v", what, m)
				}
				for why, changed := range map[string]members{
					"another issuer": m.with("iss", `"https://they.example"`), "no issuer": m.without("iss"),
					"another audience": m.with("aud", `"web"`), "other audiences": m.with("aud", `["web","app"]`), "no audience": m.without("aud"),
				} {
					wantVerify(t, why+" of the "+what+" token", auth, forgeLike(text, changed), middleware.CodeTokenInvalid)
					wantRefresh(t, why+" of the "+what+" token", auth, forgeLike(text, changed), middleware.CodeTokenInvalid)
				}
			}
			list := forgeLike(tokens.AccessToken, membersOf(t, tokens.AccessToken).with("aud", `["web","api"]`))
			wantVerify(t, "the audience in a list", auth, list, "")
			list = forgeLike(refreshable(tokens), membersOf(t, refreshable(tokens)).with("aud", `["web","api"]`))
			wantRefresh(t, "the audience in a list", auth, list, "")
		}},
		"Leeway": {func(c *middleware.Config) { c.Leeway = 5 * time.Second }, func(t *testing.T, auth *middleware.Auth, _ site) {
			tokens := issueTokens(t, auth, middleware.Identity{})
			wait(time.Minute + 5*time.Second - time.Microsecond)
			wantVerify(t, "R2: within the leeway", auth, tokens.AccessToken, "")
			wait(time.Microsecond)
			wantVerify(t, "R2: after the leeway", auth, tokens.AccessToken, middleware.CodeTokenExpired)
			wait(time.Until(tokens.RefreshUntil) + 5*time.Second - time.Microsecond)
			tokens = refreshTokens(t, auth, tokens)
			wait(time.Microsecond)
			wantRefresh(t, "R5: after the leeway", auth, refreshable(tokens), middleware.CodeRefreshExpired)
		}},
		"OnError": {func(c *middleware.Config) {
			c.OnError = func(c *gin.Context, err *middleware.Error) {
				c.String(http.StatusTeapot, "%s %d", err.Code, err.Status)
			}
		}, func(t *testing.T, auth *middleware.Auth, s site) {
			tokens := issueTokens(t, auth, middleware.Identity{})
			if err := auth.Logout(t.Context(), tokens.AccessToken); err != nil {
				t.Fatal(err)
			}
			for path, text := range map[string]string{"/required": tokens.AccessToken, "/refresh": refreshable(tokens)} {
				if r := s.send("POST", path, bearer(text)); r.status != http.StatusTeapot || r.body != "token_revoked 401" || r.header.Get("WWW-Authenticate") == "" {
					t.Errorf("%s with OnError: response %d %q %v", path, r.status, r.body, r.header)
				}
			}
		}},
		"Claims.Decode": {nil, func(t *testing.T, auth *middleware.Auth, _ site) {
			tokens := issueTokens(t, auth, middleware.Identity{Claims: trickyClaims})
			want := fmt.Sprint(decoded(t, jsonOf(t, trickyClaims)))
			for round := range 3 {
				for what, claims := range map[string]middleware.Claims{"Verify's": verify(t, auth, tokens.AccessToken), "Tokens'": tokens.Claims} {
					if got := fmt.Sprint(decodedClaims(t, claims)); got != want {
						t.Errorf("after %d refreshes %s claims are\n%s, want\n%s", round, what, got, want)
					}
				}
				if got, want := standardClaims(tokens.Claims), standardClaims(verify(t, auth, tokens.AccessToken)); got != want {
					t.Errorf("Tokens.Claims are\n%s, the token's claims are\n%s", got, want)
				}
				tokens = refreshTokens(t, auth, tokens)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) { inBothModes(t, row.test, row.change) })
	}
}

// standardClaims formats the claims that are not the application's.
func standardClaims(c middleware.Claims) string {
	return fmt.Sprint(c.Subject, c.SessionID, c.ID, c.IssuedAt, c.ExpiresAt, c.AuthTime, c.RefreshUntil)
}
