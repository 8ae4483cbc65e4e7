package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// servers is the number of Auths that share the store.
const servers = 3

// load is the work of honest clients, and of a thief who tries tokens that are revoked.
type load struct {
	lab     *lab
	running sync.RWMutex // held by each step
	auths   [servers]*middleware.Auth
	ended   chan struct{}
	clients sync.WaitGroup
	subject atomic.Int64
	faultAt time.Time

	logouts, refreshes, steps, forks, unavailable atomic.Int64
	passes                                        [servers]atomic.Int64 // of revoked tokens, each counted once

	// In nanoseconds: instants, and the longest time without a success.
	lastSuccess, lastFailure, lastPass, outage atomic.Int64

	mu       sync.Mutex
	rejected map[middleware.Code]int // living sessions that were rejected
	stolen   []*stolenToken
}

// A stolenToken is one that the thief has copied, and that has been revoked since.
type stolenToken struct {
	text     string
	made     time.Time // when a refresh has made it; zero if a login has
	replaced bool      // its session goes on: a refresh has revoked it
	passed   atomic.Bool
}

// size is how much load there is, and for how long.
type size struct {
	before, after time.Duration // before and after the fault
	clients       int           // with short sessions, and as many with long ones
	sessions      int           // long sessions of each client
	pause         time.Duration // of a client after each session, or each visit to one
}

func (l *load) start() {
	l.ended = make(chan struct{})
	l.lastSuccess.Store(time.Now().UnixNano())
	for range l.lab.size.clients {
		l.clients.Go(l.shortSessions)
		l.clients.Go(l.longSessions)
	}
	l.clients.Go(l.thief)
	l.lab.cleanup(l.stop)
}

func (l *load) stop() {
	select {
	case <-l.ended:
	default:
		close(l.ended)
	}
	l.clients.Wait()
}

// pause returns false if the load has ended.
func (l *load) pause(d time.Duration) bool {
	select {
	case <-l.ended:
		return false
	case <-time.After(d):
		return true
	}
}

// step runs a step at a server. It returns the code of the error, or "".
func (l *load) step(server int, call func(context.Context, *middleware.Auth) error) middleware.Code {
	l.running.RLock()
	defer l.running.RUnlock()
	err := call(context.Background(), l.auths[server%servers])
	now := time.Now().UnixNano()
	l.steps.Add(1)
	switch code := codeOf(err); code {
	case middleware.CodeStoreUnavailable:
		l.unavailable.Add(1)
		l.lastFailure.Store(now)
		return code
	default:
		if gap := now - l.lastSuccess.Swap(now); gap > l.outage.Load() {
			l.outage.Store(gap) // only one step ends a long gap
		}
		return code
	}
}

func codeOf(err error) middleware.Code {
	var e *middleware.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return e.Code
	}
	panic(err) // a mistake of this program
}

// ask repeats a step at any server until the answer is not 503. It returns false if the load has ended, or if the answer
// has come some other way.
func (l *load) ask(call func(context.Context, *middleware.Auth) error, answered func() bool) (middleware.Code, bool) {
	for server := rand.IntN(servers); ; server = rand.IntN(servers) {
		if code := l.step(server, call); code != middleware.CodeStoreUnavailable {
			return code, true
		}
		if !l.pause(50*time.Millisecond) || answered != nil && answered() {
			return "", false
		}
	}
}

// session is a session of an honest client, who uses the newest token only.
type session struct {
	subject    string
	everywhere bool     // ends by a logout everywhere
	tokens     []issued // all of them, the newest last
	stolen     int      // the replaced tokens that the thief need not copy any more
}

type issued struct {
	text, id string
	at       time.Time
}

func (s *session) newest() issued { return s.tokens[len(s.tokens)-1] }

func (l *load) login() (*session, bool) {
	s := &session{subject: strconv.FormatInt(l.subject.Add(1), 10), everywhere: rand.IntN(10) == 0}
	code, ok := l.ask(func(ctx context.Context, a *middleware.Auth) error {
		tokens, err := a.Issue(ctx, middleware.Identity{Subject: s.subject})
		s.tokens = []issued{{tokens.AccessToken, tokens.Claims.ID, time.Now()}}
		return err
	}, nil)
	return s, ok && l.accepted(code)
}

// accepted counts an honest client who is rejected.
func (l *load) accepted(code middleware.Code) bool {
	if code == "" {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rejected[code]++
	return false
}

// verify and refresh return false if the session is over, or the load.
func (l *load) verify(s *session) bool {
	code, ok := l.ask(func(ctx context.Context, a *middleware.Auth) error {
		_, err := a.Verify(ctx, s.newest().text)
		return err
	}, nil)
	return ok && l.accepted(code)
}

// refresh refreshes the newest token in two tabs at once. A tab whose answer is 503 tries again, unless the other tab has
// the new token by then.
func (l *load) refresh(s *session) bool {
	const tabs = 2
	var done atomic.Bool
	var codes [tabs]middleware.Code
	var answers [tabs]issued
	var answered [tabs]bool
	var wait sync.WaitGroup
	for tab := range tabs {
		wait.Go(func() {
			codes[tab], answered[tab] = l.ask(func(ctx context.Context, a *middleware.Auth) error {
				tokens, err := a.Refresh(ctx, s.newest().text)
				answers[tab] = issued{tokens.AccessToken, tokens.Claims.ID, time.Now()}
				return err
			}, done.Load)
			if answered[tab] && codes[tab] == "" {
				done.Store(true)
			}
		})
	}
	wait.Wait()
	next := issued{}
	for tab := range tabs {
		switch {
		case !answered[tab]:
		case codes[tab] != "":
			return l.accepted(codes[tab])
		case next.id == "":
			next = answers[tab]
		case next.id != answers[tab].id:
			l.forks.Add(1)
		}
	}
	if next.id == "" {
		return false
	}
	if next.id != s.newest().id {
		l.refreshes.Add(1)
		s.tokens = append(s.tokens, next)
		l.stealReplaced(s)
	}
	return true
}

// logout ends the session, and tries a token of it elsewhere.
func (l *load) logout(s *session) bool {
	code, ok := l.ask(func(ctx context.Context, a *middleware.Auth) error {
		if s.everywhere {
			return a.RevokeSubject(ctx, s.subject)
		}
		return a.Logout(ctx, s.newest().text)
	}, nil)
	if !ok || !l.accepted(code) {
		return false
	}
	l.logouts.Add(1)
	t := l.steal(s, rand.IntN(len(s.tokens)), false)
	l.tryToken(t)
	return true
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

// tryToken counts a revoked token that passes while the load runs.
func (l *load) tryToken(t *stolenToken) {
	server := rand.IntN(servers)
	code := l.step(server, func(ctx context.Context, a *middleware.Auth) error {
		_, err := a.Verify(ctx, t.text)
		return err
	})
	if code != "" {
		return
	}
	l.lastPass.Store(time.Now().UnixNano())
	if !t.passed.Swap(true) {
		l.passes[server].Add(1)
	}
}

// shortSessions logs in, perhaps refreshes, and logs out.
func (l *load) shortSessions() {
	for l.pause(l.lab.size.pause) {
		s, ok := l.login()
		if ok && rand.IntN(2) == 0 {
			ok = l.refresh(s)
		}
		if ok && l.verify(s) {
			l.logout(s)
		}
	}
}

// longSessions keeps sessions alive and logs some of them out.
func (l *load) longSessions() {
	sessions := make([]*session, l.lab.size.sessions)
	for l.pause(l.lab.size.pause) {
		i := rand.IntN(len(sessions))
		ok := true
		switch {
		case sessions[i] == nil:
			sessions[i], ok = l.login()
		case rand.IntN(200) == 0:
			l.logout(sessions[i])
			ok = false
		case rand.IntN(20) == 0:
			ok = l.refresh(sessions[i])
		default:
			ok = l.verify(sessions[i])
		}
		if !ok {
			sessions[i] = nil
		}
	}
	for _, s := range sessions {
		if s != nil {
			l.stealReplaced(s)
		}
	}
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
			l.tryToken(t)
		}
	}
}
