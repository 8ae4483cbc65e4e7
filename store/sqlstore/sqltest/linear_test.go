//go:build linux

package sqltest

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/store/internal/lineartest"
	"github.com/ginrefresh/ginrefresh/store/sqlstore"
)

// stores returns eight stores, as in eight processes.
func (d database) stores(t testing.TB) []*sqlstore.Store {
	stores := make([]*sqlstore.Store, 8)
	for i := range stores {
		stores[i] = d.store(t)
	}
	return stores
}

// record makes calls of all stores while more returns true.
func record(stores []*sqlstore.Store, more func(calls int) bool) lineartest.History {
	return lineartest.Record(stores, 500*time.Millisecond, more)
}

func TestLinearizable(t *testing.T) {
	for _, d := range databases(t) {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			record(d.stores(t), func(calls int) bool { return calls < 300 }).MustBeLinearizable(t)
		})
	}
}

// TestLinearizableThroughCrashes kills the server repeatedly. It must not lose an answered swap, and a swap whose
// answer was lost must not be reported as lost. MariaDB needs a binary log: without one, it shows a swap to readers
// before it has written it to disk, and the history is not linearizable.
func TestLinearizableThroughCrashes(t *testing.T) {
	for _, d := range []database{
		open(t, postgres.startServer(t)),
		open(t, mariadb.startServer(t, "--log-bin=binlog", "--sync-binlog=1")),
	} {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			stores := d.stores(t)
			_, since := mustGet(t, stores[0], "key")
			over := make(chan struct{})
			go func() {
				defer close(over)
				for range 3 {
					<-time.After(200 * time.Millisecond)
					d.server.kill()
					d.server.restart()
				}
			}()
			history := record(stores, func(int) bool {
				select {
				case <-over:
					return false
				default:
					return true
				}
			})
			history.MustBeLinearizable(t)
			if _, later := mustGet(t, stores[0], "key"); !later.Equal(since) {
				t.Errorf("since moved from %v to %v in a crash", since, later)
			}
		})
	}
}

// TestAnsweredSwapsSurvive kills the server during swaps. Afterwards each key must have the value of its last
// answered swap, or of the swap after it, whose answer was lost.
func TestAnsweredSwapsSurvive(t *testing.T) {
	for _, d := range servers(t) {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			s := d.store(t)
			kills, swaps := 0, int64(0)
			for range 2 {
				const keys = 16
				answered := make([]int, keys)
				var total atomic.Int64
				var wg sync.WaitGroup
				for k := range keys {
					wg.Go(func() {
						key, old := strconv.Itoa(k), ""
						for n := 1; ; n++ {
							next := strconv.Itoa(n)
							ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
							done, err := s.CompareAndSwap(ctx, key, old, next, inAnHour())
							cancel()
							if err != nil {
								return
							}
							if !done {
								t.Errorf("the swap of %q from %q is reported as lost", key, old)
								return
							}
							answered[k], old = n, next
							total.Add(1)
						}
					})
				}
				until(t, "swaps are answered", func() bool { return total.Load() >= 100 })
				d.server.kill()
				wg.Wait()
				kills, swaps = kills+1, swaps+total.Load()
				d.server.restart()
				for k, n := range answered {
					got, _ := mustGet(t, s, strconv.Itoa(k))
					if last, _ := strconv.Atoi(got); last != n && last != n+1 {
						t.Errorf("key %d: the value is %q after a crash, and the last answered swap was to %d", k, got, n)
					}
					mustSwap(t, s, strconv.Itoa(k), got, "0")
					if done, err := s.CompareAndSwap(within(t, 5*time.Second), strconv.Itoa(k), "0", "", inAnHour()); !done || err != nil {
						t.Errorf("CompareAndSwap to none = %v, %v", done, err)
					}
				}
			}
			t.Logf("proof: %d kills, %d answered swaps", kills, swaps)
		})
	}
}
