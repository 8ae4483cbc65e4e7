//go:build unix

package redisstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/ginrefresh/ginrefresh/store/internal/redistest"
	"github.com/ginrefresh/ginrefresh/store/redisstore"
)

// keyOfEachShard has a key of each shard.
var keyOfEachShard = func() []string {
	keys := make([]string, redisstore.Shards)
	for i, left := 0, len(keys); left > 0; i++ {
		key := "key " + strconv.Itoa(i)
		if shard := redisstore.ShardOf(key); keys[shard] == "" {
			keys[shard] = key
			left--
		}
	}
	return keys
}()

func mustSince(t testing.TB, s *redisstore.Store, keys ...string) time.Time {
	t.Helper()
	_, since, err := s.Get(within(t, 5*time.Second), keys...)
	if err != nil {
		t.Fatalf("Get(%q): %v", keys, err)
	}
	return since
}

// sinces returns the since of each shard.
func sinces(t testing.TB, s *redisstore.Store) []time.Time {
	t.Helper()
	sinces := make([]time.Time, redisstore.Shards)
	for shard, key := range keyOfEachShard {
		sinces[shard] = mustSince(t, s, key)
	}
	return sinces
}

// moved returns in how many shards since differs. It reports shards in which it went back.
func moved(t testing.TB, before, after []time.Time) (n int) {
	t.Helper()
	for shard := range before {
		if after[shard].Before(before[shard]) {
			t.Errorf("in shard %d since went from %v back to %v", shard, before[shard], after[shard])
		}
		if !after[shard].Equal(before[shard]) {
			n++
		}
	}
	return n
}

// R20: whatever empties Redis moves since in all shards, and nothing else moves it.
func TestR20_SinceMovesWhenRedisForgets(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		args    []string
		harm    func(*redistest.Server)
		forgets bool
	}{
		{name: "FLUSHALL", harm: func(s *redistest.Server) { s.Do("FLUSHALL") }, forgets: true},
		{name: "FLUSHDB", harm: func(s *redistest.Server) { s.Do("FLUSHDB", "ASYNC") }, forgets: true},
		{name: "killed with nothing on disk", harm: func(s *redistest.Server) { s.Kill(); s.Restart() }, forgets: true},
		{
			name: "killed with an append-only file",
			args: []string{"--appendonly", "yes", "--appendfsync", "always"},
			harm: func(s *redistest.Server) { s.Kill(); s.Restart() },
		},
		{name: "frozen", harm: func(s *redistest.Server) { s.Freeze(); s.Thaw() }},
		{name: "connections closed", harm: func(s *redistest.Server) { s.Do("CLIENT", "KILL", "TYPE", "normal") }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, test.args...)
			s := connect(t, server, redisstore.Options{})
			first := sinces(t, s)
			for shard, key := range keyOfEachShard {
				if ahead := time.Until(first[shard]); ahead > time.Second {
					t.Fatalf("since is %v ahead, want a second at most", ahead)
				}
				mustSwap(t, s, key, "", "value")
			}
			if n := moved(t, first, sinces(t, s)); n != 0 {
				t.Errorf("since moved in %d shards, but nothing was forgotten", n)
			}
			harmed := time.Now()
			test.harm(server)
			untilAnswers(t, s)
			after := sinces(t, s)
			if n := moved(t, first, after); test.forgets != (n == redisstore.Shards) || !test.forgets != (n == 0) {
				t.Errorf("since moved in %d of %d shards", n, redisstore.Shards)
			}
			for shard, since := range after {
				if test.forgets && !since.After(harmed) {
					t.Errorf("since of shard %d is %v before Redis has forgotten", shard, harmed.Sub(since))
				}
			}
		})
	}
}

// untilAnswers waits until the store answers again.
func untilAnswers(t testing.TB, s *redisstore.Store) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		_, _, err := s.Get(within(t, time.Second), "key")
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after 10 s the store does not answer: %v", err)
		}
	}
}

// R20: a primary of a Cluster that loses its records moves since only in its own shards.
func TestR20_ClusterPrimaryForgets(t *testing.T) {
	nodes, wait := redistest.StartCluster(t, 3)
	t.Parallel() // pauses until the other tests are done, and so leaves the cluster time to start
	wait()
	s := newStore(t, dial(t, nil, nodes[0].Addr()), redisstore.Options{})
	first := sinces(t, s)
	for i, node := range nodes {
		size, err := strconv.Atoi(strings.TrimPrefix(node.Do("DBSIZE"), ":"))
		if err != nil || size < redisstore.Shards/4 || size > redisstore.Shards/2 {
			t.Errorf("primary %d has %d shards, %v, want about a third of %d", i, size, err, redisstore.Shards)
		}
		node.Kill()
		node.Restart()
		wait()
		after := sinces(t, s)
		if n := moved(t, first, after); n != size {
			t.Errorf("after primary %d has lost %d shards, since moved in %d", i, size, n)
		}
		first = after
	}
}

// R20: Redis is emptied again and again while 64 goroutines write. An answer without a record that was lost has a later
// since than the answers from before.
func TestR20_FlushedUnderLoad(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	stores := []*redisstore.Store{connect(t, server, redisstore.Options{}), connect(t, server, redisstore.Options{})}
	ctx := within(t, time.Minute)
	var lost atomic.Int64
	var over atomic.Bool
	var wg sync.WaitGroup
	for g := range 64 {
		wg.Go(func() {
			for !over.Load() {
				if err := loseRecord(ctx, stores[g%2], "session "+strconv.Itoa(g), &over); err != nil {
					t.Error(err)
					return
				}
				lost.Add(1)
			}
		})
	}
	for range rounds(200, 40) {
		<-time.After(time.Duration(10+rand.IntN(20)) * time.Millisecond)
		server.Do("FLUSHALL")
	}
	over.Store(true)
	wg.Wait()
	if n := lost.Load(); n < 64 {
		t.Errorf("only %d records were lost: the test says nothing", n)
	}
}

// loseRecord writes a record, and reads it until it is lost.
func loseRecord(ctx context.Context, s *redisstore.Store, key string, over *atomic.Bool) error {
	keys := []string{key, "subject " + strconv.Itoa(rand.IntN(100))}
	mine := rand.IntN(2) // the first key and the others are read by different commands
	keys[0], keys[mine] = keys[mine], keys[0]
	_, before, err := s.Get(ctx, keys...)
	if err != nil {
		return err
	}
	if done, err := s.CompareAndSwap(ctx, key, "", "ended", inAnHour()); err != nil || !done {
		return fmt.Errorf("CompareAndSwap = %v, %v", done, err)
	}
	for !over.Load() {
		values, since, err := s.Get(ctx, keys...)
		if err != nil {
			return err
		}
		if values[mine] != "" {
			continue
		}
		if !since.After(before) {
			return fmt.Errorf("a record is lost, but since is still %v", since)
		}
		return nil
	}
	return nil
}

// R20: processes that find since missing at the same time agree on it, in all shards.
func TestR20_ProcessesAgree(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	stores := make([]*redisstore.Store, 8)
	for i := range stores {
		stores[i] = connect(t, server, redisstore.Options{})
	}
	for round := range 20 {
		server.Do("FLUSHALL")
		var wg sync.WaitGroup
		found := make([]time.Time, len(stores))
		for i, s := range stores {
			wg.Go(func() {
				_, found[i], _ = s.Get(context.Background(), fmt.Sprintf("session %d of process %d", round, i), "subject")
			})
		}
		wg.Wait()
		for i, since := range found {
			if !since.Equal(found[0]) || since.IsZero() {
				t.Errorf("process %d found since %v, process 0 %v", i, since, found[0])
			}
		}
	}
}

// R20: since is the latest one of the keys' shards, and there is none without keys.
func TestR20_LatestOfTheShards(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for _, staleness := range []time.Duration{0, time.Hour} {
		s := connect(t, server, redisstore.Options{MaxStaleness: staleness})
		all := sinces(t, s)
		server.Do("SET", "ginrefresh:{3a9}:since", "3000000000000000") // the shard of "key"
		late := time.UnixMicro(3000000000000000)
		other := keyOfEachShard[0]
		for _, keys := range [][]string{{"key"}, {"key", other}, {other, "key"}, {other, other, "key", other}} {
			if got := mustSince(t, s, keys...); !got.Equal(late) {
				t.Errorf("MaxStaleness %v: since of %q is %v, want %v", staleness, keys, got, late)
			}
		}
		if got := mustSince(t, s, other); !got.Equal(all[0]) {
			t.Errorf("MaxStaleness %v: since of %q is %v, want %v", staleness, other, got, all[0])
		}
		if got := mustSince(t, s); !got.IsZero() {
			t.Errorf("since of no keys is %v, want the zero time", got)
		}
		server.Do("FLUSHALL")
	}
}

// R20: once one since is found missing, all of them are made, at the same instant.
func TestR20_AllShardsAreMade(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := connect(t, server, redisstore.Options{})
	mustSince(t, s, "key")
	if got, want := server.Do("DBSIZE"), ":"+strconv.Itoa(redisstore.Shards); got != want {
		t.Fatalf("Redis has %s records, want %s: a since for each shard", got, want)
	}
	for shard, since := range sinces(t, s) {
		if want := mustSince(t, s, "key"); !since.Equal(want) {
			t.Fatalf("since of shard %d is %v, that of another one %v", shard, since, want)
		}
	}
	if got := server.Do("PTTL", "ginrefresh:{3a9}:since"); got != ":-1" {
		t.Errorf("PTTL of a since is %s, want none", got)
	}
}

// R20: with MaxStaleness, a since that has moved is noticed after that time at the latest.
func TestR20_Staleness(t *testing.T) {
	eachProtocol(t, func(t *testing.T, client func(testing.TB, *redistest.Server) rueidis.Client) {
		const staleness = 500 * time.Millisecond
		server := redistest.Start(t)
		s := newStore(t, client(t, server), redisstore.Options{MaxStaleness: staleness})
		first := mustSince(t, s, "key")
		untilKept(t, s, "key")
		server.Do("FLUSHALL")
		for flushed := time.Now(); ; <-time.After(time.Millisecond) {
			asked := time.Now()
			_, since, known := s.PeekRecent("key")
			if !known {
				break
			}
			if late := asked.Sub(flushed); !since.Equal(first) || late > staleness {
				t.Fatalf("%v after Redis was emptied since is %v, %v before", late, since, first)
			}
		}
		if since := mustSince(t, s, "key"); !since.After(first) {
			t.Errorf("since is %v, %v before Redis was emptied", since, first)
		}
	})
}

// R20: a user who may not run scripts cannot make a since. The error must name the reason.
func TestR20_ForbiddenToMakeSince(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	server.Do("ACL", "SETUSER", "limited", "on", ">secret", "~*", "+@all", "-eval")
	s := newStore(t, dial(t, func(o *rueidis.ClientOption) { o.Username, o.Password = "limited", "secret" }, server.Addr()), redisstore.Options{})
	_, _, err := s.Get(within(t, 5*time.Second), "key")
	for _, want := range []string{"redisstore: ", "cannot be made", "NOPERM", "eval"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Get of a user without EVAL: %v, want %q in it", err, want)
		}
	}
	mustSince(t, connect(t, server, redisstore.Options{}), "key") // another user makes it
	mustSince(t, s, "key")
}

// R20: a since that was overwritten is an error and never an answer.
func TestR20_DamagedSince(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := connect(t, server, redisstore.Options{})
	mustSince(t, s, "key")
	server.Do("LPUSH", "list", "1")
	for _, test := range []struct {
		command []string
		harms   bool
	}{
		{[]string{"SET", "ginrefresh:{3a9}:since", "yesterday"}, true},
		{[]string{"DEL", "ginrefresh:{3a9}:since"}, false},
		{[]string{"RENAME", "list", "ginrefresh:{3a9}:since"}, true},
	} {
		server.Do(test.command...)
		_, since, err := s.Get(within(t, 5*time.Second), "key")
		if test.harms != (err != nil) || test.harms != since.IsZero() {
			t.Errorf("after %q: since %v, %v", test.command, since, err)
		}
	}
}
