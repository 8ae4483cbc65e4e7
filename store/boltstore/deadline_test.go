package boltstore_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ginrefresh/ginrefresh/store/boltstore"
	"github.com/ginrefresh/ginrefresh/store/internal/deadline/deadlinetest"
)

// stepped is a context that ended at its deadline before the clock was set back, so that the deadline is in the future
// again.
type stepped struct{ context.Context }

func (s stepped) Deadline() (time.Time, bool) { return time.Now().Add(time.Hour), true }

// silent returns a context without a timer whose deadline passes after d.
func silent(d time.Duration) context.Context {
	return deadlinetest.Silent(context.Background(), time.Now().Add(d))
}

// slowly makes each commit take d after it was written. It returns the number of commits.
func slowly(s *boltstore.Store, d time.Duration) (commits *atomic.Int32) {
	commits = new(atomic.Int32)
	s.SetCommit(func(commit func() error) error {
		commits.Add(1)
		err := commit()
		<-time.After(d)
		return err
	})
	return commits
}

// valuesOnDisk opens a copy of the file, as after a crash.
func valuesOnDisk(t *testing.T, path string, keys ...string) map[string]string {
	t.Helper()
	s := open(t, copyOf(t, path))
	defer closeStore(t, s)
	values := map[string]string{}
	for _, key := range keys {
		if value := s.Peek(key); value != "" {
			values[key] = value
		}
	}
	return values
}

func copyOf(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	path = file(t)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestLateInTheQueue proves R10a for a swap whose deadline passes before its commit: nothing is written.
func TestLateInTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := file(t)
		s := open(t, path)
		commits := slowly(s, 3*time.Second)
		if done, err := s.CompareAndSwap(silent(0), "now", "", "1", inAnHour()); done || err != context.DeadlineExceeded {
			t.Errorf("a swap after its deadline = %v, %v", done, err)
		}
		var wg sync.WaitGroup
		wg.Go(func() { mustSwap(t, s, "first", "", "1", inAnHour()) })
		synctest.Wait()
		for _, old := range []string{"", "another"} {
			wg.Go(func() {
				done, err := s.CompareAndSwap(silent(time.Second), "queued", old, "1", inAnHour())
				if done || err != context.DeadlineExceeded {
					t.Errorf("a swap whose deadline passed in the queue = %v, %v", done, err)
				}
			})
		}
		wg.Wait()
		closeStore(t, s)
		if n := commits.Load(); n != 1 {
			t.Errorf("%d commits, want only the one of the first swap", n)
		}
		if got := valuesOnDisk(t, path, "now", "first", "queued"); !maps.Equal(got, map[string]string{"first": "1"}) {
			t.Errorf("on disk: %v, want only the first swap", got)
		}
	})
}

// slowWrite is a swap whose deadline passes during its commit.
type slowWrite struct {
	name, old, new         string
	oldExpires, newExpires time.Duration
}

// TestSlowWrite proves R10a for a swap whose deadline passes during its commit: it is undone, and no reader sees it.
func TestSlowWrite(t *testing.T) {
	for _, test := range []slowWrite{
		{"new key", "", "2", 0, time.Hour},
		{"changed", "1", "2", 2 * time.Hour, 3 * time.Hour},
		{"same value", "1", "1", 2 * time.Hour, 3 * time.Hour},
		{"deleted", "1", "2", 2 * time.Hour, -time.Hour},
		{"old record expires meanwhile", "1", "2", 1500 * time.Millisecond, time.Hour},
	} {
		for kind, deadline := range map[string]func() (context.Context, context.CancelFunc){
			"timer fired": func() (context.Context, context.CancelFunc) {
				return context.WithTimeout(context.Background(), time.Second)
			},
			"clock set back": func() (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				return stepped{ctx}, cancel
			},
			"process stopped": func() (context.Context, context.CancelFunc) {
				return silent(time.Second), func() {}
			},
		} {
			t.Run(test.name+", "+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { test.run(t, deadline) })
			})
		}
	}
}

func (test slowWrite) run(t *testing.T, deadline func() (context.Context, context.CancelFunc)) {
	path := file(t)
	s := open(t, path)
	start := time.Now()
	if test.old != "" {
		mustSwap(t, s, "key", "", test.old, start.Add(test.oldExpires))
	}
	commits := slowly(s, 2*time.Second)
	_, counter := s.Changes()
	before := counter("key").Load()
	ctx, cancel := deadline()
	defer cancel()
	done, err := s.CompareAndSwap(ctx, "key", test.old, test.new, start.Add(test.newExpires))
	if done || err != context.DeadlineExceeded {
		t.Fatalf("CompareAndSwap = %v, %v, want the deadline error", done, err)
	}
	<-time.After(time.Until(start.Add(5 * time.Second))) // both commits are complete
	if n := commits.Load(); n != 2 {
		t.Errorf("%d commits, want one for the swap and one to undo it", n)
	}
	if counter("key").Load() != before {
		t.Error("the change counter moved although no change became visible")
	}
	want := map[string]string{}
	if test.oldExpires > time.Hour {
		want["key"] = test.old
	}
	if got := s.Peek("key"); got != want["key"] {
		t.Errorf("in memory: %q, want %q", got, want["key"])
	}
	if got := valuesOnDisk(t, path, "key"); !maps.Equal(got, want) {
		t.Errorf("on disk: %q, want %q", got, want)
	}
	<-time.After(time.Until(start.Add(2*time.Hour - time.Second)))
	if got := valuesOnDisk(t, path, "key"); !maps.Equal(got, want) {
		t.Errorf("on disk, before the old expiry: %q, want %q", got, want)
	}
	<-time.After(2 * time.Second)
	if got := valuesOnDisk(t, path, "key"); len(got) != 0 {
		t.Errorf("on disk, after the old expiry: %q, want nothing", got)
	}
	slowly(s, 0)
	mustSwap(t, s, "key", "", "3", inAnHour())
}

// TestSlowWriteOfABatch undoes one swap of a batch. The others must get the same answers as without it.
func TestSlowWriteOfABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := file(t)
		s := open(t, path)
		mustSwap(t, s, "key", "", "0", inAnHour())
		var commits atomic.Int32
		s.SetCommit(func(commit func() error) error {
			switch n := commits.Add(1); n {
			case 3: // the commit that undoes the late swap
				if got := s.Peek("other"); got != "1" {
					t.Errorf("a swap of another key waits until the late swap is undone: %q", got)
				}
				fallthrough
			default:
				if got := s.Peek("key"); got != "0" {
					t.Errorf("commit %d: a late swap is visible: %q", n, got)
				}
			}
			err := commit()
			<-time.After(2 * time.Second)
			return err
		})
		var wg sync.WaitGroup
		swap := func(ctx context.Context, key, old, new string, want bool, wantErr error) {
			wg.Go(func() {
				done, err := s.CompareAndSwap(ctx, key, old, new, inAnHour())
				if done != want || err != wantErr {
					t.Errorf("CompareAndSwap(%q, %q, %q) = %v, %v, want %v, %v", key, old, new, done, err, want, wantErr)
				}
			})
			synctest.Wait() // so that the swaps are queued in this order
		}
		never := context.Background()
		swap(never, "first", "", "1", true, nil) // keeps the disk busy while the batch gathers
		swap(silent(3*time.Second), "key", "0", "late", false, context.DeadlineExceeded)
		swap(never, "key", "late", "after late", false, nil)
		swap(never, "key", "0", "in time", true, nil)
		swap(never, "key", "in time", "last", true, nil)
		swap(never, "key", "late", "another", false, nil)
		swap(never, "other", "", "1", true, nil)
		swap(silent(3*time.Second), "other", "another", "2", false, nil)
		swap(silent(3*time.Second), "lost", "another", "1", false, nil)
		wg.Wait()
		if n := commits.Load(); n != 4 {
			t.Errorf("%d commits, want 4: the first swap, the batch, the late swap undone, the rest", n)
		}
		want := map[string]string{"first": "1", "key": "last", "other": "1"}
		if got := contents(s, map[string]string{"first": "", "key": "", "other": "", "lost": ""}); !maps.Equal(got, want) {
			t.Errorf("in memory: %v, want %v", got, want)
		}
		if got := valuesOnDisk(t, path, "first", "key", "other", "lost"); !maps.Equal(got, want) {
			t.Errorf("on disk: %v, want %v", got, want)
		}
	})
}

// TestUndoFails makes the disk fail when a late swap is undone. The file and the memory disagree, so further swaps must
// fail.
func TestUndoFails(t *testing.T) {
	for name, commitFirst := range map[string]bool{"before the commit": false, "after the commit": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				path := file(t)
				s := open(t, path)
				mustSwap(t, s, "key", "", "1", inAnHour())
				diskError := errors.New("disk error")
				commits := 0
				s.SetCommit(func(commit func() error) error {
					if commits++; commits < 2 {
						<-time.After(2 * time.Second)
						return commit()
					}
					if commitFirst {
						return errors.Join(commit(), diskError)
					}
					return diskError
				})
				done, err := s.CompareAndSwap(silent(time.Second), "key", "1", "2", inAnHour())
				if done || !errors.Is(err, diskError) {
					t.Errorf("CompareAndSwap = %v, %v, want the disk error", done, err)
				}
				s.SetCommit(func(commit func() error) error { return commit() })
				for _, key := range []string{"key", "other"} {
					done, err := s.CompareAndSwap(context.Background(), key, s.Peek(key), "3", inAnHour())
					if done || !errors.Is(err, diskError) || !strings.Contains(err.Error(), path) {
						t.Errorf("a swap on a file in doubt = %v, %v", done, err)
					}
				}
				if got, _, err := s.Get(context.Background(), "key"); err != nil || got[0] != "1" {
					t.Errorf("Get on a file in doubt = %q, %v", got, err)
				}
				closeStore(t, s)
				s = open(t, path)
				mustSwap(t, s, "other", "", "1", inAnHour())
			})
		})
	}
}

// TestCanceledDuringTheWrite cancels a swap during its commit. Only a deadline undoes a swap: a client that hangs up must
// not cost the other clients a second commit.
func TestCanceledDuringTheWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, file(t))
		commits := slowly(s, 2*time.Second)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		time.AfterFunc(time.Second, cancel)
		start := time.Now()
		if done, err := s.CompareAndSwap(ctx, "key", "", "1", inAnHour()); done || err != context.Canceled {
			t.Errorf("CompareAndSwap = %v, %v, want context.Canceled", done, err)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("the call took %v, but was canceled after 1 s", took)
		}
		<-time.After(2 * time.Second)
		if got := s.Peek("key"); got != "1" {
			t.Errorf("key = %q after the commit, want 1", got)
		}
		if n := commits.Load(); n != 1 {
			t.Errorf("%d commits, want 1", n)
		}
	})
}

// brink is a context whose deadline passes right after the last check.
type brink struct {
	context.Context
	armed    atomic.Bool
	done     chan struct{}
	returned chan struct{}
}

func (b *brink) Done() <-chan struct{} { return b.done }

func (b *brink) Err() error {
	if b.armed.Swap(false) {
		close(b.done)
		select { // the caller wakes up, but must not return before the swap is answered
		case <-b.returned:
		case <-time.After(20 * time.Millisecond):
		}
		return nil
	}
	select {
	case <-b.done:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// TestDeadlineOnTheBrink lets the deadline pass between the last check of the store and its answer. The caller must not
// get an error for a swap that is visible.
func TestDeadlineOnTheBrink(t *testing.T) {
	s := open(t, file(t))
	ctx := &brink{Context: context.Background(), done: make(chan struct{}), returned: make(chan struct{})}
	s.SetCommit(func(commit func() error) error {
		err := commit()
		ctx.armed.Store(true)
		return err
	})
	done, err := s.CompareAndSwap(ctx, "key", "", "1", inAnHour())
	close(ctx.returned)
	if !done || err != nil || s.Peek("key") != "1" {
		t.Errorf("CompareAndSwap = %v, %v, but key = %q", done, err, s.Peek("key"))
	}
}

// TestDeadlinesAgree runs swaps with random deadlines on a slow disk. The swaps answered true must form a chain from absent
// to the final value, in memory and on disk. No swap that missed its deadline may be part of it.
func TestDeadlinesAgree(t *testing.T) {
	var won, late int
	for seed := range uint64(rounds(10, 3)) {
		synctest.Test(t, func(t *testing.T) {
			r := randomSwaps{rnd: rand.New(rand.NewPCG(seed, 0))}
			r.run(t)
			won, late = won+r.won, late+r.late
		})
	}
	t.Logf("%d swaps won, %d were late", won, late)
	if won < 50 || late < 50 {
		t.Error("too few swaps won or were late for the test to be meaningful")
	}
}

type randomSwaps struct {
	mu        sync.Mutex
	rnd       *rand.Rand
	next      map[string]map[string]string // for each key, from the old to the new value
	won, late int
}

func (r *randomSwaps) duration(below time.Duration) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Duration(r.rnd.Int64N(int64(below)))
}

func (r *randomSwaps) run(t *testing.T) {
	path := file(t)
	s := open(t, path)
	s.SetCommit(func(commit func() error) error {
		<-time.After(r.duration(500 * time.Millisecond))
		err := commit()
		<-time.After(r.duration(500 * time.Millisecond))
		return err
	})
	keys := []string{"a", "b", "c"}
	r.next = map[string]map[string]string{"a": {}, "b": {}, "c": {}}
	var wg sync.WaitGroup
	for g := range 12 {
		wg.Go(func() {
			for i := range 20 {
				ctx, cancel := context.WithTimeout(context.Background(), r.duration(2*time.Second))
				if g%2 == 0 {
					ctx = silent(r.duration(2 * time.Second))
				}
				r.swap(ctx, t, s, keys[(g+i)%len(keys)], fmt.Sprint(g, " ", i))
				cancel()
			}
		})
	}
	wg.Wait()
	closeStore(t, s)
	onDisk := valuesOnDisk(t, path, keys...)
	for key, swaps := range r.next {
		value, n := "", 0
		for ; swaps[value] != ""; n++ {
			value = swaps[value]
		}
		if got := s.Peek(key); got != value || onDisk[key] != value || n != len(swaps) {
			t.Errorf("%q = %q in memory and %q on disk; %d of %d swaps follow each other and end in %q",
				key, got, onDisk[key], n, len(swaps), value)
		}
	}
}

// swap swaps a key from its current value, and records the outcome.
func (r *randomSwaps) swap(ctx context.Context, t *testing.T, s *boltstore.Store, key, new string) {
	old := s.Peek(key)
	done, err := s.CompareAndSwap(ctx, key, old, new, inAnHour())
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case done && err == nil && r.next[key][old] == "":
		r.next[key][old] = new
		r.won++
	case done:
		t.Errorf("%q was swapped from %q to %q and to %q: %v", key, old, r.next[key][old], new, err)
	case err == context.DeadlineExceeded:
		r.late++
	case err != nil:
		t.Error(err)
	}
}

// TestLateOnesDoNotStopOthers runs swaps on a disk that is too slow for the deadlines of half of them.
func TestLateOnesDoNotStopOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, file(t))
		slowly(s, time.Second)
		var wg sync.WaitGroup
		for g := range 20 {
			wg.Go(func() {
				for i := range 10 {
					key := strconv.Itoa(g) + " " + strconv.Itoa(i)
					if g%2 == 0 {
						ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
						_, _ = s.CompareAndSwap(ctx, key, "", "1", inAnHour())
						cancel()
						if got := s.Peek(key); got != "" {
							t.Errorf("a late swap is visible: %q", got)
						}
						continue
					}
					ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
					if done, err := s.CompareAndSwap(ctx, key, "", "1", inAnHour()); !done || err != nil {
						t.Errorf("CompareAndSwap = %v, %v", done, err)
					}
					cancel()
				}
			})
		}
		wg.Wait()
	})
}
