package boltstore_test

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ginrefresh/ginrefresh/store/boltstore"
)

func TestChangesTellsTheStoreFromAnEmbedder(t *testing.T) {
	s := open(t, file(t))
	embedder := struct{ *boltstore.Store }{s}
	if self, _ := s.Changes(); self != any(s) {
		t.Error("the self of Changes is not the store")
	}
	if self, _ := embedder.Changes(); self == any(embedder) {
		t.Error("the self of Changes is the struct that embeds the store")
	}
}

func TestOpenExisting(t *testing.T) {
	path := file(t)
	s := open(t, path)
	mustSwap(t, s, "key", "", "value", inAnHour())
	closeStore(t, s)
	s, err := boltstore.OpenExisting(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := s.Peek("key"); got != "value" {
		t.Errorf("key = %q, want value", got)
	}
	mustSwap(t, s, "key", "value", "2", inAnHour())
}

// TestOpenExistingMissing simulates a deployment whose volume is not mounted.
func TestOpenExistingMissing(t *testing.T) {
	dir := t.TempDir()
	dangling := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "target"), dangling); err != nil {
		t.Logf("symbolic links are not tested: %v", err)
		dangling = filepath.Join(dir, "no link")
	}
	before, _ := os.ReadDir(dir)
	for name, open := range map[string]func(path string) error{
		"missing": func(path string) error {
			_, err := boltstore.OpenExisting(path)
			return err
		},
		"removed before it was verified": func(path string) error { return boltstore.OpenVanished(path, true) },
		"removed after it was verified":  func(path string) error { return boltstore.OpenVanished(path, false) },
	} {
		for _, path := range []string{
			filepath.Join(dir, "blacklist.db"),
			filepath.Join(dir, "not mounted", "blacklist.db"),
			dangling,
		} {
			err := open(path)
			if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if after, _ := os.ReadDir(dir); len(after) != len(before) {
		t.Errorf("a file was created: %v", after)
	}
}

// TestOpenExistingRefuses opens files that bbolt would turn into a new database, or that would make it wait.
func TestOpenExistingRefuses(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{empty: "the file is empty", dir: "regular", os.DevNull: "regular"} {
		s, err := boltstore.OpenExisting(path)
		if err == nil {
			s.Close()
			t.Errorf("%s opens as a blacklist", path)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
		for _, readOnly := range []bool{true, false} {
			if err := boltstore.OpenVanished(path, readOnly); err == nil {
				t.Errorf("%s opens although it was exchanged after it was found", path)
			}
		}
	}
	if info, err := os.Stat(empty); err != nil || info.Size() != 0 {
		t.Errorf("the empty file was written to: %v, %v", info, err)
	}
}

// TestOpenAfterExpiry opens a file with expired records among live ones. The clock of the bubble stands still right after
// Open, so the sweeper cannot correct what Open leaves behind.
func TestOpenAfterExpiry(t *testing.T) {
	const expired = 10_000 // more than the sweeper scans in one step
	for _, live := range []int{0, 1, 5000} {
		synctest.Test(t, func(t *testing.T) {
			path := file(t)
			s := open(t, path)
			fill(t, s, "record ", expired, "old", inAnHour())
			var wg sync.WaitGroup
			for i := range live { // each between two expired ones
				wg.Go(func() {
					mustSwap(t, s, "record "+strconv.Itoa(i)+" live", "", "live", time.Now().Add(3*time.Hour))
				})
			}
			wg.Wait()
			closeStore(t, s)
			<-time.After(time.Hour)

			s = open(t, path)
			checkOnlyLive(t, s, path, expired, live)
			mustSwap(t, s, "record 1", "", "new", inAnHour())
			closeStore(t, s)

			s = open(t, path) // compares the tally with the records
			if got := s.Len(); got != live+1 {
				t.Errorf("%d records after the second opening, want %d", got, live+1)
			}
			if got := s.Peek("record 1"); got != "new" {
				t.Errorf("the new record is %q", got)
			}
			if live > 0 {
				if got := s.Peek("record 0 live"); got != "live" {
					t.Errorf("the live record is %q", got)
				}
			}
			<-time.After(2*time.Hour + time.Second)
			if got := s.Peek("record 1") + s.Peek("record 0 live"); got != "" {
				t.Errorf("after their expiry the records are %q", got)
			}
			<-time.After(25 * time.Minute) // two rounds of the sweeper
			if n := recordsInFile(t, copyOf(t, path)); n != 0 {
				t.Errorf("the sweeper has left %d records in the file", n)
			}
			closeStore(t, s)
			closeStore(t, open(t, path))
		})
	}
}

// checkOnlyLive checks that a store that was just opened has none of the expired records of TestOpenAfterExpiry.
func checkOnlyLive(t *testing.T, s *boltstore.Store, path string, expired, live int) {
	t.Helper()
	if got := s.Len(); got != live {
		t.Errorf("%d records in memory, want %d", got, live)
	}
	for i := range expired {
		if got := s.Peek("record " + strconv.Itoa(i)); got != "" {
			t.Fatalf("expired record %d is %q", i, got)
		}
	}
	if n := recordsInFile(t, copyOf(t, path)); n != live {
		t.Errorf("%d records in the file, want %d", n, live)
	}
	for key, old := range map[string]string{"record 1": "old", "record 2": "another"} {
		if done, err := s.CompareAndSwap(context.Background(), key, old, "new", inAnHour()); done || err != nil {
			t.Errorf("swap of an expired record = %v, %v", done, err)
		}
	}
}

// TestSweepKeepsRenewed sweeps a file with records that expired and were set again.
func TestSweepKeepsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := file(t)
		s := open(t, path)
		fill(t, s, "record ", 100, "1", inAnHour())
		<-time.After(2 * time.Hour)
		for i := range 100 {
			mustSwap(t, s, "record "+strconv.Itoa(i), "", "2", time.Now().Add(5*time.Hour))
		}
		<-time.After(time.Hour)
		closeStore(t, s)
		s = open(t, path)
		if got := s.Len(); got != 100 || s.Peek("record 7") != "2" {
			t.Errorf("%d records, want 100; record 7 is %q, want 2", got, s.Peek("record 7"))
		}
	})
}

// TestHealthyFiles opens a file repeatedly while records of all sizes are added, changed and expire. Open must never take
// a file written by bbolt for a damaged one.
func TestHealthyFiles(t *testing.T) {
	for seed := range uint64(4) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 0))
			path := file(t)
			longest := []int{1, 30, 300, 5000}[seed]
			for range rounds(20, 8) {
				s := open(t, path)
				from, n := rnd.IntN(300), 1+rnd.IntN(300)
				expires := time.Now().Add(time.Duration(rnd.IntN(200)) * time.Minute)
				var wg sync.WaitGroup
				for i := range n {
					key := strconv.Itoa((from + i) % 300)
					key += strings.Repeat("x", len(key)*7919%longest)
					value := strings.Repeat("v", 1+rnd.IntN(longest))
					wg.Go(func() {
						if done, err := s.CompareAndSwap(context.Background(), key, s.Peek(key), value, expires); !done || err != nil {
							t.Errorf("CompareAndSwap = %v, %v", done, err)
						}
					})
				}
				wg.Wait()
				closeStore(t, s)
				<-time.After(time.Duration(rnd.IntN(60)) * time.Minute)
			}
		})
	}
}

// TestSyncs checks that bbolt syncs everything: the data, the freelist and the size of the file.
func TestSyncs(t *testing.T) {
	path := file(t)
	for _, opening := range []string{"new", "again"} {
		s := open(t, path)
		if db := s.DB(); db.NoSync || db.NoGrowSync || db.NoFreelistSync {
			t.Errorf("%s: NoSync %v, NoGrowSync %v, NoFreelistSync %v", opening, db.NoSync, db.NoGrowSync, db.NoFreelistSync)
		}
		mustSwap(t, s, opening, "", "1", inAnHour())
		if db := s.DB(); db.NoSync || db.NoGrowSync || db.NoFreelistSync {
			t.Errorf("%s, after a swap: NoSync %v, NoGrowSync %v, NoFreelistSync %v", opening, db.NoSync, db.NoGrowSync, db.NoFreelistSync)
		}
		closeStore(t, s)
	}
}

// TestSyncsDirectory checks that the name of a new file is synced before the file is set up. If that fails, the next Open
// does it.
func TestSyncsDirectory(t *testing.T) {
	path := file(t)
	diskError := errors.New("disk error")
	for range 2 {
		_, err := boltstore.OpenWithSync(path, func(func() error) error { return diskError })
		if !errors.Is(err, diskError) || !strings.Contains(err.Error(), path) {
			t.Errorf("the directory cannot be synced, but Open returns %v", err)
		}
	}
	synced := 0
	for range 2 {
		s, err := boltstore.OpenWithSync(path, func(sync func() error) error {
			synced++
			if n := bucketsInFile(t, copyOf(t, path)); n != 0 {
				t.Errorf("%d buckets were created before the directory was synced", n)
			}
			return sync()
		})
		if err != nil {
			t.Fatal(err)
		}
		mustSwap(t, s, strconv.Itoa(synced), s.Peek(strconv.Itoa(synced)), "1", inAnHour())
		closeStore(t, s)
	}
	if synced != 1 {
		t.Errorf("the directory was synced %d times, want once", synced)
	}
}

func TestSyncDirectory(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows does not sync directories")
	}
	path := file(t)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := boltstore.SyncDirectory(path); err != nil {
		t.Errorf("SyncDirectory: %v", err)
	}
	if err := boltstore.SyncDirectory(filepath.Join(path, "none")); err == nil {
		t.Error("no error for a missing file")
	}
	if runtime.GOOS != "linux" {
		return
	}
	if err := boltstore.SyncDirectory("/proc/self/status"); err == nil { // Linux cannot sync /proc
		t.Error("the directory is not synced, or the error is dropped")
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("/proc/self/status", link); err != nil {
		t.Fatal(err)
	}
	if err := boltstore.SyncDirectory(link); err == nil {
		t.Error("the directory of the symbolic link is synced, not the directory of its target")
	}
}
