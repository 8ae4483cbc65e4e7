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

// TestMemoryComesBack fills the map and lets most records expire: Go maps alone would stay as large.
func TestMemoryComesBack(t *testing.T) {
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
		if got := m.Stats().Swept; got != records-records/20 {
			t.Errorf("%d records swept, want %d", got, records-records/20)
		}
		<-time.After(10 * time.Minute)
		if got := heap() - before; m.Len() != 0 || got > 100<<10 {
			t.Errorf("with %d records left, the map takes %d bytes", m.Len(), got)
		}
	})
}

// TestExpiryIsExact is R13 at both ends: a value lives until its expiry, and no longer.
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
				t.Errorf("a value is gone a nanosecond before the end of %v", lifetime)
			}
			<-time.After(2)
			if m.Peek(set) != "" || m.Peek(swapped) != "" {
				t.Errorf("a value is there a nanosecond after the end of %v", lifetime)
			}
		}
	})
}

// TestExpiryOfNow has an expiry that is neither past nor future. To go-cache a lifetime of 0 means for ever.
func TestExpiryOfNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := expiring.New()
		defer m.Close()
		m.Set("absent", "value", time.Now())
		m.Set("present", "value", time.Now().Add(time.Hour))
		m.Set("present", "value", time.Now())
		if got := m.Peek("absent") + m.Peek("present"); got != "" || m.Len() != 0 {
			t.Errorf("values that expire at once are %q, and %d are held", got, m.Len())
		}
	})
}

// TestKeepsNoTokenAlive stores parts of large texts: the map must not keep the whole of them.
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

// TestSweepIsPaced has many records, which expire at once: the work of a round is spread over it. Where the sweeper stands in
// its round when the records come is left to chance, as no part of a round may have more than its share.
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
			swept := m.Stats().Swept
			if swept-last > records/7 {
				t.Errorf("%d of %d records swept within 5 s of a round of 60 s", swept-last, records)
			}
			last = swept
		}
		if m.Len() != 0 {
			t.Errorf("%d records left", m.Len())
		}
	})
}

// TestVersionTellsEachChange reads as fast as it can while the value changes: what changes between two reads must have been
// announced before, and must not have seemed complete.
func TestVersionTellsEachChange(t *testing.T) {
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
	version := m.Version(key)
	for {
		select {
		case <-done:
			if got := version.Load(); got != 2*changes {
				t.Errorf("the version is %d after %d changes, want %d", got, changes, 2*changes)
			}
			return
		default:
		}
		before := version.Load()
		first, second := m.Peek(key), m.Peek(key)
		if before%2 == 0 && first != second && version.Load() == before {
			t.Fatalf("the value went from %q to %q, and the version stayed %d", first, second, before)
		}
	}
}
