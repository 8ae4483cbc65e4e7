package session

import (
	"context"
	"errors"
	"reflect"
	"sync/atomic"
	"time"
)

// Store holds the blacklist. Package middleware documents the contract.
type Store interface {
	Get(ctx context.Context, keys ...string) (values []string, since time.Time, err error)
	CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error)
}

// sinceUnknown stands for a store that may have forgotten records, which the application accepts: R20 and R21 do not
// apply.
const sinceUnknown = -1

// sinceInstant returns a store's since as an instant, rounded up.
func sinceInstant(t time.Time) int64 {
	if t.IsZero() {
		return sinceUnknown
	}
	return max(0, t.Add(time.Microsecond-time.Nanosecond).UnixMicro())
}

// peeker is a Store that reads from this process's memory without waiting. Package middleware documents the contract.
type peeker interface {
	Peek(key string) string
}

// changer is the contract with this module's stores that can be read from memory. counter, which may be nil, returns
// the change counter for a key; several keys may share one. It only goes up: by one before anybody can read a change,
// and by one when the change is complete. So it is odd during a change, and if it is even and has not moved, whatever
// was read since then still holds. The expiry of a value need not be counted.
//
// self is the store itself. A struct that embeds the store inherits Peek, PeekRecent and Changes, but may have a Get of
// its own.
type changer interface {
	Changes() (self any, counter func(key string) *atomic.Uint64)
}

// recentPeeker is a Store that keeps recent answers in this process's memory. Package middleware documents the
// contract.
type recentPeeker interface {
	PeekRecent(key string) (value string, since time.Time, known bool)
}

// localReads returns how to read the store without waiting: nil functions if it has to be asked with Get.
func localReads(store Store) (peek func(key string) string, counter func(key string) *atomic.Uint64) {
	p, ok := store.(peeker)
	if !ok {
		return nil, nil
	}
	counter, own := counters(store)
	if !own {
		return nil, nil
	}
	return p.Peek, counter
}

// recentReads returns how to read the recent answers of the store, or nil if it keeps none.
func recentReads(store Store) func(key string) (value string, since time.Time, known bool) {
	p, ok := store.(recentPeeker)
	if !ok {
		return nil
	}
	if _, own := counters(store); !own {
		return nil
	}
	return p.PeekRecent
}

// counters returns the change counters of the store, or nil if it has none. It reports whether the methods of the store
// are its own, and not those of a store that it embeds.
func counters(store Store) (counter func(key string) *atomic.Uint64, own bool) {
	c, ok := store.(changer)
	if !ok {
		return nil, true
	}
	self, counter := c.Changes()
	return counter, reflect.ValueOf(store).Comparable() && self == any(store)
}

// stepStore is the store as one step uses it. All its calls together take no longer than the timeout (R14). The time
// between the calls, for Reload and for signing, is not counted.
type stepStore struct {
	rules *Rules
	ctx   context.Context
	left  time.Duration
}

// stepStore begins one step. ctx is the client's context, or one that is never cancelled for a step that must finish.
func (r *Rules) stepStore(ctx context.Context) *stepStore {
	return &stepStore{rules: r, ctx: ctx, left: r.StoreTimeout}
}

var (
	errStoreAnswer = errors.New("the store returned a different number of values than keys")
	errSwaps       = errors.New("the store refused every compare-and-swap")
)

// bounded runs one call of the store. Every failure of the store becomes the same verdict.
func (a *stepStore) bounded(call func(ctx context.Context) error) error {
	if a.rules.Store == nil {
		return errNoStore
	}
	ctx, cancel := context.WithTimeout(a.ctx, a.left)
	defer cancel()
	start := time.Now()
	err := call(ctx)
	a.left -= time.Since(start)
	if err != nil {
		return unavailable(err)
	}
	return nil
}

// get is getAll for at most two keys.
func (a *stepStore) get(keys ...string) (values [2]string, since int64, err error) {
	all, since, err := a.getAll(keys...)
	copy(values[:], all)
	return values, since, err
}

// getAll returns the values of the keys, and the instant since when the store has forgotten nothing about them (R20).
func (a *stepStore) getAll(keys ...string) (values []string, since int64, err error) {
	err = a.bounded(func(ctx context.Context) error {
		all, t, err := a.rules.Store.Get(ctx, keys...)
		if err == nil && len(all) != len(keys) {
			err = errStoreAnswer
		}
		values, since = all, sinceInstant(t)
		return err
	})
	return values, since, err
}

// swap replaces old by new and reports whether the value was old.
func (a *stepStore) swap(key, old, new string, expires time.Time) (swapped bool, err error) {
	err = a.bounded(func(ctx context.Context) (err error) {
		swapped, err = a.rules.Store.CompareAndSwap(ctx, key, old, new, expires)
		return err
	})
	return swapped, err
}

// maxSwaps limits the attempts of one step. An attempt fails only if another request's swap succeeded, so the session
// would have to be refreshed this often in the meantime. A store that keeps refusing is broken.
const maxSwaps = 64

// change is what update writes. done means that there is nothing to write.
type change struct {
	value   string
	expires time.Time
	done    bool
}

// update replaces the value of a key by what next makes of it, and repeats that until a swap succeeds.
func (a *stepStore) update(key string, next func(value string, since int64) (change, error)) error {
	for range maxSwaps {
		values, since, err := a.get(key)
		if err != nil {
			return err
		}
		c, err := next(values[0], since)
		if c.done || err != nil {
			return err
		}
		if swapped, err := a.swap(key, values[0], c.value, c.expires); swapped || err != nil {
			return err
		}
	}
	return unavailable(errSwaps)
}
