package middleware_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
)

// R20: a session that is older than the blacklist is rejected. R21: a refreshed token without the record of its refresh
// proves that the store was rolled back.

// losing is a store that can lose its records, as a database server can.
type losing struct {
	mu      sync.Mutex
	records *store.Memory
	since   time.Time
}

func newLosing(t testing.TB) *losing {
	return &losing{records: newMemory(t), since: time.UnixMicro(0)}
}

func (s *losing) current() (*store.Memory, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.records, s.since
}

func (s *losing) Get(ctx context.Context, keys ...string) ([]string, time.Time, error) {
	records, since := s.current()
	values, _, err := records.Get(ctx, keys...)
	return values, since, err
}

func (s *losing) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	records, _ := s.current()
	return records.CompareAndSwap(ctx, key, old, new, expires)
}

// lose removes all records. since moves by ahead of the clock, or not at all if the store does not notice.
func (s *losing) lose(t testing.TB, ahead time.Duration, notices bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = newMemory(t)
	if notices {
		s.since = time.Now().Add(ahead)
	}
}

// withLosing runs a test in each mode, with two servers on a store that can lose its records.
func withLosing(t *testing.T, test func(t *testing.T, s *losing, auth, other *middleware.Auth, j *eventLog)) {
	t.Helper()
	eachMode(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		s, j := newLosing(t), &eventLog{}
		on := func(c *middleware.Config) { c.Store, c.OnEvent = s, j.record }
		test(t, s, server(on), server(on), j)
	})
}

func TestR20AnEmptiedStore(t *testing.T) {
	withLosing(t, func(t *testing.T, s *losing, auth, other *middleware.Auth, j *eventLog) {
		fresh := issueTokens(t, auth, middleware.Identity{})
		refreshed := refreshTokens(t, auth, issueTokens(t, auth, middleware.Identity{}))
		ended := issueTokens(t, auth, middleware.Identity{})
		wantCode(t, "logout", auth.Logout(t.Context(), ended.AccessToken), "")
		wait(time.Minute / 2)
		s.lose(t, time.Second, true)
		for what, tokens := range map[string]middleware.Tokens{"fresh": fresh, "refreshed": refreshed, "ended": ended} {
			for _, a := range []*middleware.Auth{auth, other} {
				j.take()
				wantVerify(t, "R20: "+what, a, tokens.AccessToken, middleware.CodeTokenRevoked)
				wantRefresh(t, "R20: "+what, a, refreshable(tokens), middleware.CodeTokenRevoked)
				for _, e := range j.take() {
					if e.Kind != middleware.EventStoreForgot || e.Code != middleware.CodeTokenRevoked {
						t.Errorf("R20: %s: event %v %v, want store_forgot", what, e.Kind, e.Code)
					}
				}
			}
			wantCode(t, "R11: logout of a forgotten session", other.Logout(t.Context(), tokens.AccessToken), "")
		}
		next := issueTokens(t, other, middleware.Identity{})
		for _, a := range []*middleware.Auth{auth, other} {
			wantVerify(t, "R20: a login after the loss", a, next.AccessToken, "")
		}
		next = refreshTokens(t, auth, next)
		wantVerify(t, "R20: its refresh", other, next.AccessToken, "")
		if err := auth.RevokeSubject(t.Context(), "admin"); err != nil {
			t.Fatal(err)
		}
		wantDead(t, "R12: a session born in the second after the loss", other, next)
	})
}

// The server's clock may be a second ahead when it makes since anew. A revocation must still be later than a login that
// was born at since.
func TestR20ARevocationRightAfterTheLoss(t *testing.T) {
	withLosing(t, func(t *testing.T, s *losing, auth, other *middleware.Auth, _ *eventLog) {
		s.lose(t, 2*time.Second, true)
		tokens := issueTokens(t, auth, middleware.Identity{})
		if err := other.RevokeSubject(t.Context(), "admin"); err != nil {
			t.Fatal(err)
		}
		wantDead(t, "R12, R20", auth, tokens)
		wantVerify(t, "R12: a login after it", auth, issueTokens(t, auth, middleware.Identity{}).AccessToken, "")
	})
}

// The store loses a revocation while a login checks the old password.
func TestR20TheStoreForgetsDuringALogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLosing(t)
		var auth *middleware.Auth
		during := func() {}
		auth = newAuth(t, func(c *middleware.Config) { c.Store = s }, authenticating(func(*gin.Context) (middleware.Identity, error) {
			during()
			return middleware.Identity{Subject: "admin"}, nil
		}))
		site := direct(t, routes(auth))
		site.send("POST", "/login").token(t)
		during = func() {
			if err := auth.RevokeSubject(t.Context(), "admin"); err != nil {
				t.Error(err)
			}
			s.lose(t, time.Second, true)
		}
		site.send("POST", "/login").rejected(t, middleware.CodeStoreUnavailable)
		during = func() {}
		text := site.send("POST", "/login").token(t) // since is still ahead of the clock, but the login has seen it before
		wantVerify(t, "R20: a login right after the loss", auth, text, "")
	})
}

// A store whose clock is far ahead must not give out tokens that every server takes for tokens from the future.
func TestR20SinceInTheFuture(t *testing.T) {
	withLosing(t, func(t *testing.T, s *losing, auth, _ *middleware.Auth, _ *eventLog) {
		s.lose(t, 31*time.Second, true)
		_, err := auth.Issue(t.Context(), middleware.Identity{Subject: "admin"})
		wantCode(t, "R20: since is 31 s ahead", err, middleware.CodeStoreUnavailable)
		wait(time.Second)
		tokens := issueTokens(t, auth, middleware.Identity{})
		wantVerify(t, "R20: since is 30 s ahead", auth, tokens.AccessToken, "")
	})
}

// A restart empties a store in memory.
func TestR20MemoryAfterARestart(t *testing.T) {
	eachMode(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		tokens := refreshTokens(t, server(), issueTokens(t, server(), middleware.Identity{}))
		wait(time.Second)
		restarted := func(options ...store.Option) *middleware.Auth {
			memory := store.NewMemory(options...)
			t.Cleanup(func() { _ = memory.Close() })
			return server(func(c *middleware.Config) { c.Store = memory })
		}
		auth := restarted()
		wantVerify(t, "R20", auth, tokens.AccessToken, middleware.CodeTokenRevoked)
		wantDead(t, "R20", auth, tokens)
		auth = restarted(store.DangerouslyAcceptOlderSessions())
		for range 3 {
			wantVerify(t, "DangerouslyAcceptOlderSessions", auth, tokens.AccessToken, "")
		}
		wantRefresh(t, "DangerouslyAcceptOlderSessions", auth, refreshable(tokens), "")
	})
}

func TestR21ARolledBackStore(t *testing.T) {
	withLosing(t, func(t *testing.T, s *losing, auth, other *middleware.Auth, j *eventLog) {
		untouched := issueTokens(t, auth, middleware.Identity{})
		first := issueTokens(t, auth, middleware.Identity{})
		second := refreshTokens(t, auth, first)
		wait(30 * time.Second)
		s.lose(t, 0, false)
		wantVerify(t, "R21: a token of which nothing was lost", auth, untouched.AccessToken, "")
		j.take()
		wantVerify(t, "R21: a refreshed token", auth, second.AccessToken, middleware.CodeTokenRevoked)
		if events := j.take(); len(events) != 1 || events[0].Kind != middleware.EventStoreForgot || !strings.Contains(events[0].Err.Error(), "lost its record") {
			t.Errorf("R21: events %+v, want one store_forgot", events)
		}
		wantDead(t, "R21: the session has ended: its first tokens", other, first)
		wantDead(t, "R21: the session has ended: its second tokens", other, second)
		wantVerify(t, "R21: the other session", other, untouched.AccessToken, "")
	})
}

// A refresh and a log-out everywhere detect it like a guard.
func TestR21EveryStep(t *testing.T) {
	for name, step := range map[string]func(auth *middleware.Auth, tokens middleware.Tokens) error{
		"verify": func(auth *middleware.Auth, tokens middleware.Tokens) error {
			return errOf(auth.Verify(context.Background(), tokens.AccessToken))
		},
		"refresh": func(auth *middleware.Auth, tokens middleware.Tokens) error {
			return errOf(auth.Refresh(context.Background(), refreshable(tokens)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			withLosing(t, func(t *testing.T, s *losing, auth, other *middleware.Auth, _ *eventLog) {
				first := issueTokens(t, auth, middleware.Identity{})
				second := refreshTokens(t, auth, first)
				s.lose(t, 0, false)
				wantCode(t, "R21", step(auth, second), middleware.CodeTokenRevoked)
				wantDead(t, "R21: the first tokens", other, first)
			})
		})
	}
}

// If the session cannot be ended, the answer is 503, and the next request tries again (R14).
func TestR21TheStoreFailsAfterwards(t *testing.T) {
	withLosing(t, func(t *testing.T, s *losing, auth, _ *middleware.Auth, _ *eventLog) {
		first := issueTokens(t, auth, middleware.Identity{})
		second := refreshTokens(t, auth, first)
		s.lose(t, 0, false)
		broken := &faulty{Store: s}
		broken.fault.Store(&fault{swap: func(context.Context) (bool, error) { return false, errDriver }})
		failing := newAuth(t, func(c *middleware.Config) { c.Store = broken })
		wantVerify(t, "R21, R14", failing, second.AccessToken, middleware.CodeStoreUnavailable)
		broken.fault.Store(nil)
		wantVerify(t, "R21", failing, second.AccessToken, middleware.CodeTokenRevoked)
		wantDead(t, "R21", auth, first)
	})
}

// A record expires with its last token. A server whose clock is behind that of the store must not take that for a loss
// while other tokens of the subject live.
func TestR21NoFalseAlarmAtTheEndOfASession(t *testing.T) {
	withLosing(t, func(t *testing.T, _ *losing, auth, _ *middleware.Auth, j *eventLog) {
		tokens := issueTokens(t, auth, middleware.Identity{})
		for time.Now().Before(tokens.RefreshUntil.Add(-30 * time.Second)) {
			wait(30 * time.Second)
			tokens = refreshTokens(t, auth, tokens)
		}
		for range 120 {
			wait(time.Second)
			_, _ = auth.Verify(t.Context(), tokens.AccessToken)
			_, _ = auth.Refresh(t.Context(), refreshable(tokens))
		}
		for _, e := range j.take() {
			if e.Kind == middleware.EventStoreForgot {
				t.Fatalf("R21: a false alarm: %v", e.Err)
			}
		}
	})
}
