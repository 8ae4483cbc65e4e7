// Package sqlstore provides a blacklist in a table of PostgreSQL, MySQL, MariaDB or SQLite, shared by many processes.
//
// It uses your [database/sql.DB] and its driver. It neither connects nor closes the DB:
//
//	db, err := sql.Open("pgx", "postgres://app@db/app")
//	if err != nil { … }
//	defer db.Close()
//	s, err := sqlstore.New(db, sqlstore.PostgreSQL, sqlstore.Options{})
//	if err != nil { … }
//	if err := s.CreateTable(ctx); err != nil { … }
//	if err := s.Check(ctx); err != nil { … } // would this server lose revocations?
//
// Each Get is one SELECT and each swap is one statement that changes one row, so the isolation levels READ COMMITTED
// and REPEATABLE READ give the same results. Call [Store.Sweep] every hour to delete the expired records.
//
// Pool. By default a DB keeps two idle connections and opens any number of others. Set both limits to the same number,
// db.SetMaxOpenConns(n) and db.SetMaxIdleConns(n), or the server has to accept a new connection for most requests.
//
// Keys. The table has the SHA-256 of each key, as bytes. A key can have any length and any bytes, and no collation can
// take two keys for the same one.
//
// Durability. If the database loses a record, the revoked token is accepted again. [Store.Check] reports the settings
// that lose answered swaps in a crash. A failover to an asynchronous replica loses the swaps that it had not
// received. If the table is emptied, dropped or restored empty, the record that says since when it is complete is
// lost as well, and every older session is rejected (R20). MariaDB without a binary log shows a swap to readers
// shortly before it is on disk, so a crash can take back a swap that was read, but not one that was answered.
//
// Clocks. The database expires records by its own clock, so the clocks of the database and of its clients should
// agree to the second. A swap takes effect before its deadline or never, even if these clocks disagree, with three
// exceptions. First, a server that takes over from another should agree with it to the second: the first swap sent to
// it may take effect late by as much as its clock is behind. Second, the clock of the server must go on while it is
// stopped. Third, the server reads its clock before it commits, so a commit that hangs takes effect late. The same
// goes for the first swap of a key that waited for another insertion of that key, if the other one was rolled back.
package sqlstore

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/ginrefresh/ginrefresh/store/internal/deadline"
	"github.com/ginrefresh/ginrefresh/store/internal/unixms"
)

const (
	defaultTable = "ginrefresh_blacklist"

	// defaultPatience limits a call whose context has no deadline.
	defaultPatience = 5 * time.Second

	// attempts is how often a call tries again after the server has changed nothing.
	attempts = 10

	// maxValue is the longest value: what a BLOB of MySQL can hold.
	maxValue = 1<<16 - 1

	// sinceID is the id of the record since when the table is complete. Other ids have 32 bytes.
	sinceID = "since"
)

var (
	errTooLate = fmt.Errorf("the swap reached the database after its deadline and was not made: %w", context.DeadlineExceeded)
	errBusy    = errors.New("the swap was not made because of conflicts with other transactions")
	errNoSince = errors.New("the table is being emptied")
)

// tableName matches an identifier that needs no quotes in any dialect, with an optional schema.
var tableName = regexp.MustCompile(`^([a-z_][a-z0-9_]{0,62}\.)?[a-z_][a-z0-9_]{0,62}$`)

// Options are the options of a [Store]. The zero value is safe.
type Options struct {
	_ [0]func() // no unkeyed literals

	// Table is the name of the table, with an optional schema: "auth.blacklist". It consists of lower-case letters,
	// digits and underscores. The default is "ginrefresh_blacklist". Two applications in one database need two
	// tables.
	Table string
}

// Store is a blacklist in a table. Use [New] to get one. A Store is safe for concurrent use.
type Store struct {
	table    table
	check    func(context.Context, *sql.DB, string) ([]string, error)
	patience time.Duration
}

// New returns the blacklist in the table of opts. The caller must close db after the last use of the store. New does
// not connect to the database: use [Store.CreateTable] to create the table, and [Store.Check] to test the server.
func New(db *sql.DB, dialect Dialect, opts Options) (*Store, error) {
	var mistakes []error
	if db == nil {
		mistakes = append(mistakes, errors.New("sqlstore: the DB is nil"))
	}
	grammar, ok := grammars[dialect]
	if !ok {
		mistakes = append(mistakes, fmt.Errorf("sqlstore: unknown dialect %d: use PostgreSQL, MySQL or SQLite", dialect))
	}
	name := opts.Table
	if name == "" {
		name = defaultTable
	}
	if !tableName.MatchString(name) {
		mistakes = append(mistakes,
			fmt.Errorf("sqlstore: Table %.100q is no name of lower-case letters, digits and underscores", name))
	}
	if len(mistakes) > 0 {
		return nil, errors.Join(mistakes...)
	}
	return &Store{
		table:    table{db: db, statements: grammar.statements(name)},
		check:    checks[dialect],
		patience: defaultPatience,
	}, nil
}

// idOf returns the id of a key. A hash has a fixed length: PostgreSQL cannot index more than 2,704 bytes.
func idOf(key string) string {
	hash := sha256.Sum256([]byte(key))
	return string(hash[:])
}

// Get returns the values of the keys in order, "" for a key that is absent or expired, and since when the table is
// complete. It takes one round trip. It returns an error if the database does, if the server is read-only, or if the
// database does not answer before the end of ctx. If ctx has no deadline, Get waits for five seconds at most.
//
// If the table does not say since when it is complete, because it was emptied, Get sets that to a second from now
// (R20).
func (s *Store) Get(ctx context.Context, keys ...string) (values []string, since time.Time, err error) {
	if err := ctx.Err(); err != nil {
		return nil, time.Time{}, err
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	ids := make([]string, len(keys), len(keys)+1)
	for i, key := range keys {
		ids[i] = idOf(key)
	}
	found, since, err := s.look(ctx, ids)
	if err != nil {
		return nil, time.Time{}, wrap(ctx, err)
	}
	values = make([]string, len(keys))
	for i, id := range ids {
		values[i] = found[id]
	}
	return values, since, nil
}

// look reads the records with the ids and the since record. If that is missing, it makes one and reads again.
func (s *Store) look(ctx context.Context, ids []string) (found map[string]string, since time.Time, err error) {
	ids = append(ids, sinceID)
	for range attempts {
		found, err := s.table.read(ctx, ids)
		if err != nil {
			return nil, time.Time{}, err
		}
		if text, ok := found[sinceID]; ok {
			micros, err := strconv.ParseInt(text, 10, 64)
			return found, time.UnixMicro(micros), err
		}
		if err := s.makeSince(ctx); err != nil {
			return nil, time.Time{}, err
		}
	}
	return nil, time.Time{}, errNoSince
}

// makeSince adds the since record if it is missing. The instant is a second ahead of both clocks, so that it follows
// the birth of every session whose record was lost. The record is added within that second or not at all: until then,
// the table may be emptied once more.
func (s *Store) makeSince(ctx context.Context) error {
	now, err := s.table.now(ctx)
	if err != nil {
		return err
	}
	const ahead = 1_000_000 // microseconds
	since := max(now, time.Now().UnixMicro()) + ahead
	limit := min(s.table.limit(ctx), now+ahead-s.table.tick)
	_, err = s.table.insert(ctx, sinceID, strconv.FormatInt(since, 10), never, limit)
	if err != nil && !rolledBack(err) {
		return err
	}
	return nil // another process may have added one
}

// CompareAndSwap atomically sets key to new, expiring at expires, if its value is old ("" means absent), and reports
// whether it did. If expires is in the past, the key is absent afterwards. It takes one round trip if it makes the swap
// and this Store has called the database within the last minute.
//
// The swap takes effect before the deadline of ctx or never, even if the database is frozen and reads the request much
// later. Without a deadline it has five seconds. The database decides that by its own clock, which CompareAndSwap knows
// from earlier answers, so the clocks need not agree. The package documentation has the exceptions.
//
// After an error the outcome is unknown until the deadline: the swap may have been made, or may still be made.
func (s *Store) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	if err := deadline.Ended(ctx); err != nil {
		return false, err
	}
	if len(new) > maxValue {
		return false, fmt.Errorf("sqlstore: the value has %d bytes, and may have %d", len(new), maxValue)
	}
	if new == "" { // absent
		expires = time.Time{}
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	done, err := s.swap(ctx, idOf(key), old, new, milliseconds(expires))
	return done, wrap(ctx, err)
}

// swap changes the record with one statement that contains the condition. If no row was changed, swap reads the
// record. If its value is not old, the swap is lost. Otherwise the limit was wrong, because the server's clock was
// set, or the record was replaced and restored in between, or an expired row was in the way. Then swap tries again.
func (s *Store) swap(ctx context.Context, id, old, new string, expires int64) (bool, error) {
	for try := range attempts {
		if limit := s.table.limit(ctx); limit > 0 {
			done, err := s.change(ctx, try, id, old, new, expires, limit)
			if done || err != nil && !rolledBack(err) {
				return done, err
			}
		}
		found, _, err := s.look(ctx, []string{id})
		if err != nil {
			return false, err
		}
		if found[id] != old {
			return false, nil
		}
		if deadline.Ended(ctx) != nil {
			return false, errTooLate
		}
	}
	return false, errBusy
}

// change runs the statement for an attempt. A record that is absent has no row or an expired one.
func (s *Store) change(ctx context.Context, try int, id, old, new string, expires, limit int64) (bool, error) {
	switch {
	case old != "":
		return s.table.update(ctx, id, old, new, expires, limit)
	case try%2 == 0:
		return s.table.insert(ctx, id, new, expires, limit)
	default:
		return s.table.revive(ctx, id, new, expires, limit)
	}
}

// milliseconds returns expires in Unix milliseconds, or 0 if it has passed.
func milliseconds(expires time.Time) int64 {
	if !expires.After(time.Now()) {
		return 0
	}
	return unixms.Ceil(expires)
}

// CreateTable creates the table unless it exists, and the record since when it is complete. The statement is in
// docs/stores.md, for those who create their tables by other means.
func (s *Store) CreateTable(ctx context.Context) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	_, err := s.table.db.ExecContext(ctx, s.table.create)
	if err != nil { // PostgreSQL fails if another process creates the table at the same time
		_, err = s.table.db.ExecContext(ctx, s.table.create)
	}
	if err == nil {
		_, _, err = s.look(ctx, nil)
	}
	return wrap(ctx, err)
}

// Sweep deletes the expired records and returns their number. It reads the whole table once, and deletes 200 records
// at a time, so that no request waits for it. An expired record is never returned, so Sweep only frees space: call it
// every hour. Several processes may call it at once. If it fails, the next call continues.
func (s *Store) Sweep(ctx context.Context) (deleted int, err error) {
	last := ""
	for {
		ids, err := s.table.expired(ctx, last)
		if err != nil {
			return deleted, wrap(ctx, err)
		}
		if len(ids) == 0 {
			return deleted, nil
		}
		n, err := s.table.remove(ctx, ids)
		for tries := 1; err != nil && rolledBack(err) && tries < attempts; tries++ {
			n, err = s.table.remove(ctx, ids)
		}
		deleted += n
		if err != nil {
			return deleted, wrap(ctx, err)
		}
		last = ids[len(ids)-1]
	}
}

// bounded returns ctx with a deadline.
func (s *Store) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, s.patience)
}

// wrap adds the name of the package to err. If ctx has ended, the result also wraps the error of ctx, which the
// driver may have replaced by one of its own.
func wrap(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ended := ctx.Err(); ended != nil && !errors.Is(err, ended) {
		return fmt.Errorf("sqlstore: %w: %w", ended, err)
	}
	return fmt.Errorf("sqlstore: %w", err)
}
