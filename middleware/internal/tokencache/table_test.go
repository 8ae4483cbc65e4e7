package tokencache_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/ginrefresh/ginrefresh/middleware/internal/tokencache"
)

type table = tokencache.Table[string]

// use looks a text up as package middleware does, and reports whether it was found.
func use(t testing.TB, c *table, text string) bool {
	hash := c.Hash(text)
	if value := c.Get(hash, text); value != nil {
		if *value != text {
			t.Errorf("Get(%q) returned the value of %q", text, *value)
		}
		return true
	}
	if c.Admit(hash) {
		c.Put(hash, text, func(value *string) { *value = text })
	}
	return false
}

func texts(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("%020d", i)
	}
	return all
}

func TestATextIsFoundFromItsThirdUseOn(t *testing.T) {
	c := tokencache.New[string](100)
	for i, want := range []bool{false, false, true, true} {
		if got := use(t, c, "a text that comes again"); got != want {
			t.Errorf("use %d: found is %v, want %v", i+1, got, want)
		}
	}
	if hits, misses := c.Stats(); hits != 2 || misses != 2 {
		t.Errorf("%d hits and %d misses, want 2 and 2", hits, misses)
	}
}

// Only the end of a text is hashed, so texts with the same end meet in one set with one tag.
func TestTextsWithTheSameHashAreToldApart(t *testing.T) {
	c := tokencache.New[string](100)
	const end = "the same sixteen"
	for range 3 {
		use(t, c, "genuine "+end)
	}
	for _, other := range []string{"forged " + end, end, "genuine " + end[1:]} {
		if c.Get(c.Hash(other), other) != nil {
			t.Errorf("%q was found", other)
		}
	}
}

func TestATableWithoutPlacesIsEmpty(t *testing.T) {
	for _, size := range []int{0, -1} {
		c := tokencache.New[string](size)
		for range 4 {
			if use(t, c, "a text") {
				t.Error("a text was found")
			}
		}
	}
}

// A crowd of texts that come once must not displace those that come again.
func TestACrowdDisplacesNothing(t *testing.T) {
	c := tokencache.New[string](1000)
	regulars := texts(500)
	for range 4 {
		for _, text := range regulars {
			use(t, c, text)
		}
	}
	for i := range 100_000 {
		use(t, c, fmt.Sprintf("once %d", i))
	}
	found := 0
	for _, text := range regulars {
		if c.Get(c.Hash(text), text) != nil {
			found++
		}
	}
	if found < 450 {
		t.Errorf("%d of 500 texts are still there", found)
	}
}

// TestHitRatios holds the ratios that docs/performance.md names.
func TestHitRatios(t *testing.T) {
	const size = 10_000
	all := texts(10 * size)
	zipf := rand.NewZipf(rand.New(rand.NewPCG(1, 2)), 1.1, 1, uint64(len(all)-1))
	uniform := func(n int) func(int) int { return func(int) int { return rand.IntN(n) } }
	for _, workload := range []struct {
		name  string
		texts int
		next  func(i int) int
		least float64
	}{
		{"1,000 uniform", 1000, uniform(1000), 0.99},
		{"10,000 uniform", 10_000, uniform(10_000), 0.94},
		{"20,000 uniform", 20_000, uniform(20_000), 0.78},
		{"100,000 uniform", 100_000, uniform(100_000), 0.18},
		{"20,000 in turn", 20_000, func(i int) int { return i % 20_000 }, 0.6},
		{"100,000 Zipf 1.1", 100_000, func(int) int { return int(zipf.Uint64()) }, 0.88},
	} {
		c := tokencache.New[string](size)
		for i := range 10 * workload.texts {
			use(t, c, all[workload.next(i)])
		}
		hits := 0
		for i := range 4 * workload.texts {
			if use(t, c, all[workload.next(i)]) {
				hits++
			}
		}
		ratio := float64(hits) / float64(4*workload.texts)
		t.Logf("%-17s %.3f", workload.name, ratio)
		if ratio < workload.least {
			t.Errorf("%s: hit ratio %.3f, want at least %.2f", workload.name, ratio, workload.least)
		}
	}
}

// Many goroutines fight for few places. Get must never return the value of another text (run with -race).
func TestConcurrentUse(t *testing.T) {
	c := tokencache.New[string](16)
	all := texts(100)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5000 {
				use(t, c, all[rand.IntN(len(all))])
			}
		})
	}
	wg.Wait()
	if hits, misses := c.Stats(); hits+misses != 40_000 || hits == 0 {
		t.Errorf("%d hits and %d misses, want 40,000 together", hits, misses)
	}
}

// The text that is passed to Put may be part of a large body, which must not be kept.
func TestPutCopiesTheText(t *testing.T) {
	c := tokencache.New[string](16)
	body := []byte(strings.Repeat("x", 32))
	text := string(body)
	hash := c.Hash(text)
	c.Put(hash, text, func(*string) {})
	if n := testing.AllocsPerRun(10, func() { c.Put(hash, text, func(*string) {}) }); n < 2 {
		t.Errorf("Put allocates %v times, want 2: the entry and the text", n)
	}
}
