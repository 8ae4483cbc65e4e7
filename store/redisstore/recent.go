package redisstore

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// recentAnswers limits the answers in each half of a shard. All shards hold up to 2 * 1,024 * 112. A Go map with 128
// places grows when it has more than 112.
const recentAnswers = 112

// recent keeps the answers of Redis for reuse. An answer may be used for two reasons:
//
//   - It is young. The age counts from the question, because Redis may change the record at any time after it has read
//     the question, and a frozen server can delay its reply for long.
//   - A recent proof shows that the record has not changed since.
//
// It has a part for each shard of the blacklist. Each part has two halves. When the young one is full, it becomes the
// old one, and the previous old one is dropped. So the memory is limited without a sweep.
type recent struct {
	staleness time.Duration
	proof     atomic.Pointer[proof] // the latest one
	shards    [shards]recentShard
}

// A proof says that recent was told of every change that Redis had made when it read a question sent at asked, to the
// records that were read after start.
type proof struct{ start, asked time.Time }

type recentShard struct {
	mu         sync.Mutex
	young, old map[string]recentAnswer
	barred     time.Time // the answers to questions from before this instant may be outdated
}

type recentAnswer struct {
	answer
	asked time.Time // when the question was sent
}

func newRecent(staleness time.Duration) *recent {
	r := &recent{staleness: staleness}
	r.proof.Store(&proof{})
	return r
}

// young reports whether what was asked at asked is at most staleness old. It compares both the time of day and the
// monotonic clock: the former may be set back, and the latter stops while the machine sleeps.
func (r *recent) young(asked, now time.Time) bool {
	wall := now.Round(0).Sub(asked.Round(0))
	return wall >= 0 && wall <= r.staleness && now.Sub(asked) <= r.staleness
}

// get returns the answer for the key and whether it may be used.
func (r *recent) get(key string, now time.Time) (answer, bool) {
	proof := r.proof.Load()
	s := &r.shards[shardOf(key)]
	s.mu.Lock()
	defer s.mu.Unlock()
	a, isYoung := s.young[key]
	if !isYoung {
		a = s.old[key]
	}
	if !r.young(a.asked, now) && !(a.asked.After(proof.start) && r.young(proof.asked, now)) {
		return answer{}, false
	}
	if !isYoung {
		s.put(key, a)
	}
	return a.answer, true
}

// learn stores an answer, unless a change that it may lack is known already.
func (r *recent) learn(key string, a answer, asked time.Time) {
	s := &r.shards[shardOf(key)]
	s.mu.Lock()
	defer s.mu.Unlock()
	if asked.After(s.barred) {
		s.put(strings.Clone(key), recentAnswer{answer: a, asked: asked})
	}
}

// put stores an answer in the young half, and starts a new half if that one is full.
func (s *recentShard) put(key string, a recentAnswer) {
	if s.young == nil || len(s.young) >= recentAnswers {
		s.young, s.old = make(map[string]recentAnswer), s.young
	}
	s.young[key] = a
}

// forget drops the answer for a key, and all answers to the shard's earlier questions that have not arrived yet: the
// record was changed.
func (r *recent) forget(key string) {
	s := &r.shards[shardOf(key)]
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.young, key)
	delete(s.old, key)
	s.barred = time.Now()
}

// forgetShard is forget for all keys of a shard.
func (r *recent) forgetShard(shard int) {
	s := &r.shards[shard]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.young, s.old = nil, nil
	s.barred = time.Now()
}

// PeekRecent returns the answer that Get has returned for the key, if it is in this process's memory and was right at
// some instant within the last MaxStaleness. The guards prefer it to Get. A value may still be known after it has
// expired.
func (s *Store) PeekRecent(key string) (value string, since time.Time, known bool) {
	if s.recent == nil {
		return "", time.Time{}, false
	}
	a, known := s.recent.get(key, time.Now())
	return a.value, a.since, known
}

// Changes is a contract with package middleware. It is not part of the public API and may change in any release. See
// the method of store.Memory with the same name. This store has no change counters.
func (s *Store) Changes() (self any, counter func(key string) *atomic.Uint64) {
	return s, nil
}
