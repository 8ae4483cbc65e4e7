package storetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// plain is the contract as simply as it can be written, but for its faults.
type plain struct {
	faults
	mu      sync.Mutex
	reading sync.RWMutex // of records, for who does not hold mu
	records map[string]record
	writes  int
	changes atomic.Uint64 // of all keys
}

func newPlain() *plain { return &plain{records: map[string]record{}} }

type faults struct {
	alwaysSwaps    bool // whatever the old value
	neverSwaps     bool
	checksThenActs bool // compare and swap are two steps
	ignoresExpiry  bool
	keepsExpiry    bool // a swap does not renew it
	keepsOnPast    bool // a past expiry deletes nothing
	refusesPast    bool // a past expiry reports false
	wrapsFar       bool // a far expiry overflows
	sortsKeys      bool // answers in the keys' order, not in the question's
	dropsAbsent    bool // answers for the present keys only
	errsOnAbsent   bool
	ignoresContext bool
	ignoresClock   bool // heeds the context's Err, but not its deadline
	checksTooLate  bool // heeds the deadline, but after the change
	foldsKeys      bool
	cutsKeys       bool
	trimsValues    bool
	deletesOnLost  bool // a lost swap drops the record
	stalePeek      bool
	copiesSelf     bool
	forgets        bool // every 7th write
	frozenCounter  bool
	lateCounter    bool // goes up after the change only
	earlyCounter   bool // goes up before the change only, and is never odd
}

type record struct {
	value   string
	expires time.Time
}

func (p *plain) key(key string) string {
	if p.foldsKeys {
		key = strings.ToLower(key)
	}
	if p.cutsKeys && len(key) > 64 {
		key = key[:64]
	}
	return key
}

func (p *plain) read(key string) string {
	r := p.records[p.key(key)]
	if !p.ignoresExpiry && !time.Now().Before(r.expires) {
		return ""
	}
	return r.value
}

func (p *plain) Get(ctx context.Context, keys ...string) ([]string, error) {
	if ctx.Err() != nil && !p.ignoresContext {
		return nil, ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sortsKeys {
		keys = slices.Sorted(slices.Values(keys))
	}
	values := []string{}
	for _, key := range keys {
		value := p.read(key)
		if value == "" && p.errsOnAbsent {
			return nil, errors.New("not found")
		}
		if value != "" || !p.dropsAbsent {
			values = append(values, value)
		}
	}
	return values, nil
}

func (p *plain) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	if ctx.Err() != nil && !p.ignoresContext {
		return false, ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	same := p.read(key) == old || p.alwaysSwaps
	if p.checksThenActs {
		p.mu.Unlock()
		runtime.Gosched()
		p.mu.Lock()
	}
	if !same || p.neverSwaps {
		if p.deletesOnLost {
			p.write(key, record{})
		}
		return false, nil
	}
	if p.keepsOnPast && expires.Before(time.Now()) {
		return true, nil
	}
	if p.refusesPast && expires.Before(time.Now()) {
		return false, nil
	}
	if p.wrapsFar && expires.Year() > 2262 {
		expires = time.Unix(0, expires.UnixNano())
	}
	if r := p.records[p.key(key)]; p.keepsExpiry && r.value != "" {
		expires = r.expires
	}
	if p.trimsValues {
		new = strings.TrimSpace(new)
	}
	late := func() bool {
		deadline, ok := ctx.Deadline()
		return ok && !time.Now().Before(deadline) && !p.ignoresClock && !p.ignoresContext
	}
	if late() && !p.checksTooLate {
		return false, context.DeadlineExceeded
	}
	if p.writes++; p.forgets && p.writes%7 == 0 {
		return true, nil
	}
	p.write(key, record{new, expires})
	if late() {
		return false, context.DeadlineExceeded
	}
	return true, nil
}

// write lets Peek in between its steps.
func (p *plain) write(key string, r record) {
	before, after := uint64(1), uint64(1)
	switch {
	case p.frozenCounter:
		before, after = 0, 0
	case p.lateCounter:
		before, after = 0, 2
	case p.earlyCounter:
		before, after = 2, 0
	}
	p.changes.Add(before)
	runtime.Gosched()
	p.reading.Lock()
	p.records[p.key(key)] = r
	p.reading.Unlock()
	runtime.Gosched()
	p.changes.Add(after)
}

func (p *plain) Changes() (self any, counter func(key string) *atomic.Uint64) {
	counter = func(string) *atomic.Uint64 { return &p.changes }
	if p.copiesSelf {
		return &plain{records: p.records}, counter
	}
	return p, counter
}

func (p *plain) Peek(key string) string {
	if p.stalePeek {
		return ""
	}
	p.reading.RLock()
	defer p.reading.RUnlock()
	return p.read(key)
}

// embedder inherits a Peek that does not fit its own Get. Changes tells the two apart.
type embedder struct{ *plain }

func (e embedder) Get(ctx context.Context, keys ...string) ([]string, error) {
	own := make([]string, len(keys))
	for i, key := range keys {
		own[i] = "own " + key
	}
	return e.plain.Get(ctx, own...)
}

func (e embedder) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	return e.plain.CompareAndSwap(ctx, "own "+key, old, new, expires)
}

// claimer is an embedder that says its Peek is its own.
type claimer struct{ embedder }

func (c claimer) Changes() (self any, counter func(key string) *atomic.Uint64) {
	_, counter = c.plain.Changes()
	return c, counter
}

// uncomparable returns a self that no store can equal.
type uncomparable struct {
	*plain
	_ []int
}

func (u uncomparable) Changes() (self any, counter func(key string) *atomic.Uint64) { return u, nil }

// witness is a tb that remembers what a check said.
type witness struct {
	mu   sync.Mutex
	said []string
}

func (w *witness) Helper() {}

func (w *witness) Errorf(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, fmt.Sprintf(format, args...))
}

func (w *witness) Fatalf(format string, args ...any) {
	w.Errorf(format, args...)
	runtime.Goexit()
}

// verdict runs a check on a store, and returns what it says.
func verdict(check string, s Store) string {
	var w witness
	done := make(chan struct{})
	go func() { // Fatalf ends it
		defer close(done)
		for _, c := range checks {
			if c.name == check {
				c.run(&w, s)
			}
		}
	}()
	<-done
	return strings.Join(w.said, "; ")
}

// TestEveryBreachIsFound breaks the contract in every way that somebody's store has broken or could break it.
func TestEveryBreachIsFound(t *testing.T) {
	defer func(d time.Duration) { patience = d }(patience)
	patience = 3 * time.Second // for what never comes
	found := map[string]bool{}
	for _, breach := range []struct {
		broken any    // faults, or a whole store
		check  string // it must fail, whatever other ones do
		store  string
	}{
		{faults{alwaysSwaps: true}, "wrong old value", "swaps whatever the old value"},
		{faults{alwaysSwaps: true}, "one winner", "swaps whatever the old value"},
		{faults{neverSwaps: true}, "swap", "never swaps"},
		{faults{checksThenActs: true}, "one winner", "compares, then swaps"},
		{faults{checksThenActs: true}, "no lost update", "compares, then swaps"},
		{faults{ignoresExpiry: true}, "expiry", "never expires"},
		{faults{ignoresExpiry: true}, "shortened expiry", "never expires"},
		{faults{keepsExpiry: true}, "renewed expiry", "keeps the first expiry"},
		{faults{keepsExpiry: true}, "shortened expiry", "keeps the first expiry"},
		{faults{keepsOnPast: true}, "past expiry", "ignores a swap with a past expiry"},
		{faults{refusesPast: true}, "past expiry", "reports false for a past expiry"},
		{faults{wrapsFar: true}, "far expiry", "overflows"},
		{faults{sortsKeys: true}, "order", "answers in another order"},
		{faults{dropsAbsent: true}, "absent", "answers for present keys only"},
		{faults{errsOnAbsent: true}, "absent", "returns an error for an absent key"},
		{faults{ignoresContext: true}, "ended context", "ignores its context"},
		{faults{ignoresContext: true}, "passed deadline", "ignores its context"},
		{faults{ignoresClock: true}, "passed deadline", "ignores the deadline"},
		{faults{checksTooLate: true}, "passed deadline", "looks at the deadline after the change"},
		{faults{copiesSelf: true}, "self", "names another store as itself"},
		{uncomparable{plain: newPlain()}, "self", "cannot be compared"},
		{claimer{embedder{newPlain()}}, "swap", "claims an inherited Peek"},
		{faults{foldsKeys: true}, "any key", "folds keys"},
		{faults{cutsKeys: true}, "any key", "cuts keys"},
		{faults{trimsValues: true}, "any value", "trims values"},
		{faults{deletesOnLost: true}, "wrong old value", "drops the record when a swap is lost"},
		{faults{stalePeek: true}, "swap", "answers Peek with something else"},
		{faults{forgets: true}, "many keys at once", "loses a write"},
		{faults{frozenCounter: true}, "changes", "announces no change"},
		{faults{lateCounter: true}, "changes", "announces a change when it can be read already"},
		{faults{earlyCounter: true}, "changes", "announces a change and does not say when it is complete"},
	} {
		found[breach.check] = true
		t.Run(breach.store+"/"+breach.check, func(t *testing.T) {
			s, ok := breach.broken.(Store)
			if !ok {
				s = &plain{faults: breach.broken.(faults), records: map[string]record{}}
			}
			if verdict(breach.check, s) == "" {
				t.Errorf("a store that %s passes the check %q", breach.store, breach.check)
			}
		})
	}
	for _, c := range checks {
		if !found[c.name] {
			t.Errorf("no broken store proves that the check %q can fail", c.name)
		}
	}
}

func TestPlainPasses(t *testing.T) {
	Run(t, func(*testing.T) Store { return newPlain() })
}

// TestEmbedderPasses has a store whose Peek is inherited, and wrong. The guards do not use it, so it is not tested.
func TestEmbedderPasses(t *testing.T) {
	for _, c := range checks {
		if c.name == "expiry" || c.name == "renewed expiry" || c.name == "shortened expiry" {
			continue // they take time and do not depend on Peek
		}
		if said := verdict(c.name, embedder{newPlain()}); said != "" {
			t.Errorf("the check %q says %s", c.name, said)
		}
	}
}
