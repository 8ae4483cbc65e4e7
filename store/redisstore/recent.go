package redisstore

import (
	"hash/maphash"
	"strings"
	"sync"
	"time"
)

const (
	recentShards = 64

	// recentRecords bounds the answers kept in each half of a shard: 2 * 64 * 1,024 in all.
	recentRecords = 1024
)

// recent keeps the answers of Redis for a while. An answer is as old as its question: the time between is time in
// which Redis may have changed its mind, and a frozen server can stretch it at will.
//
// Each shard has two halves. When the young one is full, or older than any answer may get, it becomes the old one,
// whose answers go. So nothing has to be swept, and memory is bounded.
type recent struct {
	staleness time.Duration
	seed      maphash.Seed
	shards    [recentShards]recentShard
}

type recentShard struct {
	mu         sync.Mutex
	young, old map[string]recentAnswer
	since      time.Time // when young was begun
	barred     time.Time // answers to questions from before then are not learned
}

type recentAnswer struct {
	value  string
	known  bool      // false: ask, and learn from no earlier question
	asked  time.Time // what its age counts from
	asking bool      // somebody was sent to ask again
	barred time.Time // answers to questions from before then do not replace it
}

func newRecent(staleness time.Duration) *recent {
	return &recent{staleness: staleness, seed: maphash.MakeSeed()}
}

func (r *recent) shard(key string) *recentShard {
	return &r.shards[maphash.String(r.seed, key)%recentShards]
}

// fresh reports whether an answer to a question asked then may still be used. It consults both clocks: the monotonic
// one stands still while a machine sleeps, the other may be set back.
func (r *recent) fresh(asked, now time.Time) bool {
	wall := now.Round(0).Sub(asked.Round(0))
	return wall >= 0 && wall <= r.staleness && now.Sub(asked) <= r.staleness
}

// get returns the key's value and whether it is known. One caller, the first to find an answer in the last quarter of its
// time, is told that it is not: it asks again, and the others need not, all at once, when the time is over.
func (r *recent) get(key string, now time.Time) (string, bool) {
	s := r.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.find(key)
	if !a.known || !r.fresh(a.asked, now) {
		return "", false
	}
	if !a.asking && now.Sub(a.asked) > r.staleness/4*3 {
		a.asking = true
		s.put(key, a, r.staleness)
		return "", false
	}
	return a.value, true
}

// learn takes in what Redis answered to a question. A swap may have overtaken it: what this process has swapped
// since it asked is newer.
func (r *recent) learn(key, value string, asked time.Time) {
	s := r.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	barred := s.find(key).barred
	if asked.Before(s.barred) || asked.Before(barred) {
		return
	}
	// What was barred stays barred: an answer from before the swap may still be under way.
	s.put(key, recentAnswer{value: value, known: true, asked: asked, barred: barred}, r.staleness)
}

// swapped takes in a swap of this process.
func (r *recent) swapped(key, value string, asked time.Time) {
	r.settle(key, recentAnswer{value: value, known: true, asked: asked, barred: time.Now()})
}

// forget makes the next get ask Redis.
func (r *recent) forget(key string) {
	r.settle(key, recentAnswer{barred: time.Now()})
}

// settle puts an answer in place that no earlier question replaces. Of two swaps whose answers meet here, nobody
// knows which came first at Redis: then neither is kept.
func (r *recent) settle(key string, a recentAnswer) {
	s := r.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.asked.Before(s.barred) || a.asked.Before(s.find(key).barred) {
		a.known = false
	}
	s.put(key, a, r.staleness)
}

func (s *recentShard) find(key string) recentAnswer {
	if a, ok := s.young[key]; ok {
		return a
	}
	return s.old[key]
}

func (s *recentShard) put(key string, a recentAnswer, staleness time.Duration) {
	now := time.Now()
	if s.young == nil || len(s.young) >= recentRecords || now.Sub(s.since) > staleness {
		if now.Sub(s.since) <= staleness {
			s.barred = now // in the place of what the old half barred; had its time passed, the barred had aged, too
		}
		s.young, s.old, s.since = make(map[string]recentAnswer), s.young, now
	}
	s.young[strings.Clone(key)] = a
}
