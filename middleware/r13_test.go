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

// A record must outlive all that it revokes, by the clock of a store that is a second ahead, and with any leeway.
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
					return errors.New("no reuse")
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
						wait(700 * time.Millisecond) // not at a whole second
						tokens := issueTokens(t, auth, middleware.Identity{})
						if err := revoke(t, auth, tokens); err != nil {
							t.Fatal(err)
						}
						// The last refresh comes just before the window's end and its leeway, and what it gives lives for a
						// ttl and a leeway.
						dies := tokens.RefreshUntil.Add(leeway + time.Minute + leeway)
						if spare := s.expires.Sub(dies); spare < time.Second || spare > 5*time.Second {
							t.Errorf("R13: the record goes %v after the last token died, want 1 s to 5 s", spare)
						}
					})
				})
			}
		}
	}
}

// recording remembers the expiry of the last swap.
type recording struct {
	middleware.Store
	expires time.Time
}

func (s *recording) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	s.expires = expires
	return s.Store.CompareAndSwap(ctx, key, old, new, expires)
}

// maxLifetime is the maxLifetime lifetime that New takes.
const maxLifetime = 50 * 365 * 24 * time.Hour

// The longest lifetimes must not overflow into records that are forgotten at once (R13).
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
					t.Errorf("R13: after %s the token gives %v, want %s", what, err, middleware.CodeTokenRevoked)
				}
			}
			ended("Logout", func(text string) error { return auth.Logout(t.Context(), text) })
			ended("RevokeSession", func(text string) error { return auth.RevokeSession(t.Context(), membersOf(t, text).sid()) })
			ended("RevokeSubject", func(string) error { return auth.RevokeSubject(t.Context(), "admin") })
			verify(t, auth, refresh(t, auth, issue(t, auth, middleware.Identity{Subject: "alice"})))
		})
	}
}

// One login may ask for less than the configuration allows, and never for more (R13).
func TestR13LifetimesOfOneLogin(t *testing.T) {
	auth := newAuth(t, func(c *middleware.Config) { c.TTL, c.RefreshTTL = time.Hour, 24*time.Hour })
	for name, row := range map[string]struct{ ttl, refreshTTL, wantTTL, wantRefreshTTL time.Duration }{
		"none":             {0, 0, time.Hour, 24 * time.Hour},
		"shorter":          {time.Minute, time.Hour, time.Minute, time.Hour},
		"longer":           {48 * time.Hour, 1000 * time.Hour, time.Hour, 24 * time.Hour},
		"longest":          {math.MaxInt64, math.MaxInt64, time.Hour, 24 * time.Hour},
		"window under TTL": {0, time.Minute, time.Minute, time.Minute},
		"fractions":        {90*time.Second + 999*time.Millisecond, 3*time.Minute + 1, 90 * time.Second, 3 * time.Minute},
	} {
		tokens, err := auth.Issue(context.Background(), middleware.Identity{Subject: "admin", TTL: row.ttl, RefreshTTL: row.refreshTTL})
		if err != nil {
			t.Errorf("R13: %s: %v", name, err)
			continue
		}
		for range 2 {
			ttl, window := tokens.ExpiresAt.Sub(tokens.Claims.IssuedAt), tokens.RefreshUntil.Sub(tokens.Claims.AuthTime)
			if ttl != row.wantTTL || window != row.wantRefreshTTL {
				t.Errorf("R13: %s: %v and %v, want %v and %v", name, ttl, window, row.wantTTL, row.wantRefreshTTL)
			}
			if tokens, err = auth.Refresh(context.Background(), tokens.AccessToken); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, id := range []middleware.Identity{{TTL: -1}, {RefreshTTL: -1}, {TTL: time.Second - 1}, {TTL: math.MinInt64}, {RefreshTTL: time.Millisecond}} {
		id.Subject = "admin"
		if tokens, err := auth.Issue(context.Background(), id); err == nil || tokens.AccessToken != "" {
			t.Errorf("R13: lifetimes of %v and %v give no error", id.TTL, id.RefreshTTL)
		}
	}
}
