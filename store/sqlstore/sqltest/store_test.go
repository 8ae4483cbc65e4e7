//go:build linux

package sqltest

import (
	"context"
	"database/sql"
	"strings"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/ginrefresh/ginrefresh/store/sqlstore"
	"github.com/ginrefresh/ginrefresh/store/storetest"
)

func inAnHour() time.Time { return time.Now().Add(time.Hour) }

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// mustSwap makes a swap that expires in an hour.
func mustSwap(t testing.TB, s *sqlstore.Store, key, old, new string) {
	t.Helper()
	done, err := s.CompareAndSwap(within(t, 10*time.Second), key, old, new, inAnHour())
	if !done || err != nil {
		t.Fatalf("CompareAndSwap(%.100q, %.100q, %.100q) = %v, %v", key, old, new, done, err)
	}
}

// mustGet returns the value of a key, and since when the store is complete.
func mustGet(t testing.TB, s *sqlstore.Store, key string) (value string, since time.Time) {
	t.Helper()
	values, since, err := s.Get(within(t, 10*time.Second), key)
	if err != nil {
		t.Fatalf("Get(%.100q): %v", key, err)
	}
	return values[0], since
}

// A database is a DB with its dialect.
type database struct {
	name    string
	dialect sqlstore.Dialect
	db      *sql.DB
	server  *server // nil for SQLite
}

// databases returns an empty database of each kind.
func databases(t testing.TB) []database {
	t.Helper()
	return []database{
		open(t, postgres.share(t)),
		open(t, mariadb.share(t)),
		{"SQLite", sqlstore.SQLite, openDB(t, "sqlite", sqliteDSN(t)), nil},
	}
}

// servers returns a server of each kind that the test may harm.
func servers(t testing.TB) []database {
	t.Helper()
	return []database{open(t, postgres.startServer(t)), open(t, mariadb.startServer(t))}
}

// open connects to a server with the usual parameters of its driver.
func open(t testing.TB, s *server) database {
	t.Helper()
	if s.kind == postgres {
		return database{"PostgreSQL", sqlstore.PostgreSQL, s.open(t, ""), s}
	}
	return database{"MariaDB", sqlstore.MySQL, s.open(t, "&interpolateParams=true"), s}
}

// sqliteDSN returns the name of a new file, with the settings that docs/stores.md recommends.
func sqliteDSN(t testing.TB) string {
	return "file:" + t.TempDir() + "/blacklist.db" +
		"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(10000)"
}

// store returns a store with a table.
func (d database) store(t testing.TB) *sqlstore.Store {
	t.Helper()
	return newStore(t, d.db, d.dialect, sqlstore.Options{})
}

// newStore returns a store with a table.
func newStore(t testing.TB, db *sql.DB, dialect sqlstore.Dialect, opts sqlstore.Options) *sqlstore.Store {
	t.Helper()
	s, err := sqlstore.New(db, dialect, opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CreateTable(within(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	pg, maria := postgres.share(t), mariadb.share(t)
	for _, d := range []database{
		{"PostgreSQL read committed", sqlstore.PostgreSQL, pg.open(t, ""), pg},
		{"PostgreSQL repeatable read", sqlstore.PostgreSQL, pg.open(t, "&default_transaction_isolation=repeatable%20read"), pg},
		{"PostgreSQL simple protocol", sqlstore.PostgreSQL,
			pg.open(t, "&default_query_exec_mode=simple_protocol&timezone=Asia/Tokyo"), pg},
		{"MariaDB repeatable read", sqlstore.MySQL, maria.open(t, ""), maria},
		{"MariaDB read committed", sqlstore.MySQL,
			maria.open(t, "&interpolateParams=true&tx_isolation=%27READ-COMMITTED%27"), maria},
		{"MariaDB found rows", sqlstore.MySQL,
			maria.open(t, "&interpolateParams=true&clientFoundRows=true&time_zone=%27%2B13%3A00%27"), maria},
		{"MariaDB snapshot isolation", sqlstore.MySQL,
			maria.open(t, "&clientFoundRows=true&innodb_snapshot_isolation=ON"), maria},
		{"SQLite", sqlstore.SQLite, openDB(t, "sqlite", sqliteDSN(t)), nil},
	} {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			// One table for each database: all of them use the empty key, and they run at the same time.
			table := strings.ToLower(strings.ReplaceAll(d.name, " ", "_"))
			storetest.Run(t, func(t *testing.T) storetest.Store {
				return newStore(t, d.db, d.dialect, sqlstore.Options{Table: table})
			})
		})
	}
}

// TestUnchanged makes swaps that change neither the value nor the expiry. MySQL does not count such a row as
// affected. The expiry must not drift.
func TestUnchanged(t *testing.T) {
	for _, d := range databases(t) {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			s, expires := d.store(t), time.UnixMilli(time.Now().Add(time.Hour).UnixMilli())
			old := ""
			for range 5 {
				if done, err := s.CompareAndSwap(within(t, 5*time.Second), "key", old, "value", expires); !done || err != nil {
					t.Errorf("CompareAndSwap from %q = %v, %v", old, done, err)
				}
				old = "value"
			}
			var got int64
			row := d.db.QueryRowContext(t.Context(), "SELECT expires FROM ginrefresh_blacklist WHERE length(id) = 32")
			if err := row.Scan(&got); err != nil || got < expires.UnixMilli() || got > expires.UnixMilli()+1 {
				t.Errorf("the record expires at %d, %v, want %d or a millisecond later", got, err, expires.UnixMilli())
			}
		})
	}
}
