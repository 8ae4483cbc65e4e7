package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
)

// countedStore counts its calls. It cannot be peeked, like a store in a network.
type countedStore struct {
	store       middleware.Store
	gets, swaps int
}

func (s *countedStore) Get(ctx context.Context, keys ...string) ([]string, time.Time, error) {
	s.gets++
	return s.store.Get(ctx, keys...)
}

func (s *countedStore) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	s.swaps++
	return s.store.CompareAndSwap(ctx, key, old, new, expires)
}

// BenchmarkLimitedLogin compares logins without MaxSessions, below the limit and at the limit, and counts the calls to the
// store.
func BenchmarkLimitedLogin(b *testing.B) {
	for _, c := range []struct {
		name     string
		limit    int
		sessions int // of each user before the login
	}{
		{"without-a-limit", 0, 0},
		{"first-of-5", 5, 0},
		{"fifth-of-5", 5, 4},
		{"at-the-limit-of-5", 5, 5},
	} {
		b.Run(c.name, func(b *testing.B) {
			memory := store.NewMemory()
			defer memory.Close()
			counted := &countedStore{store: memory}
			auth := newAuth(newKey(middleware.HS256), counted, func(config *middleware.Config) { config.MaxSessions = c.limit })
			login := func(user int) { must(auth.Issue(context.Background(), identity(fmt.Sprint("user", user)))) }
			for user := range b.N {
				for range c.sessions {
					login(user)
				}
			}
			b.ReportAllocs()
			b.ResetTimer()
			counted.gets, counted.swaps = 0, 0
			before := cpuTime()
			for user := range b.N {
				login(user)
			}
			b.ReportMetric(float64((cpuTime()-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
			b.ReportMetric(float64(counted.gets)/float64(b.N), "gets/op")
			b.ReportMetric(float64(counted.swaps)/float64(b.N), "swaps/op")
		})
	}
}
