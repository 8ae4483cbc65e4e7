package boltstore_test

import (
	"bytes"
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/ginrefresh/ginrefresh/store/boltstore"
)

// wholeFile returns the bytes of a file with pages of every kind, and the records in the file.
func wholeFile(t *testing.T) ([]byte, map[string]string) {
	t.Helper()
	path := file(t)
	s := open(t, path)
	records := map[string]string{}
	fill(t, s, "some session ", 700, "some value", inAnHour())
	for i := range 700 {
		records["some session "+strconv.Itoa(i)] = "some value"
	}
	large := strings.Repeat("large", 3000) // spans pages
	mustSwap(t, s, "large", "", large, inAnHour())
	records["large"] = large
	for i := range 200 { // free pages
		mustSwapAway(t, s, "some session "+strconv.Itoa(i))
		delete(records, "some session "+strconv.Itoa(i))
	}
	closeStore(t, s)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data, records
}

func mustSwapAway(t *testing.T, s *boltstore.Store, key string) {
	t.Helper()
	mustSwap(t, s, key, "some value", "gone", time.Time{})
}

func contents(s *boltstore.Store, keys map[string]string) map[string]string {
	found := map[string]string{}
	for key := range keys {
		if value := s.Peek(key); value != "" {
			found[key] = value
		}
	}
	return found
}

// refusedOrWhole opens a file with the given bytes. Open must return an error that names the file, or the file must hold
// all records.
func refusedOrWhole(t *testing.T, data []byte, records map[string]string) (refused bool) {
	t.Helper()
	path := file(t)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := boltstore.Open(path)
	if err != nil {
		if !strings.Contains(err.Error(), path) {
			t.Errorf("the error does not name the file: %v", err)
		}
		return true
	}
	defer s.Close()
	if s.Len() != len(records) || !maps.Equal(contents(s, records), records) {
		t.Errorf("a damaged file opens with %d records, want all %d or an error", s.Len(), len(records))
	}
	return false
}

// TestDamage flips bits and overwrites and swaps sectors and pages, at random positions and in the header of every page.
func TestDamage(t *testing.T) {
	whole, records := wholeFile(t)
	if refusedOrWhole(t, whole, records) {
		t.Fatal("the undamaged file is refused")
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	page := os.Getpagesize()
	tried, refused := 0, map[string]int{}
	try := func(kind string, change func(data []byte)) {
		tried++
		data := bytes.Clone(whole)
		change(data)
		if refusedOrWhole(t, data, records) {
			refused[kind]++
		}
	}
	used := min(len(whole), 48*page) // the pages at the end of the file were never used
	for start := 0; start < used; start += page {
		for range rounds(8, 2) {
			try("bits of headers", func(data []byte) { data[start+rnd.IntN(80)] ^= 1 << rnd.IntN(8) })
		}
		try("zeroed pages", func(data []byte) { clear(data[start : start+page]) })
		try("torn pages", func(data []byte) { clear(data[start+512 : start+page]) })
		try("swapped pages", func(data []byte) {
			other := rnd.IntN(len(whole)/page) * page
			copy(data[start:start+page], whole[other:other+page])
		})
	}
	for range rounds(200, 20) {
		try("bits", func(data []byte) { data[rnd.IntN(len(data))] ^= 1 << rnd.IntN(8) })
		try("words", func(data []byte) {
			at := rnd.IntN(len(data)/8) * 8
			binary.NativeEndian.PutUint64(data[at:], uint64(rnd.IntN(len(data)/page)))
		})
	}
	t.Logf("proof: %d damaged files", tried)
	t.Logf("files refused, of %d pages each: %v", len(whole)/page, refused)
	for size := page / 2; size < len(whole); size += page / 2 * rounds(1, 5) { // odd, so that half pages occur as well
		// The pages at the end of the file were never used.
		if !refusedOrWhole(t, whole[:size], records) && size < len(whole)/2 {
			t.Errorf("a file truncated to %d of %d bytes opens", size, len(whole))
		}
	}
}

// write creates a file with the given bytes and returns its path.
func write(t *testing.T, data []byte) string {
	t.Helper()
	path := file(t)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// boltFile creates a bbolt file with empty buckets and returns its path.
func boltFile(t *testing.T, buckets ...string) string {
	t.Helper()
	path := file(t)
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Update(func(tx *bolt.Tx) error {
		for _, bucket := range buckets {
			if _, err := tx.CreateBucket([]byte(bucket)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOtherFiles(t *testing.T) {
	for name, path := range map[string]string{
		"empty":                  write(t, nil),
		"text":                   write(t, []byte("blacklist\n")),
		"long text":              write(t, bytes.Repeat([]byte("blacklist\n"), 10_000)),
		"zeros":                  write(t, make([]byte, 1<<16)),
		"another database":       write(t, append([]byte("SQLite format 3\x00"), make([]byte, 8192)...)),
		"another bbolt file":     boltFile(t, "widgets"),
		"an emptied bbolt file":  boltFile(t),
		"no records bucket":      boltFile(t, "meta"),
		"no meta bucket":         boltFile(t, "records"),
		"buckets without format": boltFile(t, "records", "meta"),
		"directory":              t.TempDir(),
		"no such directory":      filepath.Join(t.TempDir(), "none", "file"),
		"device":                 os.DevNull,
	} {
		t.Run(name, func(t *testing.T) {
			s, err := boltstore.Open(path)
			if err == nil {
				s.Close()
				t.Fatal("it opens as a blacklist")
			}
			if !strings.Contains(err.Error(), path) || !strings.HasPrefix(err.Error(), "boltstore: ") {
				t.Errorf("the error does not name the package and the file: %v", err)
			}
			if again, err2 := boltstore.Open(path); err2 == nil {
				again.Close()
				t.Error("it opens as a blacklist the second time")
			} else if err.Error() != err2.Error() {
				t.Errorf("the second Open returns a different error: first %v, then %v", err, err2)
			}
		})
	}
}

// TestUnfinishedCreation opens a file whose creator was killed before its first commit.
func TestUnfinishedCreation(t *testing.T) {
	path := file(t)
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
	s := open(t, path)
	mustSwap(t, s, "key", "", "value", inAnHour())
}

func TestSecondOpener(t *testing.T) {
	path := file(t)
	s := open(t, path)
	mustSwap(t, s, "key", "", "value", inAnHour())
	start := time.Now()
	_, err := boltstore.Open(path)
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "in use") {
		t.Errorf("the second Open returns %v, want an error that says that the file is in use", err)
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("the second Open waited %v", took)
	}
	mustSwap(t, s, "key", "value", "2", inAnHour()) // the first store still works
	closeStore(t, s)
	if got := open(t, path).Peek("key"); got != "2" {
		t.Errorf("after the first store was closed and the file opened again: key = %q, want 2", got)
	}
}

func TestFileMode(t *testing.T) {
	path := file(t)
	open(t, path)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o600 {
		t.Errorf("the file has mode %v, want 0600", mode)
	}
}
