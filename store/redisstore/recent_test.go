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
		r.learn(strconv.Itoa(i), answer{value: "value"}, time.Now())
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
		since := time.UnixMicro(1)
		learn := func(value string, asked time.Time) { r.learn("key", answer{value, since}, asked) }
		want := func(value string, known bool) {
			t.Helper()
			if got, ok := r.get("key", time.Now()); got.value != value || ok != known || known && !got.since.Equal(since) {
				t.Errorf("get = %v, %v, want %q, %v since %v", got, ok, value, known, since)
			}
		}
		pass := func(d time.Duration) time.Time {
			<-time.After(d)
			return time.Now()
		}
		want("", false)
		asked := time.Now()
		pass(500 * time.Millisecond)
		learn("1", asked)
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
		want("", false)   // the since is unknown
		learn("1", early) // asked before the swap
		want("", false)
		learn("1", asked.Add(time.Microsecond)) // asked before the answer to the swap
		want("", false)
		learn("2", pass(time.Millisecond))
		want("2", true)
		asked = pass(time.Millisecond)
		r.swapped("key", "3", pass(time.Millisecond))
		want("3", true)
		learn("2", asked) // was still in flight
		want("3", true)
		learn("4", pass(time.Millisecond)) // asked later: another process has swapped
		want("4", true)
		learn("2", asked) // still in flight
		want("4", true)

		asked = pass(time.Millisecond)
		pass(time.Millisecond)
		r.forget("key")
		want("", false)
		learn("4", asked)
		want("", false)
		learn("5", pass(time.Millisecond))
		want("5", true)
		r.swapped("key", "6", asked) // overlaps another swap: it is unknown which one was made last
		want("", false)
		learn("7", pass(time.Millisecond))
		want("7", true)

		// A bar stays in force when its record is dropped because the shard is full.
		asked = pass(time.Millisecond)
		pass(time.Millisecond)
		r.forget("key")
		for i := range 4 * recentShards * recentRecords {
			r.learn(strconv.Itoa(i), answer{}, time.Now())
		}
		learn("old", asked)
		want("", false)
	})
}

// TestRecentSinceAges swaps a key again and again. The since of its answer gets no younger by that.
func TestRecentSinceAges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const staleness = time.Second
		r := newRecent(staleness)
		learned := time.Now()
		r.learn("key", answer{"", time.UnixMicro(1)}, learned)
		for i := range 20 {
			<-time.After(100 * time.Millisecond)
			r.swapped("key", strconv.Itoa(i), time.Now())
			if _, known := r.get("key", time.Now()); known && time.Since(learned) > staleness {
				t.Fatalf("the since was read %v ago and is still used, with a MaxStaleness of %v", time.Since(learned), staleness)
			}
		}
	})
}

// TestRecentDistrustsClocks lets the time of day run ahead of the monotonic clock, as after a machine has slept, and fall
// behind it.
func TestRecentDistrustsClocks(t *testing.T) {
	r := newRecent(time.Minute)
	now := time.Now()
	r.learn("key", answer{value: "value"}, now)
	for jump, want := range map[time.Duration]bool{0: true, 40 * time.Second: true, 2 * time.Minute: false, -time.Second: false} {
		if _, ok := r.get("key", now.Round(0).Add(jump)); ok != want {
			t.Errorf("with the time of day off by %v, known = %v, want %v", jump, ok, want)
		}
	}
}
