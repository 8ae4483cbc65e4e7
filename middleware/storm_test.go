package middleware_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// Many clients at once, for many rounds. GINREFRESH_FULL=1 plays all of them, as the gate does.

func rounds(short, full int) int {
	if os.Getenv("GINREFRESH_FULL") != "" {
		return full
	}
	return short
}

// Thieves hold a key that leaked, and refresh without a pause while it is replaced.
func TestKeyReplacementUnderLoad(t *testing.T) {
	const thieves = 32
	for name, reload := range map[string]time.Duration{"without Reload": 0, "with a slow Reload": 2 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			auth := newAuth(t, noGrace, func(c *middleware.Config) {
				if reload > 0 {
					slowReload(reload)(c)
				}
			})
			for round := range rounds(20, 200) {
				key := hs256(fmt.Sprint("key ", round), fmt.Appendf(nil, "the secret of round %d, which leaked", round))
				if err := auth.SetKeys([]middleware.Key{key}); err != nil {
					t.Fatal(err)
				}
				newest := make([]middleware.Tokens, thieves)
				replaced := make(chan struct{})
				var refreshed, done sync.WaitGroup
				for i := range newest {
					newest[i] = begin(t, auth, middleware.Identity{Subject: fmt.Sprint("user ", i)})
				}
				for i := range newest {
					refreshed.Add(1)
					done.Go(func() {
						begun := sync.OnceFunc(refreshed.Done)
						for after := 0; after < 3; {
							next, err := auth.Refresh(t.Context(), newest[i].AccessToken)
							if err != nil {
								return // the key is gone
							}
							newest[i] = next
							begun()
							runtime.Gosched()
							select {
							case <-replaced:
								after++ // one refresh may have been under way, no more
							default:
							}
						}
						t.Error("R1a: the refreshes go on after the key was replaced")
					})
				}
				refreshed.Wait()
				if err := auth.SetKeys([]middleware.Key{hs256("new", []byte("a secret that nobody else knows yet"))}); err != nil {
					t.Fatal(err)
				}
				close(replaced)
				done.Wait()
				for _, tokens := range newest {
					dead(t, "R1a: a session of the leaked key", auth, tokens)
				}
				if t.Failed() {
					t.Fatalf("round %d", round)
				}
			}
		})
	}
}

// jar is a browser's: what it sends is what it has when it sends, and answers overtake each other.
type jar struct {
	mu   sync.Mutex
	text string
}

func (j *jar) get() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text
}

func (j *jar) take(r reply) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if cookie, set := r.cookies()["access_token"]; set {
		j.text = cookie.Value
	}
}

// A page forces twenty refreshes at once, again and again, with one cookie and no care, over a slow network.
func TestForcedParallelRefreshesWithACookie(t *testing.T) {
	const parallel = 20
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(1, 2))
		var mu sync.Mutex
		upTo := func(d time.Duration) time.Duration {
			mu.Lock()
			defer mu.Unlock()
			return time.Duration(random.Int64N(int64(d)))
		}
		var swaps []time.Time
		counting := &counting{Store: newMemory(t), swapped: func() {
			mu.Lock()
			defer mu.Unlock()
			swaps = append(swaps, time.Now())
		}}
		auth := newAuth(t, cookies(middleware.Cookie{}), func(c *middleware.Config) { c.Store = counting })
		s := direct(t, cookieRoutes(auth, "one token"))
		var browser jar
		browser.take(s.send("POST", "/login?user=admin"))
		for round := range rounds(50, 500) {
			var wg sync.WaitGroup
			for range parallel {
				wg.Go(func() {
					wait(upTo(2 * time.Second))
					sent := browser.get()
					wait(upTo(3 * time.Second)) // on its way
					r := s.send("POST", "/refresh", header("Cookie", "__Host-access_token="+sent))
					wait(upTo(3 * time.Second)) // on its way back
					if r.status != http.StatusOK {
						t.Errorf("round %d: a refresh is answered %d %s", round, r.status, r.body)
					}
					browser.take(r)
				})
			}
			wg.Wait()
			s.send("GET", "/required", header("Cookie", "__Host-access_token="+browser.get())).passed(t, "admin")
			if t.Failed() {
				t.Fatalf("round %d: the client is logged out", round)
			}
			wait(upTo(15 * time.Second))
		}
		for i := 2; i < len(swaps); i++ { // the first one after a login is always made
			if pause := swaps[i].Sub(swaps[i-1]); pause < 10*time.Second {
				t.Errorf("R6a: two swaps within %v", pause)
			}
		}
	})
}

// counting tells of the swaps that were won.
type counting struct {
	middleware.Store
	swapped func()
}

func (s *counting) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	swapped, err := s.Store.CompareAndSwap(ctx, key, old, new, expires)
	if swapped {
		s.swapped()
	}
	return swapped, err
}
