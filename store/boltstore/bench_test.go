package boltstore_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/store/boltstore"
)

// BenchmarkSwap measures the cost of a refresh or a logout: a commit, which concurrent swaps share.
func BenchmarkSwap(b *testing.B) {
	for _, goroutines := range []int{1, 64} {
		b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
			s := open(b, file(b))
			fill(b, s, "others ", 10_000, "1751500000000000 1751500000000000", inAnHour())
			var n atomic.Int64
			var wg sync.WaitGroup
			b.ResetTimer()
			for range goroutines {
				wg.Go(func() {
					for i := n.Add(1); i <= int64(b.N); i = n.Add(1) {
						done, err := s.CompareAndSwap(context.Background(), strconv.FormatInt(i, 10), "", "1751500000000000", inAnHour())
						if !done || err != nil {
							b.Errorf("CompareAndSwap = %v, %v", done, err)
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "swaps/s")
		})
	}
}

// BenchmarkOpen opens a file with a million records.
func BenchmarkOpen(b *testing.B) {
	const records = 1_000_000
	path := file(b)
	s := open(b, path)
	fill(b, s, "some session of a user ", records, "1751500000000000", time.Now().Add(24*time.Hour))
	closeStore(b, s)
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s, err := boltstore.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		closeStore(b, s)
	}
	b.ReportMetric(float64(info.Size())/records, "bytes/record")
}
