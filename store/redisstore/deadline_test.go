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

	"github.com/ginrefresh/ginrefresh/store/internal/redistest"
	"github.com/ginrefresh/ginrefresh/store/redisstore"
)

var evalCalls = regexp.MustCompile(`cmdstat_eval:calls=(\d+)`)

// evals returns how many scripts the server has run.
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

// untilEvals waits until the server has run that many scripts.
func untilEvals(t testing.TB, client rueidis.Client, want int) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); evals(t, client) < want; {
		if time.Now().After(deadline) {
			t.Fatalf("the server ran %d scripts, want %d", evals(t, client), want)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// R10a: Redis is frozen after a look, gets swaps, and goes on after their deadline. It must not make any of them.
func TestR10a_FrozenRedisMakesNoOldSwap(t *testing.T) {
	const timeout = 200 * time.Millisecond
	for _, swaps := range []int{1, 200} {
		for name, prepare := range map[string]func(*redistest.Server, *redisstore.Store){
			"usual":         func(_ *redistest.Server, s *redisstore.Store) { mustSwap(t, s, "warm", "", "1") },
			"first swap":    func(*redistest.Server, *redisstore.Store) {},
			"wrong reading": func(_ *redistest.Server, s *redisstore.Store) { s.PlantClock(-time.Hour) },
			"after wrong reading": func(_ *redistest.Server, s *redisstore.Store) {
				s.PlantClock(time.Hour)
				mustSwap(t, s, "warm", "", "1")
			},
			"after slow request": func(server *redistest.Server, s *redisstore.Store) { // on its way for longer than timeout
				mustSwap(t, s, "warm", "", "1")
				server.Freeze()
				time.AfterFunc(2*timeout, server.Thaw)
				mustSwap(t, s, "warm", "1", "2")
			},
		} {
			for _, staleness := range []time.Duration{0, time.Hour} {
				t.Run(fmt.Sprintf("%s/swaps=%d/staleness=%v", name, swaps, staleness), func(t *testing.T) {
					server := redistest.Start(t)
					other := dial(t, nil, server.Addr())
					mustSwap(t, newStore(t, other, redisstore.Options{}), "key", "", "old")
					s := newStore(t, dial(t, nil, server.Addr()), redisstore.Options{MaxStaleness: staleness})
					prepare(server, s)
					if got := mustGet(t, s, "key"); got != "old" {
						t.Fatal(got)
					}
					before := evals(t, other)

					server.Freeze()
					deadline := time.Now().Add(timeout)
					ctx, cancel := context.WithDeadline(context.Background(), deadline)
					defer cancel()
					var wg sync.WaitGroup
					for i := range swaps {
						wg.Go(func() {
							done, err := s.CompareAndSwap(ctx, "key", "old", strconv.Itoa(i), inAnHour())
							if done || !errors.Is(err, context.DeadlineExceeded) {
								t.Errorf("CompareAndSwap on a frozen server = %v, %v", done, err)
							}
						})
					}
					wg.Wait()
					<-time.After(time.Until(deadline) + 50*time.Millisecond)
					server.Thaw()
					untilEvals(t, other, before+swaps) // the server has read them all

					if got := mustGet(t, s, "key"); got != "old" {
						t.Errorf("after the thaw the value is %q: a swap was made after its deadline", got)
					}
					mustSwap(t, s, "key", "old", "new")
					if got := mustGet(t, s, "key"); got != "new" {
						t.Errorf("the value is %q after the swap to %q", got, "new")
					}
				})
			}
		}
	}
}

// A freeze that ends before the deadline delays a swap, and does not prevent it.
func TestR10a_ShortFreezeOnlyDelays(t *testing.T) {
	server := redistest.Start(t)
	s := newStore(t, dial(t, nil, server.Addr()), redisstore.Options{})
	for i, old := range []string{"", "0"} { // the first swap of the process, and the next one
		server.Freeze()
		thaw := time.AfterFunc(200*time.Millisecond, server.Thaw)
		defer thaw.Stop()
		mustSwap(t, s, "key", old, strconv.Itoa(i))
	}
}

// A swap that Redis gets after the deadline is not made, even if this process has not noticed the deadline.
func TestR10a_RefusedByRedis(t *testing.T) {
	server := redistest.Start(t)
	s := newStore(t, dial(t, nil, server.Addr()), redisstore.Options{})
	mustSwap(t, s, "key", "", "old")
	server.Freeze()
	thaw := time.AfterFunc(200*time.Millisecond, server.Thaw)
	defer thaw.Stop()
	ctx := silent{context.Background(), time.Now().Add(100 * time.Millisecond)}
	done, err := s.CompareAndSwap(ctx, "key", "old", "new", inAnHour())
	if done || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("CompareAndSwap = %v, %v, want no swap", done, err)
	}
	if got := mustGet(t, s, "key"); got != "old" {
		t.Errorf("the value is %q, want it unchanged", got)
	}
}

// silent is a context whose deadline passes without a sign, as in a process that was stopped.
type silent struct {
	context.Context
	deadline time.Time
}

func (s silent) Deadline() (time.Time, bool) { return s.deadline, true }

// TestRoundTrips counts the scripts that Redis runs. Only a swap that knows nothing, or something wrong, of Redis's clock
// takes two.
func TestRoundTrips(t *testing.T) {
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
	count("the first", 1, 2)
	count("steady", 100, 100)
	s.PlantClock(-time.Hour)
	count("Redis's clock was set forward", 1, 2)
	count("steady again", 10, 10)
	s.PlantClock(time.Hour)
	count("Redis's clock was set back", 1, 1)
	count("steady again", 10, 10)

	before := evals(t, client)
	s.PlantClock(-time.Hour) // "too late" must not hide that the swap is lost
	if done, err := s.CompareAndSwap(within(t, time.Second), "key", "other", "new", inAnHour()); done || err != nil {
		t.Errorf("a swap from a wrong value = %v, %v", done, err)
	}
	if got := evals(t, client) - before; got != 1 {
		t.Errorf("a lost swap took %d round trips, want 1", got)
	}
}

// TestServersWithDifferentClocks has swaps by one Store disturb each other's readings, as in a Cluster whose nodes
// disagree: every swap is made all the same.
func TestServersWithDifferentClocks(t *testing.T) {
	server := redistest.Start(t)
	s := newStore(t, dial(t, nil, server.Addr()), redisstore.Options{})
	stop := make(chan struct{})
	var disturb, swaps sync.WaitGroup
	disturb.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				s.PlantClock(-time.Hour)
			}
		}
	})
	for g := range 8 {
		swaps.Go(func() {
			key, old := strconv.Itoa(g), ""
			for i := range 200 {
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
