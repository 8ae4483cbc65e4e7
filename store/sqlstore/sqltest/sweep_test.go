//go:build linux

package sqltest

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"
)

// count returns the number of rows.
func (d database) count(t testing.TB) (n int) {
	t.Helper()
	row := d.db.QueryRowContext(within(t, 10*time.Second), "SELECT count(*) FROM ginrefresh_blacklist")
	if err := row.Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestSweep(t *testing.T) {
	for _, d := range databases(t) {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			s := d.store(t)
			_, since := mustGet(t, s, "key")
			const expired, live = 450, 30 // more than two batches
			var wg sync.WaitGroup
			for i := range expired + live {
				wg.Go(func() {
					expires := inAnHour()
					if i < expired {
						expires = time.Time{}
					}
					done, err := s.CompareAndSwap(within(t, 20*time.Second), strconv.Itoa(i), "", "value", expires)
					if !done || err != nil {
						t.Errorf("CompareAndSwap = %v, %v", done, err)
					}
				})
			}
			wg.Wait()
			for _, want := range []int{expired, 0} {
				if n, err := s.Sweep(within(t, 20*time.Second)); n != want || err != nil {
					t.Errorf("Sweep = %d, %v, want %d", n, err, want)
				}
			}
			if got := d.count(t); got != live+1 {
				t.Errorf("%d rows are left, want %d and the since record", got, live)
			}
			for i := expired; i < expired+live; i++ {
				if got, _ := mustGet(t, s, strconv.Itoa(i)); got != "value" {
					t.Errorf("a live record has the value %q after a sweep", got)
				}
			}
			if _, after := mustGet(t, s, "key"); !after.Equal(since) {
				t.Errorf("since moved from %v to %v in a sweep", since, after)
			}
		})
	}
}

// TestSweepDuringSwaps sweeps while the same records are made, expire and are made again. No call may fail, and no live
// record may be removed.
func TestSweepDuringSwaps(t *testing.T) {
	for _, d := range databases(t) {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			s := d.store(t)
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			stop := make(chan struct{})
			var sweeps, swaps sync.WaitGroup
			for range 2 {
				sweeps.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
						}
						if _, err := s.Sweep(ctx); err != nil {
							t.Errorf("Sweep: %v", err)
							return
						}
					}
				})
			}
			for g := range 8 {
				swaps.Go(func() {
					for i := range 80 {
						key := strconv.Itoa(g) + " " + strconv.Itoa(i%4)
						for _, step := range []struct {
							old, new string
							expires  time.Time
						}{{"", "1", inAnHour()}, {"1", "2", inAnHour()}, {"2", "3", time.Time{}}} {
							if done, err := s.CompareAndSwap(ctx, key, step.old, step.new, step.expires); !done || err != nil {
								t.Errorf("CompareAndSwap(%q) from %q = %v, %v", key, step.old, done, err)
								return
							}
						}
					}
				})
			}
			swaps.Wait()
			close(stop)
			sweeps.Wait()
		})
	}
}
