// Package tokencache caches a value for each text that recurs: the verified tokens.
//
// A [Table] is 4-way set-associative. A text belongs to one set of four places, and the set's tags, which say what is
// in the places, share a cache line with the pointers to it. So a miss reads one line of memory, and a hit reads two
// more. Nothing expires: an entry stays until its place is needed.
package tokencache

import (
	"hash/maphash"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync/atomic"
)

const (
	ways     = 4  // places in a set
	tagBits  = 16 // of the hash, for each place
	tagMask  = 1<<tagBits - 1
	tagShift = 48 // the tag is the highest bits of the hash, the set is chosen by the lowest 32

	// slotsPerEntry makes the table larger than its nominal size: texts do not spread evenly over the sets.
	slotsPerEntry = 2
)

// Table maps texts to values. It is used by many goroutines at once. A nil Table is empty: Get finds nothing, and
// Admit admits nothing.
type Table[V any] struct {
	seed         maphash.Seed // random, so that nobody can choose texts that collide
	sets         []set[V]
	hits, misses counter
}

// set is one cache line. Its words change independently, so a tag may belong to an entry that has just been replaced.
// So Get compares the full text.
type set[V any] struct {
	tags    atomic.Uint64 // of the four places; 0: empty
	seen    atomic.Uint64 // traces of texts that came once
	used    atomic.Uint64 // one bit for each place: its entry was found since the bit was cleared
	_       uint64
	entries [ways]atomic.Pointer[entry[V]]
}

// entry holds a value and its text in one allocation.
type entry[V any] struct {
	value V
	text  string
}

// New returns a table that holds about size texts, and up to twice as many when they spread evenly over the sets. It
// returns nil if size is not positive.
func New[V any](size int) *Table[V] {
	if size <= 0 {
		return nil
	}
	return &Table[V]{
		seed:   maphash.MakeSeed(),
		sets:   make([]set[V], (size*slotsPerEntry+ways-1)/ways),
		hits:   newCounter(),
		misses: newCounter(),
	}
}

// tailBytes is how much of a text is hashed: 96 bits of a token's signature, which depends on everything before it.
const tailBytes = 16

// Hash returns the hash of a text, for the other methods.
func (t *Table[V]) Hash(text string) uint64 {
	if t == nil {
		return 0
	}
	return maphash.String(t.seed, text[max(0, len(text)-tailBytes):])
}

// set maps the low half of the hash to a set without a division.
func (t *Table[V]) set(hash uint64) *set[V] {
	return &t.sets[uint64(uint32(hash))*uint64(len(t.sets))>>32]
}

// tagOf is never 0, which marks an empty place.
func tagOf(hash uint64) uint64 { return max(1, hash>>tagShift) }

// Get returns the value of exactly this text, or nil.
func (t *Table[V]) Get(hash uint64, text string) *V {
	if t == nil {
		return nil
	}
	s := t.set(hash)
	tag, tags := tagOf(hash), s.tags.Load()
	for way := range ways {
		if tags>>(way*tagBits)&tagMask != tag {
			continue
		}
		if e := s.entries[way].Load(); e != nil && e.text == text {
			s.use(way)
			t.hits.add()
			return &e.value
		}
	}
	return nil
}

// use marks a place as used. It writes only if the mark is not there, because a write makes other processors wait.
func (s *set[V]) use(way int) {
	if mark := uint64(1) << way; s.used.Load()&mark == 0 {
		s.used.Or(mark)
	}
}

// Admit reports whether a text that Get did not find should be added: whether it has been seen before. A crowd of texts that come
// once costs next to nothing and displaces none of the others. By chance one trace in 16,000 is taken for another's.
func (t *Table[V]) Admit(hash uint64) bool {
	if t == nil {
		return false
	}
	t.misses.add()
	s := t.set(hash)
	trace := max(1, hash>>32&tagMask)
	seen := s.seen.Load()
	for way := range ways {
		if seen>>(way*tagBits)&tagMask == trace {
			return true
		}
	}
	// Which of the other traces is overwritten is left to chance: if texts come in turn, the oldest trace is the one
	// that is needed next. Two goroutines may overwrite each other's trace; then that text has to come once more.
	lane := rand.Uint32() % ways * tagBits
	s.seen.Store(seen&^(tagMask<<lane) | trace<<lane)
	return false
}

// Put adds a text and returns its value. The text is copied, as it may be part of a larger one.
func (t *Table[V]) Put(hash uint64, text string, fill func(value *V)) {
	e := &entry[V]{text: strings.Clone(text)}
	fill(&e.value)
	s := t.set(hash)
	way := s.place(tagOf(hash), text)
	s.entries[way].Store(e)
	shift := way * tagBits
	for {
		tags := s.tags.Load()
		if s.tags.CompareAndSwap(tags, tags&^(tagMask<<shift)|tagOf(hash)<<shift) {
			return
		}
	}
}

// place chooses where a text goes: where it is already, an empty place, one that was not used since the marks were last
// cleared, or any.
func (s *set[V]) place(tag uint64, text string) int {
	tags, used := s.tags.Load(), s.used.Load()
	free := -1
	for way := range ways {
		switch tags >> (way * tagBits) & tagMask {
		case tag:
			if e := s.entries[way].Load(); e != nil && e.text == text {
				return way
			}
		case 0:
			free = way
		}
	}
	if free >= 0 {
		return free
	}
	first := int(rand.Uint32() % ways)
	for i := range ways {
		if way := (first + i) % ways; used>>way&1 == 0 {
			return way
		}
	}
	s.used.Store(0)
	return first
}

// Stats returns how many texts Get found, and how many Admit was asked about.
func (t *Table[V]) Stats() (hits, misses uint64) {
	if t == nil {
		return 0, 0
	}
	return t.hits.total(), t.misses.total()
}

// counter has several lanes, chosen at random, so that processors seldom wait for each other.
type counter []struct {
	n atomic.Uint64
	_ [56]byte // the rest of a cache line
}

// newCounter has a lane for each processor.
func newCounter() counter { return make(counter, runtime.GOMAXPROCS(0)) }

func (c counter) add() { c[rand.Uint32()%uint32(len(c))].n.Add(1) }

func (c counter) total() (n uint64) {
	for i := range c {
		n += c[i].n.Load()
	}
	return n
}
