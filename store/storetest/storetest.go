// Package storetest has the contract of a blacklist as tests, for the stores of this module and for your own.
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
// Run it with -race. The checks that wait for an expiry do so in real time; all of them together take
// seconds.
package storetest

import (
	"context"
	"reflect"
	"sync/atomic"
	"testing"
	"time"
)

// Store is the interface that middleware.Store is, written out so that a store can be tested without the
// middleware. Its contract is told there; the checks of this package are its letter.
type Store interface {
	Get(ctx context.Context, keys ...string) ([]string, error)
	CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error)
}

// peeker is middleware.Peeker: Peek answers like Get.
type peeker interface {
	Peek(key string) string
}

// changer is the contract between this module's stores in memory and package middleware. A store that has Changes makes no
// promise about Peek if self is another store: it is embedded in a struct with a Get of its own.
type changer interface {
	Changes() (self any, counter func(key string) *atomic.Uint64)
}

// localReads returns the store's Peek and its change counters, as the guards use them. They are nil if the guards use Get.
func localReads(s Store) (peek func(key string) string, counter func(key string) *atomic.Uint64) {
	p, ok := s.(peeker)
	if !ok {
		return nil, nil
	}
	if c, ok := s.(changer); ok {
		self, counter := c.Changes()
		if !reflect.ValueOf(s).Comparable() || self != any(s) {
			return nil, nil
		}
		return p.Peek, counter
	}
	return p.Peek, nil
}

// Run tests the stores that newStore returns against the contract, one subtest and one call of newStore per
// check. The stores may share one database: every check uses keys of its own, and removes what it leaves
// under the only key that cannot be its own, the empty one. newStore closes what it opens with t.Cleanup.
//
// A store whose clock is not this process's, such as a database server's, must agree with it to 100 ms.
//
// A swap takes effect before the deadline of its context or never. The checks cover the part that every store can keep:
// CompareAndSwap changes nothing if the deadline has passed by the clock, even if the context's Err is still nil, as in a
// process that was stopped. That alone does not help where the request can wait on its way to a backend, which may have
// been stopped too. Such a store must let the backend decide, and its own tests must freeze the backend to prove it.
func Run(t *testing.T, newStore func(t *testing.T) Store) {
	t.Helper()
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			c.run(t, newStore(t))
		})
	}
}
