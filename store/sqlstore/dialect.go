package sqlstore

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// Dialect is the SQL of a database.
type Dialect int

// The dialects.
const (
	PostgreSQL Dialect = iota + 1 // 13 or later
	MySQL                         // 8.0 or later, and MariaDB 10.6 or later
	SQLite                        // 3.24 or later
)

// A grammar is what distinguishes a dialect. Placeholders are question marks in every dialect; see statements.
type grammar struct {
	// create creates the table %s, unless it exists.
	create string

	// micros is the clock of the server in Unix microseconds. The server reads it when it evaluates the expression,
	// after the statement has waited for a lock, and not when the statement or its transaction began.
	micros string

	// tick is the resolution of micros in microseconds, if it is coarser than that.
	tick int64

	// readOnly is 1 on a server that accepts no writes, such as a replica, and 0 otherwise.
	readOnly string

	// id is a row's id in the condition of an UPDATE, ? unless the row has to be locked first.
	id string

	// insert adds a record if its id has none and the condition %[2]s holds. It must not report a row as affected
	// otherwise, and must not turn an existing row into a failure.
	insert string

	// numbered placeholders are $1, $2, and so on.
	numbered bool
}

// All columns hold bytes or integers: a text column would take two keys for the same one if they differ only in case,
// in accents or in trailing blanks, and would reject bytes that are no characters. There is no index on expires.
// Every swap would have to update it, and only Sweep would use it.
var grammars = map[Dialect]grammar{
	PostgreSQL: {
		create: `CREATE TABLE IF NOT EXISTS %s (
	id      bytea  PRIMARY KEY,
	value   bytea  NOT NULL,
	expires bigint NOT NULL
)`,
		// now() would be the start of the transaction.
		micros:   `CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)`,
		readOnly: `CAST(pg_is_in_recovery() AS int)`,
		// Without the lock, an UPDATE that has waited for a transaction that was rolled back does not evaluate its
		// condition again, and so does not notice that the limit has passed meanwhile.
		id: `(SELECT id FROM %[1]s WHERE id = ? FOR UPDATE)`,
		insert: `INSERT INTO %[1]s (id, value, expires)
SELECT CAST(? AS bytea), CAST(? AS bytea), CAST(? AS bigint) WHERE %[2]s
ON CONFLICT (id) DO NOTHING`,
		numbered: true,
	},
	MySQL: {
		create: `CREATE TABLE IF NOT EXISTS %s (
	id      VARBINARY(32) NOT NULL PRIMARY KEY,
	value   BLOB          NOT NULL,
	expires BIGINT        NOT NULL
) ENGINE = InnoDB`,
		// UTC_TIMESTAMP and NOW are the start of the statement. SYSDATE is the present, but in the time zone of the
		// session: in autumn an hour occurs twice, so it cannot be converted to UTC. Its distance from NOW can be
		// added.
		micros: `(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) + TIMESTAMPDIFF(MICROSECOND, NOW(6), SYSDATE(6)))`,
		// innodb_read_only is set on the replicas of some clouds, where read_only is not.
		id:       `?`,
		readOnly: `CASE WHEN @@global.read_only IN ('0', 'OFF') AND @@global.innodb_read_only IN ('0', 'OFF') THEN 0 ELSE 1 END`,
		// IGNORE ignores an existing row. It would also shorten a value that is too long for its column, but no value
		// is. ON DUPLICATE KEY UPDATE is no alternative: with CLIENT_FOUND_ROWS it counts an unchanged row like an
		// inserted one.
		insert: `INSERT IGNORE INTO %[1]s (id, value, expires)
SELECT CAST(? AS BINARY), CAST(? AS BINARY), CAST(? AS SIGNED) FROM DUAL WHERE %[2]s`,
	},
	SQLite: {
		create: `CREATE TABLE IF NOT EXISTS %s (
	id      BLOB    NOT NULL PRIMARY KEY,
	value   BLOB    NOT NULL,
	expires INTEGER NOT NULL
) WITHOUT ROWID`,
		// SQLite reads the clock at most once in a statement, after it has got the lock.
		micros:   `(CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER) * 1000)`,
		tick:     1000,
		readOnly: `0`,
		id:       `?`,
		insert:   `INSERT INTO %[1]s (id, value, expires) SELECT ?, ?, ? WHERE %[2]s ON CONFLICT (id) DO NOTHING`,
	},
}

// Statements are the texts of all statements on one table. Each of them is a transaction of its own.
type statements struct {
	grammar
	table string

	create string
	now    string // the clock and readOnly
	insert string // id, value, expires, limit: adds a record if its id has none
	revive string // expires, expires, value, id, limit: replaces an expired record
	update string // expires, expires, value, id, limit, old: replaces a live record whose value is old
	find   string // last: ids of expired records after the id last
}

func (g grammar) statements(table string) statements {
	live := "expires > " + g.micros + " / 1000"
	inTime := g.micros + " < ?"
	// MySQL counts a row as affected only if one of its columns changed (unless the connection has CLIENT_FOUND_ROWS,
	// which the store cannot tell). A swap to the same value and expiry therefore lets the record live for a
	// millisecond longer.
	replace := "UPDATE " + table + " SET expires = CASE WHEN expires = ? THEN expires + 1 ELSE ? END, value = ?" +
		" WHERE id = " + strings.ReplaceAll(g.id, "%[1]s", table) + " AND " + inTime
	return statements{
		grammar: g,
		table:   table,
		create:  fmt.Sprintf(g.create, table),
		now:     "SELECT " + g.micros + ", " + g.readOnly,
		insert:  g.placeholders(fmt.Sprintf(g.insert, table, inTime)),
		revive:  g.placeholders(replace + " AND NOT " + live),
		update:  g.placeholders(replace + " AND " + live + " AND value = ?"),
		find: g.placeholders("SELECT id FROM " + table + " WHERE id > ? AND NOT " + live +
			" ORDER BY id LIMIT " + strconv.Itoa(batch)),
	}
}

// read returns the statement that reads n live records along with the clock and readOnly.
func (s statements) read(n int) string {
	return s.placeholders("SELECT id, value, " + s.micros + ", " + s.readOnly + " FROM " + s.table +
		" WHERE expires > " + s.micros + " / 1000 AND id IN (?" + strings.Repeat(", ?", n-1) + ")")
}

// remove returns the statement that deletes those of n records that have expired.
func (s statements) remove(n int) string {
	return s.placeholders("DELETE FROM " + s.table +
		" WHERE expires <= " + s.micros + " / 1000 AND id IN (?" + strings.Repeat(", ?", n-1) + ")")
}

// placeholders numbers the placeholders of a statement if the dialect wants that.
func (g grammar) placeholders(statement string) string {
	if !g.numbered {
		return statement
	}
	var numbered strings.Builder
	for i, part := range strings.Split(statement, "?") {
		if i > 0 {
			numbered.WriteString("$" + strconv.Itoa(i))
		}
		numbered.WriteString(part)
	}
	return numbered.String()
}

// rolledBack reports whether err is a conflict with another transaction, for which the server has undone the statement.
// Any other error of a swap may be a lost answer.
func rolledBack(err error) bool {
	var postgres interface{ SQLState() string } // pgx and lib/pq
	if errors.As(err, &postgres) {
		state := postgres.SQLState()
		return state == "40001" || state == "40P01" // serialization_failure, deadlock_detected
	}
	number := mysqlNumber(err)
	return number == 1213 || number == 1020 // ER_LOCK_DEADLOCK, and ER_CHECKREAD of MariaDB with innodb_snapshot_isolation
}

// mysqlNumber returns the number of an error of github.com/go-sql-driver/mysql, or 0. The number is a field of its
// error type and no method returns it.
func mysqlNumber(err error) uint64 {
	for ; err != nil; err = errors.Unwrap(err) {
		value := reflect.Indirect(reflect.ValueOf(err))
		if value.Kind() != reflect.Struct || value.Type().Name() != "MySQLError" {
			continue
		}
		if number := value.FieldByName("Number"); number.IsValid() && number.CanUint() {
			return number.Uint()
		}
	}
	return 0
}
