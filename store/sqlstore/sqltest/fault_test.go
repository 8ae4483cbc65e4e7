//go:build linux

package sqltest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/store/sqlstore"
)

// TestFrozenUnderLoad makes more calls to a frozen server than the pool has connections. Each of them must end in
// time, and when the server is resumed, the store must work again.
func TestFrozenUnderLoad(t *testing.T) {
	for _, d := range servers(t) {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			s := d.store(t)
			mustSwap(t, s, "key", "", "revoked")
			d.server.freeze()
			const timeout = 200 * time.Millisecond
			var longest atomic.Int64
			var wg sync.WaitGroup
			for i := range 500 {
				wg.Go(func() {
					for range 3 {
						ctx, cancel := context.WithTimeout(context.Background(), timeout)
						start := time.Now()
						var err error
						if i%2 == 0 {
							_, _, err = s.Get(ctx, "key", "other")
						} else {
							_, err = s.CompareAndSwap(ctx, "key", "revoked", "other", inAnHour())
						}
						if !errors.Is(err, context.DeadlineExceeded) {
							t.Errorf("a call to a frozen server returns the error %v", err)
						}
						cancel()
						for took := int64(time.Since(start)); ; {
							if old := longest.Load(); took <= old || longest.CompareAndSwap(old, took) {
								break
							}
						}
					}
				})
			}
			wg.Wait()
			if took := time.Duration(longest.Load()); took > timeout+5*time.Second {
				t.Errorf("a call with a deadline of %v took %v", timeout, took)
			}
			d.server.thaw()
			until(t, "the store works again", func() bool {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				values, _, err := s.Get(ctx, "key")
				if err == nil && values[0] != "revoked" {
					t.Fatalf("the value is %q, want it unchanged", values[0])
				}
				return err == nil
			})
			mustSwap(t, s, "key", "revoked", "new")
		})
	}
}

// TestNoDeadline calls a frozen server with a context that has no deadline.
func TestNoDeadline(t *testing.T) {
	t.Parallel()
	d := open(t, postgres.startServer(t))
	s := d.store(t)
	d.server.freeze()
	start := time.Now()
	var wg sync.WaitGroup
	for name, call := range map[string]func() error{
		"Get": func() error { _, _, err := s.Get(context.Background(), "key"); return err },
		"CompareAndSwap": func() error {
			_, err := s.CompareAndSwap(context.Background(), "key", "", "1", inAnHour())
			return err
		},
		"Check":       func() error { return s.Check(context.Background()) },
		"CreateTable": func() error { return s.CreateTable(context.Background()) },
	} {
		wg.Go(func() {
			if err := call(); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s = %v, want the deadline error", name, err)
			}
		})
	}
	wg.Wait()
	if took := time.Since(start); took < 4*time.Second || took > 20*time.Second {
		t.Errorf("the calls took %v, want five seconds", took)
	}
}

// TestDeadlock lets swaps of an absent key wait for an insertion that is rolled back. InnoDB gives each of them a
// lock that excludes the others, and then ends all but one with a deadlock error. One swap must win, and no call may
// fail.
func TestDeadlock(t *testing.T) {
	d := open(t, mariadb.startServer(t))
	s := d.store(t)
	waiting := func() (n int) {
		var name string
		row := d.db.QueryRowContext(within(t, 5*time.Second), "SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'")
		if err := row.Scan(&name, &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for round := range 5 {
		key := fmt.Sprint("key ", round)
		// The row that a swap would insert, copied from one that a swap did insert.
		mustSwap(t, s, key, "", "1")
		var id []byte
		if err := d.db.QueryRow("SELECT id FROM ginrefresh_blacklist WHERE value = '1'").Scan(&id); err != nil {
			t.Fatal(err)
		}
		d.exec(t, "DELETE FROM ginrefresh_blacklist WHERE value = '1'")
		tx, err := d.db.Begin()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec("INSERT INTO ginrefresh_blacklist VALUES (?, 'x', 0)", id); err != nil {
			t.Fatal(err)
		}
		const swaps = 4
		var won atomic.Int32
		var wg sync.WaitGroup
		for i := range swaps {
			wg.Go(func() {
				done, err := s.CompareAndSwap(within(t, 10*time.Second), key, "", fmt.Sprint("new ", i), inAnHour())
				if err != nil {
					t.Errorf("CompareAndSwap: %v", err)
				}
				if done {
					won.Add(1)
				}
			})
		}
		until(t, "the swaps wait", func() bool { return waiting() == swaps })
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		if n := won.Load(); n != 1 {
			t.Errorf("%d of %d swaps won, want 1", n, swaps)
		}
	}
}

// TestCreateTable creates one table from many processes at the same time. PostgreSQL fails in some of them.
func TestCreateTable(t *testing.T) {
	for _, d := range databases(t) {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			for round := range 5 {
				since := make([]time.Time, 16)
				var wg sync.WaitGroup
				for i := range since {
					wg.Go(func() {
						s, err := sqlstore.New(d.db, d.dialect, sqlstore.Options{Table: fmt.Sprint("table_", round)})
						if err != nil {
							t.Error(err)
							return
						}
						if err := s.CreateTable(within(t, 20*time.Second)); err != nil {
							t.Errorf("CreateTable: %v", err)
							return
						}
						_, since[i] = mustGet(t, s, "key")
					})
				}
				wg.Wait()
				for _, other := range since {
					if !other.Equal(since[0]) {
						t.Errorf("two processes see %v and %v as since", since[0], other)
					}
				}
			}
		})
	}
}
