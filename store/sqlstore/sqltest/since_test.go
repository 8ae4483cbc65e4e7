//go:build linux

package sqltest

import (
	"sync"
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/store/sqlstore"
)

// exec runs a statement.
func (d database) exec(t testing.TB, statement string, args ...any) {
	t.Helper()
	if _, err := d.db.ExecContext(within(t, 10*time.Second), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// R20: whatever empties the table moves since, so that every older session is rejected. All processes see the same
// since.
func TestR20_EmptiedTable(t *testing.T) {
	for _, d := range databases(t) {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			for name, empty := range map[string]func(*testing.T, *sqlstore.Store){
				"DELETE": func(t *testing.T, _ *sqlstore.Store) { d.exec(t, "DELETE FROM ginrefresh_blacklist") },
				"TRUNCATE": func(t *testing.T, _ *sqlstore.Store) {
					if d.dialect != sqlstore.SQLite { // which has no TRUNCATE
						d.exec(t, "TRUNCATE TABLE ginrefresh_blacklist")
					} else {
						d.exec(t, "DELETE FROM ginrefresh_blacklist WHERE true")
					}
				},
				"DROP": func(t *testing.T, s *sqlstore.Store) {
					d.exec(t, "DROP TABLE ginrefresh_blacklist")
					if _, _, err := s.Get(within(t, 5*time.Second), "key"); err == nil {
						t.Error("Get from a table that does not exist returns no error")
					}
					d.store(t)
				},
			} {
				t.Run(name, func(t *testing.T) { d.checkEmptied(t, empty) })
			}
		})
	}
}

func (d database) checkEmptied(t *testing.T, empty func(*testing.T, *sqlstore.Store)) {
	stores := make([]*sqlstore.Store, 32)
	for i := range stores {
		stores[i] = d.store(t)
	}
	_, first := mustGet(t, stores[0], "key")
	mustSwap(t, stores[0], "key", "", "revoked")
	before := time.Now()
	empty(t, stores[0])
	mustSwap(t, stores[1], "key", "", "new") // a swap that nobody has preceded by a Get

	got := make([]time.Time, len(stores))
	var wg sync.WaitGroup
	for i, s := range stores {
		wg.Go(func() {
			var value string
			if value, got[i] = mustGet(t, s, "key"); value != "new" {
				t.Errorf("the value is %q, want new", value)
			}
		})
	}
	wg.Wait()
	// A millisecond: the clock of SQLite has no finer resolution.
	if early := before.Add(time.Second - time.Millisecond); got[0].Before(early) || got[0].After(time.Now().Add(time.Second)) {
		t.Errorf("since is %v after the table was emptied at %v, want a second more; it was %v", got[0], before, first)
	}
	if !got[0].Equal(got[0].Truncate(time.Microsecond)) {
		t.Errorf("since is %v, want microseconds", got[0])
	}
	for _, since := range got {
		if !since.Equal(got[0]) {
			t.Errorf("two processes see %v and %v", got[0], since)
		}
	}
	d.exec(t, "DELETE FROM ginrefresh_blacklist WHERE length(id) = 32")
	if _, since := mustGet(t, d.store(t), "key"); !since.Equal(got[0]) {
		t.Errorf("since moved from %v to %v, but it was not removed", got[0], since)
	}
}

// R20: since must be ahead of the server's clock and of this process's.
func TestR20_ServerAhead(t *testing.T) {
	clock := newServerClock(t)
	for _, ahead := range []time.Duration{-time.Hour, time.Hour} {
		clock.set(t, ahead)
		clock.exec(t, "TRUNCATE TABLE ginrefresh_blacklist")
		want := time.Now().Add(max(ahead, 0) + time.Second)
		if _, since := mustGet(t, clock.s, "key"); since.Before(want) || since.After(want.Add(10*time.Second)) {
			t.Errorf("with the server %v ahead, since is %v, want %v", ahead, since, want)
		}
		if ahead > 0 {
			mustReport(t, clock.s, "in the future")
		} else {
			mustReport(t, clock.s)
		}
	}
}

func TestMalformedSince(t *testing.T) {
	d := database{"SQLite", sqlstore.SQLite, openDB(t, "sqlite", sqliteDSN(t)), nil}
	s := d.store(t)
	d.exec(t, "UPDATE ginrefresh_blacklist SET value = 'yesterday'")
	if _, since, err := s.Get(within(t, 5*time.Second), "key"); err == nil {
		t.Errorf("Get returns %v for a malformed since", since)
	}
}
