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
)

// tb is the part of testing.TB that a check needs, so that the tests of this package can watch a check fail.
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
	{"self", checkSelf},
	{"changes", checkChanges},
}

// patience bounds every single call and every wait for something that must happen.
var patience = 10 * time.Second

// tester calls a store and fails the test where a call does.
type tester struct {
	tb
	store  Store
	prefix string
}

func newTester(t tb, s Store) tester {
	return tester{t, s, "storetest " + rand.Text() + " "}
}

func inAnHour() time.Time { return time.Now().Add(time.Hour) }

func (t tester) get(keys ...string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	values, err := t.store.Get(ctx, keys...)
	if err != nil {
		t.Fatalf("Get(%.100q): %v", keys, err)
	}
	if len(values) != len(keys) {
		t.Fatalf("Get of %d keys returned %d values", len(keys), len(values))
	}
	return values
}

// want checks a key's value, with Get and, if the guards use it, with Peek.
func (t tester) want(key, want string) {
	t.Helper()
	if got := t.get(key)[0]; got != want {
		t.Fatalf("Get(%.100q) = %.100q, want %.100q", key, got, want)
	}
	if peek, _ := localReads(t.store); peek != nil {
		if got := peek(key); got != want {
			t.Fatalf("Peek(%.100q) = %.100q, but Get says %.100q", key, got, want)
		}
	}
}

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

// until polls until ok, and fails the test if that takes too long.
func (t tester) until(what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not so after %v", what, patience)
		}
	}
}

func checkAbsent(tb tb, s Store) {
	t := newTester(tb, s)
	t.get() // no keys: no values, no error
	t.want(t.prefix, "")
	if got := t.get(t.prefix+"a", t.prefix+"b"); got[0] != "" || got[1] != "" {
		t.Fatalf("absent keys have the values %q", got)
	}
}

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
	for _, i := range []int{99, 1, 50, 0, 1, 1} { // out of order, and some twice
		keys, want = append(keys, keys[i]), append(want, want[i])
	}
	for i, got := range t.get(keys...) {
		if got != want[i] {
			t.Errorf("Get of %d keys: value %d is %q, want %q", len(keys), i, got, want[i])
		}
	}
}

func checkSwap(tb tb, s Store) {
	t := newTester(tb, s)
	key, other := t.prefix+"key", t.prefix+"other"
	t.mustSwap(key, "", "1", inAnHour())
	t.want(key, "1")
	t.want(other, "")
	t.mustSwap(key, "1", "2", inAnHour())
	t.want(key, "2")
	t.mustSwap(key, "2", "2", inAnHour()) // to the same value: only the expiry is new
	t.want(key, "2")
	t.mustSwap(key, "2", "1", inAnHour()) // and back
	t.want(key, "1")
	t.want(other, "")
}

func checkWrongOld(tb tb, s Store) {
	t := newTester(tb, s)
	key := t.prefix + "key"
	t.mustNotSwap(key, "1", "2", inAnHour()) // absent, but said to be present
	t.want(key, "")
	t.mustSwap(key, "", "10", inAnHour())
	for _, old := range []string{"", "1", "100", "10 ", " 10", "010", "10.0", "1e1", "\x00", "10\x00"} {
		t.mustNotSwap(key, old, "2", inAnHour())
		t.want(key, "10")
	}
	t.mustNotSwap(key, "1", "2", time.Now().Add(-time.Hour)) // nor may it delete
	t.want(key, "10")
}

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
	t.until("an expired key is absent", func() bool { return t.get(key)[0] == "" })
	if early := time.Until(expires); early > 100*time.Millisecond {
		t.Fatalf("the key expired %v early", early)
	}
	t.want(key, "")
	t.want(other, "1")
	t.mustNotSwap(key, "1", "2", inAnHour()) // what has expired is no old value
	t.want(key, "")
	t.mustSwap(key, "", "2", inAnHour())
	t.want(key, "2")
}

func checkRenewedExpiry(tb tb, s Store) {
	t := newTester(tb, s)
	changed, same := t.prefix+"changed", t.prefix+"same"
	first := time.Now().Add(time.Second)
	t.mustSwap(changed, "", "1", first)
	t.mustSwap(same, "", "1", first)
	t.mustSwap(changed, "1", "2", inAnHour())
	t.mustSwap(same, "1", "1", inAnHour())
	t.mustNotSwap(same, "2", "3", first) // a lost swap changes no expiry either
	t.until("the first expiry is over", func() bool { return time.Since(first) > 200*time.Millisecond })
	t.want(changed, "2")
	t.want(same, "1")
}

func checkShortenedExpiry(tb tb, s Store) {
	t := newTester(tb, s)
	key := t.prefix + "key"
	t.mustSwap(key, "", "1", inAnHour())
	t.mustSwap(key, "1", "2", time.Now().Add(200*time.Millisecond))
	t.until("the shortened expiry is over", func() bool { return t.get(key)[0] == "" })
	t.want(key, "")
}

func checkPastExpiry(tb tb, s Store) {
	t := newTester(tb, s)
	for i, past := range []time.Time{
		time.Now(),
		time.Now().Add(-time.Millisecond),
		time.Now().Add(-time.Hour),
		time.Unix(0, 0),
		time.Unix(-1, 0),
		{},
		time.Unix(-1<<55, 0), // before what fits into milliseconds
	} {
		absent, present := t.prefix+"absent "+strconv.Itoa(i), t.prefix+"present "+strconv.Itoa(i)
		t.mustSwap(absent, "", "1", past)
		t.until("a record that came expired is absent", func() bool { return t.get(absent)[0] == "" })
		t.want(absent, "")
		t.mustSwap(present, "", "1", inAnHour())
		t.mustSwap(present, "1", "2", past)
		t.until("a record that was swapped to a past expiry is absent", func() bool { return t.get(present)[0] == "" })
		t.want(present, "")
		t.mustSwap(present, "", "3", inAnHour())
		t.want(present, "3")
	}
}

func checkFarExpiry(tb tb, s Store) {
	t := newTester(tb, s)
	for i, far := range []time.Time{
		time.Now().AddDate(20, 0, 0),
		time.Unix(math.MaxUint32+1, 0),
		time.Unix(0, math.MaxInt64), // the last instant that fits into nanoseconds, in 2262
		time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC),
		time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Unix(1<<55, 0), // beyond what fits into milliseconds
	} {
		key := t.prefix + strconv.Itoa(i)
		t.mustSwap(key, "", "1", far)
		t.want(key, "1")
		t.mustNotSwap(key, "", "2", far)
		t.mustSwap(key, "1", "2", far)
		t.want(key, "2")
	}
}

// anyKeys are keys that some store might mix up, cut, trim, fold, match as a pattern or refuse.
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

func checkAnyKey(tb tb, s Store) {
	t := newTester(tb, s)
	keys := anyKeys(t.prefix)
	if left := t.get("")[0]; left != "" { // by an earlier run that broke off
		t.mustSwap("", left, "gone", time.Time{})
	}
	for i, key := range keys {
		t.want(key, "")
		t.mustSwap(key, "", "value "+strconv.Itoa(i), inAnHour())
	}
	for i, got := range t.get(keys...) {
		if want := "value " + strconv.Itoa(i); got != want {
			t.Errorf("key %.100q has the value %q, want %q: keys collide", keys[i], got, want)
		}
		t.want(keys[i], got)
	}
	t.mustSwap("", "value 0", "gone", time.Time{})
	t.want("", "")
}

func checkAnyValue(tb tb, s Store) {
	t := newTester(tb, s)
	key, old := t.prefix+"key", ""
	for _, value := range []string{
		"0", "00", "-1", "1e3", "false", "null", "nil", " ", "  a  ", "A", "a", "{}", `{"a":1}`, "a,b;c|d", "a:b",
		"'", `"`, `\`, `\n`, "%s", "%", "$1", "*", "<a>", "ä", "a\u0308", "日本", "😀", strings.Repeat("v", 1024),
	} {
		t.mustSwap(key, old, value, inAnHour())
		t.want(key, value)
		old = value
	}
}

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
			t.Fatalf("64 goroutines swapped one value at once: %d of them won, want 1", n)
		}
		old = winner.Load().(string)
		t.want(key, old)
	}
}

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
		t.Fatalf("counting from %d goroutines: %v", goroutines, err)
	}
	t.want(key, strconv.Itoa(goroutines*increments))
}

func increment(ctx context.Context, s Store, key string) error {
	for {
		values, err := s.Get(ctx, key)
		if err != nil {
			return err
		}
		if len(values) != 1 {
			return fmt.Errorf("one key's Get returned %d values", len(values))
		}
		n, _ := strconv.Atoi(values[0])
		done, err := s.CompareAndSwap(ctx, key, values[0], strconv.Itoa(n+1), inAnHour())
		if done || err != nil {
			return err
		}
	}
}

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
			// What was answered is there at once, for the next request may come at once.
			values, err := s.Get(ctx, key(i))
			if err != nil {
				return err
			}
			if len(values) != 1 || values[0] != step[1] {
				return fmt.Errorf("key %d has the value %q after the swap to %q", i, values, step[1])
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

// together runs f in n goroutines that start at once, and returns their errors.
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
		if _, err := s.Get(ctx, present); err == nil {
			t.Errorf("Get returned no error, but its context had ended: %v", ctx.Err())
		}
		if done, err := s.CompareAndSwap(ctx, absent, "", "1", inAnHour()); err == nil || done {
			t.Errorf("CompareAndSwap = %v, %v, but its context had ended: %v", done, err, ctx.Err())
		}
		if done, err := s.CompareAndSwap(ctx, present, "1", "2", inAnHour()); err == nil || done {
			t.Errorf("CompareAndSwap = %v, %v, but its context had ended: %v", done, err, ctx.Err())
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("three calls whose context had ended took %v", took)
		}
	}
	t.want(absent, "")
	t.want(present, "1")
}

// silentContext is a context whose deadline has passed although Err is nil: the timer of a context fires late in a
// process that was stopped.
type silentContext struct {
	context.Context
	deadline time.Time
}

func (c silentContext) Deadline() (time.Time, bool) { return c.deadline, true }

func checkPassedDeadline(tb tb, s Store) {
	t := newTester(tb, s)
	absent, present := t.prefix+"absent", t.prefix+"present"
	t.mustSwap(present, "", "1", inAnHour())
	for _, late := range []time.Duration{0, time.Second, 24 * time.Hour} {
		ctx := silentContext{context.Background(), time.Now().Add(-late)}
		for _, swap := range []struct {
			key, old, new string
			expires       time.Time
		}{
			{absent, "", "1", inAnHour()},
			{present, "1", "2", inAnHour()},
			{present, "1", "2", time.Now().Add(-time.Hour)},
			{present, "2", "3", inAnHour()},
		} {
			// An error is better, but false will do: a caller who reads again finds the value unchanged.
			done, err := s.CompareAndSwap(ctx, swap.key, swap.old, swap.new, swap.expires)
			if done {
				t.Errorf("CompareAndSwap(%.100q) = %v, %v, %v after the deadline of its context", swap.key, done, err, late)
			}
		}
		t.want(absent, "")
		t.want(present, "1")
	}
}

// checkSelf is for stores that have Changes. If self is a store of another type, the store embeds that one.
func checkSelf(tb tb, s Store) {
	c, ok := s.(changer)
	if !ok {
		return
	}
	t := newTester(tb, s)
	if !reflect.ValueOf(s).Comparable() {
		t.Fatalf("stores of type %T cannot be compared, so Changes cannot tell them apart: return a pointer", s)
	}
	if self, _ := c.Changes(); self != any(s) && reflect.TypeOf(self) == reflect.TypeOf(s) {
		t.Fatalf("Changes returned another %T than the store itself", s)
	}
}

// checkChanges is for stores whose change counters the guards use.
func checkChanges(tb tb, s Store) {
	peek, counter := localReads(s)
	if counter == nil {
		return
	}
	t := newTester(tb, s)
	key := t.prefix + "key"
	changes := counter(key)
	if changes != counter(key) {
		t.Fatalf("Changes returned two counters for one key")
	}
	if changes.Load()%2 == 1 {
		t.Fatalf("the change counter is odd although no change is in progress")
	}
	for _, step := range []struct {
		old, new string
		expires  time.Time
	}{{"", "1", inAnHour()}, {"1", "2", inAnHour()}, {"2", "3", time.Now().Add(-time.Hour)}} {
		before := changes.Load()
		t.mustSwap(key, step.old, step.new, step.expires)
		if after := changes.Load(); after <= before || after%2 == 1 {
			t.Fatalf("the change counter was %d before a swap from %q to %q, and %d after it", before, step.old, step.new, after)
		}
	}
	t.watchChanges(peek, counter, t.prefix+"counter")
}

// watchChanges increments a key and reads it at the same time. A value that changes while the change counter is even and
// does not move was not announced.
func (t tester) watchChanges(peek func(key string) string, counter func(key string) *atomic.Uint64, key string) {
	t.Helper()
	var counted atomic.Bool
	err := together(4, func(ctx context.Context, i int) error {
		if i == 0 {
			defer counted.Store(true)
			for range 200 {
				if err := increment(ctx, t.store, key); err != nil {
					return err
				}
			}
			return nil
		}
		changes := counter(key)
		for !counted.Load() {
			before := changes.Load()
			first := peek(key)
			runtime.Gosched() // to the goroutine that counts
			if before%2 == 1 {
				continue
			}
			second := peek(key)
			if first != second && changes.Load() == before {
				return fmt.Errorf("a key's value went from %q to %q, and its change counter stayed %d", first, second, before)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("reading while a counter goes up: %v", err)
	}
}
