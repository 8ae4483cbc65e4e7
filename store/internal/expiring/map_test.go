package expiring_test

import (
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/ginrefresh/ginrefresh/store/internal/expiring"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

func TestEmptyMapIsSmall(t *testing.T) {
	before := heap()
	m := expiring.New()
	defer m.Close()
	if got := heap() - before; got > 64<<10 {
		t.Errorf("an empty map takes %d bytes", got)
	}
	runtime.KeepAlive(m)
}

// TestMemoryIsFreed fills the map and lets most records expire. A Go map alone would stay as large.
func TestMemoryIsFreed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := heap()
		m := expiring.New()
		defer m.Close()
		const records = 200_000
		for i := range records {
			lifetime := time.Minute
			if i%20 == 0 {
				lifetime = 10 * time.Minute
			}
			m.Set(strconv.Itoa(i), "some value", time.Now().Add(lifetime))
		}
		full := heap() - before
		<-time.After(5 * time.Minute)
		if got := heap() - before; got > full/4 {
			t.Errorf("with %d of %d records left, the map takes %d of %d bytes", m.Len(), records, got, full)
		}
		for i := range records {
			want := ""
			if i%20 == 0 {
				want = "some value"
			}
			if got := m.Peek(strconv.Itoa(i)); got != want {
				t.Fatalf("record %d is %q, want %q", i, got, want)
			}
		}
		if _, got, _, _ := m.Sweeps(); got != records-records/20 {
			t.Errorf("%d records were swept, want %d", got, records-records/20)
		}
		<-time.After(10 * time.Minute)
		if got := heap() - before; m.Len() != 0 || got > 100<<10 {
			t.Errorf("with %d records left, the map takes %d bytes", m.Len(), got)
		}
	})
}

// TestExpiryIsExact proves R13 on both sides of the expiry: a value lives until then, and no longer.
func TestExpiryIsExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := expiring.New()
		defer m.Close()
		for i, lifetime := range []time.Duration{1, time.Millisecond + 1, 1234567890, 77*time.Minute + 1} {
			expires := time.Now().Add(lifetime)
			set, swapped := "set "+strconv.Itoa(i), "swapped "+strconv.Itoa(i)
			m.Set(set, "value", expires)
			if done, err := m.CompareAndSwap(t.Context(), swapped, "", "value", expires); !done || err != nil {
				t.Errorf("CompareAndSwap = %v, %v", done, err)
			}
			<-time.After(lifetime - 1)
			if m.Peek(set) != "value" || m.Peek(swapped) != "value" {
				t.Errorf("a value with a lifetime of %v is gone a nanosecond too early", lifetime)
			}
			<-time.After(2)
			if m.Peek(set) != "" || m.Peek(swapped) != "" {
				t.Errorf("a value with a lifetime of %v is still there a nanosecond later", lifetime)
			}
		}
	})
}

// TestExpiryOfNow sets an expiry that is neither past nor future. go-cache takes a lifetime of 0 for forever.
func TestExpiryOfNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := expiring.New()
		defer m.Close()
		m.Set("absent", "value", time.Now())
		m.Set("present", "value", time.Now().Add(time.Hour))
		m.Set("present", "value", time.Now())
		if got := m.Peek("absent") + m.Peek("present"); got != "" || m.Len() != 0 {
			t.Errorf("values that expire at once are %q, and the map holds %d of them", got, m.Len())
		}
	})
}

// TestKeepsNoTokenAlive stores slices of large strings. The map must not keep the whole strings in memory.
func TestKeepsNoTokenAlive(t *testing.T) {
	m := expiring.New()
	defer m.Close()
	before := heap()
	for i := range 1000 {
		token := strconv.Itoa(i) + strings.Repeat("x", 8<<10)
		m.Set(token[:20], token[20:40], time.Now().Add(time.Hour))
	}
	if got := heap() - before; got > 2<<20 {
		t.Errorf("1000 records of 40 bytes take %d bytes", got)
	}
	runtime.KeepAlive(m)
}

// TestSweepIsPaced lets many records expire at once. The sweeper must spread the work over its round, wherever in the round
// it is when they expire.
func TestSweepIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := expiring.New()
		defer m.Close()
		const records = 100_000
		for i := range records {
			m.Set(strconv.Itoa(i), "value", time.Now().Add(time.Second))
		}
		var last uint64
		for range 36 {
			<-time.After(5 * time.Second)
			_, swept, _, _ := m.Sweeps()
			if swept-last > records/7 {
				t.Errorf("%d of %d records were swept within 5 s of a 60 s round", swept-last, records)
			}
			last = swept
		}
		if m.Len() != 0 {
			t.Errorf("%d records are left", m.Len())
		}
	})
}

// TestCounterAnnouncesEachChange reads as fast as it can while the value changes. If two reads differ, the change counter
// must have been odd or have moved.
func TestCounterAnnouncesEachChange(t *testing.T) {
	m := expiring.New()
	defer m.Close()
	const key, changes = "key", 500_000
	expires := time.Now().Add(time.Hour)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range changes {
			m.Set(key, strconv.Itoa(i), expires)
		}
	}()
	counter := m.Counter(key)
	for {
		select {
		case <-done:
			if got := counter.Load(); got != 2*changes {
				t.Errorf("the change counter is %d after %d changes, want %d", got, changes, 2*changes)
			}
			return
		default:
		}
		before := counter.Load()
		first, second := m.Peek(key), m.Peek(key)
		if before%2 == 0 && first != second && counter.Load() == before {
			t.Fatalf("the value went from %q to %q, but the change counter stayed at %d", first, second, before)
		}
	}
}
