// Package storetest tests a blacklist against the contract of middleware.Store: the stores of this module, and yours.
//
// A test of your own store is one call:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) storetest.Store {
//			s := mystore.New(…)
//			t.Cleanup(func() { s.Close() })
//			return s
//		})
//	}
//
// Run the test with -race. Some checks wait for an expiry, so all of them together take about two seconds.
// [RunInBubble] takes no time to wait, but only works for a store that does not leave this process.
package storetest

import (
	"context"
	"reflect"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Store is the same interface as middleware.Store, repeated here so that the test of a store need not import package
// middleware. The contract is documented there, and the checks of this package enforce it.
type Store interface {
	Get(ctx context.Context, keys ...string) (values []string, since time.Time, err error)
	CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error)
}

// peeker is middleware.Peeker. Peek must return the same value as Get.
type peeker interface {
	Peek(key string) string
}

// recentPeeker is middleware.RecentPeeker.
type recentPeeker interface {
	PeekRecent(key string) (value string, since time.Time, known bool)
}

// changer is the contract between the stores of this module and package middleware, which is not public. See
// store.Memory.Changes.
type changer interface {
	Changes() (self any, counter func(key string) *atomic.Uint64)
}

// peekerOf returns the store as a peeker if the guards would call Peek, or nil. A struct that embeds a store inherits
// its Peek, which knows nothing of a Get of the struct's own. The guards notice it by the self of Changes.
func peekerOf(s Store) peeker {
	p, ok := s.(peeker)
	if !ok {
		return nil
	}
	if c, ok := s.(changer); ok {
		if self, _ := c.Changes(); !reflect.ValueOf(s).Comparable() || self != any(s) {
			return nil
		}
	}
	return p
}

// Run tests the stores that newStore returns against the contract. It runs each check in a subtest and calls newStore
// once for it. newStore should register a t.Cleanup that closes what it opens.
//
// The stores may share a database. Each check uses keys of its own, except for the empty key, from which it removes
// what it stored.
//
// A store that expires records by another clock than that of this process, such as a database server's, must be on a
// machine whose clock differs by less than 100 ms.
//
// A swap must take effect before the deadline of its context or never. Run checks the part that every store can
// satisfy: CompareAndSwap changes nothing once the deadline has passed by the clock, even if the Err of the context is
// still nil, as in a process that was stopped. That is not enough where a request can wait on its way to a backend
// that may be stopped, too. The backend of such a store must compare the deadline with its own clock, and the tests of
// the store must freeze the backend to prove it.
func Run(t *testing.T, newStore func(t *testing.T) Store) {
	t.Helper()
	run(t, newStore, func(t *testing.T, check func(t *testing.T)) { check(t) })
}

// RunInBubble is like [Run], but runs each check in a bubble of package testing/synctest, where waiting takes no time.
// Use it for a store that lives in this process and its files. A store that talks to a server needs [Run], because the
// clock of the server does not follow that of the bubble.
func RunInBubble(t *testing.T, newStore func(t *testing.T) Store) {
	t.Helper()
	run(t, newStore, synctest.Test)
}

func run(t *testing.T, newStore func(t *testing.T) Store, in func(t *testing.T, check func(t *testing.T))) {
	t.Helper()
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			in(t, func(t *testing.T) { c.run(t, newStore(t)) })
		})
	}
}
