package middleware

import (
	"context"
	"sync/atomic"
	"time"
)

// Store holds the blacklist: for a session or a subject, the instant before which everything is revoked.
// The package store has one in memory, store/boltstore one on disk and store/redisstore one in Redis;
// store/storetest tests any other against this contract.
//
// Keys may hold any bytes. Values are opaque, short, never empty text. A returned error means that the
// backend failed, or that ctx ended first; an absent key is no error. A call must return soon after its ctx
// is done: requests wait for it, and they are answered 503 if it fails (R14).
//
// A Store is used by many goroutines at once.
type Store interface {
	// Get returns the keys' values in order, "" for a key that is absent or past its expiry, in one
	// round trip.
	Get(ctx context.Context, keys ...string) ([]string, error)

	// CompareAndSwap atomically sets key to new, expiring at expires, if its value is old ("" means
	// absent), and reports whether it did. Where expires is past, the key is absent afterwards. A swap takes
	// effect before ctx's deadline or never: a backend that was frozen must not run an old swap when it
	// wakes up (R10a).
	CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error)
}

// A Peeker is a [Store] that answers reads from this process's memory. The guards prefer it to Get, as it
// costs neither a deadline nor an allocation, and as they need not look again while nothing has changed.
// Implement it only where a read cannot block and cannot fail, and where its answer is as fresh as Get's.
type Peeker interface {
	// Peek returns the key's value, "" if it is absent or past its expiry.
	Peek(key string) string

	// Version returns the counter of the key's changes, always the same one; keys may share it. It only goes
	// up: by one before anybody can read a change, and by one when the change is complete. So it is odd in
	// between, and whoever finds it even and where it was knows that what he read since is still true. That
	// a value's expiry has passed need not count. A store that cannot tell returns a counter that stays odd.
	Version(key string) *atomic.Uint64

	// Self returns the store itself. A struct that embeds a Peeker inherits its Peek and its Self, and so shows
	// that Peek is not its own: then the guards ask Get.
	Self() any
}
