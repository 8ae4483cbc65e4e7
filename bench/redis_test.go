package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"

	"github.com/ginrefresh/ginrefresh/bench/internal/redisserver"
	"github.com/ginrefresh/ginrefresh/store/redisstore"
)

// BenchmarkRedisCheck is what one request asks of Redis, two keys that are absent, by so many requests at
// once: ours, ours with MaxStaleness over 1,000 sessions, and go-redis with a bare MGET.
func BenchmarkRedisCheck(b *testing.B) {
	if !redisserver.Available() {
		b.Skip("there is no redis-server")
	}
	server, err := redisserver.Start()
	if err != nil {
		b.Fatal(err)
	}
	defer server.Close()
	client, err := redisserver.Dial(server.Address)
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	other := redis.NewClient(&redis.Options{Addr: server.Address, PoolSize: 64})
	defer func() { _ = other.Close() }()

	checks := []struct {
		name  string
		check func(ctx context.Context, session, subject string) error
	}{
		{"store", storeCheck(b, client, redisstore.Options{})},
		{"store-MaxStaleness", storeCheck(b, client, redisstore.Options{MaxStaleness: time.Second})},
		{"go-redis", func(ctx context.Context, session, subject string) error {
			return other.MGet(ctx, session, subject).Err()
		}},
	}
	for _, goroutines := range []int{1, 64, 512} {
		for _, c := range checks {
			b.Run(fmt.Sprintf("%s/%d", c.name, goroutines), func(b *testing.B) { inParallel(b, goroutines, c.check) })
		}
	}
}

func storeCheck(b *testing.B, client rueidis.Client, options redisstore.Options) func(context.Context, string, string) error {
	b.Helper()
	store, err := redisstore.New(client, options)
	if err != nil {
		b.Fatal(err)
	}
	return func(ctx context.Context, session, subject string) error {
		_, err := store.Get(ctx, session, subject)
		return err
	}
}

func inParallel(b *testing.B, goroutines int, check func(ctx context.Context, session, subject string) error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range goroutines {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				if err := check(ctx, fmt.Sprintf("s:%d", i%1000), fmt.Sprintf("u:%d", i%1000)); err != nil {
					b.Error(err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "checks/s")
}
