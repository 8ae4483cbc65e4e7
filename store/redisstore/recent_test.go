package redisstore

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

func TestRecentIsBounded(t *testing.T) {
	r := newRecent(time.Hour)
	for i := range 4 * shards * recentAnswers {
		r.learn(strconv.Itoa(i), answer{value: "value"}, time.Now())
	}
	n := 0
	for i := range r.shards {
		n += len(r.shards[i].young) + len(r.shards[i].old)
	}
	if limit := 2 * shards * recentAnswers; n > limit || n < limit/2 {
		t.Errorf("%d answers are kept, want at most %d and at least half of that", n, limit)
	}
}

// TestRecentKeepsWhatIsUsed fills a shard again and again. An answer that is used in between stays.
func TestRecentKeepsWhatIsUsed(t *testing.T) {
	r := newRecent(time.Hour)
	r.learn("used", answer{value: "value"}, time.Now())
	for i, n := 0, 0; n < 10*recentAnswers; i++ {
		key := strconv.Itoa(i)
		if shardOf(key) != shardOf("used") {
			continue
		}
		r.learn(key, answer{}, time.Now())
		if n++; n%(recentAnswers/2) == 0 {
			if _, known := r.get("used", time.Now()); !known {
				t.Fatalf("an answer was dropped after %d others, although it was used", n)
			}
		}
	}
}

// A recentTest is a recent with answers for one key.
type recentTest struct {
	*testing.T
	*recent
}

func (t recentTest) want(value string, known bool) {
	t.Helper()
	got, ok := t.get("key", time.Now())
	if got.value != value || ok != known || known && !got.since.Equal(time.UnixMicro(1)) {
		t.Errorf("get = %v, %v, want %q, %v", got, ok, value, known)
	}
}

func (t recentTest) answer(value string, asked time.Time) {
	t.learn("key", answer{value, time.UnixMicro(1)}, asked)
}

// pass lets time pass and returns the new time.
func pass(d time.Duration) time.Time {
	<-time.After(d)
	return time.Now()
}

func TestRecentAges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := recentTest{t, newRecent(time.Second)}
		r.want("", false)
		asked := time.Now()
		pass(500 * time.Millisecond)
		r.answer("1", asked)
		r.want("1", true)
		pass(500 * time.Millisecond)
		r.want("1", true)
		pass(time.Nanosecond)
		r.want("", false)
	})
}

func TestRecentForgets(t *testing.T) {
	for name, forget := range map[string]func(*recent){
		"the key":   func(r *recent) { r.forget("key") },
		"the shard": func(r *recent) { r.forgetShard(shardOf("key")) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := recentTest{t, newRecent(time.Second)}
				asked := time.Now()
				r.answer("1", asked)
				early := pass(time.Millisecond)
				pass(time.Millisecond)
				forget(r.recent)
				r.want("", false)
				r.answer("1", early) // was in flight
				r.want("", false)
				r.answer("1", time.Now()) // the clock may be coarse
				r.want("", false)
				r.answer("2", pass(time.Nanosecond))
				r.want("2", true)
				r.answer("1", early) // still in flight
				r.want("2", true)
			})
		})
	}
}

func TestRecentIsProved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := recentTest{t, newRecent(time.Second)}
		r.answer("early", time.Now())
		start := time.Now()
		asked := pass(10 * time.Second)
		r.proof.Store(&proof{start, asked})
		r.want("", false) // the answer is not later than the start
		r.answer("1", start.Add(1))
		pass(time.Second)
		r.want("1", true) // the proof has just reached MaxStaleness
		pass(time.Nanosecond)
		r.want("", false)
		r.proof.Store(&proof{start, time.Now()})
		r.want("1", true) // still true
		r.proof.Store(&proof{time.Now(), time.Now()})
		r.want("", false) // another feed
	})
}

// TestRecentDistrustsClocks lets the time of day run ahead of the monotonic clock, as after a machine has slept, and
// fall behind it.
func TestRecentDistrustsClocks(t *testing.T) {
	now := time.Now()
	aged, proved := newRecent(time.Minute), newRecent(time.Minute)
	aged.learn("key", answer{value: "value"}, now)
	proved.learn("key", answer{value: "value"}, now.Add(-time.Hour))
	proved.proof.Store(&proof{start: now.Add(-2 * time.Hour), asked: now})
	for jump, want := range map[time.Duration]bool{0: true, 40 * time.Second: true, 2 * time.Minute: false, -time.Second: false} {
		for name, r := range map[string]*recent{"aged": aged, "proved": proved} {
			if _, ok := r.get("key", now.Round(0).Add(jump)); ok != want {
				t.Errorf("%s: with the time of day off by %v, known = %v, want %v", name, jump, ok, want)
			}
		}
	}
}
