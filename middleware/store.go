package middleware

import (
	"context"
	"time"
)

// Store holds the blacklist. For a session or a subject it remembers the instant before which everything is revoked.
// Package store keeps it in memory, store/boltstore on disk and store/redisstore in Redis. Package store/storetest
// tests any other implementation against this contract.
//
// Keys may contain any bytes. Values are opaque, short and never empty. A returned error means that the backend failed
// or that ctx ended first; an absent key is not an error. A call must return soon after ctx is done: requests wait for
// it, and are answered 503 if it fails (R14).
//
// A Store is used by many goroutines at once.
type Store interface {
	// Get returns the values of the keys in order, in one round trip. The value is "" for a key that is absent or has
	// expired.
	Get(ctx context.Context, keys ...string) ([]string, error)

	// CompareAndSwap atomically sets key to new, expiring at expires, if its value is old ("" means absent), and reports
	// whether it did. If expires has passed, the key is absent afterwards. A swap takes effect before ctx's deadline or
	// never: a backend that was frozen must not run an old swap when it wakes up (R10a).
	CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error)
}

// Peeker is a [Store] that can be read from this process's memory. The guards prefer Peek to Get, because it costs
// neither a deadline nor an allocation. Most applications don't need it.
//
// A struct that embeds a Peeker inherits Peek: if it overrides Get, it must override Peek as well. Structs that embed a
// store of this module are recognized, and their Get is used.
type Peeker interface {
	// Peek returns the value of key, or "" if it is absent or has expired. It must not block, cannot fail, and is as
	// fresh as Get.
	Peek(key string) string
}
