package boltstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc64"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/ginrefresh/ginrefresh/store/internal/expiring"
	"github.com/ginrefresh/ginrefresh/store/internal/unixms"
)

const (
	// format is stored in the file and names its layout. A later layout gets another name.
	format = "ginrefresh blacklist 2"

	// format1 is the layout of version 0.1. It has no since.
	format1 = "ginrefresh blacklist 1"

	// lockTimeout is how long Open waits for the lock of another process. bbolt retries every 50 ms.
	lockTimeout = 100 * time.Millisecond

	// sweepRound is how long one pass of the sweeper over the file takes, in steps of sweepRecords. There is no
	// hurry: expired records in the file only take space.
	sweepRound   = 10 * time.Minute
	sweepRecords = 4096
)

var (
	recordsBucket = []byte("records")
	metaBucket    = []byte("meta")
	formatKey     = []byte("format")
	tallyKey      = []byte("tally")
	sinceKey      = []byte("since")
)

// A change is the new state of a key. The zero change makes it absent.
type change struct {
	value   string
	expires time.Time
}

// current returns the value a reader sees now, or "" once the change has expired.
func (c change) current() string {
	if !c.expires.After(time.Now()) {
		return ""
	}
	return c.value
}

// encodeKey puts a byte in front of the key, because bbolt does not allow empty keys.
func encodeKey(key string) []byte {
	return append([]byte{'k'}, key...)
}

// encode returns the record: the expiry in Unix milliseconds, rounded up, followed by the value.
func (c change) encode() []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(unixms.Ceil(c.expires))), c.value...)
}

// decode returns the key and the change that were stored by encodeKey and encode.
func decode(key, record []byte) (string, change, error) {
	if len(key) < 1 || key[0] != 'k' || len(record) < 8 {
		return "", change{}, errors.New("the file is damaged: malformed record")
	}
	expires := time.UnixMilli(int64(binary.BigEndian.Uint64(record)))
	return string(key[1:]), change{string(record[8:]), expires}, nil
}

// A tally is the number of records, with since as one of them, and the sum of their checksums, modulo 2^64. Each commit stores it along with its
// changes, so Open notices a record that was altered or lost. bbolt itself has a checksum over the roots only. A sum does
// not depend on the order of the records, so that a commit can update it from the changed records alone.
type tally struct {
	count, sum uint64
}

var crcTable = crc64.MakeTable(crc64.ECMA)

// checksum includes the length of the key, so that no byte can move between the key and the record unnoticed.
func checksum(key, record []byte) uint64 {
	length := binary.BigEndian.AppendUint64(nil, uint64(len(key)))
	return crc64.Update(crc64.Update(crc64.Checksum(length, crcTable), crcTable, key), crcTable, record)
}

func (t *tally) add(key, record []byte) {
	t.count++
	t.sum += checksum(key, record)
}

func (t *tally) remove(key, record []byte) {
	t.count--
	t.sum -= checksum(key, record)
}

func (t tally) encode() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, t.count), t.sum)
}

// Open opens the blacklist in the file at path. If there is no such file, Open creates it with mode 0600. It
// reads the whole file, which takes a few seconds for a million records. The caller must close the store.
//
// A new file is younger than every session, so all users have to log in again (R20). Use [OpenExisting] where the file
// must already be there, for instance on a volume that may not be mounted.
//
// Open returns an error that names the file if another process has the file open, or if the file is damaged, empty,
// or not a blacklist of this package.
func Open(path string) (*Store, error) {
	return newStore(path).start(true)
}

// OpenExisting is like [Open], but never creates the file. If the file is missing, the error wraps
// [fs.ErrNotExist].
//
// It keeps a deployment whose volume is not mounted from silently starting with an empty blacklist, which would log all
// users out.
func OpenExisting(path string) (*Store, error) {
	return newStore(path).start(false)
}

func newStore(path string) *Store {
	return &Store{
		path:          path,
		memory:        expiring.New(),
		swaps:         make(chan *swap),
		closing:       make(chan struct{}),
		stopped:       make(chan struct{}),
		syncDirectory: syncDirectory,
	}
}

// start opens the file and starts the goroutine that commits. Its errors name the package and the file.
func (s *Store) start(create bool) (*Store, error) {
	if err := s.open(create); err != nil {
		s.memory.Close()
		return nil, fmt.Errorf("boltstore: %s: %w", s.path, err)
	}
	go s.run()
	return s, nil
}

// open opens the file in three steps. It verifies an existing file, because bbolt would trust it. It loads the records
// into memory. And it deletes the expired ones, so that a file that is opened for a moment every day does not grow.
//
// If create is set, a missing file is created. It is only missing if it was so at the start: a file that disappears
// after it was verified is an error.
func (s *Store) open(create bool) (err error) {
	info, err := os.Stat(s.path)
	create = create && errors.Is(err, fs.ErrNotExist)
	if !create {
		if err == nil {
			err = checkInfo(info)
		}
		if err == nil {
			err = s.verifyFile()
		}
		if err != nil {
			return err
		}
	}
	if err := s.openFile(false, create); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = s.closeFile(time.Second) // the first error matters more
		}
	}()
	s.update = s.db.Update
	if err := guard(s.load); err != nil {
		return err
	}
	for more := true; more; more = s.sweep != nil {
		s.sweepStep()
	}
	return nil
}

// checkInfo refuses a file that cannot be a blacklist. bbolt would turn an empty file into a new database.
func checkInfo(info os.FileInfo) error {
	switch {
	case !info.Mode().IsRegular():
		return errors.New("not a regular file")
	case info.Size() == 0:
		return errors.New("the file is empty, so it is not a blacklist; remove it if it never held one")
	case info.Size() < minPages*minPageSize:
		return fmt.Errorf("the file is not a %q, or damaged: it is too short", format)
	}
	return nil
}

// verifyFile checks the file before bbolt relies on it. bbolt reads no more than the roots of a file that it opens
// read-only.
func (s *Store) verifyFile() error {
	if err := s.openFile(true, false); err != nil {
		return err
	}
	err := guard(func() error {
		info, err := s.file.Stat()
		if err != nil {
			return err
		}
		if err := verify(s.file, info.Size(), s.db.Info().PageSize); err != nil {
			return fmt.Errorf("the file is damaged: %w", err)
		}
		return nil
	})
	return errors.Join(err, s.closeFile(time.Second))
}

// openFile opens the file in bbolt. Unless create is set, it neither creates the file nor accepts an empty one,
// even if the file disappears or changes after the caller has looked at it.
func (s *Store) openFile(readOnly, create bool) error {
	open := func(name string, flag int, mode os.FileMode) (file *os.File, err error) {
		if !create {
			flag &^= os.O_CREATE
		}
		if file, err = os.OpenFile(name, flag, mode); err != nil {
			return nil, err
		}
		if !create {
			info, err := file.Stat()
			if err == nil {
				err = checkInfo(info)
			}
			if err != nil {
				return nil, errors.Join(err, file.Close())
			}
		}
		s.file = file
		return file, nil
	}
	s.file = nil
	err := guard(func() (err error) {
		s.db, err = bolt.Open(s.path, 0o600, &bolt.Options{
			Timeout:      lockTimeout,
			ReadOnly:     readOnly,
			FreelistType: bolt.FreelistMapType,
			NoStatistics: true,
			OpenFile:     open,
		})
		var errno syscall.Errno
		switch {
		case err == nil, s.file == nil, errors.As(err, &errno):
			return err
		case errors.Is(err, bolterrors.ErrTimeout):
			return fmt.Errorf("the file is in use by another process, or opened twice in this one: %w", err)
		}
		return fmt.Errorf("the file is not a %q, or damaged: %w", format, err)
	})
	if err != nil && s.file != nil {
		_ = s.file.Close() // bbolt has closed it, unless it panicked; the lock must not outlive the error
	}
	return err
}

// closeFile closes the file, which unlocks it. After a panic within a transaction, bbolt may hold its own locks
// forever. Then closeFile gives up after patience.
func (s *Store) closeFile(patience time.Duration) error {
	closed := make(chan error, 1)
	go func() { closed <- s.db.Close() }()
	select {
	case err := <-closed:
		return err
	case <-time.After(patience):
		return errors.New("the file stays locked until the process ends")
	}
}

// guard turns a panic into an error. On a damaged page bbolt panics, and reading the mapped file may fault.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the file is damaged: %v", r)
		}
	}()
	return f()
}

// syncDirectory makes the name of a new file durable. Syncing the file alone does not.
func syncDirectory(path string) error {
	if runtime.GOOS == "windows" { // not possible there, and not needed
		return nil
	}
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// load fills the memory from the file, or sets up a new file.
func (s *Store) load() error {
	fresh := false
	err := s.db.View(func(tx *bolt.Tx) error {
		s.txid = tx.ID()
		records, meta := tx.Bucket(recordsBucket), tx.Bucket(metaBucket)
		if (s.txid == 0 || s.txid == 1) && records == nil && meta == nil {
			fresh = true // no transaction has ever been committed to this file
			return nil
		}
		if records == nil || meta == nil {
			return fmt.Errorf("the file is not a %q", format)
		}
		if err := s.loadSince(meta); err != nil {
			return err
		}
		return s.loadRecords(records, meta)
	})
	if err != nil || !fresh {
		return err
	}
	return s.setUp()
}

// loadSince reads when the file was created.
func (s *Store) loadSince(meta *bolt.Bucket) error {
	switch string(meta.Get(formatKey)) {
	case format1:
		s.since = time.UnixMicro(0)
		return nil
	case format:
		since := meta.Get(sinceKey)
		if len(since) != 8 {
			return errors.New("the file is damaged: it does not say since when it exists")
		}
		s.tally.add(sinceKey, since)
		s.since = time.UnixMicro(int64(binary.BigEndian.Uint64(since)))
		return nil
	}
	return fmt.Errorf("the file is not a %q", format)
}

// loadRecords fills the memory and compares the tally of the records with the stored one.
func (s *Store) loadRecords(records, meta *bolt.Bucket) error {
	err := records.ForEach(func(key, record []byte) error {
		k, c, err := decode(key, record)
		if err != nil {
			return err
		}
		s.tally.add(key, record)
		s.memory.Set(k, c.value, c.expires)
		return nil
	})
	if err != nil {
		return err
	}
	if string(meta.Get(tallyKey)) != string(s.tally.encode()) {
		return errors.New("the file is damaged: the records do not match their checksum")
	}
	return nil
}

// setUp creates the buckets of a new file. It syncs the directory first: once a transaction is committed, later
// openings rely on the name of the file being durable.
func (s *Store) setUp() error {
	if err := s.syncDirectory(s.path); err != nil {
		return err
	}
	now := time.Now().UnixMicro()
	since := binary.BigEndian.AppendUint64(nil, uint64(now))
	s.tally.add(sinceKey, since)
	s.since = time.UnixMicro(now)
	return s.db.Update(func(tx *bolt.Tx) error {
		s.txid = tx.ID()
		if _, err := tx.CreateBucket(recordsBucket); err != nil {
			return err
		}
		meta, err := tx.CreateBucket(metaBucket)
		if err != nil {
			return err
		}
		return errors.Join(meta.Put(formatKey, []byte(format)), meta.Put(sinceKey, since), meta.Put(tallyKey, s.tally.encode()))
	})
}

// write commits the changes to the file in one transaction. It returns the changes that restore the replaced records.
func (s *Store) write(changes map[string]change) (before map[string]change, err error) {
	if s.broken != nil {
		return nil, s.broken
	}
	// bbolt may run the function and still fail to commit, so s.tally must not change before the end.
	var total tally
	var id int
	err = guard(func() error {
		return s.update(func(tx *bolt.Tx) error {
			total, id = s.tally, tx.ID()
			before = make(map[string]change, len(changes))
			records := tx.Bucket(recordsBucket)
			for key, c := range changes {
				replaced, err := apply(records, &total, encodeKey(key), c)
				if err != nil {
					return err
				}
				before[key] = replaced
			}
			return tx.Bucket(metaBucket).Put(tallyKey, total.encode())
		})
	})
	if err == nil {
		s.tally, s.txid = total, id
		return before, nil
	}
	err = fmt.Errorf("boltstore: %s: %w", s.path, err)
	if s.lastTxID() != s.txid {
		// The commit has changed the root of the file, but possibly not on the disk. Later commits would build on a
		// root that may be lost.
		s.broken = inDoubt(err)
	}
	return nil, err
}

// inDoubt returns the error for every swap after one that left the file in doubt.
func inDoubt(err error) error {
	return fmt.Errorf("%w (a failed commit left the file in doubt: close the store and open it again)", err)
}

// apply makes one change and returns what it replaced: the zero change if there was no record.
func apply(records *bolt.Bucket, total *tally, key []byte, c change) (replaced change, err error) {
	if old := records.Get(key); old != nil {
		if _, replaced, err = decode(key, old); err != nil {
			return change{}, err
		}
		total.remove(key, old)
	}
	if c.current() == "" {
		return replaced, records.Delete(key)
	}
	record := c.encode()
	total.add(key, record)
	return replaced, records.Put(key, record)
}

// lastTxID returns the number of the last transaction in the file, or -1 if it cannot be read.
func (s *Store) lastTxID() int {
	id := -1
	err := guard(func() error {
		return s.db.View(func(tx *bolt.Tx) error {
			id = tx.ID()
			return nil
		})
	})
	if err != nil {
		return -1
	}
	return id
}

// sweepPause returns the pause between two steps of the sweeper, so that its steps make up a round of sweepRound.
func (s *Store) sweepPause() time.Duration {
	return sweepRound / time.Duration(1+s.tally.count/sweepRecords)
}

// sweepStep deletes the expired records among the next few thousand records of the file. They are neighbors in the
// file, so deleting them writes few pages. bbolt reuses the space, so the file does not outgrow the largest number of
// records that were ever live at the same time.
func (s *Store) sweepStep() {
	expired := map[string]change{}
	err := guard(func() error {
		return s.db.View(func(tx *bolt.Tx) error {
			cursor := tx.Bucket(recordsBucket).Cursor()
			key, record := cursor.Seek(s.sweep)
			for range sweepRecords {
				if key == nil {
					break
				}
				k, c, err := decode(key, record)
				if err != nil {
					return err
				}
				if c.current() == "" {
					expired[k] = c
				}
				key, record = cursor.Next()
			}
			s.sweep = append([]byte(nil), key...)
			return nil
		})
	})
	if err != nil { // the next round tries again; a swap will run into the same error and report it
		s.sweep = nil
		return
	}
	if len(expired) > 0 {
		_, _ = s.write(expired)
	}
}
