package middleware

import (
	"hash/maphash"
	"strings"
	"sync/atomic"

	"github.com/maypok86/otter/v2"
	"github.com/maypok86/otter/v2/stats"
)

// DefaultTokenCache is how many verified tokens an Auth remembers by default.
const DefaultTokenCache = 10_000

// verifier is a set of keys and the tokens that were verified with them. SetKeys replaces both in one step,
// so that no token outlives its key.
type verifier struct {
	keys  *keySet
	cache *tokenCache // nil: off
}

func newVerifier(keys *keySet, cacheSize int) *verifier {
	v := &verifier{keys: keys}
	if cacheSize > 0 {
		v.cache = newTokenCache(cacheSize)
	}
	return v
}

// tokenCache remembers what genuine tokens say, by their exact text: a signature and a decoding saved.
// Whether a token still lives and is not revoked is no part of it and is checked on each request. So what
// has expired need not leave at once: it goes when its place is wanted.
type tokenCache struct {
	tokens *otter.Cache[string, *token]

	// seen has traces of tokens that came once. Only a token that comes again is kept: a crowd that passes
	// by once costs nothing and pushes nobody out.
	seen []traces
	seed maphash.Seed
}

// traces are the last few tokens of those that fall into one bucket, the latest first.
type traces [4]atomic.Uint32

// add reports whether the trace was there, and puts it first. Two goroutines at once may lose one: then that
// token has to come once more.
func (b *traces) add(trace uint32) bool {
	carried := trace
	for i := range b {
		if carried = b[i].Swap(carried); carried == trace {
			return true
		}
	}
	return false
}

func newTokenCache(size int) *tokenCache {
	return &tokenCache{
		tokens: otter.Must(&otter.Options[string, *token]{MaximumSize: size, StatsRecorder: stats.NewCounter()}),
		seen:   make([]traces, size/2+1), // room for twice as many traces as tokens
		seed:   maphash.MakeSeed(),
	}
}

func (c *tokenCache) get(text string) (*token, bool) {
	if c == nil {
		return nil, false
	}
	return c.tokens.GetIfPresent(text)
}

// signatureTail is as much of a token as tells it from all others: 256 bits of its signature.
const signatureTail = 43

// put keeps a genuine token if it came before. The key is a copy, as text may be a part of a whole body.
func (c *tokenCache) put(text string, t *token) {
	if c == nil || t.kind != accessKind {
		return
	}
	hash := maphash.String(c.seed, text[max(0, len(text)-signatureTail):])
	if c.seen[hash%uint64(len(c.seen))].add(uint32(hash>>32) | 1) { // 0 is an empty place
		c.tokens.Set(strings.Clone(text), t)
	}
}

// CacheStats counts the tokens that were found in the cache of verified tokens and those that were not, since
// New or the last SetKeys. It is for metrics.
func (a *Auth) CacheStats() (hits, misses uint64) {
	cache := a.verifier.Load().cache
	if cache == nil {
		return 0, 0
	}
	s := cache.tokens.Stats()
	return s.Hits, s.Misses
}
