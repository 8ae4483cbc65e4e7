package boltstore

import (
	"time"

	bolt "go.etcd.io/bbolt"
)

// SetMaxSize makes every commit fail that would let the file grow beyond size, as a full disk does; 0 lifts it.
func (s *Store) SetMaxSize(size int) { s.db.MaxSize = size }

// SetCommit puts f in the place of bbolt's commit, which it is given.
func (s *Store) SetCommit(f func(commit func() error) error) {
	s.update = func(fn func(*bolt.Tx) error) error {
		return f(func() error { return s.db.Update(fn) })
	}
}

// DB returns the database under the store.
func (s *Store) DB() *bolt.DB { return s.db }

// OpenWithSync is Open with f in the place of syncDirectory, which f is given.
func OpenWithSync(path string, f func(sync func() error) error) (*Store, error) {
	s := newStore(path)
	sync := s.syncDirectory
	s.syncDirectory = func(path string) error {
		return f(func() error { return sync(path) })
	}
	return s.start(true)
}

// SyncDirectory is what Open does for a new file.
func SyncDirectory(path string) error {
	s := newStore(path)
	defer s.memory.Close()
	return s.syncDirectory(path)
}

// OpenVanished does one of the two steps in which OpenExisting opens a file that it has found: first read-only, to check
// it, and then for writing.
func OpenVanished(path string, readOnly bool) error {
	s := newStore(path)
	defer s.memory.Close()
	if err := s.openFile(readOnly, false); err != nil {
		return err
	}
	return s.closeFile(time.Second)
}
