// Package boltstore provides a blacklist for a single machine. Reads come from memory. Every swap is written to a
// bbolt file and synced to disk before CompareAndSwap returns.
//
// Open the file once and close it at the end:
//
//	s, err := boltstore.Open("/var/lib/myapp/blacklist.db")
//	if err != nil { … }
//	defer s.Close()
//
// [Open] creates the file if it is missing. [OpenExisting] returns an error instead, so that a deployment whose
// volume is not mounted does not start with an empty blacklist.
//
// Crashes. A swap for which CompareAndSwap returned true survives a kill of the process. It also survives a power
// failure, provided that the disk has written the data that it reported as synced.
//
// Readers. A swap is written, synced, put into memory, and answered, in this order. So no reader sees a value that a
// crash could take back, and no reader sees the old value once the swap is answered.
//
// Deadlines. A swap takes effect before the deadline of its context or never. If the disk is so slow that the deadline
// passes during the write, the store writes the old record back and returns the error of the context. There are two
// exceptions, and in both the swap is in the file and takes effect when the file is opened again: the process dies
// before the old record is written back, or writing it back fails.
//
// Damage. Open refuses a file that is damaged, truncated, or not a blacklist of this package. It never treats such
// a file as an empty blacklist. A file restored from a backup lacks the latest revocations: replace the signing key,
// so that every user must log in again.
//
// Processes. Only one process can open a file at a time. Use package store/redisstore for several processes.
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

	"github.com/ginrefresh/ginrefresh/store/internal/deadline"
	"github.com/ginrefresh/ginrefresh/store/internal/expiring"
)

const (
	// batchSize bounds the number of swaps in one commit, and with it the time the first one waits for the others.
	batchSize = 1024

	// maxKey is one byte less than the limit of bbolt, because encodeKey puts a byte in front of each key.
	maxKey = bolt.MaxKeySize - 1
)

var errClosed = errors.New("boltstore: the store is closed")

// Store is a blacklist in a file. Use [Open] or [OpenExisting] to get one. A Store is safe for concurrent use.
type Store struct {
	memory *expiring.Map
	since  time.Time // when the file was created
	swaps  chan *swap

	closing   chan struct{}
	closeOnce sync.Once
	closeErr  error
	stopped   chan struct{}

	// publishing is held while swaps are checked for their deadline, put into memory and answered. A caller whose
	// context has ended locks it before it gives up. So either the caller finds an answer, or the check finds that
	// the context has ended.
	publishing sync.Mutex

	// The fields below belong to the goroutine that commits. It is the only one that uses the file.

	path          string
	file          *os.File // the file under db
	db            *bolt.DB
	update        func(func(*bolt.Tx) error) error // db.Update
	syncDirectory func(path string) error
	tally         tally
	txid          int    // of the last commit
	broken        error  // why no further commit is possible, or nil
	sweep         []byte // the key at which the sweeper continues
}

// A swap is a CompareAndSwap on its way to the file.
type swap struct {
	ctx             context.Context
	key, old, value string
	expires         time.Time
	done            bool // the key had the old value
	answer          chan answer
}

type answer struct {
	done bool
	err  error
}

// Get returns the values of the keys in order, "" for a key that is absent or expired, and the time at which the file
// was created: the blacklist has forgotten nothing since then (R20). It reads from memory and fails only if ctx has
// ended or the store is closed.
//
// For a file of version 0.1, which does not contain that time, Get returns the beginning of 1970.
func (s *Store) Get(ctx context.Context, keys ...string) ([]string, time.Time, error) {
	if err := ctx.Err(); err != nil {
		return nil, time.Time{}, err
	}
	select {
	case <-s.closing:
		return nil, time.Time{}, errClosed
	default:
	}
	values := make([]string, len(keys))
	for i, key := range keys {
		values[i] = s.memory.Peek(key)
	}
	return values, s.since, nil
}

// Peek returns the value of the key, "" if the key is absent or expired. It does not allocate. Peek cannot report
// that the store is closed, so stop serving requests before you close it.
func (s *Store) Peek(key string) string {
	return s.memory.Peek(key)
}

// Changes is a contract with package middleware. It is not part of the public API and may change in any release. See
// the method of store.Memory with the same name.
func (s *Store) Changes() (self any, counter func(key string) *atomic.Uint64) {
	return s, s.memory.Counter
}

// CompareAndSwap atomically sets key to new, expiring at expires, if its value is old ("" means absent). It returns
// once the change is on disk and reports whether it was made. If expires is in the past, the key is absent
// afterwards. A lifetime of more than a hundred years is shortened to that. A key can have up to 32,767 bytes.
//
// It returns an error if the commit fails, for instance because the disk is full, or if ctx ends first:
//
//   - After the deadline of ctx the swap has not been made and never will be. If the deadline passes while the disk
//     is writing, the store writes the old record back before a reader can see the new one. If writing back fails
//     too, or the process dies before, the swap takes effect when the file is opened again.
//   - After ctx is canceled the outcome is unknown until the deadline. A write that has begun is completed.
//   - After a disk error that leaves the file in doubt, every further swap fails until the store is opened again.
//     Reads still work, and every swap that was answered true stays in force.
func (s *Store) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	if err := deadline.Ended(ctx); err != nil {
		return false, err
	}
	if len(key) > maxKey {
		return false, fmt.Errorf("boltstore: the key has %d bytes, more than the maximum of %d", len(key), maxKey)
	}
	sw := &swap{ctx: ctx, key: key, old: old, value: new, expires: expires, answer: make(chan answer, 1)}
	select {
	case s.swaps <- sw:
	case <-ctx.Done():
		return false, ctx.Err()
	case <-s.closing:
		return false, errClosed
	}
	select { // run answers every swap that it has accepted, even if the store is closed meanwhile
	case a := <-sw.answer:
		return a.done, a.err
	case <-ctx.Done():
	}
	// The swap may be answered at this moment. If it is not, publish will find that ctx has ended.
	s.publishing.Lock()
	defer s.publishing.Unlock()
	select {
	case a := <-sw.answer:
		return a.done, a.err
	default:
		return false, ctx.Err()
	}
}

// late reports whether the deadline of the context has passed. Unlike deadline.Ended it ignores cancellation: a client
// that hangs up during the write must not cost the other clients a second commit.
func late(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ok && !time.Now().Before(deadline) || errors.Is(ctx.Err(), context.DeadlineExceeded)
}

// Len returns the number of records in memory, including expired records that the sweeper has not removed yet.
func (s *Store) Len() int {
	return s.memory.Len()
}

// Close finishes the commit in progress and closes the file. It may be called more than once.
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

// run commits swaps and sweeps the file in between. Swaps that arrive during a commit share the next one.
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

// gather adds to first the swaps that are waiting, so that they share a commit.
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

// commit answers a batch of swaps.
func (s *Store) commit(batch []*swap) {
	for len(batch) > 0 {
		batch = s.commitOnce(batch)
	}
}

// commitOnce writes a batch in one transaction and answers its swaps. If a swap is undone because it was late, commitOnce
// returns the swaps of the same key, which have to be decided again.
func (s *Store) commitOnce(batch []*swap) (again []*swap) {
	changes, waiting := s.decide(batch)
	if len(waiting) == 0 {
		return nil
	}
	before, err := s.write(changes)
	if err != nil {
		fail(waiting, err)
		return nil
	}
	undo, again := s.publish(changes, before, waiting)
	if len(undo) == 0 {
		return nil
	}
	// Readers still see the old records, because publish did not put the undone changes into memory.
	if _, err := s.write(undo); err != nil {
		if s.broken == nil { // the file is intact, but memory no longer agrees with it
			s.broken = inDoubt(err)
		}
		fail(again, err)
		return nil
	}
	return again
}

// decide decides for each swap whether its key has the old value, given the swaps before it in the batch. It answers the
// swaps that have lost regardless of the batch, and returns the others, which wait until the batch is on disk.
func (s *Store) decide(batch []*swap) (changes map[string]change, waiting []*swap) {
	changes = make(map[string]change, len(batch))
	for _, sw := range batch {
		if err := deadline.Ended(sw.ctx); err != nil {
			sw.answer <- answer{err: err}
			continue
		}
		// Memory has the state before the batch, changes has the effect of the swaps before this one.
		current := s.memory.Peek(sw.key)
		c, changed := changes[sw.key]
		if changed {
			current = c.current()
		}
		sw.done = current == sw.old
		switch {
		case sw.done:
			changes[sw.key] = change{sw.value, sw.expires}
		case !changed:
			sw.answer <- answer{done: false}
			continue
		}
		waiting = append(waiting, sw)
	}
	return changes, waiting
}

// publish puts the changes into memory and answers their swaps. It leaves out each key with a swap whose deadline
// has passed meanwhile. For these keys it returns the records to write back and the swaps to decide again. In the second
// round the late swaps get the error of their context, and the others the same answer as if there had been no late ones.
func (s *Store) publish(changes, before map[string]change, waiting []*swap) (undo map[string]change, again []*swap) {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	undo = map[string]change{}
	for _, sw := range waiting {
		if sw.done && late(sw.ctx) {
			undo[sw.key] = before[sw.key]
		}
	}
	for key, c := range changes {
		if _, undone := undo[key]; !undone {
			s.memory.Set(key, c.value, c.expires)
		}
	}
	for _, sw := range waiting {
		if _, undone := undo[sw.key]; undone {
			again = append(again, sw)
			continue
		}
		sw.answer <- answer{done: sw.done}
	}
	return undo, again
}

// fail answers the swaps with an error.
func fail(swaps []*swap, err error) {
	for _, sw := range swaps {
		sw.answer <- answer{err: err}
	}
}
