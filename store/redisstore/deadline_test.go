//go:build unix

package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/ginrefresh/ginrefresh/store/internal/deadline/deadlinetest"
	"github.com/ginrefresh/ginrefresh/store/internal/redistest"
	"github.com/ginrefresh/ginrefresh/store/redisstore"
)

var evalCalls = regexp.MustCompile(`cmdstat_eval:calls=(\d+)`)

// evals returns the number of scripts that the server has run.
func evals(t testing.TB, client rueidis.Client) int {
	t.Helper()
	info, err := client.Do(within(t, 5*time.Second), client.B().Info().Section("commandstats").Build()).ToString()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	if match := evalCalls.FindStringSubmatch(info); match != nil {
		n, _ = strconv.Atoi(match[1])
	}
	return n
}

// untilEvals waits until the server has run a number of scripts.
func untilEvals(t testing.TB, client rueidis.Client, want int) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); evals(t, client) < want; {
		if time.Now().After(deadline) {
			t.Fatalf("the server has run %d scripts, want %d", evals(t, client), want)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// untilRead waits until the server has run more scripts than before, and then has answered ten requests without another
// one: so it has read everything that was sent to it while it was frozen.
func untilRead(t testing.TB, client rueidis.Client, before int) {
	t.Helper()
	untilEvals(t, client, before+1)
	last := before
	for quiet := 0; quiet < 10; quiet++ {
		<-time.After(5 * time.Millisecond)
		if n := evals(t, client); n != last {
			last, quiet = n, 0
		}
	}
}

// frozenTimeout is the deadline of the swaps that a frozen Redis gets.
const frozenTimeout = 200 * time.Millisecond

// R10a: Redis is frozen, receives swaps, and is resumed after their deadline. It must not make any of them.
func TestR10a_FrozenRedisMakesNoOldSwap(t *testing.T) {
	t.Parallel()
	for _, swaps := range []int{1, 200} {
		for name, prepare := range map[string]func(*testing.T, *redistest.Server, *redisstore.Store){
			"usual": func(t *testing.T, _ *redistest.Server, s *redisstore.Store) {
				mustSwap(t, s, "warm", "", "1")
			},
			"first swap":    func(*testing.T, *redistest.Server, *redisstore.Store) {},
			"wrong reading": func(_ *testing.T, _ *redistest.Server, s *redisstore.Store) { s.SetClock(-time.Hour) },
			"after wrong reading": func(t *testing.T, _ *redistest.Server, s *redisstore.Store) {
				s.SetClock(time.Hour)
				mustSwap(t, s, "warm", "", "1")
			},
			"after slow request": func(t *testing.T, server *redistest.Server, s *redisstore.Store) { // slower than frozenTimeout
				mustSwap(t, s, "warm", "", "1")
				server.Freeze()
				time.AfterFunc(2*frozenTimeout, server.Thaw)
				mustSwap(t, s, "warm", "1", "2")
			},
		} {
			for _, staleness := range []time.Duration{0, time.Hour} {
				t.Run(fmt.Sprintf("%s/swaps=%d/staleness=%v", name, swaps, staleness), func(t *testing.T) {
					t.Parallel()
					server := redistest.Start(t)
					other := dial(t, nil, server.Addr())
					mustSwap(t, newStore(t, other, redisstore.Options{}), "key", "", "old")
					s := connect(t, server, redisstore.Options{MaxStaleness: staleness})
					prepare(t, server, s)
					swapWhileFrozen(t, server, other, s, swaps)
				})
			}
		}
	}
}

// swapWhileFrozen sends swaps of "key" from "old" to a frozen server, and resumes it after their deadline.
func swapWhileFrozen(t *testing.T, server *redistest.Server, other rueidis.Client, s *redisstore.Store, swaps int) {
	t.Helper()
	if got := mustGet(t, s, "key"); got != "old" {
		t.Fatal(got)
	}
	before := evals(t, other)

	server.Freeze()
	deadline := time.Now().Add(frozenTimeout)
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	var wg sync.WaitGroup
	for i := range swaps {
		wg.Go(func() {
			done, err := s.CompareAndSwap(ctx, "key", "old", strconv.Itoa(i), inAnHour())
			if done || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("CompareAndSwap on a frozen server = %v, %v, want the deadline error", done, err)
			}
		})
	}
	wg.Wait()
	<-time.After(time.Until(deadline) + 50*time.Millisecond)
	server.Thaw()
	untilRead(t, other, before)

	if got := mustGet(t, s, "key"); got != "old" {
		t.Errorf("after the thaw the value is %q: a swap was made after its deadline", got)
	}
	mustSwap(t, s, "key", "old", "new")
	if got := mustGet(t, s, "key"); got != "new" {
		t.Errorf("the value is %q after the swap to new", got)
	}
}

// R10a: a freeze that ends before the deadline delays a swap, but does not prevent it.
func TestR10a_ShortFreezeOnlyDelays(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := connect(t, server, redisstore.Options{})
	for i, old := range []string{"", "0"} { // the first swap of the store and the next one
		server.Freeze()
		thaw := time.AfterFunc(200*time.Millisecond, server.Thaw)
		defer thaw.Stop()
		mustSwap(t, s, "key", old, strconv.Itoa(i))
	}
}

// R10a: a swap that reaches Redis after the deadline is not made, even if this process has not noticed the deadline.
func TestR10a_RefusedByRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := connect(t, server, redisstore.Options{})
	mustSwap(t, s, "key", "", "old")
	server.Freeze()
	thaw := time.AfterFunc(200*time.Millisecond, server.Thaw)
	defer thaw.Stop()
	ctx := deadlinetest.Silent(context.Background(), time.Now().Add(100*time.Millisecond))
	done, err := s.CompareAndSwap(ctx, "key", "old", "new", inAnHour())
	if done || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("CompareAndSwap = %v, %v, want no swap", done, err)
	}
	if got := mustGet(t, s, "key"); got != "old" {
		t.Errorf("the value is %q, want it unchanged", got)
	}
}

// TestRoundTrips counts the scripts that Redis runs. Only a swap without a correct reading of the clock of Redis takes two.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := dial(t, nil, server.Addr())
	s := newStore(t, client, redisstore.Options{})
	counter := 0
	count := func(name string, swaps, want int) {
		t.Helper()
		before := evals(t, client)
		for range swaps {
			old := strconv.Itoa(counter)
			if counter == 0 {
				old = ""
			}
			counter++
			mustSwap(t, s, "key", old, strconv.Itoa(counter))
		}
		if got := evals(t, client) - before; got != want {
			t.Errorf("%s: %d swaps took %d round trips, want %d", name, swaps, got, want)
		}
	}
	count("first swap", 1, 2)
	count("later swaps", 100, 100)
	s.SetClock(-time.Hour)
	count("clock of Redis set forward", 1, 2)
	count("later swaps", 10, 10)
	s.SetClock(time.Hour)
	count("clock of Redis set back", 1, 1)
	count("later swaps", 10, 10)

	before := evals(t, client)
	s.SetClock(-time.Hour) // Redis must reply "lost", not "too late"
	if done, err := s.CompareAndSwap(within(t, time.Second), "key", "other", "new", inAnHour()); done || err != nil {
		t.Errorf("a swap from a wrong value = %v, %v, want it to lose", done, err)
	}
	if got := evals(t, client) - before; got != 1 {
		t.Errorf("a lost swap took %d round trips, want 1", got)
	}
}

// TestServersWithDifferentClocks lets the swaps of one Store overwrite each other's readings, as in a Cluster whose nodes
// have different clocks. Every swap must be made anyway.
func TestServersWithDifferentClocks(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := connect(t, server, redisstore.Options{})
	stop := make(chan struct{})
	var disturb, swaps sync.WaitGroup
	disturb.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				s.SetClock(-time.Hour)
			}
		}
	})
	for g := range 8 {
		swaps.Go(func() {
			key, old := strconv.Itoa(g), ""
			for i := range rounds(200, 50) {
				next := strconv.Itoa(i)
				done, err := s.CompareAndSwap(within(t, 5*time.Second), key, old, next, inAnHour())
				if !done || err != nil {
					t.Errorf("CompareAndSwap(%q, %q, %q) = %v, %v", key, old, next, done, err)
					return
				}
				old = next
			}
		})
	}
	swaps.Wait()
	close(stop)
	disturb.Wait()
}
