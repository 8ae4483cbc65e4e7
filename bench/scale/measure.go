package main

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/ginrefresh/ginrefresh/bench/internal/contest"
	"github.com/ginrefresh/ginrefresh/bench/internal/redisserver"
	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
	"github.com/ginrefresh/ginrefresh/store/boltstore"
	"github.com/ginrefresh/ginrefresh/store/redisstore"
)

// costs are what one store was measured to take. Rates are per second, bytes per record.
type costs struct {
	name   string
	memory float64
	disk   float64 // 0: none
	checks float64
	swaps  float64

	// The same per second of the store's own processor time; for a store within the process 0, as there is none.
	ownChecks float64
	ownSwaps  float64
}

// capacity is what the store can do when it is all that counts. A server of its own is measured by its own
// time: what asks it here needs more than it does, and shares the machine with it.
func (c costs) capacity() (checks, swaps float64) {
	if c.ownChecks > 0 {
		return c.ownChecks, c.ownSwaps
	}
	return c.checks, c.swaps
}

// sample is a record as the middleware writes it.
type sample struct{ key, value string }

// takeSample refreshes a session and looks at what that has written.
func takeSample() sample {
	recorder := &recorder{Memory: store.NewMemory()}
	defer recorder.Close()
	auth := contest.NewAuth(contest.NewKey(middleware.HS256), recorder)
	contest.RefreshHalf(auth, contest.Issue(auth, 1))
	return recorder.last
}

type recorder struct {
	*store.Memory
	last sample
}

func (r *recorder) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	r.last = sample{key, new}
	return r.Memory.CompareAndSwap(ctx, key, old, new, expires)
}

// like returns the i-th record that looks like the sample. Its text is its own, as each session's is.
func (s sample) like(i int) (key, value string) {
	prefix, _, _ := strings.Cut(s.key, ":")
	var id [16]byte
	binary.BigEndian.PutUint64(id[:], uint64(i)*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint64(id[8:], uint64(i))
	return prefix + ":" + base64.RawURLEncoding.EncodeToString(id[:]), strings.Clone(s.value)
}

// workers ask at once, as the requests of a busy server do.
const workers = 256

// fill writes n records and returns how many per second.
func (s sample) fill(target middleware.Store, n int) (perSecond float64, err error) {
	expires := time.Now().Add(middleware.DefaultRefreshTTL)
	start := time.Now()
	var next atomic.Int64
	err = together(func() error {
		for {
			i := int(next.Add(1)) - 1
			if i >= n {
				return nil
			}
			key, value := s.like(i)
			if swapped, err := target.CompareAndSwap(context.Background(), key, "", value, expires); err != nil || !swapped {
				return fmt.Errorf("record %d was not written: %w", i, err)
			}
		}
	})
	return float64(n) / time.Since(start).Seconds(), err
}

// checked is how many different sessions are asked for.
const checked = 100_000

// check asks as a guarded request does, for a session and a subject, for a while.
func (s sample) check(target middleware.Store, n int, duration time.Duration) (perSecond float64, err error) {
	keys := make([]string, checked)
	for i := range keys {
		keys[i], _ = s.like(rand.IntN(n))
	}
	peeker, _ := target.(middleware.Peeker)
	start := time.Now()
	var done atomic.Int64
	err = together(func() error {
		at := rand.IntN(checked)
		for count := int64(0); ; count++ {
			if count%64 == 63 && time.Since(start) > duration {
				done.Add(count)
				return nil
			}
			key := keys[(at+int(count))%checked]
			if peeker != nil {
				peeker.Peek(key)
				peeker.Peek("u:somebody")
			} else if _, err := target.Get(context.Background(), key, "u:somebody"); err != nil {
				return err
			}
		}
	})
	return float64(done.Load()) / time.Since(start).Seconds(), err
}

func together(work func() error) error {
	var wg sync.WaitGroup
	var once sync.Once
	var failed error
	for range workers {
		wg.Go(func() {
			if err := work(); err != nil {
				once.Do(func() { failed = err })
			}
		})
	}
	wg.Wait()
	return failed
}

// measure returns the costs of a store that is open and empty.
func (s sample) measure(name string, target middleware.Store, n int, duration time.Duration) (c costs, err error) {
	c.name = name
	if c.swaps, err = s.fill(target, n); err != nil {
		return c, err
	}
	c.checks, err = s.check(target, n, duration)
	return c, err
}

func (s sample) measureMemory(n int, duration time.Duration) (costs, error) {
	target := store.NewMemory()
	defer target.Close()
	before := heapBytes()
	c, err := s.measure("memory", target, n, duration)
	c.memory = (heapBytes() - before) / float64(n)
	return c, err
}

// heapBytes is what is in use, in bytes.
func heapBytes() float64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return float64(stats.HeapAlloc)
}

func (s sample) measureBolt(n int, duration time.Duration) (c costs, err error) {
	dir, err := os.MkdirTemp("", "bench-scale")
	if err != nil {
		return c, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "blacklist.db")
	target, err := boltstore.Open(file)
	if err != nil {
		return c, err
	}
	defer target.Close()
	before := heapBytes()
	if c, err = s.measure("bolt", target, n, duration); err != nil {
		return c, err
	}
	c.memory = (heapBytes() - before) / float64(n)
	info, err := os.Stat(file)
	if err != nil {
		return c, err
	}
	c.disk = float64(info.Size()) / float64(n)
	return c, nil
}

func (s sample) measureRedis(n int, duration time.Duration) (c costs, err error) {
	server, err := redisserver.Start()
	if err != nil {
		return c, err
	}
	defer server.Close()
	client, err := redisserver.Dial(server.Address)
	if err != nil {
		return c, err
	}
	defer client.Close()
	target, err := redisstore.New(client, redisstore.Options{})
	if err != nil {
		return c, err
	}
	ctx := context.Background()
	before, err := redisserver.UsedMemory(ctx, client)
	if err != nil {
		return c, err
	}
	c.name = redisName
	c.swaps, c.ownSwaps, err = ownTime(ctx, client, func() (float64, error) { return s.fill(target, n) })
	if err != nil {
		return c, err
	}
	c.checks, c.ownChecks, err = ownTime(ctx, client, func() (float64, error) { return s.check(target, n, duration) })
	if err != nil {
		return c, err
	}
	after, err := redisserver.UsedMemory(ctx, client)
	c.memory = (after - before) / float64(n)
	return c, err
}

// ownTime is a rate by the clock, and the same by the processor time that the server took for it.
func ownTime(ctx context.Context, client rueidis.Client, work func() (float64, error)) (perSecond, perOwn float64, err error) {
	before, err := redisserver.UsedCPU(ctx, client)
	if err != nil {
		return 0, 0, err
	}
	start := time.Now()
	if perSecond, err = work(); err != nil {
		return 0, 0, err
	}
	took := time.Since(start)
	after, err := redisserver.UsedCPU(ctx, client)
	return perSecond, perSecond * took.Seconds() / (after - before), err
}
