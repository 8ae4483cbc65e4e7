package middleware

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// backend is a store without Peek that can fail and hang, and counts its calls.
type backend struct {
	Store
	failure error
	hangs   bool
	broken  bool // refuses every swap
	calls   int
}

func (b *backend) fault(ctx context.Context) error {
	b.calls++
	if b.hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	return b.failure
}

func (b *backend) Get(ctx context.Context, keys ...string) ([]string, time.Time, error) {
	if err := b.fault(ctx); err != nil {
		return make([]string, len(keys)), time.Time{}, err
	}
	return b.Store.Get(ctx, keys...)
}

func (b *backend) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	if err := b.fault(ctx); err != nil || b.broken {
		return false, err
	}
	return b.Store.CompareAndSwap(ctx, key, old, new, expires)
}

func TestR14_AStoreThatFailsOrHangsUsesNothingUp(t *testing.T) {
	for name, fault := range map[string]func(*backend){
		"fails": func(b *backend) { b.failure = errors.New("dial tcp 10.0.0.7: connection refused") },
		"hangs": func(b *backend) { b.hangs = true },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w world) {
				b := &backend{Store: w.store}
				a := w.server(func(c *Config) { c.Store = b })
				token := w.login(a, Identity{}).AccessToken
				ctx := context.Background()
				for step, call := range map[string]func() error{
					"login":          func() error { return second(a.Issue(ctx, Identity{Subject: "alice"})) },
					"verify":         func() error { return second(a.Verify(ctx, token)) },
					"refresh":        func() error { return second(a.Refresh(ctx, token)) },
					"logout":         func() error { return a.Logout(ctx, token) },
					"logout all":     func() error { return second(a.logoutEverywhere(ctx, token)) },
					"revoke session": func() error { return a.RevokeSession(ctx, "x") },
					"revoke subject": func() error { return a.RevokeSubject(ctx, "alice") },
				} {
					*b = backend{Store: w.store}
					fault(b)
					start := time.Now()
					err := call()
					w.expect(step, err, CodeStoreUnavailable)
					if strings.Contains(err.Error(), "10.0.0.7") {
						w.t.Errorf("%s: the error contains the driver's message: %v", step, err)
					}
					if took := time.Since(start); took > time.Second {
						w.t.Errorf("%s took %v, StoreTimeout is 1s", step, took)
					}
				}
				*b = backend{Store: w.store}
				w.verifies(a, token, "")
				w.refresh(a, token)
			})
		})
	}
}

func TestR14_StoreTimeoutBoundsTheWholeStep(t *testing.T) {
	inBubble(t, func(w world) {
		slow := &slowBackend{Store: w.store}
		a := w.server(func(c *Config) { c.Store = slow })
		token := w.login(a, Identity{}).AccessToken
		start := time.Now()
		w.refreshes(a, token, CodeStoreUnavailable)
		if took := time.Since(start); took != time.Second {
			w.t.Errorf("refresh took %v, StoreTimeout is 1s", took)
		}
	})
}

// slowBackend reads slowly and never swaps.
type slowBackend struct{ Store }

func (b *slowBackend) Get(ctx context.Context, keys ...string) ([]string, time.Time, error) {
	wait(700 * time.Millisecond)
	return b.Store.Get(ctx, keys...)
}

func (b *slowBackend) CompareAndSwap(ctx context.Context, _, _, _ string, _ time.Time) (bool, error) {
	<-ctx.Done()
	return false, ctx.Err()
}

func TestR14_AStoreThatRefusesEverySwapIsUnavailable(t *testing.T) {
	inBubble(t, func(w world) {
		b := &backend{Store: w.store, broken: true}
		a := w.server(func(c *Config) { c.Store = b })
		token := w.login(a, Identity{}).AccessToken
		w.refreshes(a, token, CodeStoreUnavailable)
		w.logsOut(a, token, CodeStoreUnavailable)
	})
}

func TestR14_AMalformedRecordIsNeverAPass(t *testing.T) {
	for _, value := range []string{"x", "1", "1.", ".1", "1.1.", "1.1.1.1.1", "01.1", "A.1", "-1.1", "zzzzzzzzzzzzz.1", "{}"} {
		inBubble(t, func(w world) {
			a := w.server()
			tokens := w.login(a, Identity{})
			far := time.Now().Add(time.Hour)
			if _, err := w.store.CompareAndSwap(context.Background(), "s:"+tokens.Claims.SessionID, "", value, far); err != nil {
				w.t.Fatal(err)
			}
			w.verifies(a, tokens.AccessToken, CodeStoreUnavailable)
			w.refreshes(a, tokens.AccessToken, CodeStoreUnavailable)
			w.logsOut(a, tokens.AccessToken, "") // ending a session does not depend on the old record

			other := w.login(a, Identity{Subject: "bob"})
			if _, err := w.store.CompareAndSwap(context.Background(), "u:bob", "", value, far); err != nil {
				w.t.Fatal(err)
			}
			w.verifies(a, other.AccessToken, CodeStoreUnavailable)
			_, err := a.Issue(context.Background(), Identity{Subject: "bob"})
			w.expect("login", err, CodeStoreUnavailable)
		})
	}
}
