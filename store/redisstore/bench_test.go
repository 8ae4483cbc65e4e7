//go:build unix

package redisstore_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/ginrefresh/ginrefresh/store/internal/redistest"
	"github.com/ginrefresh/ginrefresh/store/redisstore"
)

// sessions is the number of sessions that the checks ask for.
const sessions = 1000

// BenchmarkCheck measures the check of a guard, which reads two keys for every request, one of a session and one of a
// subject. For comparison it measures MGET and the client-side cache of rueidis, which the store does not use.
func BenchmarkCheck(b *testing.B) {
	server := redistest.Start(b)
	plain := dial(b, nil, server.Addr())
	tracking := dial(b, func(o *rueidis.ClientOption) { o.DisableCache = false }, server.Addr())
	fresh := newStore(b, plain, redisstore.Options{})
	stale := newStore(b, plain, redisstore.Options{MaxStaleness: time.Second})
	for i := range sessions / 2 { // half of the sessions have a record
		mustSwap(b, fresh, "session "+strconv.Itoa(2*i), "", "1751500000000000 1751500000000000")
	}
	name := func(kind, i string) string { return "ginrefresh:" + kind + i }
	for _, check := range []struct {
		name string
		run  func(ctx context.Context, i string) error
	}{
		{"store", func(ctx context.Context, i string) error {
			_, _, err := fresh.Get(ctx, "session "+i, "subject "+i)
			return err
		}},
		{"store with MaxStaleness 1s", func(ctx context.Context, i string) error {
			_, err := check(ctx, stale, "session "+i, "subject "+i)
			return err
		}},
		{"MGET", func(ctx context.Context, i string) error {
			return plain.Do(ctx, plain.B().Mget().Key(name("session ", i), name("subject ", i)).Build()).Error()
		}},
		{"client-side cache 1s", func(ctx context.Context, i string) error {
			_, err := rueidis.MGetCache(tracking, ctx, time.Second, []string{name("session ", i), name("subject ", i)})
			return err
		}},
	} {
		for _, goroutines := range []int{1, 64, 512} {
			b.Run(fmt.Sprintf("%s/goroutines=%d", check.name, goroutines), func(b *testing.B) {
				b.ReportAllocs()
				inParallel(b, goroutines, check.run)
			})
		}
	}
}

// inParallel runs b.N checks in goroutines and reports the checks per second.
func inParallel(b *testing.B, goroutines int, check func(ctx context.Context, i string) error) {
	var next, done atomic.Uint64
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for i := next.Add(7919); done.Add(1) <= uint64(b.N); i++ {
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				err := check(ctx, strconv.FormatUint(i%sessions, 10))
				cancel()
				if err != nil && done.Swap(uint64(b.N)) < uint64(b.N) { // stop at the first error
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "checks/s")
}

// BenchmarkSwap measures the cost of a refresh or a logout, without and with waiting for a replica.
func BenchmarkSwap(b *testing.B) {
	server := redistest.Start(b)
	redistest.StartReplica(b, server)
	for _, replicas := range []int{0, 1} {
		s := connect(b, server, redisstore.Options{Replicas: replicas})
		for _, goroutines := range []int{1, 64} {
			b.Run(fmt.Sprintf("Replicas=%d/goroutines=%d", replicas, goroutines), func(b *testing.B) {
				var n atomic.Uint64
				inParallel(b, goroutines, func(ctx context.Context, _ string) error {
					key := b.Name() + " " + strconv.FormatUint(n.Add(1), 10)
					_, err := s.CompareAndSwap(ctx, key, "", "1751500000000000 1751500000000000", inAnHour())
					return err
				})
			})
		}
	}
}
