package store_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/ginrefresh/ginrefresh/store"
	"github.com/ginrefresh/ginrefresh/store/internal/deadline/deadlinetest"
	"github.com/ginrefresh/ginrefresh/store/storetest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

func newMemory(t testing.TB) *store.Memory {
	m := store.NewMemory()
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return m
}

func TestMemory(t *testing.T) {
	storetest.RunInBubble(t, func(t *testing.T) storetest.Store { return newMemory(t) })
}

func mustSwap(t testing.TB, m *store.Memory, key, old, new string, expires time.Time) {
	t.Helper()
	done, err := m.CompareAndSwap(context.Background(), key, old, new, expires)
	if !done || err != nil {
		t.Fatalf("CompareAndSwap(%q, %q, %q) = %v, %v", key, old, new, done, err)
	}
}

// TestMemoryForgetsExpired proves R13: expired records are removed.
func TestMemoryForgetsExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		const hours, each = 10, 1000
		start := time.Now()
		for i := range hours * each {
			mustSwap(t, m, strconv.Itoa(i), "", "value", start.Add(time.Duration(1+i/each)*time.Hour))
		}
		for hour := range hours {
			if got, want := m.Len(), (hours-hour)*each; got != want {
				t.Errorf("after %d hours: %d records are left, want %d", hour, got, want)
			}
			<-time.After(time.Hour + 3*time.Second)
			if got := m.Peek(strconv.Itoa(hour * each)); got != "" {
				t.Errorf("after %d hours: an expired record has the value %q", hour+1, got)
			}
			<-time.After(2 * time.Minute) // the rest of the sweeper's round, and another whole one
			start = start.Add(time.Hour)
			<-time.After(time.Until(start))
		}
		stats := m.Stats()
		if stats.Records != 0 || stats.Swept != hours*each || stats.Rounds == 0 {
			t.Errorf("after all records have expired: %+v", stats)
		}
	})
}

// TestMemoryLongLifetimes tests a lifetime that go-cache alone would take for forever.
func TestMemoryLongLifetimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		mustSwap(t, m, "far", "", "1", time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC))
		m.Close() // otherwise the sweeper would wake up every minute of a hundred years
		<-time.After(99 * 365 * 24 * time.Hour)
		if got := m.Peek("far"); got != "1" {
			t.Errorf("after 99 years the value is %q, want 1", got)
		}
		<-time.After(2 * 365 * 24 * time.Hour)
		if got := m.Peek("far"); got != "" {
			t.Errorf("after 101 years the value is %q, want none", got)
		}
	})
}

func TestMemoryAnswersAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		mustSwap(t, m, "a", "", "1", time.Now().Add(time.Hour))
		for range 2 {
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
		}
		mustSwap(t, m, "b", "", "1", time.Now().Add(time.Hour))
		if m.Peek("a") != "1" || m.Peek("b") != "1" {
			t.Error("a closed store lost a record")
		}
		<-time.After(time.Hour + time.Second)
		if m.Peek("a") != "" || m.Peek("b") != "" {
			t.Error("a closed store returns an expired record")
		}
	})
}

// TestMemoryUnderSweep reads and swaps while records expire and shards are emptied. A reader must find every live record.
func TestMemoryUnderSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				for i := range 300 {
					key := strconv.Itoa(g) + " " + strconv.Itoa(i%50)
					old := m.Peek(key)
					mustSwap(t, m, key, old, strconv.Itoa(i+1), time.Now().Add(time.Duration(30+i%90)*time.Second))
					<-time.After(time.Duration(i%7) * 100 * time.Millisecond)
					if got := m.Peek(key); got != strconv.Itoa(i+1) {
						t.Errorf("%q = %q, want %d", key, got, i+1)
					}
				}
			})
		}
		wg.Wait()
		<-time.After(5 * time.Minute)
		if stats := m.Stats(); stats.Records != 0 || stats.Swept == 0 {
			t.Errorf("after all records have expired: %+v", stats)
		}
	})
}

func TestMemoryPeekDoesNotAllocate(t *testing.T) {
	m := newMemory(t)
	mustSwap(t, m, "present", "", "some value", time.Now().Add(time.Hour))
	for _, key := range []string{"present", "absent"} {
		if n := testing.AllocsPerRun(1000, func() { m.Peek(key) }); n != 0 {
			t.Errorf("Peek(%q) allocates %v times", key, n)
		}
	}
}

// R10a: a swap whose deadline has passed changes nothing, even if no timer has fired.
func TestR10a_MemoryChecksTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		mustSwap(t, m, "key", "", "old", time.Now().Add(time.Hour))
		_, counter := m.Changes()
		before := counter("key").Load()
		for _, d := range []time.Duration{0, -time.Nanosecond, -time.Hour} {
			for _, expires := range []time.Time{time.Now().Add(time.Hour), time.Now().Add(-time.Hour)} {
				ctx := deadlinetest.Silent(context.Background(), time.Now().Add(d))
				done, err := m.CompareAndSwap(ctx, "key", "old", "new", expires)
				if done || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("CompareAndSwap %v after its deadline = %v, %v", -d, done, err)
				}
			}
		}
		if got := m.Peek("key"); got != "old" {
			t.Errorf("the value is %q, want it unchanged", got)
		}
		if got := counter("key").Load(); got != before {
			t.Errorf("the change counter went from %d to %d although nothing changed", before, got)
		}
		ctx := deadlinetest.Silent(context.Background(), time.Now().Add(time.Nanosecond))
		if done, err := m.CompareAndSwap(ctx, "key", "old", "new", time.Now().Add(time.Hour)); !done || err != nil {
			t.Errorf("CompareAndSwap before its deadline = %v, %v", done, err)
		}
	})
}

// slow is a context whose Err returns nil at first. The second call waits for release, and then reports that the context
// was canceled.
type slow struct {
	context.Context
	asked   *atomic.Int32
	holding chan<- struct{}
	release <-chan struct{}
}

func (s slow) Err() error {
	if s.asked.Add(1) == 1 {
		return nil
	}
	close(s.holding)
	<-s.release
	return context.Canceled
}

// R10a: a swap checks its deadline once it holds the shard, not before it waits for the lock.
func TestR10a_MemoryChecksTheDeadlineUnderTheLock(t *testing.T) {
	m := newMemory(t)
	mustSwap(t, m, "key", "", "old", time.Now().Add(time.Hour))
	holding, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		done, err := m.CompareAndSwap(slow{context.Background(), new(atomic.Int32), holding, release}, "key", "old", "first", time.Now().Add(time.Hour))
		if done || !errors.Is(err, context.Canceled) {
			t.Errorf("a swap that was canceled under the lock = %v, %v", done, err)
		}
	})
	select {
	case <-holding:
	case <-time.After(5 * time.Second):
		close(release)
		t.Fatal("a swap does not check its context under the lock")
	}
	deadline := time.Now().Add(50 * time.Millisecond)
	wg.Go(func() { // waits for the first one
		done, err := m.CompareAndSwap(deadlinetest.Silent(context.Background(), deadline), "key", "old", "second", time.Now().Add(time.Hour))
		if done || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a swap that waited for the lock past its deadline = %v, %v", done, err)
		}
	})
	<-time.After(time.Until(deadline) + 10*time.Millisecond)
	close(release)
	wg.Wait()
	if got := m.Peek("key"); got != "old" {
		t.Errorf("the value is %q, want it unchanged", got)
	}
}

func TestMemorySelf(t *testing.T) {
	m := newMemory(t)
	embedder := struct{ *store.Memory }{m}
	if self, _ := m.Changes(); self != any(m) {
		t.Error("the self of Changes is not the store")
	}
	if self, _ := embedder.Changes(); self == any(embedder) {
		t.Error("the self of Changes is the struct that embeds the store")
	}
}
