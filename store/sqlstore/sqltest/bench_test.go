//go:build linux

package sqltest

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// sessions is the number of sessions that the benchmarks use.
const sessions = 1000

// value has the length of a session's record.
const value = "1751500000000000 1751500000000000"

func sessionKey(i uint64) string { return "session " + strconv.FormatUint(i%sessions, 10) }

// BenchmarkCheck measures the check of a guard, which reads two keys for every request, one of a session and one of a
// subject.
func BenchmarkCheck(b *testing.B) {
	for _, database := range databases(b) {
		s := database.store(b)
		for i := range uint64(sessions / 2) { // half of the sessions have a record
			mustSwap(b, s, sessionKey(2*i), "", value)
		}
		inParallel(b, database.name, "checks/s", func(ctx context.Context, i uint64) error {
			_, _, err := s.Get(ctx, sessionKey(i), "subject "+strconv.FormatUint(i%sessions, 10))
			return err
		})
	}
}

// BenchmarkSwap measures a refresh: a swap of a record that exists.
func BenchmarkSwap(b *testing.B) {
	for _, database := range databases(b) {
		s := database.store(b)
		for i := range uint64(sessions) {
			mustSwap(b, s, sessionKey(i), "", value)
		}
		inParallel(b, database.name, "swaps/s", func(ctx context.Context, i uint64) error {
			done, err := s.CompareAndSwap(ctx, sessionKey(i), value, value, inAnHour())
			if err == nil && !done {
				err = fmt.Errorf("the swap of %q was lost", sessionKey(i))
			}
			return err
		})
	}
}

// inParallel makes b.N calls from one goroutine, and then from 64.
func inParallel(b *testing.B, name, unit string, call func(ctx context.Context, i uint64) error) {
	for _, goroutines := range []int{1, 64} {
		b.Run(fmt.Sprintf("%s/goroutines=%d", name, goroutines), func(b *testing.B) {
			var next, done atomic.Uint64
			var wg sync.WaitGroup
			for range goroutines {
				wg.Go(func() {
					for done.Add(1) <= uint64(b.N) {
						ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
						err := call(ctx, next.Add(7919))
						cancel()
						if err != nil && done.Swap(uint64(b.N)) < uint64(b.N) { // stop at the first error
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), unit)
		})
	}
}
