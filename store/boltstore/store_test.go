package boltstore_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"github.com/ginrefresh/ginrefresh/store/boltstore"
	"github.com/ginrefresh/ginrefresh/store/storetest"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(crashEnv); path != "" {
		swapUntilKilled(path)
	}
	goleak.VerifyTestMain(m)
}

// rounds returns full if GINREFRESH_FULL is set, as in the gate, and else short.
func rounds(full, short int) int {
	if os.Getenv("GINREFRESH_FULL") != "" {
		return full
	}
	return short
}

// file returns the path of a file that does not exist yet.
func file(t testing.TB) string {
	return filepath.Join(t.TempDir(), "blacklist.db")
}

func open(t testing.TB, path string) *boltstore.Store {
	t.Helper()
	s, err := boltstore.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func closeStore(t testing.TB, s *boltstore.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

func inAnHour() time.Time { return time.Now().Add(time.Hour) }

func mustSwap(t testing.TB, s *boltstore.Store, key, old, new string, expires time.Time) {
	t.Helper()
	done, err := s.CompareAndSwap(context.Background(), key, old, new, expires)
	if !done || err != nil {
		t.Fatalf("CompareAndSwap(%.50q, %q, %q) = %v, %v", key, old, new, done, err)
	}
}

// fill swaps n keys from absent to value, many at the same time so that they share commits.
func fill(t testing.TB, s *boltstore.Store, prefix string, n int, value string, expires time.Time) {
	t.Helper()
	var wg sync.WaitGroup
	for g := range 200 {
		wg.Go(func() {
			for i := g; i < n; i += 200 {
				done, err := s.CompareAndSwap(context.Background(), prefix+strconv.Itoa(i), "", value, expires)
				if !done || err != nil {
					t.Errorf("CompareAndSwap = %v, %v", done, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestStore(t *testing.T) {
	storetest.RunInBubble(t, func(t *testing.T) storetest.Store { return open(t, file(t)) })
}

func TestPeekDoesNotAllocate(t *testing.T) {
	s := open(t, file(t))
	mustSwap(t, s, "key", "", "value", inAnHour())
	if n := testing.AllocsPerRun(1000, func() { s.Peek("key") }); n != 0 {
		t.Errorf("Peek allocates %v times", n)
	}
}

func TestReopen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := file(t)
		s := open(t, path)
		mustSwap(t, s, "", "", "empty key", inAnHour())
		mustSwap(t, s, "an hour", "", "1", inAnHour())
		mustSwap(t, s, "two hours", "", "1", inAnHour())
		mustSwap(t, s, "two hours", "1", "2", time.Now().Add(2*time.Hour))
		mustSwap(t, s, "forever", "", "3", time.Unix(1<<55, 0))
		mustSwap(t, s, "gone", "", "4", inAnHour())
		mustSwap(t, s, "gone", "4", "5", time.Time{})
		if done, err := s.CompareAndSwap(context.Background(), "an hour", "2", "3", inAnHour()); done || err != nil {
			t.Errorf("a swap from a wrong old value = %v, %v", done, err)
		}
		for hour, want := range []map[string]string{
			{"": "empty key", "an hour": "1", "two hours": "2", "forever": "3", "gone": ""},
			{"": "", "an hour": "", "two hours": "2", "forever": "3", "gone": ""},
			{"": "", "an hour": "", "two hours": "", "forever": "3", "gone": ""},
		} {
			for range 2 {
				for key, value := range want {
					if got := s.Peek(key); got != value {
						t.Errorf("after %d hours: %q = %q, want %q", hour, key, got, value)
					}
				}
				closeStore(t, s)
				s = open(t, path)
			}
			<-time.After(time.Hour + time.Second)
		}
		if got := s.Len(); got != 1 {
			t.Errorf("%d records left, want 1", got)
		}
	})
}

func TestClosed(t *testing.T) {
	s := open(t, file(t))
	mustSwap(t, s, "key", "", "value", inAnHour())
	closeStore(t, s)
	closeStore(t, s)
	if _, _, err := s.Get(context.Background(), "key"); err == nil {
		t.Error("Get returns no error although the store is closed")
	}
	if done, err := s.CompareAndSwap(context.Background(), "key", "value", "2", inAnHour()); done || err == nil {
		t.Errorf("CompareAndSwap = %v, %v although the store is closed", done, err)
	}
}

// TestCloseUnderLoad closes the store during swaps. Each swap must be answered, and those that were answered true must be
// in the file.
func TestCloseUnderLoad(t *testing.T) {
	path := file(t)
	s := open(t, path)
	var wg sync.WaitGroup
	var mu sync.Mutex
	kept := map[string]string{}
	for g := range 32 {
		wg.Go(func() {
			key, old := strconv.Itoa(g), ""
			for i := 1; ; i++ {
				done, err := s.CompareAndSwap(context.Background(), key, old, strconv.Itoa(i), inAnHour())
				if err != nil || !done {
					return
				}
				old = strconv.Itoa(i)
				mu.Lock()
				kept[key] = old
				mu.Unlock()
			}
		})
	}
	<-time.After(50 * time.Millisecond)
	closeStore(t, s)
	wg.Wait()
	s = open(t, path)
	for key, want := range kept {
		if got := s.Peek(key); got != want {
			t.Errorf("%q = %q after reopening, want %q", key, got, want)
		}
	}
}

func TestKeyTooLong(t *testing.T) {
	s := open(t, file(t))
	mustSwap(t, s, strings.Repeat("k", bolt.MaxKeySize-1), "", "value", inAnHour())
	_, err := s.CompareAndSwap(context.Background(), strings.Repeat("k", bolt.MaxKeySize), "", "value", inAnHour())
	if err == nil {
		t.Error("no error for a key that is too long for bbolt")
	}
}

// TestFullDisk makes commits fail because the disk is full. Each swap must return an error and change neither memory nor
// file.
func TestFullDisk(t *testing.T) {
	path := file(t)
	s := open(t, path)
	mustSwap(t, s, "key", "", "before", inAnHour())
	s.SetMaxSize(256 << 10)
	value := strings.Repeat("v", 1000)
	var failed string
	for i := 0; failed == ""; i++ {
		key := "fill " + strconv.Itoa(i)
		if _, err := s.CompareAndSwap(context.Background(), key, "", value, inAnHour()); err != nil {
			failed = key
		}
		if i > 10_000 {
			t.Fatal("the disk never filled")
		}
	}
	if got := s.Peek(failed); got != "" {
		t.Errorf("a failed swap is visible: %.20q", got)
	}
	if got := s.Peek("key"); got != "before" {
		t.Errorf("key = %q on a full disk, want before", got)
	}
	s.SetMaxSize(0)
	mustSwap(t, s, failed, "", "after", inAnHour())
	mustSwap(t, s, "key", "before", "after", inAnHour())
	records := s.Len()
	closeStore(t, s)
	s = open(t, path)
	if s.Len() != records || s.Peek("key") != "after" || s.Peek(failed) != "after" {
		t.Errorf("after reopening: %d records, want %d; key = %q; failed = %q", s.Len(), records, s.Peek("key"), s.Peek(failed))
	}
}

// TestFailedBatch makes a commit fail that many swaps wait for. Some of them would have lost.
func TestFailedBatch(t *testing.T) {
	s := open(t, file(t))
	mustSwap(t, s, "key", "", "0", inAnHour())
	diskError := errors.New("disk error")
	s.SetCommit(func(func() error) error {
		<-time.After(20 * time.Millisecond)
		return diskError
	})
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			done, err := s.CompareAndSwap(context.Background(), "key", "0", "1", inAnHour())
			if done || !errors.Is(err, diskError) {
				t.Errorf("CompareAndSwap = %v, %v, want the disk error", done, err)
			}
		})
	}
	wg.Wait()
	if got := s.Peek("key"); got != "0" {
		t.Errorf("key = %q after failed swaps, want 0", got)
	}
	s.SetCommit(func(commit func() error) error { return commit() })
	mustSwap(t, s, "key", "0", "2", inAnHour())
}

// TestFileInDoubt makes the sync of the new root of the file fail. No later commit may build on that root.
func TestFileInDoubt(t *testing.T) {
	for name, failure := range map[string]func(error) error{
		"error": func(err error) error { return err },
		"panic": func(err error) error { panic(err) },
	} {
		t.Run(name, func(t *testing.T) {
			path := file(t)
			s := open(t, path)
			mustSwap(t, s, "key", "", "1", inAnHour())
			diskError := errors.New("disk error")
			s.SetCommit(func(commit func() error) error { return failure(errors.Join(commit(), diskError)) })
			if done, err := s.CompareAndSwap(context.Background(), "key", "1", "2", inAnHour()); done || err == nil {
				t.Errorf("CompareAndSwap = %v, %v", done, err)
			}
			s.SetCommit(func(commit func() error) error { return commit() })
			for _, key := range []string{"key", "other"} {
				done, err := s.CompareAndSwap(context.Background(), key, s.Peek(key), "3", inAnHour())
				if done || err == nil || !strings.Contains(err.Error(), path) {
					t.Errorf("CompareAndSwap on a file in doubt = %v, %v", done, err)
				}
			}
			if got, _, err := s.Get(context.Background(), "key"); err != nil || got[0] != "1" {
				t.Errorf("Get on a file in doubt = %q, %v", got, err)
			}
			closeStore(t, s)
			s = open(t, path)
			mustSwap(t, s, "key", "2", "3", inAnHour())
		})
	}
}

// TestHungDisk simulates a disk that hangs. Calls must return at their deadline, and their swaps must not be made when the
// disk recovers.
func TestHungDisk(t *testing.T) {
	s := open(t, file(t))
	mustSwap(t, s, "key", "", "1", inAnHour())
	hung, resume := make(chan struct{}), make(chan struct{})
	s.SetCommit(func(commit func() error) error {
		close(hung)
		<-resume
		s.SetCommit(func(commit func() error) error { return commit() })
		return commit()
	})
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	var wg sync.WaitGroup
	wg.Go(func() {
		<-hung
		done, err := s.CompareAndSwap(ctx, "queued", "", "1", inAnHour())
		if done || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a queued swap = %v, %v, want the deadline error", done, err)
		}
	})
	if done, err := s.CompareAndSwap(ctx, "key", "1", "2", inAnHour()); done || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a swap on a hung disk = %v, %v, want the deadline error", done, err)
	}
	wg.Wait()
	if took := time.Since(start); took > 500*time.Millisecond {
		t.Errorf("with a deadline of 50 ms the swaps took %v", took)
	}
	if got := s.Peek("key"); got != "1" {
		t.Errorf("a value is visible that is not on the disk: %q", got)
	}
	close(resume)
	mustSwap(t, s, "next", "", "1", inAnHour()) // follows the hung commit
	if got := s.Peek("key"); got != "1" {
		t.Errorf("after the disk has recovered, key = %q, want 1", got)
	}
	if got := s.Peek("queued"); got != "" {
		t.Errorf("a swap was made after its deadline had passed in the queue: %q", got)
	}
}

func view(t *testing.T, path string, f func(tx *bolt.Tx) error) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.View(f); err != nil {
		t.Fatal(err)
	}
}

func recordsInFile(t *testing.T, path string) (n int) {
	t.Helper()
	view(t, path, func(tx *bolt.Tx) error {
		n = tx.Bucket([]byte("records")).Stats().KeyN
		return nil
	})
	return n
}

func bucketsInFile(t *testing.T, path string) (n int) {
	t.Helper()
	view(t, path, func(tx *bolt.Tx) error {
		return tx.ForEach(func([]byte, *bolt.Bucket) error {
			n++
			return nil
		})
	})
	return n
}

// TestFileForgetsExpired proves R13 for the file: expired records are deleted while the store is open, and by Open.
func TestFileForgetsExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := file(t)
		s := open(t, path)
		mustSwap(t, s, "stays", "", "1", time.Now().Add(48*time.Hour))
		fill(t, s, "goes ", 10_000, "1", inAnHour())
		<-time.After(time.Hour + 25*time.Minute)
		closeStore(t, s)
		if n := recordsInFile(t, path); n != 1 {
			t.Errorf("%d records in the file after the sweep, want 1", n)
		}
		s = open(t, path)
		fill(t, s, "goes ", 10_000, "1", inAnHour())
		closeStore(t, s)
		<-time.After(2 * time.Hour)
		s = open(t, path)
		closeStore(t, s)
		if n := recordsInFile(t, path); n != 1 {
			t.Errorf("%d records in the file after opening, want 1", n)
		}
	})
}

// TestFileDoesNotGrow stores eight generations of sessions, each after the one before has expired.
func TestFileDoesNotGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := file(t)
		s := open(t, path)
		var first, last int64
		for generation := range 8 {
			fill(t, s, strconv.Itoa(generation)+" generation ", 1000, "some value of a record", inAnHour())
			<-time.After(90 * time.Minute)
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if last = info.Size(); generation == 1 {
				first = last
			}
		}
		if last > first*3/2 {
			t.Errorf("the file grew from %d to %d bytes in six generations of equal size", first, last)
		}
	})
}
