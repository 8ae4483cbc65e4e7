package main

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
	"github.com/ginrefresh/ginrefresh/store/boltstore"
	"github.com/ginrefresh/ginrefresh/store/redisstore"
)

// recorder keeps the last record that the middleware wrote.
type recorder struct {
	middleware.Store
	key, value string
}

func (r *recorder) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	r.key, r.value = key, new
	return r.Store.CompareAndSwap(ctx, key, old, new, expires)
}

// refreshed is the record of a session that was refreshed.
var refreshed = sync.OnceValue(func() *recorder {
	r := &recorder{Store: emptyStore{}}
	auth := newAuth(newKey(middleware.HS256), r)
	refreshHalf(auth, issue(auth, 1))
	return r
})

// record returns the i-th record of a refreshed session. Its key has the length of a real one.
func record(i int) (key, value string) {
	var id [16]byte
	binary.BigEndian.PutUint64(id[:], uint64(i)*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint64(id[8:], uint64(i))
	text := base64.RawURLEncoding.EncodeToString(id[:])
	r := refreshed()
	return r.key[:len(r.key)-len(text)] + text, string([]byte(r.value))
}

// workers use a store at the same time, as the requests of a busy server do.
const workers = 256

// inParallel calls work for 0 to n-1 from some goroutines, and returns the calls per second.
func inParallel(goroutines, n int, work func(i int) error) (perSecond float64, failed error) {
	var wg sync.WaitGroup
	var next atomic.Int64
	var once sync.Once
	start := time.Now()
	for range goroutines {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				if err := work(int(i)); err != nil {
					once.Do(func() { failed = err })
					return
				}
			}
		})
	}
	wg.Wait()
	return float64(n) / time.Since(start).Seconds(), failed
}

// fill writes n records and returns the swaps per second.
func fill(target middleware.Store, n int) (perSecond float64, err error) {
	expires := time.Now().Add(middleware.DefaultRefreshTTL)
	return inParallel(workers, n, func(i int) error {
		key, value := record(i)
		_, err := target.CompareAndSwap(context.Background(), key, "", value, expires)
		return err
	})
}

const checksPerRecord = 5

// check reads two keys at a time out of n records, as a guarded request does, and returns the checks per second.
func check(target middleware.Store, n int) (perSecond float64, err error) {
	keys := many(min(n, 100_000), func(int) string {
		key, _ := record(rand.IntN(n))
		return key
	})
	peeker, _ := target.(middleware.Peeker)
	perSecond, err = inParallel(workers, n, func(i int) error {
		for j := range checksPerRecord {
			key := keys[(i*checksPerRecord+j)%len(keys)]
			if peeker != nil {
				peeker.Peek(key)
				peeker.Peek("u:somebody")
			} else if _, _, err := target.Get(context.Background(), key, "u:somebody"); err != nil {
				return err
			}
		}
		return nil
	})
	return checksPerRecord * perSecond, err
}

// BenchmarkStore measures what b.N records take in each store, and its swaps and checks per second. For a server it
// also reports the rates per second of the server's own processor time.
func BenchmarkStore(b *testing.B) {
	b.Run("store=memory", func(b *testing.B) {
		target := store.NewMemory()
		defer target.Close()
		before := heapBytes()
		fillAndCheck(b, target, func() {})
		b.ReportMetric((heapBytes()-before)/float64(b.N), "B/record")
	})
	b.Run("store=bolt", func(b *testing.B) {
		file := filepath.Join(b.TempDir(), "blacklist.db")
		target := must(boltstore.Open(file))
		defer target.Close()
		before := heapBytes()
		fillAndCheck(b, target, func() {})
		b.ReportMetric((heapBytes()-before)/float64(b.N), "B/record")
		b.ReportMetric(float64(must(os.Stat(file)).Size())/float64(b.N), "disk-B/record")
	})
	b.Run("store=Redis", func(b *testing.B) {
		client, _ := openRedis(b)
		cpu := func() float64 { return redisInfo(b, client, "used_cpu_user|used_cpu_sys") }
		memory, start, filled := redisInfo(b, client, "used_memory"), cpu(), 0.0
		fillAndCheck(b, must(redisstore.New(client, redisstore.Options{})), func() { filled = cpu() })
		b.ReportMetric(float64(b.N)/(filled-start), "swaps/cpu-s")
		b.ReportMetric(checksPerRecord*float64(b.N)/(cpu()-filled), "checks/cpu-s")
		b.ReportMetric((redisInfo(b, client, "used_memory")-memory)/float64(b.N), "B/record")
	})
}

func fillAndCheck(b *testing.B, target middleware.Store, filled func()) {
	swaps, err := fill(target, b.N)
	if err != nil {
		b.Fatal(err)
	}
	filled()
	checks, err := check(target, b.N)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(swaps, "swaps/s")
	b.ReportMetric(checks, "checks/s")
}

// TestFormula runs sessions through the middleware for days of virtual time, and compares the records and the calls
// of the store with the formula.
func TestFormula(t *testing.T) {
	p := profile{ttl: time.Hour, refreshTTL: 2 * day, pause: 6 * time.Hour, logout: 3 * day}
	const alive = 10_000
	synctest.Test(t, func(t *testing.T) {
		s := &countingStore{Memory: store.NewMemory()}
		defer s.Close()
		auth := newAuth(newKey(middleware.HS256), s, withoutCache, func(c *middleware.Config) {
			c.TTL, c.RefreshTTL = p.ttl, p.refreshTTL
		})
		// The first sessions have left no record when the counted day begins.
		begin := time.Now().Add(p.refreshTTL + p.ttl)
		end := begin.Add(day)
		random := rand.New(rand.NewPCG(1, 2))
		logins := alive * float64(time.Until(end)) / float64(p.refreshTTL)
		for range int(logins) {
			login := time.Duration(random.Int64N(int64(time.Until(end))))
			logout := time.Duration(random.ExpFloat64() * float64(p.logout))
			go live(t, auth, p, rand.New(rand.NewPCG(random.Uint64(), 0)), login, logout, end)
		}
		time.Sleep(time.Until(begin))
		s.reads.Store(0)
		s.swaps.Store(0)
		time.Sleep(time.Until(end))
		want := p.expect(alive)
		near(t, "reads per second", float64(s.reads.Load())/day.Seconds(), want.reads())
		near(t, "swaps per second", float64(s.swaps.Load())/day.Seconds(), want.swaps())
		time.Sleep(3 * time.Minute) // the store removes expired records
		near(t, "records", float64(s.Len()), want.records)
	})
}

// live is one session: it logs in, refreshes at its first use after each token's end, and logs out.
func live(t *testing.T, auth *middleware.Auth, p profile, random *rand.Rand, login, logout time.Duration, end time.Time) {
	time.Sleep(login)
	token := issue(auth, 1)[0]
	deadline, leaves := time.Now().Add(p.refreshTTL-time.Second), time.Now().Add(logout)
	for {
		use := time.Now().Add(p.ttl + time.Duration(random.ExpFloat64()*float64(p.pause)))
		next := use
		if leaves.Before(use) {
			next = leaves
		}
		if next.After(deadline) || next.After(end) {
			return
		}
		time.Sleep(time.Until(next))
		if next == leaves {
			if err := auth.Logout(t.Context(), token); err != nil {
				t.Error(err)
			}
			return
		}
		tokens, err := auth.Refresh(t.Context(), token)
		if err != nil {
			t.Error(err)
			return
		}
		token = tokens.AccessToken
	}
}

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got/want-1) > 0.1 {
		t.Errorf("%s: %v, by the formula %v", what, got, want)
	}
}

// countingStore counts the calls. It overrides Get, so the middleware does not peek.
type countingStore struct {
	*store.Memory
	reads, swaps atomic.Int64
}

func (s *countingStore) Get(ctx context.Context, keys ...string) ([]string, time.Time, error) {
	s.reads.Add(1)
	return s.Memory.Get(ctx, keys...)
}

func (s *countingStore) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	s.swaps.Add(1)
	return s.Memory.CompareAndSwap(ctx, key, old, new, expires)
}
