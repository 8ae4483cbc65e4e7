package sqlstore_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store/sqlstore"
)

var _ middleware.Store = (*sqlstore.Store)(nil)

// unreachable is a database that refuses connections. Module sqltest has the tests with real databases.
type unreachable struct{}

var errUnreachable = errors.New("unreachable")

func (unreachable) Connect(context.Context) (driver.Conn, error) { return nil, errUnreachable }
func (unreachable) Driver() driver.Driver                        { return nil }

func TestNew(t *testing.T) {
	db := sql.OpenDB(unreachable{})
	defer db.Close()
	for _, test := range []struct {
		name    string
		db      *sql.DB
		dialect sqlstore.Dialect
		table   string
		want    []string // parts of the error; nil for no error
	}{
		{"default", db, sqlstore.PostgreSQL, "", nil},
		{"with schema", db, sqlstore.MySQL, "auth.blacklist_2", nil},
		{"longest", db, sqlstore.SQLite, strings.Repeat("a", 63), nil},
		{"too long", db, sqlstore.SQLite, strings.Repeat("a", 64), []string{"Table"}},
		{"empty schema", db, sqlstore.SQLite, ".blacklist", []string{"Table"}},
		{"two schemas", db, sqlstore.SQLite, "a.b.c", []string{"Table"}},
		{"capitals", db, sqlstore.SQLite, "Blacklist", []string{"Table"}},
		{"digit first", db, sqlstore.SQLite, "1st", []string{"Table"}},
		{"injection", db, sqlstore.SQLite, "t; DROP TABLE users", []string{"Table"}},
		{"line", db, sqlstore.SQLite, "t\n", []string{"Table"}},
		{"placeholder", db, sqlstore.SQLite, "t?", []string{"Table"}},
		{"format", db, sqlstore.SQLite, "t%s", []string{"Table"}},
		{"all at once", nil, 0, "-", []string{"DB is nil", "unknown dialect 0", `Table "-"`}},
		{"next dialect", db, sqlstore.SQLite + 1, "", []string{"unknown dialect 4"}},
	} {
		s, err := sqlstore.New(test.db, test.dialect, sqlstore.Options{Table: test.table})
		if (err == nil) != (test.want == nil) || (s == nil) != (err != nil) {
			t.Errorf("%s: New = %v, %v", test.name, s, err)
		}
		for _, want := range test.want {
			if err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q in it", test.name, err, want)
			}
		}
	}
}

// TestUnreachable requires that each method returns the driver's error, with the name of the package.
func TestUnreachable(t *testing.T) {
	db := sql.OpenDB(unreachable{})
	defer db.Close()
	for _, dialect := range []sqlstore.Dialect{sqlstore.PostgreSQL, sqlstore.MySQL, sqlstore.SQLite} {
		s, err := sqlstore.New(db, dialect, sqlstore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		_, _, getErr := s.Get(ctx, "key")
		_, swapErr := s.CompareAndSwap(ctx, "key", "", "value", time.Now().Add(time.Hour))
		_, sweepErr := s.Sweep(ctx)
		for name, err := range map[string]error{
			"Get": getErr, "CompareAndSwap": swapErr, "Sweep": sweepErr, "CreateTable": s.CreateTable(ctx), "Check": s.Check(ctx),
		} {
			if !errors.Is(err, errUnreachable) || !strings.HasPrefix(err.Error(), "sqlstore: ") {
				t.Errorf("dialect %d: %s: %v", dialect, name, err)
			}
		}
	}
}

func TestSchemaIsDocumented(t *testing.T) {
	document, err := os.ReadFile("../../docs/stores.md")
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(unreachable{})
	defer db.Close()
	for _, dialect := range []sqlstore.Dialect{sqlstore.PostgreSQL, sqlstore.MySQL, sqlstore.SQLite} {
		s, err := sqlstore.New(db, dialect, sqlstore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(document), s.Schema()+";") {
			t.Errorf("docs/stores.md lacks the schema of dialect %d:\n%s", dialect, s.Schema())
		}
	}
}
