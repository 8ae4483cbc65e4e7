// Package store provides [Memory], a blacklist in the memory of one process.
//
// Memory is the fastest store, but a restart empties it. The blacklist is then younger than the sessions from before the
// restart, so they are all rejected (R20) and every user has to log in again. Package store/boltstore keeps the blacklist
// on one machine, package store/redisstore shares it between many.
package store

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/ginrefresh/ginrefresh/store/internal/expiring"
)

// Memory is a blacklist in the memory of this process, built on go-cache. Use [NewMemory] to get one. A Memory is
// safe for concurrent use.
type Memory struct {
	records *expiring.Map
	since   time.Time
}

// An Option changes what [NewMemory] returns.
type Option func(*Memory)

// DangerouslyAcceptOlderSessions lets sessions survive a restart of the process, together with every session that was
// logged out before it: the blacklist does not know of those logouts any more. Package boltstore keeps both the sessions
// and their logouts.
func DangerouslyAcceptOlderSessions() Option {
	return func(m *Memory) { m.since = time.Time{} }
}

// NewMemory returns an empty blacklist and starts a goroutine that removes expired records (R13). The goroutine runs
// until Close.
func NewMemory(options ...Option) *Memory {
	m := &Memory{records: expiring.New(), since: time.UnixMicro(time.Now().UnixMicro())}
	for _, option := range options {
		option(m)
	}
	return m
}

// Get returns the values of the keys in order, "" for a key that is absent or expired, and the time at which the store
// was made: it has forgotten nothing since then (R20). With [DangerouslyAcceptOlderSessions] it returns the zero time.
// Get returns an error only if ctx has ended.
func (m *Memory) Get(ctx context.Context, keys ...string) ([]string, time.Time, error) {
	if err := ctx.Err(); err != nil {
		return nil, time.Time{}, err
	}
	values := make([]string, len(keys))
	for i, key := range keys {
		values[i] = m.records.Peek(key)
	}
	return values, m.since, nil
}

// CompareAndSwap atomically sets key to new, expiring at expires, if its value is old ("" means absent), and reports
// whether it did. If expires is in the past, the key is absent afterwards. A lifetime of more than a hundred years is
// shortened to that.
//
// The swap takes effect before the deadline of ctx or never. CompareAndSwap returns an error only if ctx has ended;
// then nothing has changed.
func (m *Memory) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	return m.records.CompareAndSwap(ctx, key, old, new, expires)
}

// Peek returns the value of the key, "" if the key is absent or expired. It does not allocate.
func (m *Memory) Peek(key string) string {
	return m.records.Peek(key)
}

// Changes is a contract with package middleware. It is not part of the public API and may change in any release.
//
// It returns the store itself and a function that returns the change counter of a key, always the same one for the
// same key. Keys may share a counter. A counter only goes up: by one before the first reader can see a change, and by
// one when the change is complete. So it is odd during a change, and a reader who finds it even and unmoved knows
// that what it read before is still true, unless the value has expired.
//
// A struct that embeds the store inherits Changes, but is not self. That tells package middleware that the struct may
// have a Get of its own, which Peek knows nothing of.
func (m *Memory) Changes() (self any, counter func(key string) *atomic.Uint64) {
	return m, m.records.Counter
}

// Len returns the number of records, including expired records that the sweeper has not removed yet.
func (m *Memory) Len() int {
	return m.records.Len()
}

// Stats are figures about a [Memory], for metrics.
type Stats struct {
	// Records is the number of records, including expired records that the sweeper has not removed yet.
	Records int
	// Rounds is the number of passes of the sweeper over all records. One pass takes about a minute.
	Rounds uint64
	// Swept is the number of expired records that the sweeper has removed.
	Swept uint64
	// SweepTime is how long the sweeper worked in the last round, without its pauses.
	SweepTime time.Duration
	// LongestStall is the longest time that a reader may have had to wait for the sweeper in the last round.
	LongestStall time.Duration
}

// Stats returns the current figures of the store.
func (m *Memory) Stats() Stats {
	s := Stats{Records: m.records.Len()}
	s.Rounds, s.Swept, s.SweepTime, s.LongestStall = m.records.Sweeps()
	return s
}

// Close stops the sweeper. It may be called more than once and always returns nil. A closed store still answers
// correctly, but no longer frees the memory of expired records.
func (m *Memory) Close() error {
	m.records.Close()
	return nil
}
