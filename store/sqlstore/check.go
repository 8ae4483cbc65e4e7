package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Check returns an error that lists everything with which the server would lose revocations or make swaps fail:
// commits that are not synced to disk, the isolation level SERIALIZABLE, a table that is missing, not durable or of
// other types, the role of a replica, and a since (R20) that is far in the future. In MySQL it also reports a lack of
// autocommit, InnoDB or strict mode, and a binary log of statements. Call it when the process starts, and from a
// health check if you like. Do not serve requests until the settings are corrected.
//
// Check sees the settings of one connection. An error of nil does not mean that the database cannot lose any
// revocation: see the package documentation about failovers.
func (s *Store) Check(ctx context.Context) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	mistakes, err := s.check(ctx, s.table.db, s.table.statements.table)
	var wrong []error
	for _, mistake := range mistakes {
		wrong = append(wrong, errors.New("sqlstore: "+mistake))
	}
	var since time.Time
	if err == nil {
		_, since, err = s.look(ctx, nil)
	}
	if err != nil {
		wrong = append(wrong, wrap(ctx, err))
	}
	if ahead := time.Until(since); ahead > maxAhead {
		wrong = append(wrong, fmt.Errorf("sqlstore: the record %q is %v in the future: a clock was wrong when it was made. "+
			"Correct the clocks and delete it", sinceID, ahead.Round(time.Second)))
	}
	return errors.Join(wrong...)
}

// maxAhead is how far in the future the since record may be: the second by which it is made ahead, and clocks that
// differ.
const maxAhead = 30 * time.Second

var checks = map[Dialect]func(context.Context, *sql.DB, string) ([]string, error){
	PostgreSQL: checkPostgreSQL,
	MySQL:      checkMySQL,
	SQLite:     checkSQLite,
}

// settings maps the names of a server's settings to their values. It lacks those that the server does not have.
type settings map[string]string

// mustBe returns a mistake if the setting has none of the good values.
func (s settings) mustBe(name, reason string, good ...string) []string {
	value, ok := s[name]
	if !ok || slices.Contains(good, value) {
		return nil
	}
	return []string{fmt.Sprintf("%s is %s, must be %s: %s", name, cmp.Or(value, "not set"), strings.Join(good, " or "), reason)}
}

// query adds the settings that a query returns, one name and value in each row.
func (s settings) query(ctx context.Context, db *sql.DB, query string, args ...any) error {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var name, value string
		if err := rows.Scan(&name, &value); err != nil {
			return err
		}
		s[name] = value
	}
	return rows.Err()
}

const (
	losesSwaps  = "a crash would lose answered swaps"
	wrongLevel  = "other levels show swaps before they are committed, or make swaps of unrelated keys fail"
	staleAnswer = "connect to the primary"
)

func checkPostgreSQL(ctx context.Context, db *sql.DB, table string) ([]string, error) {
	s := settings{}
	err := s.query(ctx, db, `SELECT name, setting FROM pg_settings
WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit', 'transaction_isolation')
UNION ALL SELECT 'pg_is_in_recovery()', CAST(pg_is_in_recovery() AS text)
UNION ALL SELECT 'relpersistence', CAST(relpersistence AS text) FROM pg_class WHERE oid = to_regclass($1)`, table)
	return slices.Concat(
		s.mustBe("fsync", losesSwaps, "on"),
		s.mustBe("full_page_writes", "a crash would damage the table", "on"),
		s.mustBe("synchronous_commit", losesSwaps, "on", "remote_apply", "remote_write", "local"),
		// PostgreSQL treats read uncommitted as read committed.
		s.mustBe("transaction_isolation", wrongLevel, "read committed", "repeatable read", "read uncommitted"),
		s.mustBe("pg_is_in_recovery()", staleAnswer, "false"),
		s.mustBe("relpersistence", "a crash empties an unlogged table", "p"),
	), err
}

func checkMySQL(ctx context.Context, db *sql.DB, table string) ([]string, error) {
	s := settings{}
	err := s.query(ctx, db, `SHOW VARIABLES WHERE variable_name IN ('autocommit', 'tx_isolation', 'transaction_isolation',
'sql_mode', 'innodb_flush_log_at_trx_commit', 'log_bin', 'sync_binlog', 'binlog_format', 'read_only', 'innodb_read_only')`)
	where, args := " WHERE table_schema = DATABASE() AND table_name = ?", []any{table}
	if schema, name, ok := strings.Cut(table, "."); ok {
		where, args = " WHERE table_schema = ? AND table_name = ?", []any{schema, name}
	}
	for _, query := range []string{ // no UNION: the columns of MySQL have different collations
		"SELECT 'engine', engine FROM information_schema.tables",
		"SELECT CONCAT('column ', column_name), data_type FROM information_schema.columns",
		"SELECT CONCAT('key ', column_name), column_key FROM information_schema.columns",
	} {
		if err == nil {
			err = s.query(ctx, db, query+where, args...)
		}
	}
	isolation := []string{"READ-COMMITTED", "REPEATABLE-READ"}
	mistakes := slices.Concat(
		s.mustBe("autocommit", "swaps would not be committed", "ON"),
		s.mustBe("tx_isolation", wrongLevel, isolation...),
		s.mustBe("transaction_isolation", wrongLevel, isolation...),
		s.mustBe("innodb_flush_log_at_trx_commit", losesSwaps, "1"),
		s.mustBe("read_only", staleAnswer, "OFF"),
		s.mustBe("innodb_read_only", staleAnswer, "OFF"),
		s.mustBe("engine", losesSwaps, "InnoDB"),
		s.mustBe("column id", "keys must be compared as bytes", "varbinary"),
		s.mustBe("key id", "a swap could be made twice", "PRI"),
		s.mustBe("column value", "values must be compared as bytes", "blob"),
	)
	if mode, ok := s["sql_mode"]; ok && !strings.Contains(mode, "STRICT_") {
		mistakes = append(mistakes, "sql_mode has no STRICT_TRANS_TABLES: values that are too long would be shortened")
	}
	if s["log_bin"] == "ON" {
		mistakes = slices.Concat(mistakes,
			s.mustBe("sync_binlog", losesSwaps, "1"),
			s.mustBe("binlog_format", "a replica would make other swaps", "ROW", "MIXED"))
	}
	return mistakes, err
}

func checkSQLite(ctx context.Context, db *sql.DB, _ string) ([]string, error) {
	s := settings{}
	for _, pragma := range []string{"journal_mode", "synchronous", "busy_timeout", "query_only"} {
		var value string
		if err := db.QueryRowContext(ctx, "PRAGMA "+pragma).Scan(&value); err != nil {
			return nil, err
		}
		s[pragma] = value
	}
	var mistakes []string
	var file string
	if err := db.QueryRowContext(ctx, `SELECT file FROM pragma_database_list WHERE name = 'main'`).Scan(&file); err != nil {
		return nil, err
	}
	if file == "" {
		mistakes = append(mistakes, "the database is in memory: each connection may have one of its own")
	}
	if s["busy_timeout"] == "0" {
		mistakes = append(mistakes, "busy_timeout is 0: a swap fails while another one is made")
	}
	return slices.Concat(mistakes,
		s.mustBe("journal_mode", losesSwaps, "wal", "delete", "truncate", "persist"),
		s.mustBe("synchronous", losesSwaps, "2", "3"), // FULL, EXTRA
		s.mustBe("query_only", "the store must write", "0"),
	), nil
}
