package interleaving

import (
	"context"
	"errors"
	"maps"
	"sync/atomic"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// defect is a bug of the store that the reference must detect.
type defect string

const (
	sound        defect = ""
	swapsBlindly defect = "a store that swaps without comparing"
	forgets      defect = "a store that drops every second swap"
	countsEarly  defect = "a store that counts a change only before the write"
	countsLate   defect = "a store that counts a change only after the write"
	hidesLoss    defect = "a store that does not say that it has forgotten everything"
)

// store is a blacklist whose calls wait for the scheduler.
type store struct {
	*scheduler
	defect  defect
	records map[string]record
	swaps   int
	since   time.Time         // nothing was forgotten since then (R20); zero if that is forgotten as well
	backup  map[string]record // the records before the operations began

	versions map[string]*atomic.Uint64 // for peekStore
}

type record struct {
	value   string
	expires time.Time
}

var (
	_ middleware.Store  = (*store)(nil)
	_ middleware.Peeker = (*peekStore)(nil)
)

var errFault = errors.New("the store fails")

func (s *store) Get(ctx context.Context, keys ...string) ([]string, time.Time, error) {
	v, err := s.enter(ctx, point{what: "Get", store: true})
	if err != nil {
		return nil, time.Time{}, err
	}
	values := make([]string, len(keys))
	for i, key := range keys {
		values[i] = s.read(key)
	}
	if s.since.IsZero() {
		s.since = time.Now().Add(time.Second)
	}
	since := s.since
	return values, since, s.leave(ctx, "Get", v)
}

func (s *store) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	v, err := s.enter(ctx, point{what: "CompareAndSwap", store: true})
	if err != nil {
		return false, err
	}
	swapped := s.swap(ctx, key, old, new, expires)
	if err := s.leave(ctx, "CompareAndSwap", v); err != nil {
		return false, err
	}
	return swapped, nil
}

// enter waits until the call may take effect.
func (s *store) enter(ctx context.Context, p point) (verdict, error) {
	v, err := s.wait(ctx, p)
	if v == failFirst {
		err = errFault
	}
	return v, err
}

// leave waits until the answer may arrive.
func (s *store) leave(ctx context.Context, what string, v verdict) error {
	if v == failLast {
		return errFault
	}
	if !s.twice {
		return nil
	}
	_, err := s.wait(ctx, point{what: what + " returns"})
	return err
}

func (s *store) read(key string) string {
	if r := s.records[key]; time.Now().Before(r.expires) {
		return r.value
	}
	return ""
}

func (s *store) swap(ctx context.Context, key, old, new string, expires time.Time) bool {
	if s.read(key) != old && s.defect != swapsBlindly {
		return false
	}
	s.swaps++
	if s.defect == forgets && s.swaps%2 == 0 {
		return true
	}
	s.records[key] = record{new, expires}
	if c := s.caller(ctx); c != nil && c.wroteAt.IsZero() {
		c.wroteAt, c.wroteIn = time.Now(), s.now()
	}
	return true
}

// peekStore is a Peeker and has change counters, so guards use their fast path.
type peekStore struct {
	*store
	busy  map[string]bool // the keys that are being changed
	peeks int
}

// Changes is the contract of the module's stores in memory.
func (s *peekStore) Changes() (self any, counter func(key string) *atomic.Uint64) {
	return s, s.counter
}

func (s *peekStore) Peek(key string) string {
	s.peeks++
	ctx := context.Background()
	_, _ = s.wait(ctx, point{what: "Peek"})
	value := s.read(key)
	if s.twice {
		_, _ = s.wait(ctx, point{what: "Peek returns"})
	}
	return value
}

func (s *peekStore) counter(key string) *atomic.Uint64 {
	v, ok := s.versions[key]
	if !ok {
		v = new(atomic.Uint64)
		s.versions[key] = v
	}
	return v
}

// changes is by how much the counter moves before and after a write.
var changes = map[defect][2]uint64{sound: {1, 1}, countsEarly: {2, 0}, countsLate: {0, 2}}

// CompareAndSwap waits before and after the write, while the counter is odd. Like store.Memory it makes one change of a
// key at a time and ignores its context.
func (s *peekStore) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	ctx = context.WithoutCancel(ctx)
	v, err := s.enter(ctx, point{what: "CompareAndSwap", store: true, free: func() bool { return !s.busy[key] }})
	if err != nil {
		return false, err
	}
	version := s.counter(key)
	s.busy[key] = true
	version.Add(changes[s.defect][0])
	_, _ = s.wait(ctx, point{what: "CompareAndSwap writes"})
	swapped := s.swap(ctx, key, old, new, expires)
	_, _ = s.wait(ctx, point{what: "CompareAndSwap is complete"})
	version.Add(changes[s.defect][1])
	s.busy[key] = false
	if v == failLast {
		return false, errFault
	}
	return swapped, nil
}

// forget loses all records. The next reader finds that since is missing.
func (s *store) forget() {
	clear(s.records)
	s.since = time.Time{}
	if s.defect == hidesLoss {
		s.since = time.UnixMicro(0)
	}
}

// rollBack restores the backup.
func (s *store) rollBack() { s.records = maps.Clone(s.backup) }

// undoing runs do and restores the records.
func (s *store) undoing(do func()) {
	before, since := maps.Clone(s.records), s.since
	do()
	s.records, s.since = before, since
	for _, v := range s.versions {
		v.Add(2)
	}
}
