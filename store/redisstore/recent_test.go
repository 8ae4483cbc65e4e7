package redisstore

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

func TestRecentIsBounded(t *testing.T) {
	r := newRecent(time.Hour)
	for i := range 1_000_000 {
		r.learn(strconv.Itoa(i), "value", time.Now())
	}
	n := 0
	for i := range r.shards {
		n += len(r.shards[i].young) + len(r.shards[i].old)
	}
	if limit := 2 * recentShards * recentRecords; n > limit || n < limit/4 {
		t.Errorf("%d answers are kept, want at most %d, and many of them", n, limit)
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
		want("", false) // one caller is sent to ask again
		want("1", true) // for the others it is exactly as old as it may be
		pass(time.Nanosecond)
		want("", false)

		early := pass(time.Second)
		asked = pass(time.Millisecond)
		pass(time.Millisecond)
		r.swapped("key", "2", asked)
		want("2", true)
		r.learn("key", "1", early) // the question came before the swap
		want("2", true)
		r.learn("key", "1", asked.Add(time.Microsecond)) // and this one before its answer
		want("2", true)
		r.learn("key", "3", pass(time.Millisecond)) // this one is newer: somebody else has swapped
		want("3", true)
		r.learn("key", "1", early) // still under way
		want("3", true)

		asked = pass(time.Millisecond)
		pass(time.Millisecond)
		r.forget("key")
		want("", false)
		r.learn("key", "3", asked)
		want("", false)
		r.swapped("key", "4", asked) // began before the other ended: nobody knows which came last
		want("", false)
		r.learn("key", "5", pass(time.Millisecond))
		want("5", true)

		// What bars an answer outlasts its own record, however full the shard.
		asked = pass(time.Millisecond)
		pass(time.Millisecond)
		r.forget("key")
		for i := range 100 * recentShards * recentRecords / 10 {
			r.learn(strconv.Itoa(i), "", time.Now())
		}
		r.learn("key", "old", asked)
		want("", false)
	})
}

// TestRecentDistrustsClocks has the time of day run away from the monotonic clock, as when a machine has slept, and
// fall behind it.
func TestRecentDistrustsClocks(t *testing.T) {
	r := newRecent(time.Minute)
	now := time.Now()
	r.learn("key", "value", now)
	for jump, want := range map[time.Duration]bool{0: true, 40 * time.Second: true, 2 * time.Minute: false, -time.Second: false} {
		if _, ok := r.get("key", now.Round(0).Add(jump)); ok != want {
			t.Errorf("with the time of day %v off, the answer is known: %v, want %v", jump, ok, want)
		}
	}
}
