package middleware_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// R9 with Reload: the successor has fresh claims, and nothing is used up if Reload fails.

func TestReload(t *testing.T) {
	for name, row := range map[string]struct {
		reloaded
		code  middleware.Code
		alive middleware.Code // under AutoRefresh, while the token is still valid
	}{
		"new claims": {reloaded: reloaded{claims: map[string]string{"role": "user"}}},
		"no claims":  {reloaded: reloaded{}},
		"refused":    {reloaded{nil, fmt.Errorf("blocked: %w", middleware.ErrRefused)}, middleware.CodeSubjectRefused, middleware.CodeSubjectRefused},
		"outage":     {reloaded{nil, errors.New("dial tcp 10.0.0.7:5432")}, middleware.CodeStoreUnavailable, ""},
		"reserved":   {reloaded{map[string]string{"sub": "root"}, nil}, middleware.CodeServerError, ""},
		"too long":   {reloaded{map[string]string{"pad": strings.Repeat("x", maxToken)}, nil}, middleware.CodeServerError, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var r reloader
			d := newServer(t, noGrace, func(c *middleware.Config) { c.Reload = r.reload })
			d.text = issue(t, d.auth, middleware.Identity{Subject: "admin", Claims: map[string]string{"role": "admin"}})
			for _, request := range []struct {
				method, path string
				age          time.Duration
				code         middleware.Code
			}{
				{"POST", "/refresh", 0, row.code},
				{"POST", "/refresh", 2 * time.Hour, row.code},
				{"GET", "/autorefresh", 2 * time.Hour, row.code},
				{"GET", "/autorefresh", almostExpired, row.alive},
			} {
				d.text = issue(t, d.auth, middleware.Identity{Subject: "admin", Claims: map[string]string{"role": "admin"}})
				text := aged(t, d.text, request.age)
				r.answer.Store(&row.reloaded)
				answer := d.send(request.method, request.path, bearer(text))
				if asked := r.asked.Load(); asked != "admin" {
					t.Errorf("Reload was called for %v, want admin", asked)
				}
				if row.code == "" {
					reloadedInto(t, d.auth, answer, row.claims)
					continue
				}
				if request.code == "" {
					answer.passed(t, "admin")
				} else {
					answer.rejected(t, request.code)
				}
				if strings.Contains(answer.body, "5432") || answer.header.Get("Authorization") != "" {
					t.Errorf("the response shows the cause or has a token: %s %v", answer.body, answer.header)
				}
				r.answer.Store(&reloaded{})
				refresh(t, d.auth, text) // R9: the token was not replaced
			}
		})
	}
}

// reloadedInto checks the application's claims in the token of a response's body or header.
func reloadedInto(t *testing.T, auth *middleware.Auth, r reply, want any) {
	t.Helper()
	text, found := strings.CutPrefix(r.header.Get("Authorization"), "Bearer ")
	if !found {
		text = r.token(t)
	}
	if got := decodedClaims(t, verify(t, auth, text)); fmt.Sprint(got) != fmt.Sprint(decoded(t, jsonOf(t, want))) {
		t.Errorf("R9: the claims are %v, want %v", got, want)
	}
}

func TestR9ReloadInBothModes(t *testing.T) {
	var r reloader
	inBothModes(t, func(t *testing.T, auth *middleware.Auth, s site) {
		tokens := issueTokens(t, auth, middleware.Identity{Claims: gin.H{"role": "admin"}})
		for _, row := range []struct {
			reloaded
			code middleware.Code
		}{
			{reloaded{nil, fmt.Errorf("blocked: %w", middleware.ErrRefused)}, middleware.CodeSubjectRefused},
			{reloaded{nil, errors.New("dial tcp 10.0.0.7:5432")}, middleware.CodeStoreUnavailable},
			{reloaded{gin.H{"sub": "root"}, nil}, middleware.CodeServerError},
			{reloaded{gin.H{"access_ttl": 1}, nil}, middleware.CodeServerError},
			{reloaded{gin.H{"pad": strings.Repeat("x", maxToken)}, nil}, middleware.CodeServerError},
		} {
			r.answer.Store(&row.reloaded)
			answer := s.send("POST", "/refresh", bearer(refreshable(tokens)))
			if answer.rejected(t, row.code); strings.Contains(answer.body, "5432") {
				t.Errorf("the response shows the cause: %s", answer.body)
			}
		}
		s.send("GET", "/admin", bearer(tokens.AccessToken)).passed(t, "admin")
		wait(30 * time.Minute) // after any grace period: the token was not replaced
		r.answer.Store(&reloaded{claims: gin.H{"role": "user"}})
		next := s.send("POST", "/refresh", bearer(refreshable(tokens))).tokens(t)
		s.send("GET", "/admin", bearer(next.AccessToken)).rejected(t, middleware.CodeForbidden)
		s.send("GET", "/required", bearer(next.AccessToken)).passed(t, "admin")
		if got := membersOf(t, refreshable(next))["role"]; got != `"user"` {
			t.Errorf("R9: the role in the refreshable token is %s, want user", got)
		}
	}, reloading(&r))
}

// Reload sees the session's claims, and can return them unchanged.
func TestReloadSeesTheClaims(t *testing.T) {
	keep := func(_ context.Context, claims middleware.Claims) (any, error) {
		var own map[string]any
		err := claims.Decode(&own)
		if claims.Subject != "admin" || claims.SessionID == "" || claims.AuthTime.IsZero() || own["role"] != "admin" {
			err = fmt.Errorf("Reload gets %+v and %v", claims, own)
		}
		return own, err
	}
	inBothModes(t, func(t *testing.T, auth *middleware.Auth, s site) {
		tokens := issueTokens(t, auth, middleware.Identity{Claims: gin.H{"role": "admin", "large": json.Number("9007199254740993")}})
		for range 2 {
			tokens = refreshTokens(t, auth, tokens)
			if got := fmt.Sprint(decodedClaims(t, tokens.Claims)); got != "map[large:9007199254740993 role:admin]" {
				t.Errorf("R9: the claims are %s, want them unchanged", got)
			}
		}
	}, func(c *middleware.Config) { c.Reload = keep })
}
