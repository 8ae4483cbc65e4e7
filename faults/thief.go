package main

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// A stolenToken is one that the thief has copied, and that has been revoked since.
type stolenToken struct {
	text     string
	made     time.Time // when a refresh has made it; zero if a login has
	replaced bool      // a refresh has revoked it, and its grace period is over
	passed   atomic.Bool
}

// steal gives a revoked token of the session to the thief.
func (l *load) steal(s *session, token int, replaced bool) *stolenToken {
	t := &stolenToken{text: s.tokens[token].text, replaced: replaced}
	if token > 0 {
		t.made = s.tokens[token].at
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stolen = append(l.stolen, t)
	return t
}

// stealReplaced gives the replaced token whose grace period ended last to the thief.
func (l *load) stealReplaced(s *session) {
	for i := len(s.tokens) - 2; i >= s.stolen; i-- {
		if time.Since(s.tokens[i+1].at) > l.lab.grace+time.Second {
			l.steal(s, i, true)
			s.stolen = i + 1
			return
		}
	}
}

// thief tries revoked tokens while the load runs, half of them recent ones.
func (l *load) thief() {
	for l.pause(time.Millisecond) {
		l.mu.Lock()
		count := len(l.stolen)
		var t *stolenToken
		if count > 0 {
			t = l.stolen[count-1-rand.IntN(min(count, []int{count, 1000}[rand.IntN(2)]))]
		}
		l.mu.Unlock()
		if t != nil {
			l.tryOnce(t)
		}
	}
}

// tryOnce verifies a revoked token at any server while the load runs.
func (l *load) tryOnce(t *stolenToken) {
	server := rand.IntN(servers)
	if l.step(server, verify(t.text)) != "" {
		return
	}
	l.lastPass.Store(time.Now().UnixNano())
	if !t.passed.Swap(true) {
		l.passes[server].Add(1)
	}
}

// tryAll tries every revoked token, when the load has ended and all is well again.
func (l *load) tryAll() {
	work := make(chan *stolenToken)
	var thieves sync.WaitGroup
	for range 32 {
		thieves.Go(func() {
			for t := range work {
				l.tryEverywhere(t)
			}
		})
	}
	for _, t := range l.stolen {
		work <- t
	}
	close(work)
	thieves.Wait()
}

// tryEverywhere verifies a revoked token at every server, and then refreshes it at every server.
func (l *load) tryEverywhere(t *stolenToken) {
	succeeds := func(call step) (success bool) {
		for server := range servers {
			success = l.step(server, call) == "" || success
		}
		return success
	}
	passed := succeeds(verify(t.text))
	refreshed := succeeds(func(ctx context.Context, a *middleware.Auth) error {
		_, err := a.Refresh(ctx, t.text)
		return err
	})
	if !passed && !refreshed {
		return
	}
	if refreshed {
		l.refreshed.Add(1)
	}
	if t.replaced {
		l.replacedPass.Add(1)
	} else {
		l.endedPass.Add(1)
	}
	if !t.made.IsZero() && t.made.After(l.restored) {
		l.witnesses.Add(1)
	}
}
