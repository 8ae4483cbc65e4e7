// Package boltstore has the blacklist that one machine remembers: reads come from memory, and every swap is
// in a bbolt file, synced to the disk, before it is answered.
//
// Open it once, close it at the end:
//
//	s, err := boltstore.Open("/var/lib/myapp/blacklist.db")
//	if err != nil { … }
//	defer s.Close()
//
// What a crash leaves. A swap that was answered true is in force after the process is killed, and after a power
// failure if the disk keeps its promise to have written what was synced. A swap that was answered with an
// error may or may not be: its outcome is unknown until the key is read again.
//
// What a reader sees. Memory follows the disk: a swap is written, synced, then put into memory, then answered.
// So nobody reads what a crash could take back, and nobody reads the old value once the swap is answered.
//
// A file that is damaged, truncated, or none of this package's is refused by Open, never read as an empty
// blacklist. One file belongs to one process at a time; for several, use store/redisstore. A file restored
// from a backup has forgotten what was revoked since: let every session begin anew by replacing the signing key.
package boltstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/ginrefresh/ginrefresh/store/internal/expiring"
)

const (
	// batchSize bounds the swaps in one commit, and so how long the first of them waits for the others.
	batchSize = 1024

	// maxKey is the longest key, one byte short of bbolt's limit: each is stored behind a byte of our own.
	maxKey = bolt.MaxKeySize - 1
)

var errClosed = errors.New("boltstore: the store is closed")

// Store is a blacklist in a file. Use [Open]; a Store is safe for use by many goroutines at once.
type Store struct {
	memory *expiring.Map
	swaps  chan *swap

	closing   chan struct{}
	closeOnce sync.Once
	closeErr  error
	stopped   chan struct{}

	// The rest belongs to the goroutine that commits, the only one to touch the file.

	path   string
	file   *os.File // the one under db
	db     *bolt.DB
	update func(func(*bolt.Tx) error) error // db.Update
	tally  tally
	txid   int    // of the last commit
	broken error  // why nothing can be committed any more
	sweep  []byte // where the sweeper goes on in the file
}

// A swap is a CompareAndSwap on its way to the file.
type swap struct {
	key, old, value string
	expires         time.Time
	answer          chan answer
}

type answer struct {
	done bool
	err  error
}

// Get returns the keys' values in order, "" for a key that is absent or past its expiry. It reads memory
// only, so it fails only once its ctx has ended or the store is closed.
func (s *Store) Get(ctx context.Context, keys ...string) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case <-s.closing:
		return nil, errClosed
	default:
	}
	values := make([]string, len(keys))
	for i, key := range keys {
		values[i] = s.memory.Peek(key)
	}
	return values, nil
}

// Peek returns the key's value, "" if it is absent or past its expiry. It does not allocate. It cannot say
// that the store is closed: do not serve requests any longer then.
func (s *Store) Peek(key string) string {
	return s.memory.Peek(key)
}

// Version counts the changes to the key, and to about a thousandth of all others, in memory: it
// is odd while a change is under way.
func (s *Store) Version(key string) *atomic.Uint64 {
	return s.memory.Version(key)
}

// CompareAndSwap atomically sets key to new, expiring at expires, if its value is old ("" means absent), and
// reports whether it did, once that is on the disk. Where expires is past, the key is absent afterwards; a
// lifetime of more than a hundred years is cut to that. Keys have at most 32,767 bytes.
//
// It returns an error when the commit fails, for instance for want of space, and when ctx ends first. After
// the latter the outcome is unknown, as the commit goes on; reads follow whatever the disk has in the end.
// After an error of the disk that leaves the file itself in doubt, every further swap fails until the store is
// opened again. Reads go on: all that was answered is in force.
func (s *Store) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if len(key) > maxKey {
		return false, fmt.Errorf("boltstore: a key of %d bytes is too long", len(key))
	}
	sw := &swap{key: key, old: old, value: new, expires: expires, answer: make(chan answer, 1)}
	select {
	case s.swaps <- sw:
	case <-ctx.Done():
		return false, ctx.Err()
	case <-s.closing:
		return false, errClosed
	}
	select { // whoever has taken the swap answers it, also while closing
	case a := <-sw.answer:
		return a.done, a.err
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// Len returns how many records are in memory, with the expired records that await the sweeper.
func (s *Store) Len() int {
	return s.memory.Len()
}

// Close finishes the commit under way, and closes the file. It may be called more than once.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		close(s.closing)
		<-s.stopped
		s.memory.Close()
		if err := s.closeFile(10 * time.Second); err != nil {
			s.closeErr = fmt.Errorf("boltstore: %s: %w", s.path, err)
		}
	})
	return s.closeErr
}

// run commits swaps, as many at once as have come during the last commit, and sweeps the file in between.
func (s *Store) run() {
	defer close(s.stopped)
	timer := time.NewTimer(s.sweepPause())
	defer timer.Stop()
	for {
		select {
		case first := <-s.swaps:
			s.commit(s.gather(first))
		case <-timer.C:
			s.sweepStep()
			timer.Reset(s.sweepPause())
		case <-s.closing:
			return
		}
	}
}

func (s *Store) gather(first *swap) []*swap {
	batch := []*swap{first}
	for len(batch) < batchSize {
		select {
		case next := <-s.swaps:
			batch = append(batch, next)
		default:
			return batch
		}
	}
	return batch
}

// commit decides each swap by what the swaps before it leave behind, and answers none that depends on the
// batch before the batch is on the disk.
func (s *Store) commit(batch []*swap) {
	changes := make(map[string]change, len(batch))
	var waiting []*swap
	var answers []answer
	for _, sw := range batch {
		current := s.memory.Peek(sw.key)
		c, changed := changes[sw.key]
		if changed {
			current = c.current()
		}
		switch {
		case current == sw.old:
			changes[sw.key] = change{sw.value, sw.expires}
		case !changed:
			sw.answer <- answer{done: false}
			continue
		}
		waiting = append(waiting, sw)
		answers = append(answers, answer{done: current == sw.old})
	}
	if len(waiting) == 0 {
		return
	}
	err := s.write(changes)
	if err == nil {
		for key, c := range changes {
			s.memory.Set(key, c.value, c.expires)
		}
	}
	for i, sw := range waiting {
		if err != nil {
			answers[i] = answer{err: err}
		}
		sw.answer <- answers[i]
	}
}
