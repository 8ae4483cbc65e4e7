package boltstore

import (
	"time"

	bolt "go.etcd.io/bbolt"
)

// SetMaxSize makes every commit fail that would let the file grow beyond size, as on a full disk. 0 removes the limit.
func (s *Store) SetMaxSize(size int) { s.db.MaxSize = size }

// SetCommit replaces the commit of bbolt by f, which gets the original.
func (s *Store) SetCommit(f func(commit func() error) error) {
	s.update = func(fn func(*bolt.Tx) error) error {
		return f(func() error { return s.db.Update(fn) })
	}
}

// DB returns the bbolt database of the store.
func (s *Store) DB() *bolt.DB { return s.db }

// OpenWithSync is Open with f instead of syncDirectory. f gets the original.
func OpenWithSync(path string, f func(sync func() error) error) (*Store, error) {
	s := newStore(path)
	sync := s.syncDirectory
	s.syncDirectory = func(path string) error {
		return f(func() error { return sync(path) })
	}
	return s.start(true)
}

// SyncDirectory makes the name of a file durable, as Open does for a new file.
func SyncDirectory(path string) error {
	s := newStore(path)
	defer s.memory.Close()
	return s.syncDirectory(path)
}

// OpenVanished runs one of the two steps in which OpenExisting opens a file after it has found it: first read-only to
// verify it, then for writing. A test can so remove or change the file before the step.
func OpenVanished(path string, readOnly bool) error {
	s := newStore(path)
	defer s.memory.Close()
	if err := s.openFile(readOnly, false); err != nil {
		return err
	}
	return s.closeFile(time.Second)
}
