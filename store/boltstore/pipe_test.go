//go:build unix

package boltstore_test

import (
	"syscall"
	"testing"

	"github.com/ginrefresh/ginrefresh/store/boltstore"
)

// TestPipe opens a named pipe. A plain open would wait for a writer.
func TestPipe(t *testing.T) {
	path := file(t)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skip(err)
	}
	if s, err := boltstore.Open(path); err == nil {
		s.Close()
		t.Error("a named pipe opens as a blacklist")
	}
}
