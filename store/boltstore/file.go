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
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/ginrefresh/ginrefresh/store/internal/expiring"
)

const (
	// format is stored in the file and names what is in it. A later layout gets another name.
	format = "ginrefresh blacklist 1"

	// lockTimeout is how long Open waits for the lock of another process. bbolt tries again every 50 ms.
	lockTimeout = 100 * time.Millisecond

	// sweepRound is how long one pass of the sweeper over the file takes, in steps of sweepRecords. Expired
	// records in the file only take space, so there is no hurry.
	sweepRound   = 10 * time.Minute
	sweepRecords = 4096

	// leastSize is that of bbolt's smallest file: four pages of the smallest size.
	leastSize = 4 * 4096
)

var (
	recordsBucket = []byte("records")
	metaBucket    = []byte("meta")
	formatKey     = []byte("format")
	tallyKey      = []byte("tally")
)

// farthest is the latest expiry that is stored: the end of the years with four digits.
var farthest = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// A change is what becomes of a key.
type change struct {
	value   string
	expires time.Time
}

// current returns the value that a reader is to see now.
func (c change) current() string {
	if !c.expires.After(time.Now()) {
		return ""
	}
	return c.value
}

// encodeKey puts a byte in front, for bbolt has no empty keys.
func encodeKey(key string) []byte {
	return append([]byte{'k'}, key...)
}

// encode returns the record: its expiry in Unix milliseconds, rounded up, and its value.
func (c change) encode() []byte {
	expires := c.expires
	if expires.After(farthest) {
		expires = farthest
	}
	ms := expires.Add(time.Millisecond - time.Nanosecond).UnixMilli()
	return append(binary.BigEndian.AppendUint64(nil, uint64(ms)), c.value...)
}

func decode(key, record []byte) (string, change, error) {
	if len(key) < 1 || key[0] != 'k' || len(record) < 8 {
		return "", change{}, errors.New("the file is damaged: a record is none")
	}
	expires := time.UnixMilli(int64(binary.BigEndian.Uint64(record)))
	return string(key[1:]), change{string(record[8:]), expires}, nil
}

// A tally is the number of records and the sum of their checksums. Each commit stores it with what it
// changes, so that Open notices a record that has changed or gone: bbolt has a checksum over its roots only.
type tally struct {
	count, sum uint64
}

var crcTable = crc64.MakeTable(crc64.ECMA)

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

// Open opens the blacklist in the file at path, and creates the file, with mode 0600, if there is none. It
// reads all of it: expect a second for a million records. The caller closes the store.
//
// Its error names the file. It is an error if another process has the file open, if the file is damaged, empty, or
// no blacklist of this package.
func Open(path string) (*Store, error) {
	s := &Store{
		path:    path,
		memory:  expiring.New(),
		swaps:   make(chan *swap),
		closing: make(chan struct{}),
		stopped: make(chan struct{}),
	}
	if err := s.open(); err != nil {
		s.memory.Close()
		return nil, fmt.Errorf("boltstore: %s: %w", path, err)
	}
	go s.run()
	return s, nil
}

func (s *Store) open() (err error) {
	info, err := os.Stat(s.path)
	isNew := errors.Is(err, fs.ErrNotExist)
	switch {
	case isNew:
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return errors.New("not a regular file")
	case info.Size() == 0: // bbolt would make it a new, empty database
		return errors.New("the file is empty, which no blacklist is; remove it if it never held one")
	case info.Size() < leastSize:
		return fmt.Errorf("the file is not a %q, or damaged: it is too short", format)
	}
	if !isNew {
		if err := s.verifyFile(); err != nil {
			return err
		}
	}
	if err := s.openFile(false); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = s.closeFile(time.Second) // the first error is the one to tell
		}
	}()
	s.update = s.db.Update
	if err := guard(s.load); err != nil {
		return err
	}
	for more := true; more; more = s.sweep != nil {
		s.sweepStep()
	}
	if isNew {
		return syncDirectory(s.path)
	}
	return nil
}

// verifyFile checks the file while it is open for reading: bbolt then looks at no more than its roots.
func (s *Store) verifyFile() error {
	if err := s.openFile(true); err != nil {
		return err
	}
	err := verify(s.file, s.db.Info().PageSize)
	if err != nil {
		err = fmt.Errorf("the file is damaged: %w", err)
	}
	return errors.Join(err, s.closeFile(time.Second))
}

func (s *Store) openFile(readOnly bool) error {
	err := guard(func() (err error) {
		s.db, err = bolt.Open(s.path, 0o600, &bolt.Options{
			Timeout:      lockTimeout,
			ReadOnly:     readOnly,
			FreelistType: bolt.FreelistMapType,
			NoStatistics: true,
			OpenFile: func(name string, flag int, mode os.FileMode) (file *os.File, err error) {
				file, err = os.OpenFile(name, flag, mode)
				s.file = file
				return file, err
			},
		})
		return err
	})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return fmt.Errorf("the file is in use by another process, or opened twice in this one: %w", err)
	}
	return err
}

// closeFile closes the file, and so unlocks it. After a panic within a transaction, bbolt's own locks may be
// held for ever; then closeFile gives up in time.
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

// guard turns a panic into an error: bbolt panics, and the mapped file faults, where a page is damaged.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the file is damaged: %v", r)
		}
	}()
	return f()
}

// syncDirectory makes the new file's name last, too: a sync of the file alone does not.
func syncDirectory(path string) error {
	if runtime.GOOS == "windows" { // which cannot, and need not
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

// load fills the memory from the file, or sets up a file that is new.
func (s *Store) load() error {
	err := s.db.View(func(tx *bolt.Tx) error {
		s.txid = tx.ID()
		records, meta := tx.Bucket(recordsBucket), tx.Bucket(metaBucket)
		if s.txid <= 1 && records == nil && meta == nil {
			return nil // no transaction has ever been committed to this file
		}
		if records == nil || meta == nil || string(meta.Get(formatKey)) != format {
			return fmt.Errorf("the file is not a %q", format)
		}
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
			return errors.New("the file is damaged: its records are not those that were stored")
		}
		return nil
	})
	if err != nil || s.txid > 1 {
		return err
	}
	return s.db.Update(func(tx *bolt.Tx) error {
		s.txid = tx.ID()
		if _, err := tx.CreateBucket(recordsBucket); err != nil {
			return err
		}
		meta, err := tx.CreateBucket(metaBucket)
		if err != nil {
			return err
		}
		return errors.Join(meta.Put(formatKey, []byte(format)), meta.Put(tallyKey, s.tally.encode()))
	})
}

// write commits the changes to the file, in one transaction.
func (s *Store) write(changes map[string]change) error {
	if s.broken != nil {
		return s.broken
	}
	var total tally
	var id int
	err := guard(func() error {
		return s.update(func(tx *bolt.Tx) error {
			total, id = s.tally, tx.ID()
			records := tx.Bucket(recordsBucket)
			for key, c := range changes {
				if err := apply(records, &total, encodeKey(key), c); err != nil {
					return err
				}
			}
			return tx.Bucket(metaBucket).Put(tallyKey, total.encode())
		})
	})
	if err == nil {
		s.tally, s.txid = total, id
		return nil
	}
	err = fmt.Errorf("boltstore: %s: %w", s.path, err)
	if s.lastTxID() != s.txid {
		// The commit went so far that the file's root changed, but not for sure on the disk. Whatever were built
		// on it might be lost with it.
		s.broken = fmt.Errorf("%w (a failed commit left the file in doubt: open it again)", err)
	}
	return err
}

func apply(records *bolt.Bucket, total *tally, key []byte, c change) error {
	if before := records.Get(key); before != nil {
		total.remove(key, before)
	}
	if c.current() == "" {
		return records.Delete(key)
	}
	record := c.encode()
	total.add(key, record)
	return records.Put(key, record)
}

// lastTxID returns the transaction that a reader of the file would see, or -1 if it cannot be read.
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

func (s *Store) sweepPause() time.Duration {
	return sweepRound / time.Duration(1+s.tally.count/sweepRecords)
}

// sweepStep deletes the expired among the file's next few thousand records. They are neighbours there, so that
// their deletion writes few pages, which bbolt uses again: the file grows to the most that was ever live at once.
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
	if err != nil { // what has expired stays for the next round; a swap will meet the error, and report it
		s.sweep = nil
		return
	}
	if len(expired) > 0 {
		_ = s.write(expired)
	}
}
