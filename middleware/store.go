package middleware

import (
	"context"
	"time"
)

// Store holds the blacklist. For a session or a subject it remembers the instant before which everything is revoked.
// Package store keeps it in memory, store/boltstore on disk, store/redisstore in Redis and store/sqlstore in SQL.
// Package store/storetest tests any other implementation against this contract.
//
// Keys may contain any bytes. Values are opaque, never empty, and at most 8 KiB long. A returned error means that the backend failed
// or that ctx ended first; an absent key is not an error. A call must return soon after ctx is done: requests wait for
// it, and are answered 503 if it fails (R14).
//
// A Store is used by many goroutines at once.
type Store interface {
	// Get returns the values of the keys in order, in one round trip. The value is "" for a key that is absent or has
	// expired.
	//
	// since is an instant from which on the store has forgotten nothing about these keys. A session born before it is
	// rejected, so a store that was emptied costs logins and never a logout (R20). It may be the time at which the
	// store was created. In a database it must be a record that is lost together with the others, and is made anew a
	// second ahead of the clock if it is missing. A store that cannot forget returns the beginning of 1970. The zero
	// time means that the store may have forgotten records and that the sessions are accepted all the same: R20 and R21
	// do not apply.
	Get(ctx context.Context, keys ...string) (values []string, since time.Time, err error)

	// CompareAndSwap atomically sets key to new, expiring at expires, if its value is old ("" means absent), and
	// reports whether it did. If expires has passed, the key is absent afterwards. A swap takes effect before ctx's
	// deadline or never: a backend that was frozen must not run an old swap when it wakes up (R10a).
	CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error)
}

// Peeker is a [Store] that can be read from this process's memory. The guards prefer Peek to Get, because it costs
// neither a deadline nor an allocation. Most applications don't need it.
//
// The since of a Peeker never changes. It is read once, by [New], with a Get without keys.
//
// A struct that embeds a Peeker inherits Peek: if it overrides Get, it must override Peek as well. Structs that embed a
// store of this module are recognized, and their Get is used.
type Peeker interface {
	// Peek returns the value of key, or "" if it is absent or has expired. It must not block, cannot fail, and is as
	// fresh as Get.
	Peek(key string) string
}

// RecentPeeker is a [Store] that keeps recent answers in this process's memory. The guards prefer PeekRecent to Get. If
// it does not know both records of a token, or rejects a token that may have become good since, they use Get.
// Everything that writes uses Get as well. Most applications don't need it.
//
// Embedding works as with [Peeker].
type RecentPeeker interface {
	// PeekRecent returns the value of key and its since, as Get would have returned them at some instant in the past.
	// The store documents how long ago that may be. A swap through this store that was answered must be seen at once.
	// known is false if there is no such answer. A value may still be known after it has expired. PeekRecent must not
	// block.
	PeekRecent(key string) (value string, since time.Time, known bool)
}
