package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// R13: a record outlives everything that it revokes, and a login cannot ask for longer lifetimes than the configured ones.

// The record of a revocation outlives the last token that it revokes by a second, for a store whose clock is ahead, with
// any leeway.
func TestR13RecordsOutliveWhatTheyRevoke(t *testing.T) {
	for _, leeway := range []time.Duration{0, 3 * time.Second, 5 * time.Minute} {
		for name, revoke := range map[string]func(t *testing.T, auth *middleware.Auth, tokens middleware.Tokens) error{
			"logout": func(t *testing.T, auth *middleware.Auth, tokens middleware.Tokens) error {
				return auth.Logout(t.Context(), tokens.AccessToken)
			},
			"session": func(t *testing.T, auth *middleware.Auth, tokens middleware.Tokens) error {
				return auth.RevokeSession(t.Context(), tokens.Claims.SessionID)
			},
			"subject": func(t *testing.T, auth *middleware.Auth, _ middleware.Tokens) error {
				return auth.RevokeSubject(t.Context(), "admin")
			},
			"reuse": func(t *testing.T, auth *middleware.Auth, tokens middleware.Tokens) error {
				_, err := auth.Refresh(t.Context(), refreshable(tokens))
				wait(time.Second)
				if _, again := auth.Refresh(t.Context(), refreshable(tokens)); !hasCode(again, middleware.CodeTokenReused) {
					return errors.New("the reuse was not detected")
				}
				return err
			},
		} {
			for mode, change := range modes {
				t.Run(fmt.Sprintf("%s, leeway %v, %s", name, leeway, mode), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						s := &recording{Store: newMemory(t)}
						auth := newAuth(t, change, noGrace, func(c *middleware.Config) {
							c.Store, c.Leeway, c.TTL, c.RefreshTTL = s, leeway, time.Minute, time.Hour
						})
						wait(700 * time.Millisecond) // not on a whole second
						tokens := issueTokens(t, auth, middleware.Identity{})
						if err := revoke(t, auth, tokens); err != nil {
							t.Fatal(err)
						}
						// The last refresh can come just before the deadline and its leeway. Its token is accepted for a TTL and
						// a leeway.
						lastExpiry := tokens.RefreshUntil.Add(leeway + time.Minute + leeway)
						if spare := s.expires.Sub(lastExpiry); spare < time.Second || spare > 5*time.Second {
							t.Errorf("R13: the record expires %v after the last token, want 1 s to 5 s", spare)
						}
					})
				})
			}
		}
	}
}

// recording remembers the expiry in the last swap.
type recording struct {
	middleware.Store
	expires time.Time
}

func (s *recording) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	s.expires = expires
	return s.Store.CompareAndSwap(ctx, key, old, new, expires)
}

// maxLifetime is the longest lifetime that New accepts.
const maxLifetime = 50 * 365 * 24 * time.Hour

// The longest lifetimes do not overflow. Otherwise records would expire at once.
func TestR13LongestLifetimes(t *testing.T) {
	for name, change := range map[string]change{
		"RefreshTTL": func(c *middleware.Config) { c.RefreshTTL = maxLifetime },
		"IdleTTL":    func(c *middleware.Config) { c.IdleTTL = maxLifetime },
		"Leeway":     func(c *middleware.Config) { c.Leeway = maxLifetime },
		"all": func(c *middleware.Config) {
			c.TTL, c.RefreshTTL, c.IdleTTL, c.Leeway = maxLifetime-time.Second, maxLifetime, maxLifetime, maxLifetime
		},
	} {
		t.Run(name, func(t *testing.T) {
			auth := newAuth(t, change)
			ended := func(what string, revoke func(text string) error) {
				t.Helper()
				text := login(t, auth)
				verify(t, auth, text)
				if err := revoke(text); err != nil {
					t.Errorf("R13: %s: %v", what, err)
				}
				if _, err := auth.Verify(t.Context(), text); !hasCode(err, middleware.CodeTokenRevoked) {
					t.Errorf("R13: after %s the token is answered with %v, want %s", what, err, middleware.CodeTokenRevoked)
				}
			}
			ended("Logout", func(text string) error { return auth.Logout(t.Context(), text) })
			ended("RevokeSession", func(text string) error { return auth.RevokeSession(t.Context(), membersOf(t, text).sid()) })
			ended("RevokeSubject", func(string) error { return auth.RevokeSubject(t.Context(), "admin") })
			verify(t, auth, refresh(t, auth, issue(t, auth, middleware.Identity{Subject: "alice"})))
		})
	}
}

// A login may ask for shorter lifetimes than the configured ones. Longer ones are cut.
func TestR13LifetimesOfOneLogin(t *testing.T) {
	auth := newAuth(t, func(c *middleware.Config) { c.TTL, c.RefreshTTL = time.Hour, 24*time.Hour })
	for name, row := range map[string]struct{ ttl, refreshTTL, wantTTL, wantRefreshTTL time.Duration }{
		"none":                 {0, 0, time.Hour, 24 * time.Hour},
		"shorter":              {time.Minute, time.Hour, time.Minute, time.Hour},
		"longer":               {48 * time.Hour, 1000 * time.Hour, time.Hour, 24 * time.Hour},
		"longest":              {math.MaxInt64, math.MaxInt64, time.Hour, 24 * time.Hour},
		"RefreshTTL under TTL": {0, time.Minute, time.Minute, time.Minute},
		"fractions":            {90*time.Second + 999*time.Millisecond, 3*time.Minute + 1, 90 * time.Second, 3 * time.Minute},
	} {
		tokens, err := auth.Issue(context.Background(), middleware.Identity{Subject: "admin", TTL: row.ttl, RefreshTTL: row.refreshTTL})
		if err != nil {
			t.Errorf("R13: %s: %v", name, err)
			continue
		}
		for range 2 {
			ttl, window := tokens.ExpiresAt.Sub(tokens.Claims.IssuedAt), tokens.RefreshUntil.Sub(tokens.Claims.AuthTime)
			if ttl != row.wantTTL || window != row.wantRefreshTTL {
				t.Errorf("R13: %s: TTL %v and RefreshTTL %v, want %v and %v", name, ttl, window, row.wantTTL, row.wantRefreshTTL)
			}
			if tokens, err = auth.Refresh(context.Background(), tokens.AccessToken); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, id := range []middleware.Identity{{TTL: -1}, {RefreshTTL: -1}, {TTL: time.Second - 1}, {TTL: math.MinInt64}, {RefreshTTL: time.Millisecond}} {
		id.Subject = "admin"
		if tokens, err := auth.Issue(context.Background(), id); err == nil || tokens.AccessToken != "" {
			t.Errorf("R13: TTL %v and RefreshTTL %v: no error", id.TTL, id.RefreshTTL)
		}
	}
}
