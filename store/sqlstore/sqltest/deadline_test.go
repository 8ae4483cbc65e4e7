//go:build linux

package sqltest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/store/internal/deadline/deadlinetest"
	"github.com/ginrefresh/ginrefresh/store/sqlstore"
)

// frozenTimeout is the deadline of the swaps that a frozen server gets.
const frozenTimeout = 200 * time.Millisecond

// clients returns the number of connections of the server.
func (d database) clients(t testing.TB, observer *sql.DB) (n int) {
	t.Helper()
	query := `SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'`
	if d.dialect == sqlstore.MySQL {
		query = `SELECT count(*) FROM information_schema.processlist WHERE user <> 'system user'`
	}
	if err := observer.QueryRowContext(within(t, 10*time.Second), query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// R10a: the server is frozen, receives swaps, and is resumed after their deadline. It must not make any of them. With
// these parameters the drivers send a statement in one message.
func TestR10a_FrozenServerMakesNoOldSwap(t *testing.T) {
	for _, test := range []struct {
		kind       *kind
		dialect    sqlstore.Dialect
		parameters string
	}{
		{postgres, sqlstore.PostgreSQL, "&default_query_exec_mode=exec"},
		{mariadb, sqlstore.MySQL, "&interpolateParams=true"},
	} {
		t.Run(test.kind.driver, func(t *testing.T) {
			t.Parallel()
			srv := test.kind.startServer(t)
			observer := srv.open(t, "")
			observer.SetMaxOpenConns(1)
			for _, swaps := range []int{1, 30} {
				db := srv.open(t, test.parameters)
				db.SetMaxOpenConns(swaps)
				d := database{test.kind.driver, test.dialect, db, srv}
				d.swapWhileFrozen(t, observer, swaps)
				db.Close()
			}
		})
	}
}

// swapWhileFrozen sends swaps of "key" from "old" to a frozen server, and resumes it after their deadline.
func (d database) swapWhileFrozen(t *testing.T, observer *sql.DB, swaps int) {
	s, other := newStore(t, d.db, d.dialect, sqlstore.Options{}), newStore(t, observer, d.dialect, sqlstore.Options{})
	key := fmt.Sprint("key ", swaps)
	mustSwap(t, other, key, "", "old")
	var conns []*sql.Conn // a pool with a connection for each swap
	for range swaps {
		conn, err := d.db.Conn(within(t, 10*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	for _, conn := range conns {
		conn.Close()
	}
	mustGet(t, s, key)
	until(t, "only this test is connected", func() bool { return d.clients(t, observer) == swaps+1 })

	d.server.freeze()
	deadline := time.Now().Add(frozenTimeout)
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	var wg sync.WaitGroup
	for i := range swaps {
		wg.Go(func() {
			done, err := s.CompareAndSwap(ctx, key, "old", strconv.Itoa(i), inAnHour())
			if done || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("CompareAndSwap on a frozen server = %v, %v, want the deadline error", done, err)
			}
		})
	}
	wg.Wait()
	<-time.After(time.Until(deadline) + 50*time.Millisecond)
	d.server.thaw()
	// A connection ends when the server has read and run what was sent on it.
	until(t, "the server has run the swaps", func() bool { return d.clients(t, observer) == 1 })

	if got, _ := mustGet(t, other, key); got != "old" {
		t.Errorf("after the thaw the value is %q: a swap was made after its deadline", got)
	}
	mustSwap(t, s, key, "old", "new")
}

// R10a: a freeze that ends before the deadline delays a swap, but does not prevent it. A freeze that ends after it
// prevents the swap, even if this process has not noticed the deadline.
func TestR10a_Freeze(t *testing.T) {
	for _, d := range servers(t) {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			s := d.store(t)
			mustSwap(t, s, "key", "", "old")
			d.server.freeze()
			time.AfterFunc(frozenTimeout, d.server.thaw)
			mustSwap(t, s, "key", "old", "new")

			d.server.freeze()
			time.AfterFunc(2*frozenTimeout, d.server.thaw)
			d.mustBeTooLate(t, s, frozenTimeout)
		})
	}
}

// mustBeTooLate swaps "key" from "new", which must fail because the server gets to it after the deadline.
func (d database) mustBeTooLate(t *testing.T, s *sqlstore.Store, timeout time.Duration) {
	t.Helper()
	ctx := deadlinetest.Silent(context.Background(), time.Now().Add(timeout))
	done, err := s.CompareAndSwap(ctx, "key", "new", "late", inAnHour())
	if done || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("CompareAndSwap = %v, %v, want the deadline error", done, err)
	}
	if got, _ := mustGet(t, s, "key"); got != "new" {
		t.Errorf("the value is %q, want it unchanged", got)
	}
}

// R10a: a swap that waits for a lock past its deadline is not made, although the value is still the old one.
func TestR10a_LockedRow(t *testing.T) {
	for _, d := range databases(t) {
		for _, end := range []string{"COMMIT", "ROLLBACK"} {
			t.Run(d.name+" "+end, func(t *testing.T) {
				s := d.store(t)
				mustSwap(t, s, "key", "", "new")
				locker, err := d.db.Conn(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer locker.Close()
				for _, statement := range []string{
					"BEGIN",
					"UPDATE ginrefresh_blacklist SET expires = expires + 1 WHERE length(id) = 32",
				} {
					if _, err := locker.ExecContext(t.Context(), statement); err != nil {
						t.Fatal(err)
					}
				}
				ended := make(chan error, 1)
				time.AfterFunc(frozenTimeout, func() {
					_, err := locker.ExecContext(context.Background(), end)
					ended <- err
				})
				d.mustBeTooLate(t, s, frozenTimeout/2)
				if err := <-ended; err != nil {
					t.Error(err)
				}
				d.exec(t, "DELETE FROM ginrefresh_blacklist")
			})
		}
	}
}

// A serverClock is a PostgreSQL whose clock can be set.
type serverClock struct {
	database
	s *sqlstore.Store
}

// newServerClock starts a server in which another function has the name of clock_timestamp.
func newServerClock(t *testing.T) serverClock {
	srv := postgres.startServer(t)
	d := database{"PostgreSQL", sqlstore.PostgreSQL, srv.open(t, "&search_path=fake,pg_catalog,public"), srv}
	d.exec(t, `CREATE SCHEMA fake`)
	d.exec(t, `CREATE TABLE fake.clock (ahead bigint)`)
	d.exec(t, `INSERT INTO fake.clock VALUES (0)`)
	d.exec(t, `CREATE FUNCTION fake.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
'SELECT pg_catalog.clock_timestamp() + (SELECT ahead FROM fake.clock) * interval ''1 microsecond'''`)
	return serverClock{d, newStore(t, d.db, d.dialect, sqlstore.Options{})}
}

// set sets the clock of the server ahead of that of this process.
func (c serverClock) set(t testing.TB, ahead time.Duration) {
	t.Helper()
	c.exec(t, "UPDATE fake.clock SET ahead = $1", ahead.Microseconds())
}

// R10a: the deadline is judged by the clock of the server, which need not agree with that of this process.
func TestR10a_ServerClock(t *testing.T) {
	clock := newServerClock(t)
	for i, ahead := range []time.Duration{30 * time.Minute, -30 * time.Minute} {
		clock.set(t, ahead)
		key := fmt.Sprint("set ", i)
		mustSwap(t, clock.s, key, "", "old") // the last reading is from before the clock was set
		mustSwap(t, clock.s, key, "old", "new")
		if got, _ := mustGet(t, clock.s, key); got != "new" {
			t.Errorf("with the server %v ahead, the value is %q, want new", ahead, got)
		}
	}
	mustSwap(t, clock.s, "key", "", "new")
	clock.server.freeze()
	time.AfterFunc(2*frozenTimeout, clock.server.thaw)
	clock.mustBeTooLate(t, clock.s, frozenTimeout)

	done, err := clock.s.CompareAndSwap(within(t, 5*time.Second), "short", "", "1", time.Now().Add(time.Minute))
	if !done || err != nil {
		t.Fatal(done, err)
	}
	clock.set(t, time.Minute)
	if got, _ := mustGet(t, clock.s, "short"); got != "" {
		t.Errorf("the value is %q, but has expired by the clock of the server", got)
	}
	mustSwap(t, clock.s, "short", "", "2") // replaces the expired record
	if got, _ := mustGet(t, clock.s, "short"); got != "2" {
		t.Errorf("the value is %q, want 2", got)
	}
}
