//go:build linux

package sqltest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"

	"github.com/ginrefresh/ginrefresh/store/sqlstore"
)

// A hook is a connector to SQLite that simulates failures.
type hook struct {
	dsn string

	// exec replaces the execution of a statement unless it is nil. run executes the statement.
	exec func(statement string, run func() (driver.Result, error)) (driver.Result, error)

	failing string // queries with this text fail
}

func (h *hook) Connect(context.Context) (driver.Conn, error) {
	conn, err := h.Driver().Open(h.dsn)
	return hookedConn{conn, h}, err
}

func (h *hook) Driver() driver.Driver { return new(sqlite.Driver) }

type hookedConn struct {
	driver.Conn
	hook *hook
}

func (c hookedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if c.hook.failing != "" && strings.Contains(query, c.hook.failing) {
		return nil, errDisk
	}
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
}

func (c hookedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	run := func() (driver.Result, error) { return c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args) }
	if c.hook.exec == nil {
		return run()
	}
	return c.hook.exec(query, run)
}

// newHooked returns a store whose "key" has the value "old".
func newHooked(t *testing.T) (*hook, database, *sqlstore.Store) {
	t.Helper()
	h := &hook{dsn: sqliteDSN(t)}
	d := database{"SQLite", sqlstore.SQLite, sql.OpenDB(h), nil}
	t.Cleanup(func() { d.db.Close() })
	s := d.store(t)
	mustSwap(t, s, "key", "", "old")
	return h, d, s
}

// noCount is the result of a driver that cannot count.
type noCount struct{ driver.Result }

var errDisk = errors.New("disk full")

var errNoCount = errors.New("not supported")

func (noCount) RowsAffected() (int64, error) { return 0, errNoCount }

// TestSwapIsNotRepeated loses the answer to a swap that was made. A second try would find the new value of the first
// one, and report a lost swap. database/sql makes one if the driver returns driver.ErrBadConn.
func TestSwapIsNotRepeated(t *testing.T) {
	t.Parallel()
	for _, want := range []error{
		driver.ErrBadConn,
		errNoCount,
		&pgconn.PgError{Code: "57P01"},
		&mysql.MySQLError{Number: 1053},
	} {
		h, _, s := newHooked(t)
		runs := 0
		h.exec = func(statement string, run func() (driver.Result, error)) (driver.Result, error) {
			runs++
			result, err := run()
			if err == nil && want != errNoCount {
				err = want
			}
			return noCount{result}, err
		}
		done, err := s.CompareAndSwap(within(t, 5*time.Second), "key", "old", "new", inAnHour())
		if done || !errors.Is(err, want) || runs != 1 {
			t.Errorf("after %d runs CompareAndSwap = %v, %v, want %v", runs, done, err, want)
		}
		if got, _ := mustGet(t, s, "key"); got != "new" {
			t.Errorf("the value is %q, want new", got)
		}
	}
}

// TestConflictIsRepeated reports conflicts for which the server has undone the statement.
func TestConflictIsRepeated(t *testing.T) {
	t.Parallel()
	for _, conflict := range []error{
		&pgconn.PgError{Code: "40001"},
		&pgconn.PgError{Code: "40P01"},
		&mysql.MySQLError{Number: 1213},
		fmt.Errorf("wrapped: %w", &mysql.MySQLError{Number: 1020}),
	} {
		h, _, s := newHooked(t)
		conflicts := 3
		h.exec = func(statement string, run func() (driver.Result, error)) (driver.Result, error) {
			if conflicts--; conflicts >= 0 {
				return nil, conflict
			}
			return run()
		}
		mustSwap(t, s, "key", "old", "new")
		conflicts = 3
		mustSwap(t, s, "absent", "", "new")
		conflicts = 3
		if done, err := s.CompareAndSwap(within(t, 5*time.Second), "key", "new", "gone", time.Time{}); !done || err != nil {
			t.Fatal(done, err)
		}
		conflicts = 3
		if n, err := s.Sweep(within(t, 5*time.Second)); n != 1 || err != nil {
			t.Errorf("Sweep = %d, %v, want 1", n, err)
		}
		conflicts = 1000
		if done, err := s.CompareAndSwap(within(t, 5*time.Second), "absent", "new", "newer", inAnHour()); done || err == nil {
			t.Errorf("CompareAndSwap = %v, %v, want an error", done, err)
		}
		if got, _ := mustGet(t, s, "absent"); got != "new" {
			t.Errorf("the value is %q, want it unchanged", got)
		}
	}
}

// TestSinceCannotBeMade lets the record since when the table is complete fail in several ways.
func TestSinceCannotBeMade(t *testing.T) {
	t.Parallel()
	h, d, s := newHooked(t)
	conflict := true
	for name, exec := range map[string]func(string, func() (driver.Result, error)) (driver.Result, error){
		"fails":   func(string, func() (driver.Result, error)) (driver.Result, error) { return nil, errDisk },
		"ignored": func(string, func() (driver.Result, error)) (driver.Result, error) { return driver.RowsAffected(0), nil },
		"conflict": func(_ string, run func() (driver.Result, error)) (driver.Result, error) {
			if conflict = !conflict; !conflict {
				return nil, &pgconn.PgError{Code: "40001"}
			}
			return run()
		},
	} {
		h.exec = nil
		d.exec(t, "DELETE FROM ginrefresh_blacklist")
		h.exec = exec
		_, since, err := s.Get(within(t, 5*time.Second), "key")
		if (err == nil) != (name == "conflict") || since.IsZero() == (err == nil) || name == "fails" && !errors.Is(err, errDisk) {
			t.Errorf("%s: Get = %v, %v", name, since, err)
		}
	}
}

// TestQueryFails lets one query fail at a time.
func TestQueryFails(t *testing.T) {
	t.Parallel()
	h, d, s := newHooked(t)
	mustSwap(t, s, "expired", "", "")
	for _, test := range []struct {
		failing string
		call    func(ctx context.Context) error
	}{
		{"SELECT id, value", func(ctx context.Context) error { _, _, err := s.Get(ctx, "key"); return err }},
		{"SELECT id FROM", func(ctx context.Context) error { _, err := s.Sweep(ctx); return err }},
		{"journal_mode", s.Check},
		{"pragma_database_list", s.Check},
		{"SELECT (CAST", func(ctx context.Context) error { // the clock
			d.exec(t, "DELETE FROM ginrefresh_blacklist")
			_, _, err := s.Get(ctx, "key")
			return err
		}},
	} {
		h.failing = test.failing
		if err := test.call(within(t, 5*time.Second)); !errors.Is(err, errDisk) {
			t.Errorf("%q fails, and the error is %v", test.failing, err)
		}
		h.failing = ""
	}
	h.exec = func(string, func() (driver.Result, error)) (driver.Result, error) { return nil, errDisk }
	if n, err := s.Sweep(within(t, 5*time.Second)); n != 0 || err != nil {
		t.Errorf("Sweep without expired records = %d, %v", n, err)
	}
}

func TestValues(t *testing.T) {
	for _, d := range databases(t) {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			s := d.store(t)
			old := ""
			for _, value := range []string{strings.Repeat("v", 8<<10), strings.Repeat("\xff\x00'\\", 1<<14-1), "v"} {
				mustSwap(t, s, "key", old, value)
				if got, _ := mustGet(t, s, "key"); got != value {
					t.Errorf("a value of %d bytes is %.100q", len(value), got)
				}
				old = value
			}
			mustSwap(t, s, "key", "v", strings.Repeat("v", 65535))
			done, err := s.CompareAndSwap(within(t, 5*time.Second), "long", "", strings.Repeat("v", 65536), inAnHour())
			if done || err == nil {
				t.Errorf("a swap to a value of 65,536 bytes = %v, %v", done, err)
			}
			mustSwap(t, s, "key", strings.Repeat("v", 65535), "") // absent
			mustSwap(t, s, "key", "", "")
			mustSwap(t, s, "key", "", "back")
			if got, _ := mustGet(t, s, "key"); got != "back" {
				t.Errorf("the value is %q, want back", got)
			}
		})
	}
}
