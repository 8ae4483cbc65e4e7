// Package expiring is the map under the stores that read from memory: text by text, each with an expiry,
// in many go-cache instances that one goroutine sweeps in small steps.
//
// One go-cache holds its write lock for as long as it sweeps, and stalls every reader meanwhile: about 40 ms
// at a million records. Split over a thousand, a sweep stalls only those who read from the same thousandth.
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

	// stepRecords is how many records are looked at before the sweeper pauses, so that a small map costs one wake-up
	// per round and a large one never takes the processor for long.
	stepRecords = 4096

	// farthest is the longest lifetime given to go-cache. It adds a lifetime to the time of day in
	// nanoseconds, which beyond the year 2262 turns negative, and so means "for ever".
	farthest = 100 * 365 * 24 * time.Hour
)

// Stats are figures about a [Map].
type Stats struct {
	// Records counts what is held, with the expired records that await the sweeper.
	Records int
	// Rounds counts the sweeper's passes over all records.
	Rounds uint64
	// Swept counts the expired records that the sweeper removed.
	Swept uint64
	// SweepTime is how long the last round worked, its pauses left out.
	SweepTime time.Duration
	// LongestStall is the longest time within the last round for which any reader may have had to wait.
	LongestStall time.Duration
}

// Map is an expiring map. Use [New].
type Map struct {
	seed     maphash.Seed
	shards   [shardCount]shard
	versions [shardCount]atomic.Uint64 // of the shards; in one place, as readers want nothing else most of the time

	stop     chan struct{}
	stopOnce sync.Once
	done     chan struct{}

	mu    sync.Mutex
	stats Stats
}

type shard struct {
	mu    sync.Mutex // held by whoever changes the shard; readers rely on go-cache's own lock
	peak  int        // the most records seen since the cache was made
	cache atomic.Pointer[gocache.Cache]
}

// New returns an empty map and starts its sweeper, which Close ends.
func New() *Map {
	m := &Map{
		seed: maphash.MakeSeed(), // random, so that nobody can choose keys that meet in one shard
		stop: make(chan struct{}),
		done: make(chan struct{}),
	}
	go m.sweepUntilClosed()
	return m
}

// index is the key's shard.
func (m *Map) index(key string) uint64 {
	return maphash.String(m.seed, key) % shardCount
}

// Peek returns the key's value, "" if it is absent or past its expiry. It does not allocate.
func (m *Map) Peek(key string) string {
	return m.shards[m.index(key)].peek(key)
}

// Version counts the changes to the key and to those that share its shard, each twice: before it can be read and when it is
// done. So it is odd while one is under way.
func (m *Map) Version(key string) *atomic.Uint64 {
	return &m.versions[m.index(key)]
}

// CompareAndSwap sets key to value, expiring at expires, if its value is old, and reports whether it did. It changes
// nothing once ctx is over, however long it had to wait for its turn.
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

// Set sets key to value, expiring at expires. Where that is past, the key is absent afterwards.
func (m *Map) Set(key, value string, expires time.Time) {
	i := m.index(key)
	m.shards[i].mu.Lock()
	defer m.shards[i].mu.Unlock()
	m.set(i, key, value, expires)
}

// set is for who holds the shard.
func (m *Map) set(i uint64, key, value string, expires time.Time) {
	m.versions[i].Add(1)
	defer m.versions[i].Add(1)
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
	if lifetime <= 0 { // to go-cache 0 means its default and less means for ever
		if c != nil {
			c.Delete(key)
		}
		return
	}
	if c == nil {
		c = gocache.New(gocache.NoExpiration, 0) // 0: no janitor
		s.cache.Store(c)
	}
	// A copy, as a key may be a part of a whole token, which it would keep in memory as long as itself. One for both, as
	// the collector has to look at each piece of memory.
	both := key + value
	c.Set(both[:len(key)], both[len(key):], lifetime)
	s.peak = max(s.peak, c.ItemCount())
}

// Len returns how many records are held, with the expired records that await the sweeper.
func (m *Map) Len() int {
	n := 0
	for i := range m.shards {
		if c := m.shards[i].cache.Load(); c != nil {
			n += c.ItemCount()
		}
	}
	return n
}

// Stats returns the figures.
func (m *Map) Stats() Stats {
	m.mu.Lock()
	stats := m.stats
	m.mu.Unlock()
	stats.Records = m.Len()
	return stats
}

// Close ends the sweeper and waits for it. Reads and writes go on working.
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
			timer.Reset(round * time.Duration(next-first) / shardCount)
			select {
			case <-m.stop:
				return
			case <-timer.C:
			}
		}
		m.mu.Lock()
		m.stats.Rounds++
		m.stats.SweepTime, m.stats.LongestStall = work, stall
		m.mu.Unlock()
	}
}

func (m *Map) addSwept(n int) {
	if n == 0 {
		return
	}
	m.mu.Lock()
	m.stats.Swept += uint64(n)
	m.mu.Unlock()
}

// sweep removes the expired records, and gives memory back where most of the records are gone: a Go map
// never shrinks. It returns how long it held the shard, how many records that had, and how many it removed.
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
		// A reader may still hold the old cache. It began before any later write, so what it finds is true.
		s.cache.Store(nil)
		s.peak = 0
	case left < s.peak/4:
		s.cache.Store(gocache.NewFrom(gocache.NoExpiration, 0, c.Items()))
		s.peak = left
	}
	return time.Since(start), had, had - left
}
