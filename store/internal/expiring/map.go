// Package expiring provides the map under the stores that read from memory. It maps strings to strings, each with an
// expiry, and spreads them over many go-cache instances that one goroutine sweeps in small steps.
//
// A go-cache holds its write lock during a sweep and stalls every reader: for about 40 ms at a million records. In a
// map of a thousand shards, a sweep stalls only the readers of one shard.
package expiring

import (
	"context"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	gocache "github.com/patrickmn/go-cache"

	"github.com/ginrefresh/ginrefresh/store/internal/deadline"
)

const (
	// shardCount bounds how long a sweep can stall a reader: the time to scan this fraction of the records.
	// An unused shard costs 24 bytes.
	shardCount = 1024

	// round is how long one pass over all shards takes.
	round = time.Minute

	// stepRecords is the number of records that the sweeper scans between two pauses. A small map costs one wake-up
	// per round, and a large one never occupies the processor for long.
	stepRecords = 4096

	// farthest is the longest lifetime given to go-cache. go-cache adds the lifetime to the time of day in
	// nanoseconds. After the year 2262 the sum overflows, and go-cache keeps the value forever.
	farthest = 100 * 365 * 24 * time.Hour
)

// Map is an expiring map. Use [New] to get one. A Map is safe for concurrent use.
type Map struct {
	seed     maphash.Seed
	shards   [shardCount]shard
	counters [shardCount]atomic.Uint64 // of the shards; apart from them, as most reads need nothing else

	stop     chan struct{}
	stopOnce sync.Once
	done     chan struct{}

	mu          sync.Mutex // guards the figures of the sweeper
	rounds      uint64
	swept       uint64
	work, stall time.Duration
}

type shard struct {
	mu    sync.Mutex // held by writers; readers rely on the lock of go-cache
	peak  int        // the most records since the cache was made
	cache atomic.Pointer[gocache.Cache]
}

// New returns an empty map and starts its sweeper, which runs until Close.
func New() *Map {
	m := &Map{
		seed: maphash.MakeSeed(), // random, so that an attacker cannot choose keys of the same shard
		stop: make(chan struct{}),
		done: make(chan struct{}),
	}
	go m.sweepUntilClosed()
	return m
}

// index returns the index of the key's shard.
func (m *Map) index(key string) uint64 {
	return maphash.String(m.seed, key) % shardCount
}

// Peek returns the value of the key, "" if the key is absent or expired. It does not allocate.
func (m *Map) Peek(key string) string {
	return m.shards[m.index(key)].peek(key)
}

// Counter returns the change counter of the key, which it shares with the other keys of its shard. The counter goes
// up by one before a change can be read, and by one when the change is complete. So it is odd during a change.
func (m *Map) Counter(key string) *atomic.Uint64 {
	return &m.counters[m.index(key)]
}

// CompareAndSwap sets key to value, expiring at expires, if its value is old, and reports whether it did. It changes
// nothing after the end of ctx, even if it had to wait for the shard.
func (m *Map) CompareAndSwap(ctx context.Context, key, old, value string, expires time.Time) (bool, error) {
	i := m.index(key)
	m.shards[i].mu.Lock()
	defer m.shards[i].mu.Unlock()
	if m.shards[i].peek(key) != old {
		return false, nil
	}
	if err := deadline.Ended(ctx); err != nil {
		return false, err
	}
	m.set(i, key, value, expires)
	return true, nil
}

// Set sets key to value, expiring at expires. If expires is in the past, the key is absent afterwards.
func (m *Map) Set(key, value string, expires time.Time) {
	i := m.index(key)
	m.shards[i].mu.Lock()
	defer m.shards[i].mu.Unlock()
	m.set(i, key, value, expires)
}

// set requires that the caller holds the lock of shard i.
func (m *Map) set(i uint64, key, value string, expires time.Time) {
	// Odd before a reader can see the change, even again once every reader does.
	m.counters[i].Add(1)
	defer m.counters[i].Add(1)
	m.shards[i].set(key, value, expires)
}

func (s *shard) peek(key string) string {
	c := s.cache.Load()
	if c == nil {
		return ""
	}
	v, _ := c.Get(key)
	value, _ := v.(string)
	return value
}

func (s *shard) set(key, value string, expires time.Time) {
	c := s.cache.Load()
	lifetime := min(time.Until(expires), farthest)
	if lifetime <= 0 { // go-cache takes 0 for its default lifetime and a negative one for forever
		if c != nil {
			c.Delete(key)
		}
		return
	}
	if c == nil {
		c = gocache.New(gocache.NoExpiration, 0) // 0: no janitor
		s.cache.Store(c)
	}
	// Copy the key and the value: they may be slices of a whole token, which they would keep in memory. One copy for
	// both means one object less for the garbage collector.
	both := key + value
	c.Set(both[:len(key)], both[len(key):], lifetime)
	s.peak = max(s.peak, c.ItemCount())
}

// Len returns the number of records, including expired records that the sweeper has not removed yet.
func (m *Map) Len() int {
	n := 0
	for i := range m.shards {
		if c := m.shards[i].cache.Load(); c != nil {
			n += c.ItemCount()
		}
	}
	return n
}

// Sweeps returns the number of complete rounds of the sweeper, the number of records that it has removed, how long it
// worked in the last round without its pauses, and how long it held a single shard in that round at most.
func (m *Map) Sweeps() (rounds, swept uint64, work, stall time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rounds, m.swept, m.work, m.stall
}

// Close stops the sweeper and waits for it. Reads and writes still work afterwards.
func (m *Map) Close() {
	m.stopOnce.Do(func() { close(m.stop) })
	<-m.done
}

func (m *Map) sweepUntilClosed() {
	defer close(m.done)
	timer := time.NewTimer(round)
	defer timer.Stop()
	for {
		var work, stall time.Duration
		for next := 0; next < shardCount; {
			first := next
			for records := 0; records < stepRecords && next < shardCount; next++ {
				took, had, swept := m.shards[next].sweep()
				work, stall = work+took, max(stall, took)
				records += had
				m.addSwept(swept)
			}
			// The pause is the share of the round that the scanned shards stand for.
			timer.Reset(round * time.Duration(next-first) / shardCount)
			select {
			case <-m.stop:
				return
			case <-timer.C:
			}
		}
		m.mu.Lock()
		m.rounds++
		m.work, m.stall = work, stall
		m.mu.Unlock()
	}
}

func (m *Map) addSwept(n int) {
	if n == 0 {
		return
	}
	m.mu.Lock()
	m.swept += uint64(n)
	m.mu.Unlock()
}

// sweep removes the expired records. If most records of the shard are gone, sweep replaces the cache to free its
// memory, because a Go map never shrinks. It returns how long it held the shard, how many records the shard had, and
// how many it removed.
func (s *shard) sweep() (took time.Duration, had, swept int) {
	if s.cache.Load() == nil {
		return 0, 0, 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	start := time.Now()
	c := s.cache.Load()
	had = c.ItemCount()
	c.DeleteExpired()
	left := c.ItemCount()
	switch {
	case left == 0:
		// A reader may still hold the old cache. It began before any later write, so its answer is correct.
		s.cache.Store(nil)
		s.peak = 0
	case left < s.peak/4:
		s.cache.Store(gocache.NewFrom(gocache.NoExpiration, 0, c.Items()))
		s.peak = left
	}
	return time.Since(start), had, had - left
}
