package main

import (
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
)

const million = 1_000_000

var millionTokens = sync.OnceValues(func() (f *fixture, requests []string) {
	f = newFixture(middleware.HS256, store.NewMemory(), sizes{once: million})
	return f, inOnePiece(f.once())
})

// BenchmarkMillionTokens compares a guard with the default token cache and a guard without one, when there are a
// hundred times as many tokens as the cache holds. It needs 2 GB of memory.
func BenchmarkMillionTokens(b *testing.B) {
	zipf := rand.NewZipf(rand.New(rand.NewPCG(1, 2)), 1.1, 1, million-1)
	for _, order := range []struct {
		name string
		pick func(i int) int
	}{
		{"in-turn", func(i int) int { return i % million }},
		{"random", func(int) int { return rand.IntN(million) }},
		{"zipf-1.1", func(int) int { return int(zipf.Uint64()) }},
	} {
		b.Run("order="+order.name, func(b *testing.B) { withAndWithoutCache(b, order.pick) })
	}
}

// block is how many requests one guard receives before the other one receives the same. It is small, so that other
// load on the machine slows both down, and so that the tokens are in the processor's cache, as they are after net/http
// has read them.
const block = 500

func withAndWithoutCache(b *testing.B, pick func(i int) int) {
	f, all := millionTokens()
	before := heapBytes()
	servers := [2]server{
		newServer(guarded(newAuth(f.key, f.store).Required())),
		newServer(guarded(newAuth(f.key, f.store, withoutCache).Required())),
	}
	var took [2]time.Duration
	requests := make([]string, block)
	blocks := (b.N + block - 1) / block
	for n := range blocks {
		for i := range requests {
			requests[i] = all[pick(n*block+i)]
		}
		requests = inOnePiece(requests)
		for turn := range servers {
			i := (n + turn) % len(servers)
			start := time.Now()
			for _, authorization := range requests {
				if status := servers[i](authorization); status != 200 {
					b.Fatalf("status %d for a valid token", status)
				}
			}
			took[i] += time.Since(start)
		}
	}
	sent := float64(blocks * block)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(sent/took[0].Seconds(), "requests/s")
	b.ReportMetric(sent/took[1].Seconds(), "requests/s-without-cache")
	b.ReportMetric(took[1].Seconds()/took[0].Seconds(), "x-without-cache")
	b.ReportMetric((heapBytes()-before)/(1<<20), "cache-MiB")
	runtime.KeepAlive(servers)
}

// inOnePiece copies the strings into one piece of memory, so that the garbage collector has less to mark.
func inOnePiece(values []string) []string {
	all, at := strings.Join(values, ""), 0
	for i, v := range values {
		values[i] = all[at : at+len(v)]
		at += len(v)
	}
	return values
}

func heapBytes() float64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return float64(stats.HeapAlloc)
}

// TestCacheMemory checks that twice as many tokens as the token cache holds do not make it grow past a limit.
func TestCacheMemory(t *testing.T) {
	f := newFixture(middleware.HS256, store.NewMemory(), sizes{once: 20_000})
	requests := f.once()
	before := heapBytes()
	serve := newServer(find("ginrefresh").guard(f.key, f.store))
	for range 3 {
		for _, authorization := range requests {
			serve(authorization)
		}
	}
	const limit = 32
	if mib := (heapBytes() - before) / (1 << 20); mib > limit {
		t.Errorf("the token cache holds %.1f MiB, want at most %d", mib, limit)
	}
	runtime.KeepAlive(serve)
}
