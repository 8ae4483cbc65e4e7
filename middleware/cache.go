package middleware

import (
	"hash/maphash"
	"math"
	"math/rand/v2"
	"strings"
	"sync/atomic"

	"github.com/maypok86/otter/v2"
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
	// What each request needs comes first, and so lies together.
	seed maphash.Seed

	// Ours, as to the otter.Cache a forged token is a miss, or a hit if it ends like a genuine one.
	hits, misses counter

	share share

	// front has what was found in tokens lately, each in the place that its hash chooses. When the next request
	// comes to a busy server, little of all this is left in the processor's own cache, and each step to another
	// piece of memory costs: there is one to here, and there are five to what is in tokens.
	front []atomic.Pointer[verified]

	// The key is a hash of the text, so that a look touches little memory.
	tokens *otter.Cache[uint64, *verified]

	// seen has traces of tokens that came once. Only a token that comes again is kept: a crowd that passes
	// by once costs next to nothing and pushes nobody out.
	seen []traces
}

// verified is a token that the cache keeps, in one piece of memory with what is looked at for it. All but the
// watch stays as it is.
type verified struct {
	watch watch
	text  string
	token token
}

func newTokenCache(size int) *tokenCache {
	c := &tokenCache{
		seed:   maphash.MakeSeed(), // random, so that nobody can choose tokens that meet
		front:  make([]atomic.Pointer[verified], 2*size),
		seen:   make([]traces, size/tracesEach+1),
		hits:   newCounter(),
		misses: newCounter(),
	}
	c.tokens = otter.Must(&otter.Options[uint64, *verified]{
		MaximumSize: size,
		Executor:    func(upkeep func()) { upkeep() }, // to wake a goroutine for it would be more work
		OnDeletion: func(e otter.DeletionEvent[uint64, *verified]) {
			c.inFront(e.Key).CompareAndSwap(e.Value, nil)
		},
	})
	return c
}

func (c *tokenCache) inFront(hash uint64) *atomic.Pointer[verified] {
	return &c.front[hash%uint64(len(c.front))]
}

// signatureTail is as much of a token as tells it from all others: 96 bits of its signature.
const signatureTail = 16

// hash is where a token is to be found. It is of the signature alone, which is another one if anything is.
func (c *tokenCache) hash(text string) uint64 {
	if c == nil {
		return 0
	}
	return maphash.String(c.seed, text[max(0, len(text)-signatureTail):])
}

// get returns nil if the very token is not there.
func (c *tokenCache) get(hash uint64, text string) *verified {
	if c == nil || !c.share.has(hash) {
		return nil
	}
	chance := rand.Uint64()
	front := c.inFront(hash)
	v := front.Load()
	if v == nil || v.text != text || chance>>reportBits%reported == 0 {
		var ok bool
		if v, ok = c.tokens.GetIfPresent(hash); !ok || v.text != text {
			return nil
		}
		front.Store(v)
	}
	c.hits.add(chance)
	return v
}

// put takes in a genuine token that was not found, and keeps it if it came before. The text is copied, as the
// given one may be a part of a whole body.
func (c *tokenCache) put(hash uint64, text string, t *token, b *blacklist) {
	if c == nil || t.kind != accessKind {
		return
	}
	chance := rand.Uint64()
	c.misses.add(chance)
	looked := c.share.has(hash)
	if chance>>sampleBits%sampled == 0 {
		c.share.missed(looked, c.hits.total)
	}
	if !looked || !c.share.admits(chance) {
		return
	}
	if c.seen[hash%uint64(len(c.seen))].add(hash, chance) {
		v := &verified{text: strings.Clone(text), token: *t}
		b.watch(&v.watch, t)
		c.tokens.Set(hash, v)
	}
}

// The bits of a hash, and of a random number, that something is chosen by; the lowest ones of each choose a
// place.
const (
	shareBits = 32
	traceBits = 48

	sampleBits = 32
	laneBits   = 48
	admitBits  = 56
	reportBits = 56
)

// reported is how few of the finds in front are enough for tokens to know what is in use.
const reported = 16

// traces are of a few of the tokens that fall into one place, 16 bits of each.
type traces struct{ packed atomic.Uint64 }

const (
	tracesEach = 4
	traceSize  = 64 / tracesEach
)

// add reports whether the token's trace was there, and otherwise puts it over one of the others. Which one is
// left to chance: tokens that come in turn, one more than there is room for, would all be pushed out in time.
// Two goroutines at once may lose one: then that token has to come once more.
func (b *traces) add(hash, chance uint64) bool {
	trace := uint16(hash>>traceBits) | 1 // 0 is an empty place
	all := b.packed.Load()
	for left := all; left != 0; left >>= traceSize {
		if uint16(left) == trace {
			return true
		}
	}
	lane := chance >> laneBits % tracesEach * traceSize
	b.packed.Store(all&^(math.MaxUint16<<lane) | uint64(trace)<<lane)
	return false
}

// CacheStats counts the genuine tokens that were found in the cache of verified tokens and those that were not,
// since New or the last SetKeys. It is for metrics.
func (a *Auth) CacheStats() (hits, misses uint64) {
	cache := a.verifier.Load().cache
	if cache == nil {
		return 0, 0
	}
	return cache.hits.total(), cache.misses.total()
}
