package middleware

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/store"
)

// spied is a Memory that counts the looks, and whose versions can be another counter.
type spied struct {
	*store.Memory
	looks   atomic.Int64
	version *atomic.Uint64 // nil: the Memory's own
	late    func()         // called once a value was read, and before it is returned
}

func (s *spied) Peek(key string) string {
	s.looks.Add(1)
	value := s.Memory.Peek(key)
	if s.late != nil {
		s.late()
	}
	return value
}

func (s *spied) Version(key string) *atomic.Uint64 {
	if s.version != nil {
		return s.version
	}
	return s.Memory.Version(key)
}

func (w world) spied(version *atomic.Uint64) (*Auth, *spied) {
	spy := &spied{Memory: w.store, version: version}
	return w.server(func(c *Config) { c.Store = spy }), spy
}

// looksFor counts the looks at the blacklist while the token passes n times.
func (w world) looksFor(a *Auth, spy *spied, token string, n int) int64 {
	w.t.Helper()
	before := spy.looks.Load()
	for range n {
		w.verifies(a, token, "")
	}
	return spy.looks.Load() - before
}

const aLook = 2 // the session's record and the subject's

// usesUntilWatched is how often a token passes before no look is needed: twice to get into the cache, and once
// to be looked for as one that is in it.
const usesUntilWatched = 3

func TestR3_ATokenIsLookedForAgainAfterAChangeOnly(t *testing.T) {
	inBubble(t, func(w world) {
		a, spy := w.spied(nil)
		token := w.login(a, Identity{}).AccessToken
		if got := w.looksFor(a, spy, token, usesUntilWatched); got != usesUntilWatched*aLook {
			w.t.Errorf("%d looks for the first uses, want %d", got, usesUntilWatched*aLook)
		}
		if got := w.looksFor(a, spy, token, 100); got != 0 {
			w.t.Errorf("%d looks while nothing changed, want none", got)
		}
		for what, change := range map[string]func(){
			"the session's record": func() { w.store.Version(sessionKey(w.session(token))).Add(2) },
			"the subject's record": func() { w.store.Version(subjectKey("alice")).Add(2) },
		} {
			change()
			if got := w.looksFor(a, spy, token, 100); got != aLook {
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
	inBubble(t, func(w world) {
		here, there := w.server(), w.server()
		token := w.login(here, Identity{}).AccessToken
		for range 2 * usesUntilWatched {
			w.verifies(here, token, "")
		}
		wait(time.Second)
		w.refresh(there, token)
		for range 2 * usesUntilWatched {
			w.verifies(here, token, "")
		}
		wait(10 * time.Second)
		w.verifies(here, token, "") // the last instant of the grace
		wait(time.Microsecond)
		w.verifies(here, token, CodeTokenRevoked)
	})
}

// While a change is under way a look may find either state. If somebody finds the new one and is told so (that
// the session has ended, R11), nobody may pass by what was found before.
func TestR11_NothingIsRememberedDuringAChange(t *testing.T) {
	inBubble(t, func(w world) {
		var version atomic.Uint64
		a, spy := w.spied(&version)
		token := w.login(a, Identity{}).AccessToken
		w.looksFor(a, spy, token, 2*usesUntilWatched)
		version.Add(1) // the change is announced
		if got := w.looksFor(a, spy, token, 10); got != 10*aLook {
			w.t.Errorf("%d looks during a change, want %d", got, 10*aLook)
		}
		w.logsOut(w.server(), token, "") // it can be read
		w.verifies(a, token, CodeTokenRevoked)
		version.Add(1) // it is complete
		w.verifies(a, token, CodeTokenRevoked)
	})
}

func TestR11_AChangeDuringALookIsNotMissed(t *testing.T) {
	inBubble(t, func(w world) {
		a, spy := w.spied(nil)
		token := w.login(a, Identity{}).AccessToken
		w.looksFor(a, spy, token, usesUntilWatched-1)
		elsewhere := w.server()
		spy.late = func() { w.logsOut(elsewhere, token, "") }
		w.verifies(a, token, "") // it was asked before
		spy.late = nil
		w.verifies(a, token, CodeTokenRevoked)
	})
}

func TestAStoreThatCannotTellIsAlwaysAsked(t *testing.T) {
	inBubble(t, func(w world) {
		var odd atomic.Uint64
		odd.Store(1)
		a, spy := w.spied(&odd)
		token := w.login(a, Identity{}).AccessToken
		if got := w.looksFor(a, spy, token, 100); got != 100*aLook {
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
