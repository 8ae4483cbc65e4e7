// Package store has the blacklist that lives in the memory of one process, [Memory].
//
// It is the fastest and it forgets: after a restart every logout and every replaced token is forgotten too,
// so that what was revoked is accepted again for as long as it would have lived. Use it for one process
// whose sessions are short or whose signing key is new at every start; store/boltstore remembers on one
// machine, store/redisstore across many.
package store

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/ginrefresh/ginrefresh/store/internal/expiring"
)

// Memory is a blacklist in the memory of this process, on go-cache. Use [NewMemory]; a Memory is safe for
// use by many goroutines at once.
type Memory struct {
	records *expiring.Map
}

// NewMemory returns an empty blacklist. Its goroutine, which removes expired records (R13), runs until Close.
func NewMemory() *Memory {
	return &Memory{records: expiring.New()}
}

// Get returns the keys' values in order, "" for a key that is absent or past its expiry. Its only error is
// that of a ctx that has ended.
func (m *Memory) Get(ctx context.Context, keys ...string) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	values := make([]string, len(keys))
	for i, key := range keys {
		values[i] = m.records.Peek(key)
	}
	return values, nil
}

// CompareAndSwap atomically sets key to new, expiring at expires, if its value is old ("" means absent), and
// reports whether it did. Where expires is past, the key is absent afterwards; a lifetime of more than a
// hundred years is cut to that. Its only error is that of a ctx that has ended.
//
// The swap takes effect before ctx's deadline or never, and after an error it has not taken effect.
func (m *Memory) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	return m.records.CompareAndSwap(ctx, key, old, new, expires)
}

// Peek returns the key's value, "" if it is absent or past its expiry. It does not allocate.
func (m *Memory) Peek(key string) string {
	return m.records.Peek(key)
}

// Changes is a contract with package middleware and not part of the public API: it may change at any time.
//
// It returns the store itself, so that package middleware can tell it from a struct that embeds it and may have a Get of
// its own. counter returns the change counter of a key. Keys share about a thousand counters. A counter only goes up: by
// one before a change can be read, and by one when the change is complete, so it is odd during a change.
func (m *Memory) Changes() (self any, counter func(key string) *atomic.Uint64) {
	return m, m.records.Version
}

// Len returns how many records are held, with the expired records that await the sweeper.
func (m *Memory) Len() int {
	return m.records.Len()
}

// Stats are figures about a [Memory], for metrics.
type Stats struct {
	// Records counts what is held, with the expired records that await the sweeper.
	Records int
	// Rounds counts the sweeper's passes over all records. One takes about a minute.
	Rounds uint64
	// Swept counts the expired records that the sweeper removed.
	Swept uint64
	// SweepTime is how long the last round worked, its pauses left out.
	SweepTime time.Duration
	// LongestStall is the longest time within the last round for which any one reader may have had to wait.
	LongestStall time.Duration
}

// Stats returns the store's figures.
func (m *Memory) Stats() Stats {
	return Stats(m.records.Stats())
}

// Close ends the sweeper; it may be called more than once, and its error is always nil. The store goes on
// answering, correctly, but no longer gives back the memory of expired records.
func (m *Memory) Close() error {
	m.records.Close()
	return nil
}
