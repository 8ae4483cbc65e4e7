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
	"testing/synctest"
	"time"
)

// plain is the simplest store that satisfies the contract, except for its faults.
type plain struct {
	faults
	mu      sync.Mutex
	reading sync.RWMutex // guards records against readers that do not hold mu
	records map[string]record
	writes  int
	counter atomic.Uint64 // of all keys
}

func newPlain() *plain { return &plain{records: map[string]record{}} }

type faults struct {
	alwaysSwaps    bool // ignores the old value
	neverSwaps     bool
	checksThenActs bool // compares and swaps in two steps
	ignoresExpiry  bool
	keepsExpiry    bool // does not renew the expiry in a swap
	keepsOnPast    bool // deletes nothing on a past expiry
	refusesPast    bool // returns false for a past expiry
	wrapsFar       bool // overflows on a far expiry
	sortsKeys      bool // answers in the order of the sorted keys
	dropsAbsent    bool // answers for the present keys only
	errsOnAbsent   bool
	ignoresContext bool
	ignoresClock   bool // checks the Err of the context, but not its deadline
	checksTooLate  bool // checks the deadline after the change
	foldsKeys      bool
	cutsKeys       bool
	trimsValues    bool
	cutsValues     bool
	deletesOnLost  bool // deletes the record in a lost swap
	stalePeek      bool
	copiesSelf     bool
	forgets        bool // every seventh write
	hidesSince     bool
	movesSince     bool // with every write
	futureSince    bool
	variesSince    bool // with the number of keys
	frozenCounter  bool
	lateCounter    bool // counts a change only after it
	earlyCounter   bool // counts a change only before it, so that the counter is never odd
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

func (p *plain) Get(ctx context.Context, keys ...string) ([]string, time.Time, error) {
	if ctx.Err() != nil && !p.ignoresContext {
		return nil, time.Time{}, ctx.Err()
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
			return nil, time.Time{}, errors.New("not found")
		}
		if value != "" || !p.dropsAbsent {
			values = append(values, value)
		}
	}
	return values, p.since(keys), nil
}

func (p *plain) since(keys []string) time.Time {
	since := time.UnixMicro(0)
	switch {
	case p.hidesSince:
		return time.Time{}
	case p.movesSince:
		since = since.Add(time.Duration(p.writes))
	case p.futureSince:
		since = time.Now().Add(time.Hour)
	case p.variesSince:
		since = since.Add(time.Duration(len(keys)))
	}
	return since
}

func (p *plain) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	if ctx.Err() != nil && !p.ignoresContext {
		return false, ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.same(key, old) {
		if p.deletesOnLost {
			p.write(key, record{})
		}
		return false, nil
	}
	if expires.Before(time.Now()) && (p.keepsOnPast || p.refusesPast) {
		return p.keepsOnPast, nil
	}
	if p.late(ctx) && !p.checksTooLate {
		return false, context.DeadlineExceeded
	}
	p.write(key, p.altered(key, record{new, expires}))
	if p.late(ctx) {
		return false, context.DeadlineExceeded
	}
	return true, nil
}

func (p *plain) same(key, old string) bool {
	same := (p.read(key) == old || p.alwaysSwaps) && !p.neverSwaps
	if p.checksThenActs {
		p.mu.Unlock()
		runtime.Gosched()
		p.mu.Lock()
	}
	return same
}

func (p *plain) late(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ok && !time.Now().Before(deadline) && !p.ignoresClock && !p.ignoresContext
}

// altered returns the record that p stores instead of r.
func (p *plain) altered(key string, r record) record {
	if p.wrapsFar && r.expires.Year() > 2262 {
		r.expires = time.Unix(0, r.expires.UnixNano())
	}
	if old := p.records[p.key(key)]; p.keepsExpiry && old.value != "" {
		r.expires = old.expires
	}
	if p.trimsValues {
		r.value = strings.TrimSpace(r.value)
	}
	if p.cutsValues {
		r.value = r.value[:min(len(r.value), 4<<10)]
	}
	return r
}

// write gives readers a chance to run between its steps.
func (p *plain) write(key string, r record) {
	if p.writes++; p.forgets && p.writes%7 == 0 {
		return
	}
	before, after := uint64(1), uint64(1)
	switch {
	case p.frozenCounter:
		before, after = 0, 0
	case p.lateCounter:
		before, after = 0, 2
	case p.earlyCounter:
		before, after = 2, 0
	}
	p.counter.Add(before)
	runtime.Gosched()
	p.reading.Lock()
	p.records[p.key(key)] = r
	p.reading.Unlock()
	runtime.Gosched()
	p.counter.Add(after)
}

func (p *plain) Changes() (self any, counter func(string) *atomic.Uint64) {
	if p.copiesSelf {
		return &plain{records: p.records}, p.counterOf
	}
	return p, p.counterOf
}

func (p *plain) counterOf(string) *atomic.Uint64 { return &p.counter }

func (p *plain) Peek(key string) string {
	if p.stalePeek {
		return ""
	}
	p.reading.RLock()
	defer p.reading.RUnlock()
	return p.read(key)
}

// embedder inherits a Peek that does not agree with its own Get.
type embedder struct{ *plain }

func (e embedder) Get(ctx context.Context, keys ...string) ([]string, time.Time, error) {
	own := make([]string, len(keys))
	for i, key := range keys {
		own[i] = "own " + key
	}
	return e.plain.Get(ctx, own...)
}

func (e embedder) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	return e.plain.CompareAndSwap(ctx, "own "+key, old, new, expires)
}

// claimer is an embedder whose Changes claims that the inherited Peek is its own.
type claimer struct{ embedder }

func (c claimer) Changes() (self any, counter func(string) *atomic.Uint64) { return c, c.counterOf }

// plainPeeker has the Peek of another store, and no Changes to show it.
type plainPeeker struct {
	Store
	peeker
}

// uncomparable is a store that cannot be compared with its self.
type uncomparable struct {
	*plain
	_ []int
}

func (u uncomparable) Changes() (self any, counter func(string) *atomic.Uint64) {
	return u, u.counterOf
}

// peekless has Changes, but no Peek.
type peekless struct {
	Store
	changer
}

// witness is a tb that records the failures of a check.
type witness struct {
	mu       sync.Mutex
	failures []string
}

func (w *witness) Helper() {}

func (w *witness) Errorf(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failures = append(w.failures, fmt.Sprintf(format, args...))
}

func (w *witness) Fatalf(format string, args ...any) {
	w.Errorf(format, args...)
	runtime.Goexit()
}

// verdict runs a check on a store and returns its failures.
func verdict(check string, s Store) string {
	var w witness
	done := make(chan struct{})
	go func() { // Fatalf ends this goroutine
		defer close(done)
		for _, c := range checks {
			if c.name == check {
				c.run(&w, s)
			}
		}
	}()
	<-done
	return strings.Join(w.failures, "; ")
}

// TestEveryBreachIsFound breaks the contract in every way that a real store has broken it or could break it.
func TestEveryBreachIsFound(t *testing.T) {
	found := map[string]bool{}
	breaches := []struct {
		broken any    // faults, or a whole store
		check  string // must fail; other checks may fail, too
		store  string // completes the sentence "a store that …"
	}{
		{faults{alwaysSwaps: true}, "wrong old value", "ignores the old value"},
		{faults{alwaysSwaps: true}, "one winner", "ignores the old value"},
		{faults{neverSwaps: true}, "swap", "never swaps"},
		{faults{checksThenActs: true}, "one winner", "compares and swaps in two steps"},
		{faults{checksThenActs: true}, "no lost update", "compares and swaps in two steps"},
		{faults{ignoresExpiry: true}, "expiry", "never expires"},
		{faults{ignoresExpiry: true}, "shortened expiry", "never expires"},
		{faults{keepsExpiry: true}, "renewed expiry", "keeps the first expiry"},
		{faults{keepsExpiry: true}, "shortened expiry", "keeps the first expiry"},
		{faults{keepsOnPast: true}, "past expiry", "ignores a swap with a past expiry"},
		{faults{refusesPast: true}, "past expiry", "returns false for a past expiry"},
		{faults{wrapsFar: true}, "far expiry", "overflows on a far expiry"},
		{faults{sortsKeys: true}, "order", "answers in another order"},
		{faults{dropsAbsent: true}, "absent", "answers for present keys only"},
		{faults{errsOnAbsent: true}, "absent", "returns an error for an absent key"},
		{faults{ignoresContext: true}, "ended context", "ignores its context"},
		{faults{ignoresContext: true}, "passed deadline", "ignores its context"},
		{faults{ignoresClock: true}, "passed deadline", "ignores the deadline"},
		{faults{checksTooLate: true}, "passed deadline", "checks the deadline after the change"},
		{faults{copiesSelf: true}, "self", "returns a copy as its self"},
		{uncomparable{plain: newPlain()}, "self", "cannot be compared with its self"},
		{peekless{newPlain(), newPlain()}, "self", "has Changes but no Peek"},
		{claimer{embedder{newPlain()}}, "swap", "claims an inherited Peek as its own"},
		{plainPeeker{newPlain(), newPlain()}, "swap", "has the Peek of another store"},
		{faults{foldsKeys: true}, "any key", "folds keys"},
		{faults{cutsKeys: true}, "any key", "truncates keys"},
		{faults{trimsValues: true}, "any value", "trims values"},
		{faults{cutsValues: true}, "any value", "cuts values at 4 KiB"},
		{faults{deletesOnLost: true}, "wrong old value", "deletes the record in a lost swap"},
		{faults{stalePeek: true}, "swap", "answers Peek and Get differently"},
		{faults{forgets: true}, "many keys at once", "loses a write"},
		{faults{hidesSince: true}, "since", "does not say since when it has forgotten nothing"},
		{faults{movesSince: true}, "since", "moves since without having forgotten anything"},
		{faults{futureSince: true}, "since", "has a since in the future"},
		{faults{variesSince: true}, "since", "has a Peek and another since without keys"},
		{faults{frozenCounter: true}, "change counter", "counts no change"},
		{faults{lateCounter: true}, "change counter", "counts a change only after it"},
		{faults{earlyCounter: true}, "change counter", "counts a change only before it"},
	}
	for _, breach := range breaches {
		found[breach.check] = true
		t.Run(breach.store+"/"+breach.check, func(t *testing.T) {
			s, ok := breach.broken.(Store)
			if !ok {
				s = &plain{faults: breach.broken.(faults), records: map[string]record{}}
			}
			synctest.Test(t, func(t *testing.T) {
				if verdict(breach.check, s) == "" {
					t.Errorf("a store that %s passes the check %q", breach.store, breach.check)
				}
			})
		})
	}
	for _, c := range checks {
		if !found[c.name] {
			t.Errorf("no broken store proves that the check %q can fail", c.name)
		}
	}
	t.Logf("proof: %d broken stores found", len(breaches))
}

func TestPlainPasses(t *testing.T) {
	RunInBubble(t, func(*testing.T) Store { return newPlain() })
}

// TestEmbedderPasses tests a store that inherits a Peek which does not agree with its Get. The guards do not call such a
// Peek, so the checks must not, either.
func TestEmbedderPasses(t *testing.T) {
	for _, c := range checks {
		synctest.Test(t, func(t *testing.T) {
			if failures := verdict(c.name, embedder{newPlain()}); failures != "" {
				t.Errorf("the check %q fails: %s", c.name, failures)
			}
		})
	}
}
