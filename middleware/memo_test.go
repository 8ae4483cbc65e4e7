package middleware

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/store"
)

// spied is a Memory that counts its reads and whose change counters can be replaced.
type spied struct {
	*store.Memory
	reads   atomic.Int64
	counter func(key string) *atomic.Uint64 // nil: the Memory's own
	late    func()                          // called after a value was read and before it is returned
}

func (s *spied) Peek(key string) string {
	s.reads.Add(1)
	value := s.Memory.Peek(key)
	if s.late != nil {
		s.late()
	}
	return value
}

func (s *spied) Changes() (self any, counter func(key string) *atomic.Uint64) {
	if s.counter != nil {
		return s, s.counter
	}
	_, counter = s.Memory.Changes()
	return s, counter
}

func (w world) spied(counter func(key string) *atomic.Uint64) (*Auth, *spied) {
	spy := &spied{Memory: w.store, counter: counter}
	return w.server(func(c *Config) { c.Store = spy }), spy
}

// readsOf counts the reads of the blacklist while do runs n times.
func (s *spied) readsOf(n int, do func()) int64 {
	before := s.reads.Load()
	for range n {
		do()
	}
	return s.reads.Load() - before
}

// use is what a guard does with a token on each request.
type use struct {
	name     string
	token    func(a *Auth, text string) error
	replaced Code // its code for a token that was replaced longer ago than the grace period
}

// forEachUse runs a test for every use.
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

// passes uses a token that must be accepted.
func (u use) passes(w world, a *Auth, text string) func() {
	return func() {
		w.t.Helper()
		w.expect(u.name, u.token(a, text), "")
	}
}

const aCheck = 2 // reads: the session's record and the subject's

// usesUntilMemo is how often a token is used before the check is skipped: twice to get into the cache, and once to get a
// memo.
const usesUntilMemo = 3

func TestR3_TheCheckIsSkippedUntilAChange(t *testing.T) {
	forEachUse(t, func(w world, u use) {
		a, spy := w.spied(nil)
		token := w.login(a, Identity{}).AccessToken
		pass := u.passes(w, a, token)
		if got := spy.readsOf(usesUntilMemo, pass); got != usesUntilMemo*aCheck {
			w.t.Errorf("%d reads for the first uses, want %d", got, usesUntilMemo*aCheck)
		}
		if got := spy.readsOf(100, pass); got != 0 {
			w.t.Errorf("%d reads while nothing changed, want none", got)
		}
		_, counter := w.store.Changes()
		for what, change := range map[string]func(){
			"the session's record": func() { counter("s:" + w.session(token)).Add(2) },
			"the subject's record": func() { counter("u:alice").Add(2) },
		} {
			change()
			if got := spy.readsOf(100, pass); got != aCheck {
				w.t.Errorf("%d reads after a change near %s, want %d", got, what, aCheck)
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

// The grace period ends without any change of the blacklist, so a pass in it is not remembered.
func TestR4_TheGracePeriodEndsForATokenWithAMemo(t *testing.T) {
	forEachUse(t, func(w world, u use) {
		here, there := w.server(), w.server()
		token := w.login(here, Identity{}).AccessToken
		pass := u.passes(w, here, token)
		for range 2 * usesUntilMemo {
			pass()
		}
		wait(time.Second)
		w.refresh(there, token)
		for range 2 * usesUntilMemo {
			pass()
		}
		wait(10 * time.Second)
		pass() // the last instant of the grace period
		wait(time.Microsecond)
		w.expect(u.name, u.token(here, token), u.replaced)
	})
}

// During a change a check may read either state. If one request reads the new state and is told that the session has ended
// (R11), no other request may pass by its memo.
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
			spy.readsOf(2*usesUntilMemo, pass)
			changing.Add(1) // the change begins
			if got := spy.readsOf(10, pass); got != 10*aCheck {
				w.t.Errorf("%d reads during a change, want %d", got, 10*aCheck)
			}
			end(w, token) // it can be read
			w.expect(u.name, u.token(a, token), CodeTokenRevoked)
			changing.Add(1) // it is complete
			w.expect(u.name, u.token(a, token), CodeTokenRevoked)
		})
	}
}

func TestR11_AChangeDuringACheckIsNotMissed(t *testing.T) {
	forEachUse(t, func(w world, u use) {
		a, spy := w.spied(nil)
		token := w.login(a, Identity{}).AccessToken
		spy.readsOf(usesUntilMemo-1, u.passes(w, a, token))
		elsewhere := w.server()
		spy.late = func() { w.logsOut(elsewhere, token, "") }
		u.passes(w, a, token)() // it read before the logout
		spy.late = nil
		w.expect(u.name, u.token(a, token), CodeTokenRevoked)
	})
}

func TestAnOddCounterMeansACheckEachTime(t *testing.T) {
	inBubble(t, func(w world) {
		var odd atomic.Uint64
		odd.Store(1)
		a, spy := w.spied(func(string) *atomic.Uint64 { return &odd })
		token := w.login(a, Identity{}).AccessToken
		if got := spy.readsOf(100, func() { w.verifies(a, token, "") }); got != 100*aCheck {
			w.t.Errorf("%d reads, want %d", got, 100*aCheck)
		}
	})
}

// The store's Peek is hidden from the guards.
func TestACachedTokenIsCheckedInAStoreWithoutPeek(t *testing.T) {
	inBubble(t, func(w world) {
		a := w.server(func(c *Config) { c.Store = struct{ Store }{w.store} })
		token := w.login(a, Identity{}).AccessToken
		for range 2 * usesUntilMemo {
			w.verifies(a, token, "")
		}
		w.logsOut(w.server(), token, "")
		w.verifies(a, token, CodeTokenRevoked)
	})
}
