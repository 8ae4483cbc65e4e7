package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"math"
	"sync/atomic"
	"time"

	"github.com/ginrefresh/ginrefresh/store/internal/deadline"
)

// batch is how many records Sweep deletes in one statement.
const batch = 200

// never is the expiry of a record that does not expire.
const never = math.MaxInt64

// errReadOnly is the error of a read from a server that accepts no writes. It may have records that another server has
// replaced since.
var errReadOnly = errors.New("the server is a replica or read-only: connect to the primary")

// A table runs the statements, each in one round trip, and keeps the latest reading of the server's clock.
type table struct {
	db *sql.DB
	statements
	clock atomic.Pointer[deadline.Reading] // nil at first
}

// read returns the values of those ids that have a live record.
func (t *table) read(ctx context.Context, ids []string) (map[string]string, error) {
	rows, err := t.db.QueryContext(ctx, t.statements.read(len(ids)), bytes(ids)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := make(map[string]string, len(ids))
	for rows.Next() {
		var id, value sql.RawBytes
		var micros int64
		var readOnly bool
		if err := rows.Scan(&id, &value, &micros, &readOnly); err != nil {
			return nil, err
		}
		if readOnly {
			return nil, errReadOnly
		}
		t.clock.Store(&deadline.Reading{Micros: micros, Arrived: time.Now()})
		found[string(id)] = string(value)
	}
	return found, rows.Err()
}

// now returns the clock of the server in Unix microseconds.
func (t *table) now(ctx context.Context) (micros int64, err error) {
	var readOnly bool
	if err := t.db.QueryRowContext(ctx, t.statements.now).Scan(&micros, &readOnly); err != nil {
		return 0, err
	}
	if readOnly {
		return 0, errReadOnly
	}
	t.clock.Store(&deadline.Reading{Micros: micros, Arrived: time.Now()})
	return micros, nil
}

// limit returns the deadline of ctx in Unix microseconds by the clock of the server, or a negative number if there is
// no usable reading of that clock.
func (t *table) limit(ctx context.Context) int64 {
	at, _ := ctx.Deadline()
	return t.clock.Load().Limit(at, time.Now()) - t.tick
}

// insert adds a record if its id has none, before the limit. It reports whether it did.
func (t *table) insert(ctx context.Context, id, value string, expires, limit int64) (bool, error) {
	return t.write(ctx, t.statements.insert, []byte(id), []byte(value), expires, limit)
}

// revive replaces an expired record, before the limit. It reports whether it did.
func (t *table) revive(ctx context.Context, id, value string, expires, limit int64) (bool, error) {
	return t.write(ctx, t.statements.revive, expires, expires, []byte(value), []byte(id), limit)
}

// update replaces a live record whose value is old, before the limit. It reports whether it did.
func (t *table) update(ctx context.Context, id, old, value string, expires, limit int64) (bool, error) {
	return t.write(ctx, t.statements.update, expires, expires, []byte(value), []byte(id), limit, []byte(old))
}

// write runs a statement that changes one row or none, and reports whether it did. After an error that rolledBack
// does not recognize the outcome is unknown.
//
// It uses a Conn, because a DB runs a statement again if the driver returns driver.ErrBadConn. Some drivers do that
// even if the server may have run the statement. The second run would find the value of the first one, and report a
// lost swap.
func (t *table) write(ctx context.Context, statement string, args ...any) (bool, error) {
	conn, err := t.db.Conn(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	result, err := conn.ExecContext(ctx, statement, args...)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0 && err == nil, err
}

// expired returns ids of expired records that follow the id last, in order, a batch at most.
func (t *table) expired(ctx context.Context, last string) ([]string, error) {
	rows, err := t.db.QueryContext(ctx, t.find, []byte(last))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var ids []string
	for rows.Next() {
		var id sql.RawBytes
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, string(id))
	}
	return ids, rows.Err()
}

// remove deletes those of the records that have expired, and returns their number.
func (t *table) remove(ctx context.Context, ids []string) (int, error) {
	result, err := t.db.ExecContext(ctx, t.statements.remove(len(ids)), bytes(ids)...)
	if err != nil {
		return 0, err
	}
	n, err := result.RowsAffected()
	return int(n), err
}

// bytes returns the ids as arguments.
func bytes(ids []string) []any {
	args := make([]any, len(ids))
	for i, id := range ids {
		args[i] = []byte(id)
	}
	return args
}
