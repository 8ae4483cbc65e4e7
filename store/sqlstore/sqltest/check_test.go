//go:build linux

package sqltest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/store/sqlstore"
)

// mustReport checks the error of Check. Each line of it must contain one of the wanted parts, in order.
func mustReport(t *testing.T, s *sqlstore.Store, want ...string) {
	t.Helper()
	var lines []string
	if err := s.Check(within(t, 10*time.Second)); err != nil {
		lines = strings.Split(err.Error(), "\n")
	}
	if !slices.EqualFunc(lines, want, strings.Contains) {
		t.Errorf("Check returns %q, want %q", lines, want)
	}
	for _, line := range lines {
		if !strings.HasPrefix(line, "sqlstore: ") {
			t.Errorf("%q does not name the package", line)
		}
	}
}

func TestCheckPostgreSQL(t *testing.T) {
	t.Parallel()
	srv := postgres.share(t)
	for _, test := range []struct {
		parameters string
		want       []string
	}{
		{"", nil},
		{"&default_transaction_isolation=repeatable%20read&synchronous_commit=local", nil},
		{"&default_transaction_isolation=serializable", []string{"transaction_isolation is serializable"}},
		{"&synchronous_commit=off", []string{"synchronous_commit is off"}},
	} {
		t.Run(test.parameters, func(t *testing.T) {
			s := newStore(t, srv.open(t, test.parameters), sqlstore.PostgreSQL, sqlstore.Options{})
			mustReport(t, s, test.want...)
		})
	}
	db := srv.open(t, "")
	s, err := sqlstore.New(db, sqlstore.PostgreSQL, sqlstore.Options{Table: "public.missing"})
	if err != nil {
		t.Fatal(err)
	}
	mustReport(t, s, `relation "public.missing" does not exist`)
	database{db: db}.exec(t, `CREATE UNLOGGED TABLE unlogged
(id bytea PRIMARY KEY, value bytea NOT NULL, expires bigint NOT NULL)`)
	mustReport(t, newStore(t, db, sqlstore.PostgreSQL, sqlstore.Options{Table: "unlogged"}), "relpersistence is u")
	mustReport(t, newStore(t, db, sqlstore.PostgreSQL, sqlstore.Options{Table: "public.qualified"}))
}

// TestReplicaPostgreSQL restarts a server as a replica, with more wrong settings.
func TestReplicaPostgreSQL(t *testing.T) {
	t.Parallel()
	d := open(t, postgres.startServer(t, "-c", "fsync=off", "-c", "full_page_writes=off"))
	s := d.store(t)
	mustSwap(t, s, "key", "", "value")
	mustReport(t, s, "fsync is off", "full_page_writes is off")

	d.server.stop()
	standby := filepath.Join(d.server.data(), "standby.signal")
	if err := os.WriteFile(standby, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := postgres.own(standby); err != nil {
		t.Fatal(err)
	}
	d.server.restart()
	s, err := sqlstore.New(d.server.open(t, ""), sqlstore.PostgreSQL, sqlstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	mustBeReadOnly(t, s)
	if done, err := s.CompareAndSwap(within(t, 5*time.Second), "key", "value", "new", inAnHour()); done || err == nil {
		t.Errorf("CompareAndSwap on a replica = %v, %v", done, err)
	}
	mustReport(t, s, "fsync is off", "full_page_writes is off", "pg_is_in_recovery() is true", "replica")
}

// stop stops a PostgreSQL server cleanly.
func (s *server) stop() {
	s.signal(syscall.SIGINT)
	<-s.done
}

// mustBeReadOnly requires that a server that accepts no writes answers no check: it may have old records.
func mustBeReadOnly(t *testing.T, s *sqlstore.Store) {
	t.Helper()
	if values, _, err := s.Get(within(t, 5*time.Second), "key"); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("Get from a replica = %q, %v", values, err)
	}
}

func TestCheckMariaDB(t *testing.T) {
	t.Parallel()
	srv := mariadb.share(t)
	for _, test := range []struct {
		parameters string
		want       []string
	}{
		{"", nil},
		{"&tx_isolation=%27READ-COMMITTED%27&sql_mode=%27STRICT_ALL_TABLES%27&clientFoundRows=true", nil},
		{"&tx_isolation=%27SERIALIZABLE%27", []string{"tx_isolation is SERIALIZABLE"}},
		{"&tx_isolation=%27READ-UNCOMMITTED%27", []string{"tx_isolation is READ-UNCOMMITTED"}},
		{"&sql_mode=%27%27", []string{"STRICT_TRANS_TABLES"}},
		{"&autocommit=0", []string{"autocommit is OFF"}},
	} {
		t.Run(test.parameters, func(t *testing.T) {
			mustReport(t, newStore(t, srv.open(t, test.parameters), sqlstore.MySQL, sqlstore.Options{}), test.want...)
		})
	}
	db := srv.open(t, "")
	s, err := sqlstore.New(db, sqlstore.MySQL, sqlstore.Options{Table: srv.database + ".missing"})
	if err != nil {
		t.Fatal(err)
	}
	mustReport(t, s, ".missing' doesn't exist")
	for table, definition := range map[string]string{
		"my_isam": "(id VARBINARY(32) PRIMARY KEY, value BLOB NOT NULL, expires BIGINT NOT NULL) ENGINE=MyISAM",
		"no_key":  "(id VARBINARY(32), value BLOB NOT NULL, expires BIGINT NOT NULL)",
		"texts":   "(id VARCHAR(32) PRIMARY KEY, value TEXT NOT NULL, expires BIGINT NOT NULL)",
	} {
		database{db: db}.exec(t, "CREATE TABLE "+table+" "+definition)
	}
	for table, want := range map[string][]string{
		"my_isam":                   {"engine is MyISAM"},
		"no_key":                    {"key id is not set, must be PRI"},
		"texts":                     {"column id is varchar", "column value is text"},
		srv.database + ".qualified": nil,
	} {
		mustReport(t, newStore(t, db, sqlstore.MySQL, sqlstore.Options{Table: table}), want...)
	}
}

// TestReplicaMariaDB makes a server read-only, with more wrong settings. The tests write to it all the same, because
// the server grants all rights to everybody.
func TestReplicaMariaDB(t *testing.T) {
	t.Parallel()
	d := open(t, mariadb.startServer(t, "--innodb-flush-log-at-trx-commit=2", "--log-bin=binlog", "--binlog-format=STATEMENT"))
	s := d.store(t)
	mustSwap(t, s, "key", "", "value")
	wrong := []string{"innodb_flush_log_at_trx_commit is 2", "sync_binlog is 0", "binlog_format is STATEMENT"}
	mustReport(t, s, wrong...)
	d.exec(t, "SET GLOBAL read_only = ON")
	mustBeReadOnly(t, s)
	mustReport(t, s, wrong[0], "read_only is ON", wrong[1], wrong[2], "read-only")
}

func TestCheckSQLite(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		pragmas []string
		want    []string
	}{
		{[]string{"journal_mode(WAL)", "synchronous(FULL)", "busy_timeout(10000)"}, nil},
		{[]string{"journal_mode(DELETE)", "synchronous(EXTRA)", "busy_timeout(10000)"}, nil},
		{[]string{"journal_mode(WAL)", "synchronous(NORMAL)"}, []string{"busy_timeout is 0", "synchronous is 1"}},
		{[]string{"journal_mode(OFF)", "busy_timeout(1)"}, []string{"journal_mode is off"}},
		{[]string{"busy_timeout(1)", "query_only(1)"}, []string{"query_only is 1"}},
	} {
		file := "file:" + t.TempDir() + "/blacklist.db"
		newStore(t, openDB(t, "sqlite", file), sqlstore.SQLite, sqlstore.Options{})
		db := openDB(t, "sqlite", file+"?_pragma="+strings.Join(test.pragmas, "&_pragma="))
		s, err := sqlstore.New(db, sqlstore.SQLite, sqlstore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		mustReport(t, s, test.want...)
	}
	memory := openDB(t, "sqlite", ":memory:?_pragma=busy_timeout(1)")
	memory.SetMaxOpenConns(1)
	mustReport(t, newStore(t, memory, sqlstore.SQLite, sqlstore.Options{}), "in memory", "journal_mode is memory")
}
