package boltstore

import bolt "go.etcd.io/bbolt"

// SetMaxSize makes every commit fail that would let the file grow beyond size, as a full disk does; 0 lifts it.
func (s *Store) SetMaxSize(size int) { s.db.MaxSize = size }

// SetCommit puts f in the place of bbolt's commit, which it is given.
func (s *Store) SetCommit(f func(commit func() error) error) {
	s.update = func(fn func(*bolt.Tx) error) error {
		return f(func() error { return s.db.Update(fn) })
	}
}
