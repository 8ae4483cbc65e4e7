// Package sqltest tests package sqlstore with real servers: PostgreSQL, MariaDB and SQLite. It is a separate module, so
// that ginrefresh does not depend on a database driver. The tests start the servers, and run on Linux only.
package sqltest
