//go:build unix

package redisstore_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/ginrefresh/ginrefresh/store/internal/redistest"
	"github.com/ginrefresh/ginrefresh/store/redisstore"
)

// check returns the values of the keys as a guard reads them.
func check(ctx context.Context, s *redisstore.Store, keys ...string) ([]string, error) {
	values := make([]string, len(keys))
	for i, key := range keys {
		var known bool
		if values[i], _, known = s.PeekRecent(key); !known {
			values, _, err := s.Get(ctx, keys...)
			return values, err
		}
	}
	return values, nil
}

func mustCheck(t testing.TB, s *redisstore.Store, key string) string {
	t.Helper()
	values, err := check(within(t, 5*time.Second), s, key)
	if err != nil {
		t.Fatalf("reading %q: %v", key, err)
	}
	return values[0]
}

// untilKept waits until the answers for the keys stay known. The first Get on an empty Redis makes the sinces of all
// shards, one after the other, and each of them is a change.
func untilKept(t testing.TB, s *redisstore.Store, keys ...string) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for quiet := 0; quiet < 10; quiet++ {
		for _, key := range keys {
			if _, _, known := s.PeekRecent(key); !known {
				mustGet(t, s, key)
				quiet = 0
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("the answers for %q are not kept", keys)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// eachProtocol tests a store with MaxStaleness whose answers are kept up to date, and one whose answers only age,
// because Redis cannot report changes to a client with RESP2.
func eachProtocol(t *testing.T, test func(t *testing.T, client func(testing.TB, *redistest.Server) rueidis.Client)) {
	for name, resp2 := range map[string]bool{"RESP2": true, "RESP3": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, func(t testing.TB, server *redistest.Server) rueidis.Client {
				return dial(t, func(o *rueidis.ClientOption) { o.AlwaysRESP2 = resp2 }, server.Addr())
			})
		})
	}
}

// TestStaleness revokes through one process. Another process with a MaxStaleness may accept the token for that time,
// and not longer.
func TestStaleness(t *testing.T) {
	eachProtocol(t, func(t *testing.T, client func(testing.TB, *redistest.Server) rueidis.Client) {
		const staleness = time.Second
		server := redistest.Start(t)
		here := newStore(t, client(t, server), redisstore.Options{MaxStaleness: staleness})
		there := connect(t, server, redisstore.Options{})
		if got := mustCheck(t, here, "key"); got != "" {
			t.Fatalf("key = %q before the first swap", got)
		}
		untilKept(t, here, "key")
		mustSwap(t, there, "key", "", "revoked")
		for revoked := time.Now(); ; <-time.After(time.Millisecond) {
			asked := time.Now()
			if mustCheck(t, here, "key") == "revoked" {
				return
			}
			if late := asked.Sub(revoked); late > staleness {
				t.Fatalf("still not revoked %v after the revocation, with a MaxStaleness of %v", late, staleness)
			}
		}
	})
}

// TestStalenessWhileFrozen freezes the server. The answers that are known must not be used longer than MaxStaleness,
// either.
func TestStalenessWhileFrozen(t *testing.T) {
	eachProtocol(t, func(t *testing.T, client func(testing.TB, *redistest.Server) rueidis.Client) {
		const staleness = time.Second
		server := redistest.Start(t)
		s := newStore(t, client(t, server), redisstore.Options{MaxStaleness: staleness})
		mustSwap(t, s, "revoked", "", "1")
		if revoked, not := mustGet(t, s, "revoked"), mustGet(t, s, "not revoked"); revoked != "1" || not != "" {
			t.Fatal(revoked, not)
		}
		untilKept(t, s, "revoked", "not revoked")
		server.Freeze()
		defer server.Thaw()
		frozen := time.Now()
		answers := 0
		for ; ; <-time.After(time.Millisecond) {
			before := time.Now()
			values, err := check(within(t, 20*time.Millisecond), s, "revoked", "not revoked")
			if err != nil {
				break
			}
			answers++
			if values[0] != "1" || values[1] != "" {
				t.Fatalf("the answers are %q while the server is frozen", values)
			}
			if age := before.Sub(frozen); age > staleness {
				t.Fatalf("an answer was used %v after the server was frozen, with a MaxStaleness of %v", age, staleness)
			}
		}
		if answers == 0 {
			t.Error("no answer was reused")
		}
		server.Thaw()
		if got := mustCheck(t, s, "revoked"); got != "1" {
			t.Errorf("after the thaw the value is %q, want 1", got)
		}
	})
}

// TestLateAnswerIsStale delays an answer. Its age must count from the question.
func TestLateAnswerIsStale(t *testing.T) {
	eachProtocol(t, func(t *testing.T, client func(testing.TB, *redistest.Server) rueidis.Client) {
		const staleness = 200 * time.Millisecond
		server := redistest.Start(t)
		s := newStore(t, client(t, server), redisstore.Options{MaxStaleness: staleness})
		other := connect(t, server, redisstore.Options{})
		mustGet(t, s, "warm")
		server.Freeze()
		thaw := time.AfterFunc(staleness+50*time.Millisecond, server.Thaw)
		defer thaw.Stop()
		if got := mustCheck(t, s, "key"); got != "" { // answered after the thaw
			t.Fatal(got)
		}
		mustSwap(t, other, "key", "", "revoked")
		if got := mustCheck(t, s, "key"); got != "revoked" {
			t.Errorf("an answer older than MaxStaleness was reused: %q", got)
		}
	})
}

// TestGetIsFresh swaps through another process. Get must see it at once, whatever is remembered.
func TestGetIsFresh(t *testing.T) {
	eachProtocol(t, func(t *testing.T, client func(testing.TB, *redistest.Server) rueidis.Client) {
		server := redistest.Start(t)
		here := newStore(t, client(t, server), redisstore.Options{MaxStaleness: time.Hour})
		there := connect(t, server, redisstore.Options{})
		old := ""
		for i := range 100 {
			if got := mustGet(t, here, "key"); got != old {
				t.Fatalf("Get = %q, want %q", got, old)
			}
			next := strconv.Itoa(i)
			mustSwap(t, there, "key", old, next)
			old = next
		}
	})
}

// TestLostSwapAsksAgain loses a swap to another process. The next check must find the value in Redis.
func TestLostSwapAsksAgain(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	here := newStore(t, dial(t, func(o *rueidis.ClientOption) { o.AlwaysRESP2 = true }, server.Addr()), redisstore.Options{MaxStaleness: time.Hour})
	there := connect(t, server, redisstore.Options{})
	mustSwap(t, here, "key", "", "1")
	untilKept(t, here, "key")
	mustSwap(t, there, "key", "1", "2")
	if got := mustCheck(t, here, "key"); got != "1" {
		t.Fatalf("here = %q, want the answer from before the other swap to be reused", got)
	}
	if done, err := here.CompareAndSwap(within(t, time.Second), "key", "1", "3", inAnHour()); done || err != nil {
		t.Fatalf("the swap from an outdated value = %v, %v, want it to lose", done, err)
	}
	if got := mustCheck(t, here, "key"); got != "2" {
		t.Errorf("after the lost swap here = %q, want the value in Redis", got)
	}
	past := time.Now().Add(-time.Second)
	if done, err := here.CompareAndSwap(within(t, time.Second), "key", "2", "gone", past); !done || err != nil {
		t.Fatal(done, err)
	}
	if got := mustCheck(t, here, "key"); got != "" {
		t.Errorf("after a swap with a past expiry the value is %q, want none", got)
	}
}

// TestUnknownSwapAsksAgain cancels a swap long before its deadline, so that Redis makes it anyway. The value that was
// known before the swap must not be reused.
func TestUnknownSwapAsksAgain(t *testing.T) {
	eachProtocol(t, func(t *testing.T, client func(testing.TB, *redistest.Server) rueidis.Client) {
		server := redistest.Start(t)
		observer := dial(t, nil, server.Addr())
		s := newStore(t, client(t, server), redisstore.Options{MaxStaleness: time.Hour})
		mustSwap(t, s, "key", "", "old")
		untilKept(t, s, "key")
		before := evals(t, observer)
		server.Freeze()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		time.AfterFunc(50*time.Millisecond, cancel)
		if done, err := s.CompareAndSwap(ctx, "key", "old", "new", inAnHour()); done || !errors.Is(err, context.Canceled) {
			t.Errorf("a canceled swap = %v, %v, want context.Canceled", done, err)
		}
		server.Thaw()
		untilEvals(t, observer, before+1)
		if got := mustCheck(t, s, "key"); got != "new" {
			t.Errorf("after a swap without an answer the value is %q, want the one in Redis", got)
		}
	})
}

// TestOwnSwapsAreSeen reads while this process swaps, so that older answers are in flight during each swap. Once a swap
// is answered, every later check must see it, regardless of MaxStaleness.
func TestOwnSwapsAreSeen(t *testing.T) {
	eachProtocol(t, func(t *testing.T, client func(testing.TB, *redistest.Server) rueidis.Client) {
		server := redistest.Start(t)
		s := newStore(t, client(t, server), redisstore.Options{MaxStaleness: time.Hour})
		var settled atomic.Int64
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					least := settled.Load()
					values, err := check(context.Background(), s, "counter")
					if err != nil {
						t.Error(err)
						return
					}
					if n, _ := strconv.ParseInt(values[0], 10, 64); n < least {
						t.Errorf("counter = %d, but the swap to %d was answered before", n, least)
						return
					}
					// Leave some time to the swaps, and fill the shards.
					if _, err := check(context.Background(), s, strconv.Itoa(g)+" "+strconv.Itoa(i)); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		for n := int64(1); n <= int64(rounds(2000, 500)); n++ {
			old := ""
			if n > 1 {
				old = strconv.FormatInt(n-1, 10)
			}
			mustSwap(t, s, "counter", old, strconv.FormatInt(n, 10))
			settled.Store(n)
			if n%3 == 0 {
				if done, err := s.CompareAndSwap(within(t, time.Second), "counter", "no", "no", inAnHour()); done || err != nil {
					t.Errorf("CompareAndSwap from a wrong value = %v, %v, want it to lose", done, err)
				}
			}
		}
		close(stop)
		wg.Wait()
	})
}
