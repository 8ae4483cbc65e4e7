package middleware_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
)

// A refresh that looked before the subject was revoked, and issues its token more than a second later.
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
		wantDead(t, "R3: the successor", quick, next)
		wantVerify(t, "R12: a login afterwards", quick, issueTokens(t, slow, middleware.Identity{}).AccessToken, "")
	})
}

// A struct that embeds a store which can be peeked into must not pass what its own Get refuses.
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
		wantCode(t, "before", verifyOnly(auth, text), "")
	}
	s.ended = true
	wantCode(t, "R3: Get says that it has ended", verifyOnly(auth, text), middleware.CodeTokenRevoked)
}

// overriding embeds a Memory and keeps its records elsewhere.
type overriding struct {
	*store.Memory
	records middleware.Store
}

func (s overriding) Get(ctx context.Context, keys ...string) ([]string, error) {
	return s.records.Get(ctx, keys...)
}

func (s overriding) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	return s.records.CompareAndSwap(ctx, key, old, new, expires)
}

// reading overrides Get alone: it adds what another blacklist has.
type reading struct {
	*store.Memory
	ended bool
}

func (s *reading) Get(ctx context.Context, keys ...string) ([]string, error) {
	values, err := s.Memory.Get(ctx, keys...)
	if s.ended && err == nil {
		values[0] = "ended"
	}
	return values, err
}
