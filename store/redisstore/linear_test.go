//go:build unix

package redisstore_test

import (
	"sync"
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/store/internal/lineartest"
	"github.com/ginrefresh/ginrefresh/store/internal/redistest"
	"github.com/ginrefresh/ginrefresh/store/redisstore"
)

// eightClients returns stores with clients of their own, as in eight processes.
func eightClients(t *testing.T, server *redistest.Server) []*redisstore.Store {
	stores := make([]*redisstore.Store, 8)
	for i := range stores {
		stores[i] = connect(t, server, redisstore.Options{})
	}
	return stores
}

// record makes calls of each store.
func record(stores []*redisstore.Store, calls int) lineartest.History {
	return lineartest.Record(stores, 200*time.Millisecond, func(made int) bool { return made < calls })
}

func TestLinearizable(t *testing.T) {
	server := redistest.Start(t)
	record(eightClients(t, server), 500).MustBeLinearizable(t)
}

// TestLinearizableThroughCrashes kills the server repeatedly. With appendfsync always it must not lose an answered swap, and
// a swap whose answer was lost must not be made twice.
func TestLinearizableThroughCrashes(t *testing.T) {
	server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	stores := eightClients(t, server)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(100 * time.Millisecond):
				server.Kill()
				server.Restart()
			}
		}
	})
	history := record(stores, rounds(3000, 1000))
	close(done)
	wg.Wait()
	history.MustBeLinearizable(t)
}
