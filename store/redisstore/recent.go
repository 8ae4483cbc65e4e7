package redisstore

import (
	"hash/maphash"
	"strings"
	"sync"
	"time"
)

const (
	recentShards = 64

	// recentRecords limits the answers in each half of a shard. All shards hold up to 2 * 64 * 1,024.
	recentRecords = 1024
)

// recent keeps the answers of Redis for reuse. The age of an answer counts from its question, because Redis may change the
// value at any time after it has read the question, and a frozen server can delay its reply for long.
//
// Each shard has two halves. When the young one is full, or older than the maximum staleness, it becomes the old one, and
// the previous old one is dropped. So the memory is limited without a sweep.
type recent struct {
	staleness time.Duration
	seed      maphash.Seed
	shards    [recentShards]recentShard
}

type recentShard struct {
	mu         sync.Mutex
	young, old map[string]recentAnswer
	since      time.Time // when young was created
	barred     time.Time // for all keys, like the field of recentAnswer
}

type recentAnswer struct {
	answer
	known  bool      // if false, only barred counts
	asked  time.Time // when the question was sent
	asking bool      // a caller is already refreshing the answer
	barred time.Time // an answer to a question from before this instant must not replace this one
}

func newRecent(staleness time.Duration) *recent {
	return &recent{staleness: staleness, seed: maphash.MakeSeed()}
}

func (r *recent) shard(key string) *recentShard {
	return &r.shards[maphash.String(r.seed, key)%recentShards]
}

// fresh reports whether the answer to a question sent at asked may still be used. It compares both the time of day and the
// monotonic clock: the former may be set back, and the latter stops while the machine sleeps.
func (r *recent) fresh(asked, now time.Time) bool {
	wall := now.Round(0).Sub(asked.Round(0))
	return wall >= 0 && wall <= r.staleness && now.Sub(asked) <= r.staleness
}

// get returns the answer for the key and whether it is known. In the last quarter of the life of an answer, get reports it
// as unknown to the first caller, who will ask Redis again. Otherwise all callers would ask at the same time when the
// answer has become too old.
func (r *recent) get(key string, now time.Time) (answer, bool) {
	s := r.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.find(key)
	if !a.known || !r.fresh(a.asked, now) {
		return answer{}, false
	}
	if !a.asking && now.Sub(a.asked) > r.staleness/4*3 {
		a.asking = true
		s.put(key, a, r.staleness)
		return answer{}, false
	}
	return a.answer, true
}

// learn stores an answer of Redis, unless this process has swapped the key since the question was sent. The swap is newer.
func (r *recent) learn(key string, a answer, asked time.Time) {
	s := r.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	barred := s.find(key).barred
	if asked.Before(s.barred) || asked.Before(barred) {
		return
	}
	// Keep the bar: a reply from before the swap may still be in flight.
	s.put(key, recentAnswer{answer: a, known: true, asked: asked, barred: barred}, r.staleness)
}

// swapped stores the value that a swap of this process has set, and bars the answers to earlier questions. A swap does not
// read the since, so the answer is known only if there was one before, and keeps its since and its age. If two swaps of this
// process overlap, it is unknown which one Redis made last, so neither value is kept.
func (r *recent) swapped(key, value string, asked time.Time) {
	s := r.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.find(key)
	a.known = a.known && !asked.Before(s.barred) && !asked.Before(a.barred)
	a.value, a.barred, a.asking = value, time.Now(), false
	s.put(key, a, r.staleness)
}

// forget makes the next get of the key ask Redis, and bars the answers to earlier questions.
func (r *recent) forget(key string) {
	s := r.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(key, recentAnswer{barred: time.Now()}, r.staleness)
}

func (s *recentShard) find(key string) recentAnswer {
	if a, ok := s.young[key]; ok {
		return a
	}
	return s.old[key]
}

// put stores an answer in the young half, and starts a new half if that one is full or too old.
func (s *recentShard) put(key string, a recentAnswer, staleness time.Duration) {
	now := time.Now()
	if s.young == nil || len(s.young) >= recentRecords || now.Sub(s.since) > staleness {
		// The old half is dropped together with its bars, which are older than the young half. If the young half is older
		// than staleness, the barred answers are too old for any use. Otherwise bar all keys until now instead.
		if now.Sub(s.since) <= staleness {
			s.barred = now
		}
		s.young, s.old, s.since = make(map[string]recentAnswer), s.young, now
	}
	s.young[strings.Clone(key)] = a
}
