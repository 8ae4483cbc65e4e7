package middleware

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/store"
)

// spied is a Memory that counts the looks, and whose versions can be another counter.
type spied struct {
	*store.Memory
	looks   atomic.Int64
	version func(key string) *atomic.Uint64 // nil: the Memory's own
	late    func()                          // called once a value was read, and before it is returned
}

func (s *spied) Peek(key string) string {
	s.looks.Add(1)
	value := s.Memory.Peek(key)
	if s.late != nil {
		s.late()
	}
	return value
}

func (s *spied) Changes() (self any, counter func(key string) *atomic.Uint64) {
	if s.version != nil {
		return s, s.version
	}
	_, counter = s.Memory.Changes()
	return s, counter
}

func (w world) spied(version func(key string) *atomic.Uint64) (*Auth, *spied) {
	spy := &spied{Memory: w.store, version: version}
	return w.server(func(c *Config) { c.Store = spy }), spy
}

// looksFor counts the looks at the blacklist while something is done n times.
func (s *spied) looksFor(n int, do func()) int64 {
	before := s.looks.Load()
	for range n {
		do()
	}
	return s.looks.Load() - before
}

// use is what a guard does with a token on each request.
type use struct {
	name     string
	token    func(a *Auth, text string) error
	replaced Code // what it says of a token that was replaced longer ago than the grace
}

// forEachUse runs what must hold for all of them.
func forEachUse(t *testing.T, test func(w world, u use)) {
	for _, u := range []use{
		{"Verify", func(a *Auth, text string) error {
			_, err := a.Verify(context.Background(), text)
			return err
		}, CodeTokenRevoked},
		{"AutoRefresh", func(a *Auth, text string) error {
			_, _, err := a.autoRefresh(context.Background(), text, 0)
			return err
		}, CodeTokenReused},
	} {
		t.Run(u.name, func(t *testing.T) {
			inBubble(t, func(w world) { test(w, u) })
		})
	}
}

// passes uses a token that must be good.
func (u use) passes(w world, a *Auth, text string) func() {
	return func() {
		w.t.Helper()
		w.expect(u.name, u.token(a, text), "")
	}
}

const aLook = 2 // the session's record and the subject's

// usesUntilWatched is how often a token passes before no look is needed: twice to get into the cache, and once
// to be looked for as one that is in it.
const usesUntilWatched = 3

func TestR3_ATokenIsLookedForAgainAfterAChangeOnly(t *testing.T) {
	forEachUse(t, func(w world, u use) {
		a, spy := w.spied(nil)
		token := w.login(a, Identity{}).AccessToken
		pass := u.passes(w, a, token)
		if got := spy.looksFor(usesUntilWatched, pass); got != usesUntilWatched*aLook {
			w.t.Errorf("%d looks for the first uses, want %d", got, usesUntilWatched*aLook)
		}
		if got := spy.looksFor(100, pass); got != 0 {
			w.t.Errorf("%d looks while nothing changed, want none", got)
		}
		_, counter := w.store.Changes()
		for what, change := range map[string]func(){
			"the session's record": func() { counter("s:" + w.session(token)).Add(2) },
			"the subject's record": func() { counter("u:alice").Add(2) },
		} {
			change()
			if got := spy.looksFor(100, pass); got != aLook {
				w.t.Errorf("%d looks after a change near %s, want %d", got, what, aLook)
			}
		}
	})
}

func (w world) session(token string) string {
	w.t.Helper()
	claims, err := w.server().Verify(context.Background(), token)
	if err != nil {
		w.t.Fatal(err)
	}
	return claims.SessionID
}

// The grace ends without any change of the blacklist, so a pass in it is not remembered.
func TestR4_AWatchedTokenIsReplacedByTime(t *testing.T) {
	forEachUse(t, func(w world, u use) {
		here, there := w.server(), w.server()
		token := w.login(here, Identity{}).AccessToken
		pass := u.passes(w, here, token)
		for range 2 * usesUntilWatched {
			pass()
		}
		wait(time.Second)
		w.refresh(there, token)
		for range 2 * usesUntilWatched {
			pass()
		}
		wait(10 * time.Second)
		pass() // the last instant of the grace
		wait(time.Microsecond)
		w.expect(u.name, u.token(here, token), u.replaced)
	})
}

// While a change is under way a look may find either state. If somebody finds the new one and is told so (that
// the session has ended, R11), nobody may pass by what was found before.
func TestR11_NothingIsRememberedDuringAChange(t *testing.T) {
	for prefix, end := range map[string]func(w world, token string){
		"s:": func(w world, token string) { w.logsOut(w.server(), token, "") },
		"u:": func(w world, _ string) {
			w.expect("log out everywhere", w.server().RevokeSubject(context.Background(), "alice"), "")
		},
	} {
		forEachUse(t, func(w world, u use) {
			var changing, still atomic.Uint64
			a, spy := w.spied(func(key string) *atomic.Uint64 {
				if strings.HasPrefix(key, prefix) {
					return &changing
				}
				return &still
			})
			token := w.login(a, Identity{}).AccessToken
			pass := u.passes(w, a, token)
			spy.looksFor(2*usesUntilWatched, pass)
			changing.Add(1) // the change is announced
			if got := spy.looksFor(10, pass); got != 10*aLook {
				w.t.Errorf("%d looks during a change, want %d", got, 10*aLook)
			}
			end(w, token) // it can be read
			w.expect(u.name, u.token(a, token), CodeTokenRevoked)
			changing.Add(1) // it is complete
			w.expect(u.name, u.token(a, token), CodeTokenRevoked)
		})
	}
}

func TestR11_AChangeDuringALookIsNotMissed(t *testing.T) {
	forEachUse(t, func(w world, u use) {
		a, spy := w.spied(nil)
		token := w.login(a, Identity{}).AccessToken
		spy.looksFor(usesUntilWatched-1, u.passes(w, a, token))
		elsewhere := w.server()
		spy.late = func() { w.logsOut(elsewhere, token, "") }
		u.passes(w, a, token)() // it was asked before
		spy.late = nil
		w.expect(u.name, u.token(a, token), CodeTokenRevoked)
	})
}

func TestAStoreThatCannotTellIsAlwaysAsked(t *testing.T) {
	inBubble(t, func(w world) {
		var odd atomic.Uint64
		odd.Store(1)
		a, spy := w.spied(func(string) *atomic.Uint64 { return &odd })
		token := w.login(a, Identity{}).AccessToken
		if got := spy.looksFor(100, func() { w.verifies(a, token, "") }); got != 100*aLook {
			w.t.Errorf("%d looks, want %d", got, 100*aLook)
		}
	})
}

// Hidden from the guards, Peek and Version are not missed.
func TestACachedTokenIsLookedForInAStoreWithoutPeek(t *testing.T) {
	inBubble(t, func(w world) {
		a := w.server(func(c *Config) { c.Store = struct{ Store }{w.store} })
		token := w.login(a, Identity{}).AccessToken
		for range 2 * usesUntilWatched {
			w.verifies(a, token, "")
		}
		w.logsOut(w.server(), token, "")
		w.verifies(a, token, CodeTokenRevoked)
	})
}
