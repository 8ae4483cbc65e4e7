//go:build linux

package sqltest

import (
	"context"
	"database/sql"
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

func sqliteDSN(t testing.TB) string {
	return "file:" + t.TempDir() + "/blacklist.db?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(10000)"
}

func TestStore(t *testing.T) {
	pg, maria := postgres.startServer(t), mariadb.startServer(t)
	for _, test := range []struct {
		name    string
		db      *sql.DB
		dialect sqlstore.Dialect
	}{
		{"PostgreSQL read committed", pg.open(t, ""), sqlstore.PostgreSQL},
		{"PostgreSQL repeatable read", pg.open(t, "&default_transaction_isolation=repeatable%20read"), sqlstore.PostgreSQL},
		{"MariaDB repeatable read", maria.open(t, ""), sqlstore.MySQL},
		{"MariaDB read committed", maria.open(t, "&tx_isolation=%27READ-COMMITTED%27"), sqlstore.MySQL},
		{"SQLite", openDB(t, "sqlite", sqliteDSN(t)), sqlstore.SQLite},
	} {
		t.Run(test.name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) storetest.Store { return newStore(t, test.db, test.dialect, sqlstore.Options{}) })
		})
	}
}
