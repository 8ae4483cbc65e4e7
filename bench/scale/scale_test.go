package main

import (
	"container/heap"
	"context"
	"math"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ginrefresh/ginrefresh/bench/internal/contest"
	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
)

// short is a profile in which everything happens within days.
var short = profile{ttl: time.Hour, refreshTTL: 2 * day, pause: 6 * time.Hour, logout: 3 * day}

func TestSimulationAgreesWithTheFormula(t *testing.T) {
	for _, p := range append(profiles, short) {
		got, want := p.simulate(5000, 1), p.expect(5000)
		near(t, p.name+" records", got.records, want.records, 0.05)
		near(t, p.name+" refreshes", got.refreshes, want.refreshes, 0.05)
		near(t, p.name+" logins", got.logins, want.logins, 0.25) // a few hundred in a day
	}
}

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if math.Abs(got/want-1) > tolerance {
		t.Errorf("%s: %v, by the formula %v", what, got, want)
	}
}

// TestMiddlewareAgreesWithTheFormula lives some days with the middleware itself, on the clock of a bubble.
func TestMiddlewareAgreesWithTheFormula(t *testing.T) {
	const sessions = 10_000
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(short, sessions)
		defer w.store.Close()
		w.run(t, time.Duration(float64(short.refreshTTL+short.ttl)))
		w.store.reads, w.store.swaps, w.refreshes = 0, 0, 0
		w.run(t, day)

		want := short.expect(sessions)
		time.Sleep(3 * time.Minute) // for the sweeper to take what has expired
		near(t, "records", float64(w.store.Len()), want.records, 0.1)
		near(t, "refreshes", float64(w.refreshes)/day.Seconds(), want.refreshes, 0.1)
		near(t, "reads", float64(w.store.reads)/day.Seconds(), want.reads(), 0.1)
		near(t, "swaps", float64(w.store.swaps)/day.Seconds(), want.swaps(), 0.1)
	})
}

// counting counts the round trips. It hides Peek, so that each read is a call of Get.
type counting struct {
	memory *store.Memory
	reads  int
	swaps  int
}

func (c *counting) Get(ctx context.Context, keys ...string) ([]string, error) {
	c.reads++
	return c.memory.Get(ctx, keys...)
}

func (c *counting) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	c.swaps++
	return c.memory.CompareAndSwap(ctx, key, old, new, expires)
}

func (c *counting) Len() int     { return c.memory.Len() }
func (c *counting) Close() error { return c.memory.Close() }

// world is sessions that come, refresh and go, in the order of their next deeds.
type world struct {
	profile
	random    *rand.Rand
	store     *counting
	auth      *middleware.Auth
	begun     float64 // per second
	deeds     deeds
	refreshes int
}

// deed is the next thing that a session does; the arrival of one has no token yet.
type deed struct {
	at       time.Time
	token    string
	deadline time.Time
	logout   time.Time
}

func newWorld(p profile, sessions int) *world {
	w := &world{profile: p, random: rand.New(rand.NewPCG(1, 2)), store: &counting{memory: store.NewMemory()}}
	w.begun = float64(sessions) / p.refreshTTL.Seconds()
	w.auth = contest.NewAuth(contest.NewKey(middleware.HS256), w.store, func(c *middleware.Config) {
		c.TTL, c.RefreshTTL, c.TokenCache = p.ttl, p.refreshTTL, -1
	})
	heap.Push(&w.deeds, deed{at: time.Now()})
	return w
}

func (w *world) run(t *testing.T, duration time.Duration) {
	end := time.Now().Add(duration)
	for w.deeds[0].at.Before(end) {
		d := heap.Pop(&w.deeds).(deed)
		time.Sleep(time.Until(d.at))
		if err := w.do(d); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(time.Until(end))
}

func (w *world) do(d deed) error {
	now, ctx := time.Now(), context.Background()
	switch {
	case d.token == "":
		heap.Push(&w.deeds, deed{at: now.Add(w.after(time.Duration(float64(time.Second) / w.begun)))})
		d = deed{token: contest.Issue(w.auth, 1)[0], deadline: now.Add(w.refreshTTL), logout: now.Add(w.after(w.logout))}
	case !now.Before(d.logout):
		return w.auth.Logout(ctx, d.token)
	default:
		tokens, err := w.auth.Refresh(ctx, d.token)
		if err != nil {
			return err
		}
		d.token = tokens.AccessToken
		w.refreshes++
	}
	d.at = now.Add(w.ttl + w.after(w.pause))
	if d.logout.Before(d.at) {
		d.at = d.logout
	}
	if d.at.Before(d.deadline.Add(-time.Second)) {
		heap.Push(&w.deeds, d)
	}
	return nil
}

func (w *world) after(mean time.Duration) time.Duration {
	return time.Duration(w.random.ExpFloat64() * float64(mean))
}

// deeds is a heap of what comes next.
type deeds []deed

func (d deeds) Len() int           { return len(d) }
func (d deeds) Less(i, j int) bool { return d[i].at.Before(d[j].at) }
func (d deeds) Swap(i, j int)      { d[i], d[j] = d[j], d[i] }
func (d *deeds) Push(x any)        { *d = append(*d, x.(deed)) }
func (d *deeds) Pop() any {
	last := (*d)[len(*d)-1]
	*d = (*d)[:len(*d)-1]
	return last
}
