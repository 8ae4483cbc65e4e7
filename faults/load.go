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

// size is how much load there is, and for how long.
type size struct {
	before, after time.Duration // before the fault, and after it
	clients       int           // with short sessions, and as many with long ones
	sessions      int           // long sessions of each client
	pause         time.Duration // of a client after each session, or each visit to one
}

// load is the work of honest clients, and of a thief.
type load struct {
	tally
	lab     *lab
	running sync.RWMutex // held by each step
	auths   [servers]*middleware.Auth
	clients sync.WaitGroup
	ended   chan struct{}
	end     func()
	subject atomic.Int64
	stolen  []*stolenToken // under mu
}

func newLoad(l *lab) *load {
	load := &load{lab: l, ended: make(chan struct{})}
	load.rejected = map[middleware.Code]int{}
	load.end = sync.OnceFunc(func() { close(load.ended); load.clients.Wait() })
	return load
}

func (l *load) start() {
	l.lab.cleanup(l.end)
	l.lastSuccess.Store(time.Now().UnixNano())
	for range l.lab.size.clients {
		l.clients.Go(l.shortSessions)
		l.clients.Go(l.longSessions)
	}
	l.clients.Go(l.thief)
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

type step func(context.Context, *middleware.Auth) error

func verify(token string) step {
	return func(ctx context.Context, a *middleware.Auth) error {
		_, err := a.Verify(ctx, token)
		return err
	}
}

// step runs a step at a server. It returns the code of the error, or "".
func (l *load) step(server int, call step) (code middleware.Code) {
	l.running.RLock()
	defer l.running.RUnlock()
	if err := call(context.Background(), l.auths[server]); err != nil {
		var e *middleware.Error
		if !errors.As(err, &e) {
			panic(err) // a mistake of this program
		}
		code = e.Code
	}
	l.count(code)
	return code
}

// ask repeats a step at any server until the answer is not 503. It returns false if the load has ended, or if the client
// no longer needs an answer.
func (l *load) ask(call step, needless func() bool) (middleware.Code, bool) {
	for {
		if code := l.step(rand.IntN(servers), call); code != middleware.CodeStoreUnavailable {
			return code, true
		}
		if !l.pause(50*time.Millisecond) || needless() {
			return "", false
		}
	}
}

func never() bool { return false }

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

func newIssued(t middleware.Tokens) issued { return issued{t.AccessToken, t.Claims.ID, time.Now()} }

func (s *session) newest() issued { return s.tokens[len(s.tokens)-1] }

// login, visit, refresh and logout return false if the session is over, or the load.
func (l *load) login() (*session, bool) {
	s := &session{subject: strconv.FormatInt(l.subject.Add(1), 10), everywhere: rand.IntN(10) == 0}
	code, ok := l.ask(func(ctx context.Context, a *middleware.Auth) error {
		tokens, err := a.Issue(ctx, middleware.Identity{Subject: s.subject})
		s.tokens = []issued{newIssued(tokens)}
		return err
	}, never)
	return s, ok && l.accepted(code)
}

func (l *load) visit(s *session) bool {
	code, ok := l.ask(verify(s.newest().text), never)
	return ok && l.accepted(code)
}

// refresh refreshes the newest token in two tabs at once. A tab whose answer is 503 tries again, unless the other tab has
// the new token by then.
func (l *load) refresh(s *session) bool {
	type answer struct {
		code middleware.Code
		next issued
		ok   bool
	}
	var tabs [2]answer
	var done atomic.Bool
	var wait sync.WaitGroup
	for i := range tabs {
		wait.Go(func() {
			tab := &tabs[i]
			tab.code, tab.ok = l.ask(func(ctx context.Context, a *middleware.Auth) error {
				tokens, err := a.Refresh(ctx, s.newest().text)
				tab.next = newIssued(tokens)
				return err
			}, done.Load)
			if tab.ok && tab.code == "" {
				done.Store(true)
			}
		})
	}
	wait.Wait()
	next := s.newest()
	for _, tab := range tabs {
		switch {
		case !tab.ok || tab.code == "" && tab.next.id == s.newest().id: // no answer, or the same token again (R6a)
		case !l.accepted(tab.code):
			return false
		case next.id != s.newest().id && next.id != tab.next.id:
			l.forks.Add(1)
		default:
			next = tab.next
		}
	}
	if next.id != s.newest().id {
		l.refreshes.Add(1)
		s.tokens = append(s.tokens, next)
		l.stealReplaced(s)
	}
	return done.Load()
}

// logout ends the session, and tries a token of it elsewhere.
func (l *load) logout(s *session) bool {
	code, ok := l.ask(func(ctx context.Context, a *middleware.Auth) error {
		if s.everywhere {
			return a.RevokeSubject(ctx, s.subject)
		}
		return a.Logout(ctx, s.newest().text)
	}, never)
	if ok && l.accepted(code) {
		l.logouts.Add(1)
		l.tryOnce(l.steal(s, rand.IntN(len(s.tokens)), false))
	}
	return false
}

// shortSessions logs in, perhaps refreshes, and logs out.
func (l *load) shortSessions() {
	for l.pause(l.lab.size.pause) {
		s, ok := l.login()
		if ok && rand.IntN(2) == 0 {
			ok = l.refresh(s)
		}
		if ok && l.visit(s) {
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
		switch n := rand.IntN(200); {
		case sessions[i] == nil:
			sessions[i], ok = l.login()
		case n == 0:
			ok = l.logout(sessions[i])
		case n < 10:
			ok = l.refresh(sessions[i])
		default:
			ok = l.visit(sessions[i])
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
