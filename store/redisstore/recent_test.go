package redisstore

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

func TestRecentIsBounded(t *testing.T) {
	r := newRecent(time.Hour)
	for i := range 4 * recentShards * recentRecords {
		r.learn(strconv.Itoa(i), "value", time.Now())
	}
	n := 0
	for i := range r.shards {
		n += len(r.shards[i].young) + len(r.shards[i].old)
	}
	if limit := 2 * recentShards * recentRecords; n > limit || n < limit/4 {
		t.Errorf("%d answers are kept, want at most %d and at least a quarter of that", n, limit)
	}
}

func TestRecent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecent(time.Second)
		want := func(value string, known bool) {
			t.Helper()
			if got, ok := r.get("key", time.Now()); got != value || ok != known {
				t.Errorf("get = %q, %v, want %q, %v", got, ok, value, known)
			}
		}
		pass := func(d time.Duration) time.Time {
			<-time.After(d)
			return time.Now()
		}
		want("", false)
		asked := time.Now()
		pass(500 * time.Millisecond)
		r.learn("key", "1", asked)
		want("1", true)
		pass(500 * time.Millisecond)
		want("", false) // the first caller must ask again
		want("1", true) // the others may still use the answer, which has just reached MaxStaleness
		pass(time.Nanosecond)
		want("", false)

		early := pass(time.Second)
		asked = pass(time.Millisecond)
		pass(time.Millisecond)
		r.swapped("key", "2", asked)
		want("2", true)
		r.learn("key", "1", early) // asked before the swap
		want("2", true)
		r.learn("key", "1", asked.Add(time.Microsecond)) // asked before the answer to the swap
		want("2", true)
		r.learn("key", "3", pass(time.Millisecond)) // asked later: another process has swapped
		want("3", true)
		r.learn("key", "1", early) // was still in flight
		want("3", true)

		asked = pass(time.Millisecond)
		pass(time.Millisecond)
		r.forget("key")
		want("", false)
		r.learn("key", "3", asked)
		want("", false)
		r.swapped("key", "4", asked) // overlaps another swap: it is unknown which one was made last
		want("", false)
		r.learn("key", "5", pass(time.Millisecond))
		want("5", true)

		// A bar stays in force when its record is dropped because the shard is full.
		asked = pass(time.Millisecond)
		pass(time.Millisecond)
		r.forget("key")
		for i := range 4 * recentShards * recentRecords {
			r.learn(strconv.Itoa(i), "", time.Now())
		}
		r.learn("key", "old", asked)
		want("", false)
	})
}

// TestRecentDistrustsClocks lets the time of day run ahead of the monotonic clock, as after a machine has slept, and fall
// behind it.
func TestRecentDistrustsClocks(t *testing.T) {
	r := newRecent(time.Minute)
	now := time.Now()
	r.learn("key", "value", now)
	for jump, want := range map[time.Duration]bool{0: true, 40 * time.Second: true, 2 * time.Minute: false, -time.Second: false} {
		if _, ok := r.get("key", now.Round(0).Add(jump)); ok != want {
			t.Errorf("with the time of day off by %v, known = %v, want %v", jump, ok, want)
		}
	}
}
