// Package sqlexample shows how to write your own blacklist in SQL, and how to test it. It is a separate module, so that
// ginrefresh does not depend on a database driver. Copy and adapt it.
package sqlexample

import (
	"context"
	"database/sql"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/ginrefresh/ginrefresh/store/storetest"
)

// schema is for SQLite. For PostgreSQL, change the type of key to bytea and the placeholders in the statements below to
// $1, $2, and so on.
const schema = `
CREATE TABLE IF NOT EXISTS blacklist (
	key     BLOB PRIMARY KEY,  -- not TEXT: keys can hold any bytes, and no collation may fold them
	value   TEXT NOT NULL,
	expires BIGINT NOT NULL    -- Unix milliseconds
);
CREATE INDEX IF NOT EXISTS blacklist_expires ON blacklist (expires);`

// Store is a blacklist in a table. Each call is a single statement, so the isolation level does not matter.
type Store struct {
	db *sql.DB
}

// Get returns the values of the keys in order, "" for a key that is absent or expired.
func (s *Store) Get(ctx context.Context, keys ...string) ([]string, time.Time, error) {
	values := make([]string, len(keys))
	if len(keys) == 0 {
		return values, time.Time{}, ctx.Err()
	}
	args := []any{time.Now().UnixMilli()}
	for _, key := range keys {
		args = append(args, []byte(key))
	}
	rows, err := s.db.QueryContext(ctx,
		`SELECT key, value FROM blacklist WHERE expires > ? AND key IN (?`+strings.Repeat(", ?", len(keys)-1)+`)`, args...)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer rows.Close()
	found := map[string]string{}
	for rows.Next() {
		var key []byte
		var value string
		if err := rows.Scan(&key, &value); err != nil {
			return nil, time.Time{}, err
		}
		found[string(key)] = value
	}
	for i, key := range keys {
		values[i] = found[key]
	}
	return values, time.Time{}, rows.Err()
}

// CompareAndSwap sets key to new, expiring at expires, if its value is old ("" means absent), and reports
// whether it did. The condition is part of the statement that writes. If the value was read by a statement before, two
// callers could win.
func (s *Store) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		return false, context.DeadlineExceeded // ctx does not know yet, if the process was stopped and has just resumed
	}
	now := time.Now().UnixMilli()
	statement := `UPDATE blacklist SET value = ?, expires = ? WHERE key = ? AND value = ? AND expires > ?`
	args := []any{new, milliseconds(expires), []byte(key), old, now}
	if old == "" { // absent: there is no row, or an expired one
		statement = `INSERT INTO blacklist (value, expires, key) VALUES (?, ?, ?)
			ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires = excluded.expires
			WHERE blacklist.expires <= ?`
		args = []any{new, milliseconds(expires), []byte(key), now}
	}
	result, err := s.db.ExecContext(ctx, statement, args...)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n == 1, err
}

// milliseconds returns t in Unix milliseconds, rounded up so that a record outlives everything that it revokes, and
// limited to the years that databases can store.
func milliseconds(t time.Time) int64 {
	switch {
	case t.Before(time.Unix(0, 0)):
		return 0
	case t.Year() > 9999:
		t = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
	}
	return t.Add(time.Millisecond - time.Nanosecond).UnixMilli()
}

// Sweep deletes the expired records. Call it every few minutes.
func (s *Store) Sweep(ctx context.Context) error {
	_, err := s.db.ExecContext(ctx, `DELETE FROM blacklist WHERE expires <= ?`, time.Now().UnixMilli())
	return err
}

func open(t *testing.T) *Store {
	t.Helper()
	// synchronous(FULL): a logout is on the disk before it is answered. busy_timeout: writers wait for each other.
	db, err := sql.Open("sqlite", "file:"+t.TempDir()+"/blacklist.db"+
		"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if _, err := db.Exec(schema); err != nil {
		t.Fatal(err)
	}
	return &Store{db: db}
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Store { return open(t) })
}

func TestSweep(t *testing.T) {
	s, ctx := open(t), t.Context()
	for key, expires := range map[string]time.Time{"gone": {}, "live": time.Now().Add(time.Hour)} {
		if done, err := s.CompareAndSwap(ctx, key, "", "1", expires); !done || err != nil {
			t.Fatalf("CompareAndSwap = %v, %v", done, err)
		}
	}
	if err := s.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	var left int
	if err := s.db.QueryRow(`SELECT count(*) FROM blacklist`).Scan(&left); err != nil || left != 1 {
		t.Errorf("%d rows are left, %v, want 1", left, err)
	}
}
