package middleware

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// share is which of the tokens are looked for in the cache: all, or, where that finds too little, those with
// certain hashes, down to one in sixteen. With many more live tokens than places nearly every look would be in
// vain; then some of the tokens have the places to themselves, and the others are spared the look.
type share struct {
	mask atomic.Uint64 // the bits of a hash that must be 0

	mu       sync.Mutex
	passed   int    // samples of tokens that were not found, since the last decision
	inVain   int    // those among them that were looked for
	lastHits uint64 // the cache's hits at the last decision
}

const (
	sampled    = 64 // one in so many tokens is a sample: to count all in one place would make processors wait
	decision   = 64 // samples from one decision to the next
	hitsWorth  = 8  // one hit saves about what so many looks in vain cost
	leastShare = 16 // of so many tokens, one is always looked for
)

func (s *share) has(hash uint64) bool { return hash>>shareBits&s.mask.Load() == 0 }

// admits lets few tokens in where there are too many: what is kept must stay until it is found.
func (s *share) admits(chance uint64) bool {
	return s.mask.Load() == 0 || chance>>admitBits%hitsWorth == 0
}

// missed takes in a sample, and decides when there are enough.
func (s *share) missed(looked bool, totalHits func() uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.passed++
	if looked {
		s.inVain++
	}
	if s.passed < decision {
		return
	}
	hits := totalHits()
	mask := s.mask.Load()
	inVain := max(1, s.inVain) // that none is among the samples says little
	if (hits-s.lastHits)*hitsWorth < uint64(inVain)*sampled {
		mask = min(mask<<1|1, leastShare-1)
	} else {
		mask >>= 1
	}
	s.mask.Store(mask)
	s.passed, s.inVain, s.lastHits = 0, 0, hits
}

// counter is in several places, one of which is taken by chance, so that processors seldom wait for each other.
type counter []struct {
	n atomic.Uint64
	_ [56]byte // the rest of a cache line
}

// newCounter has a place for each processor; with more than that they would be in nobody's cache.
func newCounter() counter { return make(counter, runtime.GOMAXPROCS(0)) }

func (c counter) add(chance uint64) { c[chance%uint64(len(c))].n.Add(1) }

func (c counter) total() (n uint64) {
	for i := range c {
		n += c[i].n.Load()
	}
	return n
}
