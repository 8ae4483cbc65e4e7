package middleware_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// IntrospectHandler (RFC 7662).

// The response for active and inactive tokens, over the life of a session.
func TestIntrospect(t *testing.T) {
	for mode, inMode := range modes {
		t.Run(mode, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				auth := newAuth(t, inMode, noGrace, func(c *middleware.Config) {
					c.TTL, c.RefreshTTL, c.Issuer, c.Audience = time.Minute, time.Hour, "https://we.example", "api"
				})
				s := direct(t, routes(auth))
				first := issueTokens(t, auth, middleware.Identity{Claims: gin.H{"role": "admin", "active_since": 2000}})
				for _, text := range []string{first.AccessToken, refreshable(first)} {
					fields := wantActive(t, s, text)
					for name, value := range membersOf(t, text) {
						if got, err := json.Marshal(fields[name]); err != nil || string(got) != value {
							t.Errorf("%s is %s, want %s", name, got, value)
						}
					}
					delete(fields, "active")
					delete(fields, "token_type")
					if len(fields) != len(membersOf(t, text)) {
						t.Errorf("the response also has the members %v", slices.Sorted(maps.Keys(fields)))
					}
				}
				foreign := issueTokens(t, newAuth(t, inMode, func(c *middleware.Config) { c.Issuer = "https://they.example" }), middleware.Identity{})
				for _, text := range []string{"garbage", first.AccessToken + "A", foreign.AccessToken, refreshable(foreign)} {
					wantInactive(t, "another issuer or not genuine", s, text)
				}
				second := refreshTokens(t, auth, first)
				wantInactive(t, "a replaced token", s, refreshable(first))
				wantActive(t, s, second.AccessToken)

				wait(time.Minute)
				wantInactive(t, "an expired access token", s, second.AccessToken)
				if mode == "pair" {
					wantActive(t, s, second.RefreshToken)
				}
				third := refreshTokens(t, auth, second)
				wantActive(t, s, third.AccessToken)
				if err := auth.Logout(t.Context(), third.AccessToken); err != nil {
					t.Fatal(err)
				}
				wantInactive(t, "logged out", s, third.AccessToken)
				wantInactive(t, "logged out", s, refreshable(third))

				late := issueTokens(t, auth, middleware.Identity{})
				wait(time.Hour)
				wantInactive(t, "after the window", s, refreshable(late))
			})
		})
	}
}

// wantActive checks that the token is active, and returns the response's members. A refresh token has no token_type
// (RFC 6749 §5.1).
func wantActive(t *testing.T, s site, text string) map[string]any {
	t.Helper()
	r := s.send("POST", "/introspect", tokenForm(text))
	r.notStored(t)
	fields := r.fields(t)
	want := any("Bearer")
	if headerOf(t, text)["typ"] == "refresh+jwt" {
		want = nil
	}
	if r.status != http.StatusOK || fields["active"] != true || fields["token_type"] != want {
		t.Fatalf("response %d %s, want an active token", r.status, r.body)
	}
	return fields
}

// wantInactive checks that the response says inactive, and nothing else.
func wantInactive(t *testing.T, what string, s site, text string) {
	t.Helper()
	r := s.send("POST", "/introspect", tokenForm(text))
	if r.status != http.StatusOK || r.body != `{"active":false}` || r.header.Get("WWW-Authenticate") != "" {
		t.Errorf("RFC 7662 §2.2: %s: response %d %s %v, want only that it is inactive", what, r.status, r.body, r.header)
	}
	r.notStored(t)
}

// In one-token mode a refresh token of pair mode is not active.
func TestIntrospectAcrossModes(t *testing.T) {
	single := newAuth(t)
	wantInactive(t, "a pair's refresh token in one-token mode", direct(t, routes(single)), issueTokens(t, newAuth(t, pair), middleware.Identity{}).RefreshToken)
}

// A claim of the application cannot overwrite active or token_type.
func TestIntrospectionMembersAreNotClaims(t *testing.T) {
	for mode, inMode := range modes {
		auth := newAuth(t, inMode)
		s := listen(t, routes(auth))
		tokens := issueTokens(t, auth, middleware.Identity{Claims: gin.H{"active": false, "token_type": "N_A", "scope": "read", "client_id": "app", "username": "Admin"}})
		for _, text := range []string{tokens.AccessToken, refreshable(tokens)} {
			fields := wantActive(t, s, text)
			if fmt.Sprintf("%v %v %v", fields["scope"], fields["client_id"], fields["username"]) != "read app Admin" {
				t.Errorf("%s: the members are %v", mode, fields)
			}
		}
		tokens = issueTokens(t, auth, middleware.Identity{Claims: gin.H{"active": true}})
		if err := auth.Logout(t.Context(), tokens.AccessToken); err != nil {
			t.Fatal(err)
		}
		wantInactive(t, "logged out, with a claim named active", s, tokens.AccessToken)
	}
}

// A refresh token is active only with the hint refresh_token. Without it, a service that introspects every bearer token
// would accept refresh tokens.
func TestIntrospectionOfRefreshTokensNeedsTheHint(t *testing.T) {
	for mode, inMode := range modes {
		auth := newAuth(t, inMode, noGrace)
		s := listen(t, routes(auth))
		tokens := issueTokens(t, auth, middleware.Identity{Claims: gin.H{"token_type": "Bearer"}})
		for hint, edit := range map[string]func(text string) edit{
			"":                       func(text string) edit { return body(form, "token="+text) },
			"access_token":           func(text string) edit { return body(form, "token="+text+"&token_type_hint=access_token") },
			"unknown":                func(text string) edit { return body(form, "token_type_hint=pop&token="+text) },
			"another case":           func(text string) edit { return body(form, "token_type_hint=Refresh_Token&token="+text) },
			"refresh_token":          func(text string) edit { return body(form, "token_type_hint=refresh_token&token="+text) },
			"refresh_token, behind":  func(text string) edit { return body(form, "token="+text+"&token_type_hint=refresh_token") },
			"refresh_token, in JSON": func(text string) edit { return jsonBody(`{"token":"` + text + `","token_type_hint":"refresh_token"}`) },
			"unknown, in JSON":       func(text string) edit { return jsonBody(`{"token_type_hint":"jwt","token":"` + text + `"}`) },
			"in the URL": func(text string) edit {
				return func(r *http.Request) { r.URL.RawQuery = "token_type_hint=refresh_token"; body(form, "token="+text)(r) }
			},
		} {
			r := s.send("POST", "/introspect", edit(tokens.AccessToken))
			if fields := r.fields(t); fields["active"] != true || fields["token_type"] != "Bearer" {
				t.Errorf("%s: an access token with the hint %q: %s", mode, hint, r.body)
			}
			if tokens.RefreshToken == "" {
				continue
			}
			r = s.send("POST", "/introspect", edit(tokens.RefreshToken))
			fields := r.fields(t)
			if !strings.HasPrefix(hint, "refresh_token") {
				if r.body != `{"active":false}` {
					t.Errorf("a refresh token with the hint %q: %s", hint, r.body)
				}
				continue
			}
			if _, typed := fields["token_type"]; fields["active"] != true || fields["sub"] != "admin" || typed {
				t.Errorf("a refresh token with the hint %q: %s", hint, r.body)
			}
		}
		// A refresh token is active if it can be refreshed.
		refreshTokens(t, auth, tokens)
		wantInactive(t, "a replaced token", s, refreshable(tokens))
	}
}

// A malformed hint is an error in an introspection. In a revocation it is ignored.
func TestIntrospectionHintIsReadStrictly(t *testing.T) {
	for name, edit := range map[string]func(text string) edit{
		"twice": func(text string) edit {
			return body(form, "token="+text+"&token_type_hint=a&token_type_hint=refresh_token")
		},
		"JSON, a number": func(text string) edit { return jsonBody(`{"token":"` + text + `","token_type_hint":1}`) },
		"JSON, null":     func(text string) edit { return jsonBody(`{"token":"` + text + `","token_type_hint":null}`) },
	} {
		auth := newAuth(t, pair)
		s := listen(t, routes(auth))
		tokens := issueTokens(t, auth, middleware.Identity{})
		s.send("POST", "/introspect", edit(tokens.RefreshToken)).rejected(t, middleware.CodeBadRequest)
		if r := s.send("POST", "/revoke", edit(tokens.RefreshToken)); r.status != http.StatusOK {
			t.Errorf("%s: response %d %s to the revocation, want 200", name, r.status, r.body)
		}
		wantVerify(t, name, auth, tokens.AccessToken, middleware.CodeTokenRevoked)
	}
}
