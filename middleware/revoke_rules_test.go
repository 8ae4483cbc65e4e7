package middleware

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"
)

func TestR11_LogoutTakesEveryGenuineTokenOfTheSession(t *testing.T) {
	for name, present := range map[string]func(w world, a *Auth, first string) (logout, last string){
		"current": func(w world, a *Auth, first string) (string, string) { return first, first },
		"expired": func(w world, a *Auth, first string) (string, string) {
			wait(2 * time.Minute)
			return first, first
		},
		"in grace": func(w world, a *Auth, first string) (string, string) {
			return first, w.refresh(a, first).AccessToken
		},
		"replaced": func(w world, a *Auth, first string) (string, string) {
			second := w.refresh(a, first).AccessToken
			wait(30 * time.Second)
			return first, w.refresh(a, second).AccessToken
		},
		"just before the deadline": func(w world, a *Auth, first string) (string, string) {
			wait(time.Hour - 2*time.Microsecond)
			last := w.refresh(a, first).AccessToken
			wait(time.Microsecond)
			return first, last
		},
		"alive after the deadline": func(w world, a *Auth, first string) (string, string) {
			wait(time.Hour - time.Microsecond)
			last := w.refresh(a, first).AccessToken
			wait(time.Second)
			return last, last
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w world) {
				a := w.server()
				logout, last := present(w, a, w.login(a, Identity{}).AccessToken)
				w.logsOut(a, logout, "")
				w.logsOut(a, logout, "") // twice is fine
				if code := codeOf(second(a.Verify(context.Background(), last))); code != CodeTokenRevoked && code != CodeTokenExpired {
					w.t.Fatalf("after logout the last token is rejected with %q", code)
				}
				if code := codeOf(second(a.Refresh(context.Background(), last))); code != CodeTokenRevoked && code != CodeRefreshExpired {
					w.t.Fatalf("after logout the refresh of the last token returns %q", code)
				}
			})
		})
	}
	inBubble(t, func(w world) {
		a := w.server()
		token := w.login(a, Identity{}).AccessToken
		wait(time.Hour + time.Minute - time.Microsecond)
		w.logsOut(a, token, "") // a token that was issued at the last moment may still be alive
		wait(time.Microsecond)
		w.logsOut(a, token, CodeRefreshExpired)
	})
}

func second[T any](_ T, err error) error { return err }

func TestR11_NoConcurrentRefreshSurvivesALogout(t *testing.T) {
	inBubble(t, func(w world) {
		a, b := w.server(), w.server()
		for range 200 {
			tokens := w.login(a, Identity{})
			var wg sync.WaitGroup
			var mu sync.Mutex
			got := []string{tokens.AccessToken}
			for i := range 8 {
				wg.Go(func() {
					if i == 4 {
						w.logsOut(b, tokens.AccessToken, "")
						return
					}
					if answer, err := a.Refresh(context.Background(), tokens.AccessToken); err == nil {
						mu.Lock()
						got = append(got, answer.AccessToken)
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			for _, token := range got {
				w.verifies(a, token, CodeTokenRevoked)
				w.refreshes(a, token, CodeTokenRevoked)
			}
		}
	})
}

func TestR12_LogOutEverywhereRevokesSessionsBeforeItAndNoneAfter(t *testing.T) {
	inBubble(t, func(w world) {
		a, b := w.server(), w.server()
		bob := w.login(a, Identity{Subject: "bob"}).AccessToken
		var dead []string
		for range 5 { // all within one microsecond
			dead = append(dead, w.login(a, Identity{}).AccessToken, w.login(b, Identity{}).AccessToken)
			dead = append(dead, w.refresh(b, dead[len(dead)-1]).AccessToken)
			if err := a.RevokeSubject(context.Background(), "alice"); err != nil {
				w.t.Fatal(err)
			}
			for _, token := range dead {
				w.verifies(b, token, CodeTokenRevoked)
				w.refreshes(b, token, CodeTokenRevoked)
			}
			alive := w.login(b, Identity{})
			w.verifies(a, alive.AccessToken, "")
			next := w.refresh(a, alive.AccessToken)
			w.verifies(b, next.AccessToken, "")
			if !next.Claims.IssuedAt.Equal(time.Now()) || !alive.Claims.IssuedAt.Equal(time.Now()) {
				w.t.Errorf("iat %v and %v are not the real time %v", alive.Claims.IssuedAt, next.Claims.IssuedAt, time.Now())
			}
			again := w.refresh(b, alive.AccessToken)
			if again.AccessToken != next.AccessToken {
				w.t.Error("R7: another successor although the instants are ahead of the clock")
			}
			dead = append(dead, alive.AccessToken, next.AccessToken)
		}
		w.verifies(a, bob, "")
	})
}

func TestR12_ClocksMayDifferByASecond(t *testing.T) {
	inBubble(t, func(w world) {
		a, ahead := w.server(), w.server()
		ahead.rules.LastInstant.Store(time.Now().Add(time.Second).UnixMicro() - 2)
		token := w.login(ahead, Identity{}).AccessToken
		w.verifies(a, token, "")
		w.expect("revoke", a.RevokeSubject(context.Background(), "alice"), "")
		w.verifies(a, token, CodeTokenRevoked)
	})
}

func TestR12_LogoutAllTakesAnExpiredTokenButNoReplacedOne(t *testing.T) {
	inBubble(t, func(w world) {
		a := w.server()
		first := w.login(a, Identity{}).AccessToken
		other := w.login(a, Identity{}).AccessToken
		second := w.refresh(a, first).AccessToken
		wait(2 * time.Minute)
		_, err := a.logoutEverywhere(context.Background(), first)
		w.expect("with a replaced token", err, CodeTokenRevoked)
		_, err = a.logoutEverywhere(context.Background(), second)
		w.expect("with an expired token", err, "")
		w.refreshes(a, other, CodeTokenRevoked)
		_, err = a.logoutEverywhere(context.Background(), second)
		w.expect("again", err, CodeTokenRevoked)
		wait(time.Hour)
		_, err = a.logoutEverywhere(context.Background(), second)
		w.expect("after the deadline", err, CodeRefreshExpired)
	})
}

func TestR11_RevokeSessionEndsOneSession(t *testing.T) {
	inBubble(t, func(w world) {
		a := w.server()
		phone, laptop := w.login(a, Identity{}), w.login(a, Identity{})
		if err := a.RevokeSession(context.Background(), phone.Claims.SessionID); err != nil {
			w.t.Fatal(err)
		}
		w.refreshes(a, phone.AccessToken, CodeTokenRevoked)
		w.verifies(a, laptop.AccessToken, "")
		if a.RevokeSession(context.Background(), "") == nil || a.RevokeSubject(context.Background(), "") == nil {
			w.t.Error("an empty id was accepted")
		}
	})
}

func TestR13_ARecordOutlivesEverythingItRevokesAndThenExpires(t *testing.T) {
	const leeway = 2 * time.Second
	for name, test := range map[string]struct {
		revoke func(w world, a *Auth, tokens Tokens) error
		life   time.Duration // of the record, from the login
	}{
		"refresh": {func(w world, a *Auth, tokens Tokens) error {
			w.refresh(a, tokens.AccessToken)
			return nil
		}, time.Hour + time.Minute + leeway},
		"logout": {func(w world, a *Auth, tokens Tokens) error {
			return a.Logout(context.Background(), tokens.AccessToken)
		}, time.Hour + time.Minute + leeway},
		"log out everywhere": {func(w world, a *Auth, tokens Tokens) error {
			return a.RevokeSubject(context.Background(), "alice")
		}, time.Second + time.Hour + time.Minute + leeway},
		"session by id": {func(w world, a *Auth, tokens Tokens) error {
			return a.RevokeSession(context.Background(), tokens.Claims.SessionID)
		}, time.Hour + time.Minute + leeway},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w world) {
				a := w.server(func(c *Config) { c.Leeway = leeway })
				if err := test.revoke(w, a, w.login(a, Identity{})); err != nil {
					w.t.Fatal(err)
				}
				wait(test.life - time.Millisecond)
				if n := w.store.Len(); n != 1 {
					w.t.Fatalf("%d records just before the end, want 1", n)
				}
				wait(time.Hour) // until the store has swept
				if n := w.store.Len(); n != 0 {
					w.t.Fatalf("%d records after the end, want none", n)
				}
			})
		})
	}
}

func TestR13_TheRecordLastsAsLongAsTheLastToken(t *testing.T) {
	const leeway = 2 * time.Second
	for _, withFirst := range []bool{false, true} {
		inBubble(t, func(w world) {
			a := w.server(func(c *Config) { c.Leeway = leeway })
			first := w.login(a, Identity{}).AccessToken
			wait(time.Hour + leeway - time.Microsecond)
			last := w.refresh(a, first).AccessToken
			logout := last
			if withFirst {
				logout = first
			}
			w.logsOut(a, logout, "")
			for range 700 {
				wait(100 * time.Millisecond)
				if codeOf(second(a.Verify(context.Background(), last))) == "" {
					w.t.Fatal("a logged-out token is accepted")
				}
			}
		})
	}
}

func TestR13_ALoginCanOnlyShortenTheLifetimes(t *testing.T) {
	inBubble(t, func(w world) {
		a := w.server()
		for _, test := range []struct{ askTTL, askWindow, ttl, window time.Duration }{
			{0, 0, time.Minute, time.Hour},
			{10 * time.Second, 20 * time.Minute, 10 * time.Second, 20 * time.Minute},
			{2 * time.Minute, 2 * time.Hour, time.Minute, time.Hour},
			{2500 * time.Millisecond, 0, 2 * time.Second, time.Hour},
			{0, 30 * time.Second, 30 * time.Second, 30 * time.Second},
		} {
			tokens := w.login(a, Identity{TTL: test.askTTL, RefreshTTL: test.askWindow})
			if ttl, window := time.Until(tokens.ExpiresAt), time.Until(tokens.RefreshUntil); ttl != test.ttl || window != test.window {
				w.t.Errorf("asked for %v and %v: got %v and %v, want %v and %v", test.askTTL, test.askWindow, ttl, window, test.ttl, test.window)
			}
		}
		for _, id := range []Identity{{Subject: "a", TTL: -time.Second}, {Subject: "a", TTL: time.Millisecond}, {Subject: "a", RefreshTTL: time.Millisecond}, {}} {
			if _, err := a.Issue(context.Background(), id); err == nil {
				w.t.Errorf("%+v was accepted", id)
			}
		}
	})
}

func TestTheBlacklistGrowsWithSessionsNotWithRefreshes(t *testing.T) {
	inBubble(t, func(w world) {
		a := w.server()
		tokens := make([]string, 1000)
		for i := range tokens {
			tokens[i] = w.login(a, Identity{Subject: fmt.Sprint("user", i)}).AccessToken
		}
		for range 100 {
			wait(10 * time.Second)
			for i := range tokens {
				tokens[i] = w.refresh(a, tokens[i]).AccessToken
			}
		}
		if n := w.store.Len(); n != 1000 {
			w.t.Fatalf("1,000 sessions and 100,000 refreshes left %d records, want 1,000", n)
		}
		wait(2 * time.Hour)
		if n := w.store.Len(); n != 0 {
			w.t.Fatalf("%d records after the deadline, want none", n)
		}
	})
}

func TestInstantsStrictlyIncrease(t *testing.T) {
	inBubble(t, func(w world) {
		a := w.server()
		seen := map[string]bool{}
		var last int64
		for range 100 {
			claims := w.login(a, Identity{}).Claims
			if seen[claims.ID] || claims.token.Instant <= last {
				w.t.Fatalf("instant %d after %d", claims.token.Instant, last)
			}
			seen[claims.ID], last = true, claims.token.Instant
		}
	})
}

// stale returns values that are up to two seconds old, and returns fresh ones late, like a store with MaxStaleness over a
// slow network.
type stale struct {
	Store
	mu    sync.Mutex
	known map[string]cachedValue
}

type cachedValue struct {
	value string
	at    time.Time
}

func (s *stale) Get(ctx context.Context, keys ...string) ([]string, time.Time, error) {
	values := make([]string, len(keys))
	for i, key := range keys {
		s.mu.Lock()
		known, ok := s.known[key]
		s.mu.Unlock()
		if ok && time.Since(known.at) <= 2*time.Second {
			values[i] = known.value
			continue
		}
		asked := time.Now()
		got, _, err := s.Store.Get(ctx, key)
		if err != nil {
			return nil, time.Time{}, err
		}
		wait(1100 * time.Millisecond)
		s.mu.Lock()
		s.known[key] = cachedValue{got[0], asked}
		s.mu.Unlock()
		values[i] = got[0]
	}
	return values, time.Time{}, nil
}

func (s *stale) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	swapped, err := s.Store.CompareAndSwap(ctx, key, old, new, expires)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, key)
	return swapped, err
}

// A thousand sessions are refreshed on a server whose clock is 0.9 s ahead and whose store is 2 s stale and 1.1 s slow.
// Meanwhile another server logs their subjects out everywhere. The bubble has one clock, so the test moves the instants
// of the first server.
func TestR3_LogOutEverywhereAgainstAFleet(t *testing.T) {
	for name, pair := range map[string]bool{"one token": false, "pair": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w world) {
				a := w.server(func(c *Config) { c.Pair = pair })
				far := w.server(func(c *Config) {
					c.Pair, c.Store, c.StoreTimeout = pair, &stale{Store: w.store, known: map[string]cachedValue{}}, 9*time.Second
				})
				ahead := func() { far.rules.LastInstant.Store(time.Now().Add(900 * time.Millisecond).UnixMicro()) }
				refreshable := func(tokens Tokens) string {
					if pair {
						return tokens.RefreshToken
					}
					return tokens.AccessToken
				}
				survivors := 0
				for i := range 1000 {
					subject := fmt.Sprint("user ", i)
					ahead()
					tokens := []Tokens{w.login(far, Identity{Subject: subject})}
					for range i % 3 { // so that some values are cached, and some records exist
						_, _ = far.Verify(context.Background(), tokens[0].AccessToken)
					}
					ahead()
					var wg sync.WaitGroup
					wg.Go(func() {
						if next, err := far.Refresh(context.Background(), refreshable(tokens[0])); err == nil {
							tokens = append(tokens, next)
						}
					})
					wait(time.Duration(i) * 2500 * time.Microsecond) // from before the read to after the swap
					if err := a.RevokeSubject(context.Background(), subject); err != nil {
						w.t.Fatal(err)
					}
					wg.Wait()
					for _, tokens := range tokens {
						_, passes := a.Verify(context.Background(), tokens.AccessToken)
						_, refreshes := a.Refresh(context.Background(), refreshable(tokens))
						if passes == nil || refreshes == nil {
							survivors++
						}
					}
				}
				if survivors > 0 {
					w.t.Errorf("R3: %d of 1,000 sessions survive", survivors)
				}
			})
		})
	}
}

// A server whose clock is behind revokes after one whose clock is ahead. Its cutoff must be the later one, or logins
// between the two revocations survive.
func TestR12_ASecondRevocationByAServerWhoseClockIsBehind(t *testing.T) {
	inBubble(t, func(w world) {
		ahead, behind := w.server(), w.server()
		ahead.rules.LastInstant.Store(time.Now().Add(900 * time.Millisecond).UnixMicro())
		for _, a := range []*Auth{ahead, behind, behind, ahead} {
			token := w.login(behind, Identity{}).AccessToken
			w.verifies(ahead, token, "")
			w.expect("revoke", a.RevokeSubject(context.Background(), "alice"), "")
			w.verifies(behind, token, CodeTokenRevoked)
			w.refreshes(ahead, token, CodeTokenRevoked)
		}
	})
}
