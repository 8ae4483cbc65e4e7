package store_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gocache "github.com/patrickmn/go-cache"

	"github.com/ginrefresh/ginrefresh/store"
)

// TestFigures prints the figures about memory in docs/stores.md. It takes minutes and 4 GB:
//
//	GINREFRESH_FIGURES=1 go test -v -timeout 30m -run TestFigures ./store
func TestFigures(t *testing.T) {
	if os.Getenv("GINREFRESH_FIGURES") == "" {
		t.Skip("GINREFRESH_FIGURES is not set")
	}
	t.Run("bytes per record", func(t *testing.T) {
		for _, n := range []int{10_000, 1_000_000, 5_000_000} {
			t.Logf("%d records: Memory %d B each, one go-cache %d B each", n, bytesEach(newSharded, n), bytesEach(newSingle, n))
		}
	})
	t.Run("growth", growth)
	for _, n := range []int{1_000_000, 5_000_000} {
		t.Run(fmt.Sprintf("reads during a sweep of %d records", n), func(t *testing.T) { stalls(t, n) })
	}
}

// A blacklist is a store to measure: Memory, or a plain go-cache.
type blacklist interface {
	set(key, value string, lifetime time.Duration)
	get(key string) string
	count() int
	close()
}

type sharded struct{ m *store.Memory }

func newSharded() blacklist { return sharded{store.NewMemory()} }

func (s sharded) set(key, value string, lifetime time.Duration) {
	_, _ = s.m.CompareAndSwap(context.Background(), key, s.m.Peek(key), value, time.Now().Add(lifetime))
}
func (s sharded) get(key string) string { return s.m.Peek(key) }
func (s sharded) count() int            { return s.m.Len() }
func (s sharded) close()                { s.m.Close() }

type single struct{ c *gocache.Cache }

func newSingle() blacklist { return single{gocache.New(gocache.NoExpiration, 0)} }

func (s single) set(key, value string, lifetime time.Duration) { s.c.Set(key, value, lifetime) }
func (s single) get(key string) string {
	v, _ := s.c.Get(key)
	value, _ := v.(string)
	return value
}
func (s single) count() int { return s.c.ItemCount() }
func (s single) close()     {}

// sessionKey returns a key of the same length as those of package middleware.
func sessionKey(i int) string { return fmt.Sprintf("s:%022d", i) }

// cutoff returns a value of the same length as those of package middleware.
func cutoff(i int) string {
	return strconv.FormatInt(1_790_000_000_000_000+int64(i), 36) + " " + strconv.FormatInt(1_790_000_000_000_000, 36)
}

func fill(b blacklist, expired, live int) {
	for i := range expired {
		b.set("expired "+sessionKey(i), cutoff(i), time.Millisecond)
	}
	for i := range live {
		b.set(sessionKey(i), cutoff(i), 24*time.Hour)
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

func bytesEach(kind func() blacklist, n int) uint64 {
	before := heap()
	b := kind()
	defer b.close()
	fill(b, 0, n)
	each := (heap() - before) / uint64(n)
	runtime.KeepAlive(b)
	return each
}

// growth refreshes 10,000 sessions 100 times each.
func growth(t *testing.T) {
	const sessions, refreshes = 10_000, 100
	before := heap()
	ours := newSharded()
	defer ours.close()
	for refresh := range refreshes {
		for i := range sessions {
			ours.set(sessionKey(i), cutoff(refresh), 24*time.Hour)
		}
	}
	size := heap() - before
	t.Logf("one record per session: %d records, %.1f MB", ours.count(), float64(size)/1e6)

	before = heap()
	theirs := newSingle()
	for refresh := range refreshes {
		for i := range sessions {
			theirs.set(sessionKey(i)+"."+strconv.Itoa(refresh), "revoked", 24*time.Hour) // the replaced token's jti
		}
	}
	size = heap() - before
	t.Logf("one entry per replaced token: %d records, %.1f MB", theirs.count(), float64(size)/1e6)
	runtime.KeepAlive(theirs)
}

// stalls reads from a Memory and a go-cache during a minute in which both sweep once. At the same time it reads from a store
// with nothing to sweep, which shows the delays that the machine adds.
func stalls(t *testing.T, n int) {
	m := store.NewMemory()
	ours, theirs, control := sharded{m}, single{gocache.New(gocache.NoExpiration, 0)}, newSharded()
	defer ours.close()
	defer control.close()
	fill(ours, n/10, n-n/10) // a tenth of the records has expired
	fill(theirs, n/10, n-n/10)
	fill(control, 0, 1000)
	runtime.GC()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	rounds := m.Stats().Rounds
	for ; m.Stats().Rounds == rounds; <-tick.C { // the current round began before all records were stored
	}
	var over atomic.Bool
	var wg sync.WaitGroup
	var read [3]latency
	for i, b := range []blacklist{ours, theirs, control} {
		wg.Go(func() { read[i] = latencies(b, &over) })
	}
	<-time.After(10 * time.Second)
	start := time.Now()
	theirs.c.DeleteExpired()
	took := time.Since(start)
	for ; m.Stats().Rounds == rounds+1; <-tick.C {
	}
	over.Store(true)
	wg.Wait()
	t.Logf("Memory: %v; the sweeper held a shard for %v at most", read[0], m.Stats().LongestStall)
	t.Logf("one go-cache: %v; its sweep took %v", read[1], took)
	t.Logf("nothing to sweep: %v", read[2])
	if ours.count() != theirs.count() {
		t.Errorf("%d and %d records are left", ours.count(), theirs.count())
	}
}

type latency struct {
	p99, p999, max time.Duration
	n              int
}

func (l latency) String() string {
	return fmt.Sprintf("p99 %v, p99.9 %v, max %v of %d reads", l.p99, l.p999, l.max, l.n)
}

// latencies reads once per millisecond until over. A read that takes longer also stands for the reads that would have
// started in the meantime: each of them is recorded with its remaining wait.
func latencies(b blacklist, over *atomic.Bool) latency {
	const every = time.Millisecond
	tick := time.NewTicker(every)
	defer tick.Stop()
	var took []time.Duration
	for i := 0; !over.Load(); i++ {
		<-tick.C
		key := sessionKey(i * 7919 % 900_000)
		start := time.Now()
		b.get(key)
		for d := time.Since(start); d >= 0; d -= every {
			took = append(took, d)
		}
	}
	slices.Sort(took)
	at := func(q float64) time.Duration { return took[int(float64(len(took)-1)*q)] }
	return latency{at(0.99), at(0.999), took[len(took)-1], len(took)}
}

func BenchmarkMemory(b *testing.B) {
	m := newMemory(b)
	const n = 100_000
	fill(sharded{m}, 0, n)
	keys := make([]string, n)
	for i := range keys {
		keys[i] = sessionKey(i)
	}
	b.Run("Peek", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i += 7919 {
				m.Peek(keys[i%n])
			}
		})
	})
	b.Run("CompareAndSwap", func(b *testing.B) {
		b.ReportAllocs()
		expires := time.Now().Add(time.Hour)
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i += 7919 {
				key := keys[i%n]
				_, _ = m.CompareAndSwap(context.Background(), key, m.Peek(key), "another value", expires)
			}
		})
	})
}
