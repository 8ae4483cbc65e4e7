package storetest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ginrefresh/ginrefresh/store/internal/deadline/deadlinetest"
)

// tb is the part of testing.TB that a check needs. The tests of this package implement it to see a check fail.
type tb interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

var checks = []struct {
	name string
	run  func(t tb, s Store)
}{
	{"absent", checkAbsent},
	{"order", checkOrder},
	{"swap", checkSwap},
	{"wrong old value", checkWrongOld},
	{"expiry", checkExpiry},
	{"renewed expiry", checkRenewedExpiry},
	{"shortened expiry", checkShortenedExpiry},
	{"past expiry", checkPastExpiry},
	{"far expiry", checkFarExpiry},
	{"any key", checkAnyKey},
	{"any value", checkAnyValue},
	{"one winner", checkOneWinner},
	{"no lost update", checkNoLostUpdate},
	{"many keys at once", checkManyKeysAtOnce},
	{"ended context", checkEndedContext},
	{"passed deadline", checkPassedDeadline},
	{"since", checkSince},
	{"self", checkSelf},
	{"change counter", checkCounter},
}

// patience is the time limit for each call and for each event that must happen.
const patience = 10 * time.Second

// A tester calls a store and fails the test if a call fails.
type tester struct {
	tb
	store  Store
	prefix string
}

func newTester(t tb, s Store) tester {
	return tester{t, s, "storetest " + rand.Text() + " "}
}

func inAnHour() time.Time { return time.Now().Add(time.Hour) }

// get calls Get and fails the test if it returns an error or the wrong number of values.
func (t tester) get(keys ...string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	values, _, err := t.store.Get(ctx, keys...)
	if err != nil {
		t.Fatalf("Get(%.100q): %v", keys, err)
	}
	if len(values) != len(keys) {
		t.Fatalf("Get of %d keys returned %d values", len(keys), len(values))
	}
	return values
}

// want checks the value of a key, with Get and, if the guards would call it, with Peek.
func (t tester) want(key, want string) {
	t.Helper()
	if got := t.get(key)[0]; got != want {
		t.Fatalf("Get(%.100q) = %.100q, want %.100q", key, got, want)
	}
	if p := peekerOf(t.store); p != nil {
		if got := p.Peek(key); got != want {
			t.Fatalf("Peek(%.100q) = %.100q, but Get returns %.100q", key, got, want)
		}
	}
}

// swap calls CompareAndSwap and fails the test if it returns an error.
func (t tester) swap(key, old, new string, expires time.Time) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	done, err := t.store.CompareAndSwap(ctx, key, old, new, expires)
	if err != nil {
		t.Fatalf("CompareAndSwap(%.100q, %.100q, %.100q, %v): %v", key, old, new, expires, err)
	}
	return done
}

func (t tester) mustSwap(key, old, new string, expires time.Time) {
	t.Helper()
	if !t.swap(key, old, new, expires) {
		t.Fatalf("CompareAndSwap(%.100q) from %.100q to %.100q = false, want true", key, old, new)
	}
}

func (t tester) mustNotSwap(key, old, new string, expires time.Time) {
	t.Helper()
	if t.swap(key, old, new, expires) {
		t.Fatalf("CompareAndSwap(%.100q) from %.100q to %.100q = true, want false", key, old, new)
	}
}

// until polls until ok returns true, and fails the test if that takes too long.
func (t tester) until(what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%s: still not the case after %v", what, patience)
		}
	}
}

// checkAbsent requires that Get returns "" and no error for an absent key, and nothing for no keys.
func checkAbsent(tb tb, s Store) {
	t := newTester(tb, s)
	t.get() // no keys: no values and no error
	t.want(t.prefix, "")
	if got := t.get(t.prefix+"a", t.prefix+"b"); got[0] != "" || got[1] != "" {
		t.Fatalf("two absent keys have the values %q, want empty ones", got)
	}
}

// checkOrder requires that Get returns one value for each key, in the order of the keys, also if a key is repeated.
func checkOrder(tb tb, s Store) {
	t := newTester(tb, s)
	var keys, want []string
	for i := range 100 {
		key, value := t.prefix+strconv.Itoa(i), "value "+strconv.Itoa(i)
		if i%3 == 0 {
			value = "" // every third one is absent
		} else {
			t.mustSwap(key, "", value, inAnHour())
		}
		keys, want = append(keys, key), append(want, value)
	}
	for _, i := range []int{99, 1, 50, 0, 1, 1} { // out of order, with repetitions
		keys, want = append(keys, keys[i]), append(want, want[i])
	}
	for i, got := range t.get(keys...) {
		if got != want[i] {
			t.Errorf("Get of %d keys: value %d is %q, want %q", len(keys), i, got, want[i])
		}
	}
}

// checkSwap requires that a swap from the current value sets the new one, and does not touch other keys.
func checkSwap(tb tb, s Store) {
	t := newTester(tb, s)
	key, other := t.prefix+"key", t.prefix+"other"
	t.mustSwap(key, "", "1", inAnHour())
	t.want(key, "1")
	t.want(other, "")
	t.mustSwap(key, "1", "2", inAnHour())
	t.want(key, "2")
	t.mustSwap(key, "2", "2", inAnHour()) // the same value with a new expiry
	t.want(key, "2")
	t.mustSwap(key, "2", "1", inAnHour()) // back to an earlier value
	t.want(key, "1")
	t.want(other, "")
}

// checkWrongOld requires that a swap from any other value than the current one changes nothing and returns false. The
// old values include some that a database may convert, trim or truncate to the current one.
func checkWrongOld(tb tb, s Store) {
	t := newTester(tb, s)
	key := t.prefix + "key"
	t.mustNotSwap(key, "1", "2", inAnHour()) // the key is absent
	t.want(key, "")
	t.mustSwap(key, "", "10", inAnHour())
	for _, old := range []string{"", "1", "100", "10 ", " 10", "010", "10.0", "1e1", "\x00", "10\x00"} {
		t.mustNotSwap(key, old, "2", inAnHour())
		t.want(key, "10")
	}
	t.mustNotSwap(key, "1", "2", time.Now().Add(-time.Hour)) // a past expiry must not delete the record either
	t.want(key, "10")
}

// checkExpiry requires that a record is there until its expiry and absent afterwards, and that its key can be used again.
func checkExpiry(tb tb, s Store) {
	t := newTester(tb, s)
	key, other := t.prefix+"key", t.prefix+"other"
	expires := time.Now().Add(400 * time.Millisecond)
	t.mustSwap(key, "", "1", expires)
	t.mustSwap(other, "", "1", inAnHour())
	got := t.get(key)[0]
	if got != "1" && time.Until(expires) > 200*time.Millisecond {
		t.Fatalf("Get(%q) = %q long before its expiry", key, got)
	}
	t.until("the expired key is absent", func() bool { return t.get(key)[0] == "" })
	if early := time.Until(expires); early > 100*time.Millisecond {
		t.Fatalf("the key expired %v early", early)
	}
	t.want(key, "")
	t.want(other, "1")
	t.mustNotSwap(key, "1", "2", inAnHour()) // an expired value does not count as the old one
	t.want(key, "")
	t.mustSwap(key, "", "2", inAnHour())
	t.want(key, "2")
}

// checkRenewedExpiry requires that a swap replaces the expiry along with the value. A store that keeps the first expiry
// forgets a revocation too early.
func checkRenewedExpiry(tb tb, s Store) {
	t := newTester(tb, s)
	changed, same := t.prefix+"changed", t.prefix+"same"
	first := time.Now().Add(time.Second)
	t.mustSwap(changed, "", "1", first)
	t.mustSwap(same, "", "1", first)
	t.mustSwap(changed, "1", "2", inAnHour())
	t.mustSwap(same, "1", "1", inAnHour())
	t.mustNotSwap(same, "2", "3", first) // a lost swap must not change the expiry
	t.until("the first expiry has passed", func() bool { return time.Since(first) > 200*time.Millisecond })
	t.want(changed, "2")
	t.want(same, "1")
}

// checkShortenedExpiry requires that a swap can also move the expiry forward.
func checkShortenedExpiry(tb tb, s Store) {
	t := newTester(tb, s)
	key := t.prefix + "key"
	t.mustSwap(key, "", "1", inAnHour())
	t.mustSwap(key, "1", "2", time.Now().Add(200*time.Millisecond))
	t.until("a record with a shortened expiry is absent", func() bool { return t.get(key)[0] == "" })
	t.want(key, "")
}

// checkPastExpiry requires that a swap with an expiry in the past returns true and leaves the key absent. Databases tend
// to reject such an expiry, or to take it for none.
func checkPastExpiry(tb tb, s Store) {
	t := newTester(tb, s)
	for i, past := range []time.Time{
		time.Now(),
		time.Now().Add(-time.Millisecond),
		time.Now().Add(-time.Hour),
		time.Unix(0, 0),
		time.Unix(-1, 0),
		{},
		time.Unix(-1<<55, 0), // too early for milliseconds in 64 bits
	} {
		absent, present := t.prefix+"absent "+strconv.Itoa(i), t.prefix+"present "+strconv.Itoa(i)
		t.mustSwap(absent, "", "1", past)
		t.until("a new record with a past expiry is absent", func() bool { return t.get(absent)[0] == "" })
		t.want(absent, "")
		t.mustSwap(present, "", "1", inAnHour())
		t.mustSwap(present, "1", "2", past)
		t.until("a record that was swapped to a past expiry is absent", func() bool { return t.get(present)[0] == "" })
		t.want(present, "")
		t.mustSwap(present, "", "3", inAnHour())
		t.want(present, "3")
	}
}

// checkFarExpiry requires that a far expiry does not overflow: the record would be absent at once.
func checkFarExpiry(tb tb, s Store) {
	t := newTester(tb, s)
	for i, far := range []time.Time{
		time.Now().AddDate(20, 0, 0),
		time.Unix(math.MaxUint32+1, 0),
		time.Unix(0, math.MaxInt64), // the last instant for nanoseconds in 64 bits, in 2262
		time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC),
		time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Unix(1<<55, 0), // too late for milliseconds in 64 bits
	} {
		key := t.prefix + strconv.Itoa(i)
		t.mustSwap(key, "", "1", far)
		t.want(key, "1")
		t.mustNotSwap(key, "", "2", far)
		t.mustSwap(key, "1", "2", far)
		t.want(key, "2")
	}
}

// anyKeys returns keys that a store might truncate, trim, fold, match as a pattern, reject or take for each other.
func anyKeys(prefix string) []string {
	long := strings.Repeat("k", 4095)
	suffixes := []string{
		"", " ", "a", "A", "ä", "a\u0308", "Ä", "a ", " a", "a\x00", "a\x00b", "\x00", "\n", "\r\n", "\t", "a\n",
		"{}", "{a}", "{a}b", "{", "}", "*", "?", "a*", "[a]", "%", "_", "%s", "'", "\"", "`", "\\", "';--", ":", "a:b",
		"/", "../a", ".", "..", "\xff", "\xfe", "\xff\xfe", "\xc3", "\xed\xa0\x80", "\ufffd", "\u2028", "日本",
		"0", "00", "-0", "0.0", "1e3", "1000", "null", "true", long + "a", long + "b",
	}
	keys := []string{""}
	for _, suffix := range suffixes {
		keys = append(keys, prefix+suffix)
	}
	return keys
}

// checkAnyKey requires that any bytes can be a key, and that two different keys never have the same record.
func checkAnyKey(tb tb, s Store) {
	t := newTester(tb, s)
	keys := anyKeys(t.prefix)
	if left := t.get("")[0]; left != "" { // an earlier run was aborted
		t.mustSwap("", left, "gone", time.Time{})
	}
	for i, key := range keys {
		t.want(key, "")
		t.mustSwap(key, "", "value "+strconv.Itoa(i), inAnHour())
	}
	for i, got := range t.get(keys...) {
		if want := "value " + strconv.Itoa(i); got != want {
			t.Errorf("key %.100q has the value %q, want %q: two keys collide", keys[i], got, want)
		}
		t.want(keys[i], got)
	}
	t.mustSwap("", "value 0", "gone", time.Time{})
	t.want("", "")
}

// checkAnyValue requires that values come back byte for byte.
func checkAnyValue(tb tb, s Store) {
	t := newTester(tb, s)
	key, old := t.prefix+"key", ""
	for _, value := range []string{
		"0", "00", "-1", "1e3", "false", "null", "nil", " ", "  a  ", "A", "a", "{}", `{"a":1}`, "a,b;c|d", "a:b",
		"'", `"`, `\`, `\n`, "%s", "%", "$1", "*", "<a>", "ä", "a\u0308", "日本", "😀", strings.Repeat("v", 8<<10), // the longest list of sessions
	} {
		t.mustSwap(key, old, value, inAnHour())
		t.want(key, value)
		old = value
	}
}

// checkOneWinner requires that exactly one of many concurrent swaps from the same value wins. With two winners a token
// would have two successors.
func checkOneWinner(tb tb, s Store) {
	t := newTester(tb, s)
	key, old := t.prefix+"key", ""
	for round := range 10 {
		var winners atomic.Int64
		var winner atomic.Value
		err := together(64, func(ctx context.Context, i int) error {
			value := fmt.Sprintf("round %d, goroutine %d", round, i)
			done, err := s.CompareAndSwap(ctx, key, old, value, inAnHour())
			if done {
				winners.Add(1)
				winner.Store(value)
			}
			return err
		})
		if err != nil {
			t.Fatalf("CompareAndSwap from 64 goroutines: %v", err)
		}
		if n := winners.Load(); n != 1 {
			t.Fatalf("64 goroutines swapped the same value concurrently, and %d of them won, want 1", n)
		}
		old = winner.Load().(string)
		t.want(key, old)
	}
}

// checkNoLostUpdate requires that no swap that was answered true is overwritten by one from an older value.
func checkNoLostUpdate(tb tb, s Store) {
	const goroutines, increments = 16, 10
	t := newTester(tb, s)
	key := t.prefix + "counter"
	err := together(goroutines, func(ctx context.Context, _ int) error {
		for range increments {
			if err := increment(ctx, s, key); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("incrementing a counter from %d goroutines: %v", goroutines, err)
	}
	t.want(key, strconv.Itoa(goroutines*increments))
}

// increment adds 1 to the number under key, which is absent at first. It tries again until its swap wins.
func increment(ctx context.Context, s Store, key string) error {
	for {
		values, _, err := s.Get(ctx, key)
		if err != nil {
			return err
		}
		if len(values) != 1 {
			return fmt.Errorf("got %d values from Get of one key", len(values))
		}
		n, _ := strconv.Atoi(values[0])
		done, err := s.CompareAndSwap(ctx, key, values[0], strconv.Itoa(n+1), inAnHour())
		if done || err != nil {
			return err
		}
	}
}

// checkManyKeysAtOnce requires that concurrent swaps of different keys all win, and that Get sees each of them at once.
func checkManyKeysAtOnce(tb tb, s Store) {
	t := newTester(tb, s)
	key := func(i int) string { return t.prefix + strconv.Itoa(i) }
	err := together(64, func(ctx context.Context, i int) error {
		for _, step := range [][2]string{{"", "1"}, {"1", "2"}, {"2", "value " + strconv.Itoa(i)}} {
			done, err := s.CompareAndSwap(ctx, key(i), step[0], step[1], inAnHour())
			if err != nil {
				return err
			}
			if !done {
				return fmt.Errorf("swap of key %d from %q to %q = false, want true", i, step[0], step[1])
			}
			// The next request may follow at once, so the change must be visible by now.
			values, _, err := s.Get(ctx, key(i))
			if err != nil {
				return err
			}
			if len(values) != 1 || values[0] != step[1] {
				return fmt.Errorf("key %d has the value %q right after the swap to %q", i, values, step[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("64 goroutines, each on its own key: %v", err)
	}
	for i := range 64 {
		t.want(key(i), "value "+strconv.Itoa(i))
	}
}

// together runs f in n goroutines that start at the same time, and returns their errors.
func together(n int, f func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	start := make(chan struct{})
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			errs[i] = f(ctx, i)
		})
	}
	close(start)
	wg.Wait()
	return errors.Join(errs...)
}

// checkEndedContext requires that calls with an ended context return an error without delay and change nothing.
func checkEndedContext(tb tb, s Store) {
	t := newTester(tb, s)
	absent, present := t.prefix+"absent", t.prefix+"present"
	t.mustSwap(present, "", "1", inAnHour())
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	late, cancelLate := context.WithDeadline(context.Background(), time.Now().Add(-time.Second))
	defer cancelLate()
	for _, ctx := range []context.Context{cancelled, late} {
		start := time.Now()
		if _, _, err := s.Get(ctx, present); err == nil {
			t.Errorf("Get returned no error although its context had ended: %v", ctx.Err())
		}
		if done, err := s.CompareAndSwap(ctx, absent, "", "1", inAnHour()); err == nil || done {
			t.Errorf("CompareAndSwap = %v, %v although its context had ended: %v", done, err, ctx.Err())
		}
		if done, err := s.CompareAndSwap(ctx, present, "1", "2", inAnHour()); err == nil || done {
			t.Errorf("CompareAndSwap = %v, %v although its context had ended: %v", done, err, ctx.Err())
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("three calls with an ended context took %v", took)
		}
	}
	t.want(absent, "")
	t.want(present, "1")
}

// checkPassedDeadline requires that a swap changes nothing once its deadline has passed by the clock (R10a).
func checkPassedDeadline(tb tb, s Store) {
	t := newTester(tb, s)
	absent, present := t.prefix+"absent", t.prefix+"present"
	t.mustSwap(present, "", "1", inAnHour())
	for _, late := range []time.Duration{0, time.Second, 24 * time.Hour} {
		ctx := deadlinetest.Silent(context.Background(), time.Now().Add(-late))
		for _, swap := range []struct {
			key, old, new string
			expires       time.Time
		}{
			{absent, "", "1", inAnHour()},
			{present, "1", "2", inAnHour()},
			{present, "1", "2", time.Now().Add(-time.Hour)},
			{present, "2", "3", inAnHour()},
		} {
			// An error is better, but false is acceptable: a caller who reads again finds the value unchanged.
			done, err := s.CompareAndSwap(ctx, swap.key, swap.old, swap.new, swap.expires)
			if done {
				t.Errorf("CompareAndSwap(%.100q) = %v, %v although the deadline of its context had passed %v before", swap.key, done, err, late)
			}
		}
		t.want(absent, "")
		t.want(present, "1")
	}
}

// checkSince requires that the store says since when it has forgotten nothing (R20), and that this instant does not
// move while nothing is forgotten.
func checkSince(tb tb, s Store) {
	t := newTester(tb, s)
	since := func(keys ...string) time.Time {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_, since, err := t.store.Get(ctx, keys...)
		if err != nil {
			t.Fatalf("Get(%q): %v", keys, err)
		}
		return since
	}
	keys := []string{t.prefix + "session", t.prefix + "subject"}
	first := since(keys...)
	switch {
	case first.IsZero():
		t.Fatalf("Get returns the zero time: it must say since when the store has forgotten nothing, or the beginning of 1970 if it never does")
	case first.After(time.Now().Add(2 * time.Second)):
		t.Fatalf("Get returns %v as the time since when nothing was forgotten: more than two seconds ahead of the clock", first)
	}
	t.mustSwap(keys[0], "", "1", inAnHour())
	if later := since(keys...); !later.Equal(first) {
		t.Fatalf("since moved from %v to %v, but nothing was forgotten", first, later)
	}
	if peekerOf(s) != nil {
		if all := since(); !all.Equal(first) {
			t.Fatalf("Get returns %v without keys, %v with keys: a Peeker has one constant since", all, first)
		}
	}
}

// checkSelf tests the first result of Changes. If it is a store of another type, s is a struct that embeds that store.
// The guards do not call the Peek that such a struct inherits, so it needs no check.
func checkSelf(tb tb, s Store) {
	c, ok := s.(changer)
	if !ok {
		return
	}
	t := newTester(tb, s)
	_, peeks := s.(peeker)
	_, peeksRecent := s.(recentPeeker)
	if !peeks && !peeksRecent {
		t.Fatalf("the store has Changes, but no Peek(key string) string: the guards do not use the change counters")
	}
	if !reflect.ValueOf(s).Comparable() {
		t.Fatalf("stores of type %T cannot be compared with the self of Changes: return a pointer", s)
	}
	if self, _ := c.Changes(); self != any(s) && reflect.TypeOf(self) == reflect.TypeOf(s) {
		t.Fatalf("the self of Changes is another %T than the store", s)
	}
}

// checkCounter tests the change counters of a store whose Peek the guards call.
func checkCounter(tb tb, s Store) {
	c, ok := s.(changer)
	p := peekerOf(s)
	if !ok || p == nil {
		return
	}
	t := newTester(tb, s)
	key := t.prefix + "key"
	_, counterOf := c.Changes()
	counter := counterOf(key)
	if counter != counterOf(key) {
		t.Fatalf("Changes returned two counters for the same key")
	}
	for _, step := range []struct {
		old, new string
		expires  time.Time
	}{{"", "1", inAnHour()}, {"1", "2", inAnHour()}, {"2", "3", time.Now().Add(-time.Hour)}} {
		before := counter.Load()
		t.mustSwap(key, step.old, step.new, step.expires)
		if after := counter.Load(); after <= before || after%2 == 1 {
			t.Fatalf("the change counter was %d before a swap from %q to %q, and %d after it", before, step.old, step.new, after)
		}
	}
	t.watchCounter(p, counterOf(t.prefix+"number"), t.prefix+"number")
}

// watchCounter increments the number under key while other goroutines read it. A change that a reader sees while the
// change counter is even and does not move was not announced.
func (t tester) watchCounter(p peeker, counter *atomic.Uint64, key string) {
	t.Helper()
	var finished atomic.Bool
	err := together(4, func(ctx context.Context, i int) error {
		if i == 0 {
			defer finished.Store(true)
			for range 200 {
				if err := increment(ctx, t.store, key); err != nil {
					return err
				}
			}
			return nil
		}
		for !finished.Load() {
			before := counter.Load()
			first := p.Peek(key)
			runtime.Gosched() // to the writer
			if before%2 == 1 {
				continue
			}
			second := p.Peek(key)
			if first != second && counter.Load() == before {
				return fmt.Errorf("the value went from %q to %q, but the change counter stayed at %d", first, second, before)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("reading a key while it changes: %v", err)
	}
}
