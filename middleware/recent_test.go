package middleware_test

import (
	"context"
	"maps"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// remembering is a RecentPeeker that remembers what Get has returned until it is told to forget.
type remembering struct {
	*losing
	values map[string]string
	since  time.Time
	gets   int
}

func (s *remembering) Get(ctx context.Context, keys ...string) ([]string, time.Time, error) {
	s.gets++
	values, since, err := s.losing.Get(ctx, keys...)
	for i, value := range values {
		s.values[keys[i]] = value
	}
	s.since = since
	return values, since, err
}

func (s *remembering) PeekRecent(key string) (value string, since time.Time, known bool) {
	value, known = s.values[key]
	return value, s.since, known
}

func (s *remembering) Changes() (self any, counter func(key string) *atomic.Uint64) { return s, nil }

func (s *remembering) forget() { clear(s.values) }

// withRemembering runs a test in each mode, with a server whose store remembers its answers and one whose store does
// not.
func withRemembering(t *testing.T, test func(t *testing.T, s *remembering, here, there *middleware.Auth, j *eventLog)) {
	t.Helper()
	eachMode(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		s, j := &remembering{losing: newLosing(t), values: map[string]string{}}, &eventLog{}
		on := func(store middleware.Store) change {
			return func(c *middleware.Config) { c.Store, c.OnEvent = store, j.record }
		}
		test(t, s, server(on(s)), server(on(s.losing)), j)
	})
}

// wantGets checks how often f asks the store.
func (s *remembering) wantGets(t *testing.T, what string, want int, f func()) {
	t.Helper()
	before := s.gets
	f()
	if got := s.gets - before; got != want {
		t.Errorf("%s: the store is asked %d times, want %d", what, got, want)
	}
}

func TestRecentAnswers(t *testing.T) {
	withRemembering(t, func(t *testing.T, s *remembering, here, there *middleware.Auth, _ *eventLog) {
		tokens := issueTokens(t, there, middleware.Identity{})
		check := func(code middleware.Code) func() {
			return func() {
				t.Helper()
				wantVerify(t, "R3", here, tokens.AccessToken, code)
			}
		}
		s.wantGets(t, "first check", 1, check(""))
		s.wantGets(t, "second check", 0, check(""))
		wantCode(t, "logout elsewhere", there.Logout(t.Context(), tokens.AccessToken), "")
		s.wantGets(t, "before the logout is known", 0, check(""))
		s.forget()
		s.wantGets(t, "first check after it", 1, check(middleware.CodeTokenRevoked))
		s.wantGets(t, "second check after it", 0, check(middleware.CodeTokenRevoked))
	})
}

// Whatever writes asks the store first, whether it remembers the answer or not.
func TestRecentAnswersAreNotWrittenUpon(t *testing.T) {
	withRemembering(t, func(t *testing.T, s *remembering, here, there *middleware.Auth, _ *eventLog) {
		tokens := issueTokens(t, here, middleware.Identity{})
		verified := func() { t.Helper(); wantVerify(t, "before", here, tokens.AccessToken, "") }
		verified()
		old := maps.Clone(s.values)
		wait(time.Second)
		next := refreshTokens(t, there, tokens)
		wait(time.Minute / 2)
		s.values = maps.Clone(old)
		// Here the replaced token seems to be the current one. A refresh with it is reuse.
		wantRefresh(t, "R8", here, refreshable(tokens), middleware.CodeTokenReused)
		s.values = maps.Clone(old)
		wantRefresh(t, "R8: the session has ended", here, refreshable(next), middleware.CodeTokenRevoked)

		if err := there.RevokeSubject(t.Context(), "admin"); err != nil {
			t.Fatal(err)
		}
		s.values = maps.Clone(old)
		wantVerify(t, "R12: a login after the revocation", there, issueTokens(t, here, middleware.Identity{}).AccessToken, "")
	})
}

// The record here is older than the refresh at another server. That proves nothing (R21).
func TestRecentAnswersRaiseNoFalseAlarm(t *testing.T) {
	withRemembering(t, func(t *testing.T, s *remembering, here, there *middleware.Auth, j *eventLog) {
		tokens := issueTokens(t, there, middleware.Identity{})
		wantVerify(t, "before", here, tokens.AccessToken, "")
		for range 3 {
			wait(time.Minute / 2)
			tokens = refreshTokens(t, there, tokens)
			s.wantGets(t, "R21", 1, func() { wantVerify(t, "R21: a token that is newer than the answer", here, tokens.AccessToken, "") })
			s.wantGets(t, "R21", 0, func() { wantVerify(t, "R21: once more", here, tokens.AccessToken, "") })
		}
		for _, e := range j.take() {
			if e.Kind == middleware.EventStoreForgot {
				t.Errorf("R21: event %v", e)
			}
		}
	})
}

// A replaced token is asked for afresh: its grace period may have begun again.
func TestRecentAnswersDoNotEndTheGracePeriod(t *testing.T) {
	withRemembering(t, func(t *testing.T, s *remembering, here, there *middleware.Auth, _ *eventLog) {
		tokens := issueTokens(t, there, middleware.Identity{})
		if tokens.RefreshToken != "" {
			return // access tokens are not replaced
		}
		wait(time.Second)
		refreshTokens(t, there, tokens)
		wait(20 * time.Second)
		for range 2 {
			s.wantGets(t, "R4", 1, func() { wantVerify(t, "R4", here, tokens.AccessToken, middleware.CodeTokenRevoked) })
		}
	})
}

func TestRecentSinceIsChecked(t *testing.T) {
	withRemembering(t, func(t *testing.T, s *remembering, here, there *middleware.Auth, _ *eventLog) {
		tokens := issueTokens(t, there, middleware.Identity{})
		wantVerify(t, "before the loss", here, tokens.AccessToken, "")
		s.lose(t, time.Second, true)
		s.forget()
		s.wantGets(t, "R20", 1, func() { wantVerify(t, "R20", here, tokens.AccessToken, middleware.CodeTokenRevoked) })
		s.wantGets(t, "R20", 0, func() { wantVerify(t, "R20: once more", here, tokens.AccessToken, middleware.CodeTokenRevoked) })
	})
}

// embedding embeds a RecentPeeker and has a Get of its own, which must be used.
type embedding struct {
	*remembering
	gets int
}

func (s *embedding) Get(ctx context.Context, keys ...string) ([]string, time.Time, error) {
	s.gets++
	return s.remembering.Get(ctx, keys...)
}

func TestRecentAnswersOfAnEmbeddedStore(t *testing.T) {
	withRemembering(t, func(t *testing.T, s *remembering, _, there *middleware.Auth, _ *eventLog) {
		outer := &embedding{remembering: s}
		auth := newAuth(t, func(c *middleware.Config) { c.Store = outer })
		text := issue(t, auth, middleware.Identity{Subject: "admin"})
		outer.gets = 0
		for range 3 {
			wantVerify(t, "embedded", auth, text, "")
		}
		if outer.gets != 3 {
			t.Errorf("the Get of the struct is called %d times, want 3", outer.gets)
		}
	})
}
