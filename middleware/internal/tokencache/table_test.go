package tokencache_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/ginrefresh/ginrefresh/middleware/internal/tokencache"
)

// TestHitRatio
func TestHitRatioExplore(t *testing.T) {
	texts := make([]string, 100000)
	for i := range texts {
		texts[i] = fmt.Sprintf("%020d", i)
	}
	use := func(c *tokencache.Table[int], i int) bool {
		h := c.Hash(texts[i])
		if c.Get(h, texts[i]) != nil {
			return true
		}
		if c.Admit(h) {
			c.Put(h, texts[i], func(*int) {})
		}
		return false
	}
	run := func(name string, n int, next func(i int) int) {
		c := tokencache.New[int](10000)
		for i := range 20 * n {
			use(c, next(i))
		}
		hits := 0
		for i := range 10 * n {
			if use(c, next(i)) {
				hits++
			}
		}
		t.Logf("%-10s %7d %.3f", name, n, float64(hits)/float64(10*n))
	}
	for _, n := range []int{1000, 10000, 20000, 100000} {
		run("uniform", n, func(int) int { return rand.IntN(n) })
		run("in turn", n, func(i int) int { return i % n })
	}
	z := rand.NewZipf(rand.New(rand.NewPCG(1, 2)), 1.1, 1, 99999)
	run("zipf 1.1", 100000, func(int) int { return int(z.Uint64()) })
}
