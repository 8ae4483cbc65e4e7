package middleware_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
)

// R3: no token of an ended session or a revoked subject is accepted.

// A refresh reads the blacklist before the subject is revoked, and issues its token more than a second later.
func TestR3ARefreshThatLookedBeforeTheRevocation(t *testing.T) {
	eachMode(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		quick := server()
		slow := server(func(c *middleware.Config) {
			c.Store, c.StoreTimeout = &lateGet{c.Store, 1500 * time.Millisecond}, 5*time.Second
		})
		tokens := issueTokens(t, quick, middleware.Identity{})
		var next middleware.Tokens
		var wg sync.WaitGroup
		wg.Go(func() { next, _ = slow.Refresh(t.Context(), refreshable(tokens)) })
		wait(time.Millisecond)
		if err := quick.RevokeSubject(t.Context(), "admin"); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		wantDead(t, "R3: the successor", quick, next)
		wait(time.Minute)
		wantDead(t, "R3: the successor, a minute later", quick, next)
		wantVerify(t, "R12: a login after the revocation", quick, issueTokens(t, slow, middleware.Identity{}).AccessToken, "")
	})
}

// A struct that embeds a store in memory inherits its Peek. If the struct has its own Get, guards must call that.
func TestAStoreThatEmbedsAMemory(t *testing.T) {
	verifyOnly := func(auth *middleware.Auth, text string) error { return errOf(auth.Verify(t.Context(), text)) }
	for _, s := range []middleware.Store{
		overriding{newMemory(t), newMemory(t)},
		&overriding{newMemory(t), newMemory(t)},
	} {
		auth := newAuth(t, func(c *middleware.Config) { c.Store = s })
		text := login(t, auth)
		for range 3 {
			wantCode(t, "before the logout", verifyOnly(auth, text), "")
		}
		wantCode(t, "logout", auth.Logout(t.Context(), text), "")
		wantCode(t, "R3: after the logout", verifyOnly(auth, text), middleware.CodeTokenRevoked)
	}
	s := &reading{Memory: newMemory(t)}
	auth := newAuth(t, func(c *middleware.Config) { c.Store = s })
	text := login(t, auth)
	for range 3 {
		wantCode(t, "before the end", verifyOnly(auth, text), "")
	}
	s.ended = true
	wantCode(t, "R3: Get reports that the session has ended", verifyOnly(auth, text), middleware.CodeTokenRevoked)
}

// overriding embeds a Memory, but keeps its records in another store.
type overriding struct {
	*store.Memory
	records middleware.Store
}

func (s overriding) Get(ctx context.Context, keys ...string) ([]string, time.Time, error) {
	return s.records.Get(ctx, keys...)
}

func (s overriding) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	return s.records.CompareAndSwap(ctx, key, old, new, expires)
}

// reading overrides Get alone. It reports that the session has ended, as if it knew that from another blacklist.
type reading struct {
	*store.Memory
	ended bool
}

func (s *reading) Get(ctx context.Context, keys ...string) ([]string, time.Time, error) {
	values, since, err := s.Memory.Get(ctx, keys...)
	if s.ended && err == nil {
		values[0] = "ended"
	}
	return values, since, err
}
