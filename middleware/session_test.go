package middleware

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware/internal/jose"
	"github.com/ginrefresh/ginrefresh/middleware/internal/session"
	"github.com/ginrefresh/ginrefresh/store"
)

// The rules R2–R13, each in a test that names it. Time is the bubble's, so every boundary is exact.

var testSecret = []byte("0123456789abcdef0123456789abcdef")

// world is one bubble: a memory store and servers that share it.
type world struct {
	t     *testing.T
	store *store.Memory
}

// inBubble runs test in a bubble of fake time, at a whole second, so that iat and instants agree.
func inBubble(t *testing.T, test func(w world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		memory := store.NewMemory()
		defer func() { _ = memory.Close() }()
		test(world{t: t, store: memory})
	})
}

// server makes an Auth on the world's store: ttl 1 minute, refresh window 1 hour, grace 10 seconds.
func (w world) server(changes ...func(*Config)) *Auth {
	w.t.Helper()
	c := Config{
		Keys:       []Key{{Algorithm: HS256, Key: testSecret}},
		Store:      w.store,
		TTL:        time.Minute,
		RefreshTTL: time.Hour,
	}
	for _, change := range changes {
		change(&c)
	}
	auth, err := New(c)
	if err != nil {
		w.t.Fatal(err)
	}
	return auth
}

func wait(d time.Duration) { <-time.After(d) }

func (w world) login(a *Auth, id Identity) Tokens {
	w.t.Helper()
	if id.Subject == "" {
		id.Subject = "alice"
	}
	tokens, err := a.Issue(context.Background(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return tokens
}

func (w world) refresh(a *Auth, token string) Tokens {
	w.t.Helper()
	tokens, err := a.Refresh(context.Background(), token)
	if err != nil {
		w.t.Fatalf("refresh: %v", err)
	}
	return tokens
}

// verifies checks what a request with the token is answered, "" for a pass.
func (w world) verifies(a *Auth, token string, want Code) {
	w.t.Helper()
	_, err := a.Verify(context.Background(), token)
	w.expect("verify", err, want)
}

func (w world) refreshes(a *Auth, token string, want Code) {
	w.t.Helper()
	_, err := a.Refresh(context.Background(), token)
	w.expect("refresh", err, want)
}

func (w world) logsOut(a *Auth, token string, want Code) {
	w.t.Helper()
	w.expect("logout", a.Logout(context.Background(), token), want)
}

func (w world) expect(step string, err error, want Code) {
	w.t.Helper()
	if got := codeOf(err); got != want {
		w.t.Fatalf("%s: got %q, want %q", step, got, want)
	}
}

func codeOf(err error) Code {
	if err == nil {
		return ""
	}
	return asError(err).Code
}

func TestR2_ATokenPassesUntilExpAndLeeway(t *testing.T) {
	for _, leeway := range []time.Duration{0, 1500 * time.Millisecond} {
		t.Run(leeway.String(), func(t *testing.T) {
			inBubble(t, func(w world) {
				a := w.server(func(c *Config) { c.Leeway = leeway })
				token := w.login(a, Identity{}).AccessToken
				wait(time.Minute + leeway - time.Microsecond)
				w.verifies(a, token, "")
				wait(time.Microsecond)
				w.verifies(a, token, CodeTokenExpired)
			})
		})
	}
}

func TestR2_ATokenFromTheFutureIsInvalid(t *testing.T) {
	for _, test := range []struct{ leeway, tolerated time.Duration }{{0, 30 * time.Second}, {45 * time.Second, 45 * time.Second}} {
		inBubble(t, func(w world) {
			a := w.server(func(c *Config) { c.Leeway = test.leeway })
			for ahead, want := range map[time.Duration]Code{test.tolerated: "", test.tolerated + time.Second: CodeTokenInvalid} {
				token := w.forge(a, func(t *session.Token) { t.AuthTime = time.Now().Add(ahead).Unix() })
				w.verifies(a, token, want)
				w.refreshes(a, token, want)
			}
		})
	}
}

// forge issues a token that no login would issue.
func (w world) forge(a *Auth, change func(*session.Token)) string {
	w.t.Helper()
	claims := w.login(a, Identity{}).Claims
	change(claims.token)
	return w.text(a, claims)
}

func TestR3_AfterLogoutNothingOfTheSessionPasses(t *testing.T) {
	inBubble(t, func(w world) {
		a, b := w.server(), w.server()
		first := w.login(a, Identity{}).AccessToken
		second := w.refresh(a, first).AccessToken
		other := w.login(a, Identity{}).AccessToken
		w.logsOut(a, second, "")
		for _, server := range []*Auth{a, b} {
			w.verifies(server, first, CodeTokenRevoked)
			w.verifies(server, second, CodeTokenRevoked)
			w.refreshes(server, first, CodeTokenRevoked)
			w.refreshes(server, second, CodeTokenRevoked)
			w.verifies(server, other, "")
		}
	})
}

func TestR4_AReplacedTokenPassesForTheGraceOnly(t *testing.T) {
	inBubble(t, func(w world) {
		a := w.server()
		first := w.login(a, Identity{}).AccessToken
		wait(time.Second)
		second := w.refresh(a, first).AccessToken
		wait(10 * time.Second)
		w.verifies(a, first, "")
		wait(time.Microsecond)
		w.verifies(a, first, CodeTokenRevoked)
		w.verifies(a, second, "")
	})
}

func TestR4_TheGrandparentPassesNotEvenInTheGrace(t *testing.T) {
	inBubble(t, func(w world) {
		a := w.server()
		first := w.login(a, Identity{}).AccessToken
		second := w.refresh(a, first).AccessToken
		wait(10*time.Second + time.Millisecond)
		third := w.refresh(a, second).AccessToken
		w.verifies(a, first, CodeTokenRevoked)
		w.verifies(a, second, "")
		w.verifies(a, third, "")
	})
}

func TestR4_ANegativeGraceIsNone(t *testing.T) {
	inBubble(t, func(w world) {
		a := w.server(func(c *Config) { c.Grace = -1 })
		first := w.login(a, Identity{}).AccessToken
		w.refresh(a, first)
		w.verifies(a, first, CodeTokenRevoked)
		w.refreshes(a, first, CodeTokenReused)
	})
}

func TestR5_AnExpiredTokenIsRefreshedUntilTheDeadlineCountedFromLogin(t *testing.T) {
	for _, leeway := range []time.Duration{0, 2 * time.Second} {
		inBubble(t, func(w world) {
			a := w.server(func(c *Config) { c.Leeway = leeway })
			token := w.login(a, Identity{}).AccessToken
			for range 5 { // refreshing does not move the deadline
				wait(11 * time.Minute)
				w.verifies(a, token, CodeTokenExpired)
				token = w.refresh(a, token).AccessToken
			}
			wait(5*time.Minute + leeway - time.Microsecond)
			last := w.refresh(a, token).AccessToken
			wait(time.Microsecond)
			w.refreshes(a, last, CodeRefreshExpired)
			w.verifies(a, last, "") // R9: the deadline bounds refreshing, not the last token
		})
	}
}

func TestR5_AShortenedWindowAppliesAtOnceAndALengthenedOneRevivesNothing(t *testing.T) {
	window := func(d time.Duration) func(*Config) { return func(c *Config) { c.RefreshTTL = d } }
	inBubble(t, func(w world) {
		hour, halfHour, day := w.server(), w.server(window(30*time.Minute)), w.server(window(24*time.Hour))
		token := w.login(hour, Identity{}).AccessToken
		wait(30 * time.Minute)
		w.refreshes(halfHour, token, CodeRefreshExpired)
		token = w.refresh(hour, token).AccessToken
		wait(30 * time.Minute)
		w.refreshes(day, token, CodeRefreshExpired)
	})
}

func TestR5_IdleTTLCountsFromTheLastIssue(t *testing.T) {
	inBubble(t, func(w world) {
		a := w.server(func(c *Config) { c.IdleTTL = 10 * time.Minute })
		token := w.login(a, Identity{}).AccessToken
		for range 3 {
			wait(10*time.Minute - time.Microsecond)
			token = w.refresh(a, token).AccessToken
		}
		wait(10 * time.Minute)
		w.refreshes(a, token, CodeRefreshExpired)
	})
}

func TestR6R7_ParallelRefreshesGiveOneSuccessor(t *testing.T) {
	inBubble(t, func(w world) {
		servers := []*Auth{w.server(), w.server()}
		token := w.login(servers[0], Identity{}).AccessToken
		for range 20 {
			wait(90 * time.Second)
			var wg sync.WaitGroup
			answers := make([]Tokens, 64)
			for i := range answers {
				wg.Go(func() { answers[i] = w.refresh(servers[i%2], token) })
			}
			wg.Wait()
			for _, answer := range answers {
				if answer.AccessToken != answers[0].AccessToken {
					w.t.Fatalf("two successors:\n%s\n%s", answer.AccessToken, answers[0].AccessToken)
				}
			}
			token = answers[0].AccessToken
			w.verifies(servers[1], token, "")
		}
	})
}

func TestR7_TheGraceIsNeverExtended(t *testing.T) {
	inBubble(t, func(w world) {
		a := w.server()
		first := w.login(a, Identity{}).AccessToken
		wait(time.Second)
		second := w.refresh(a, first)
		for range 4 { // each use falls into the grace
			wait(2500 * time.Millisecond)
			again := w.refresh(a, first)
			if again.Claims.ID != second.Claims.ID || !again.Claims.IssuedAt.Equal(second.Claims.IssuedAt) || !again.ExpiresAt.Equal(second.ExpiresAt) {
				w.t.Fatalf("another successor: %+v, want %+v", again.Claims, second.Claims)
			}
		}
		wait(time.Microsecond)
		w.refreshes(a, first, CodeTokenReused)
	})
}

func TestR7_TheGraceHelpsOnlyTheImmediatePredecessor(t *testing.T) {
	inBubble(t, func(w world) {
		a := w.server()
		first := w.login(a, Identity{}).AccessToken
		second := w.refresh(a, first).AccessToken
		wait(10*time.Second + time.Millisecond)
		w.refresh(a, second)
		w.refreshes(a, first, CodeTokenReused)
		w.refreshes(a, second, CodeTokenRevoked) // R8 ended the session
	})
}

func TestR8_ReuseEndsTheSessionUnlessItIsKept(t *testing.T) {
	for _, keep := range []bool{false, true} {
		inBubble(t, func(w world) {
			a := w.server(func(c *Config) { c.KeepSessionOnReuse = keep })
			first := w.login(a, Identity{}).AccessToken
			other := w.login(a, Identity{}).AccessToken
			second := w.refresh(a, first).AccessToken
			wait(11 * time.Second)
			w.refreshes(a, first, CodeTokenReused)
			want := CodeTokenRevoked
			if keep {
				want = ""
			}
			w.verifies(a, second, want)
			w.refreshes(a, second, want)
			w.verifies(a, other, "")
		})
	}
}

func TestR8_ReuseUnderAutoRefreshEndsTheSessionToo(t *testing.T) {
	inBubble(t, func(w world) {
		a := w.server()
		first := w.login(a, Identity{})
		second := w.refresh(a, first.AccessToken).AccessToken
		wait(11 * time.Second)
		_, _, err := a.autoRefresh(context.Background(), first.AccessToken, 0)
		w.expect("renew", err, CodeTokenReused)
		w.verifies(a, second, CodeTokenRevoked)
	})
}

func TestR9_TheSuccessorKeepsTheSessionAndItsLifetimes(t *testing.T) {
	inBubble(t, func(w world) {
		a := w.server()
		first := w.login(a, Identity{TTL: 20 * time.Second, RefreshTTL: 30 * time.Minute, Claims: map[string]any{"role": "admin"}}).Claims
		wait(29 * time.Minute)
		tokens := w.refresh(a, w.text(a, first)).Claims
		if tokens.SessionID != first.SessionID || !tokens.AuthTime.Equal(first.AuthTime) || !tokens.RefreshUntil.Equal(first.RefreshUntil) {
			w.t.Errorf("another session: %+v, was %+v", tokens, first)
		}
		if ttl := tokens.ExpiresAt.Sub(tokens.IssuedAt); ttl != 20*time.Second {
			w.t.Errorf("ttl is %v, was 20s", ttl)
		}
		if !tokens.IssuedAt.Equal(time.Now().Truncate(time.Second)) {
			w.t.Errorf("issued at %v, now is %v", tokens.IssuedAt, time.Now())
		}
		var own struct{ Role string }
		if err := tokens.Decode(&own); err != nil || own.Role != "admin" {
			w.t.Errorf("own claims are %+v, %v", own, err)
		}
	})
}

// text signs a token again. With HS256 the text depends only on the claims.
func (w world) text(a *Auth, claims Claims) string {
	w.t.Helper()
	t := *claims.token
	text, err := a.codec.Encode(a.verifier.Load().keys, &t)
	if err != nil {
		w.t.Fatal(err)
	}
	return text
}

func TestR9_ReloadGivesFreshClaimsAndItsFailureUsesNothingUp(t *testing.T) {
	inBubble(t, func(w world) {
		var fresh any
		var failure error
		asked := 0
		a := w.server(func(c *Config) {
			c.Reload = func(_ context.Context, claims Claims) (any, error) {
				asked++
				if claims.Subject != "alice" {
					w.t.Errorf("Reload was asked about %q", claims.Subject)
				}
				return fresh, failure
			}
		})
		token := w.login(a, Identity{Claims: map[string]any{"role": "user"}}).AccessToken
		for _, test := range []struct {
			claims  any
			failure error
			want    Code
		}{
			{nil, fmt.Errorf("alice is locked: %w", ErrRefused), CodeSubjectRefused},
			{nil, errors.New("the database is down"), CodeStoreUnavailable},
			{map[string]any{"sub": "mallory"}, nil, CodeServerError},
			{map[string]any{"pad": strings.Repeat("x", jose.MaxBytes)}, nil, CodeServerError},
		} {
			fresh, failure = test.claims, test.failure
			w.refreshes(a, token, test.want)
		}
		if w.store.Len() != 0 {
			w.t.Error("R10: a refresh that failed has left a record")
		}
		wait(time.Hour / 2) // long after any grace: the token was not used up
		fresh, failure = map[string]any{"role": "admin"}, nil
		tokens := w.refresh(a, token)
		var own struct{ Role string }
		if err := tokens.Claims.Decode(&own); err != nil || own.Role != "admin" {
			w.t.Errorf("own claims are %+v, %v", own, err)
		}
		if asked != 5 {
			w.t.Errorf("Reload was asked %d times, want once a refresh", asked)
		}
	})
}

func TestR10_NothingIsSwappedBeforeTheAnswerIsMade(t *testing.T) {
	inBubble(t, func(w world) {
		a := w.server()
		first := w.login(a, Identity{}).Claims.token
		broken := errors.New("no signature today")
		refresh, err := a.rules.BeginRefresh(context.Background(), first)
		if err != nil {
			w.t.Fatal(err)
		}
		if err := refresh.Commit(func(*session.Token) error { return broken }); !errors.Is(err, broken) {
			w.t.Fatalf("got %v", err)
		}
		if w.store.Len() != 0 {
			w.t.Fatal("the token was used up")
		}
	})
}

func TestR11_LogoutTakesAnyGenuineTokenOfTheSessionUpToTheDeadline(t *testing.T) {
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
					w.t.Fatalf("after logout the last token is answered %q", code)
				}
				if code := codeOf(second(a.Refresh(context.Background(), last))); code != CodeTokenRevoked && code != CodeRefreshExpired {
					w.t.Fatalf("after logout the last token refreshes: %q", code)
				}
			})
		})
	}
	inBubble(t, func(w world) {
		a := w.server()
		token := w.login(a, Identity{}).AccessToken
		wait(time.Hour + time.Minute - time.Microsecond)
		w.logsOut(a, token, "") // a token that was issued at the last moment may live yet
		wait(time.Microsecond)
		w.logsOut(a, token, CodeRefreshExpired)
	})
}

func second[T any](_ T, err error) error { return err }

func TestR11_NoRacingRefreshOutlivesALogout(t *testing.T) {
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

func TestR12_LogOutEverywhereHitsAllBeforeAndNothingAfter(t *testing.T) {
	inBubble(t, func(w world) {
		a, b := w.server(), w.server()
		bob := w.login(a, Identity{Subject: "bob"}).AccessToken
		var dead []string
		for range 5 { // all of it in one microsecond
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
				w.t.Error("R7: another successor where instants run ahead of the clock")
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

func TestR12_LogoutAllTakesAnExpiredTokenAndNoReplacedOne(t *testing.T) {
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

func TestRevokeSessionEndsOneSessionByItsID(t *testing.T) {
	inBubble(t, func(w world) {
		a := w.server()
		phone, laptop := w.login(a, Identity{}), w.login(a, Identity{})
		if err := a.RevokeSession(context.Background(), phone.Claims.SessionID); err != nil {
			w.t.Fatal(err)
		}
		w.refreshes(a, phone.AccessToken, CodeTokenRevoked)
		w.verifies(a, laptop.AccessToken, "")
		if a.RevokeSession(context.Background(), "") == nil || a.RevokeSubject(context.Background(), "") == nil {
			w.t.Error("an empty id was taken")
		}
	})
}

func TestR13_ARecordOutlivesAllThatItRevokesAndThenGoes(t *testing.T) {
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

func TestR13_TheRecordOfTheLastTokenLastsAsLongAsTheToken(t *testing.T) {
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
					w.t.Fatal("a logged-out token passes")
				}
			}
		})
	}
}

func TestR13_ALoginAsksForShorterLifetimesOnly(t *testing.T) {
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
				w.t.Errorf("%+v was taken", id)
			}
		}
	})
}

func TestTheBlacklistGrowsWithSessionsAndNotWithRefreshes(t *testing.T) {
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

func TestInstantsNeverRepeatAndNeverGoBack(t *testing.T) {
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

// backend is a store that has to be asked, so that it can fail, hang, and show what it was asked.
type backend struct {
	Store
	failure error
	hangs   bool
	broken  bool // refuses every swap
	calls   int
}

func (b *backend) fault(ctx context.Context) error {
	b.calls++
	if b.hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	return b.failure
}

func (b *backend) Get(ctx context.Context, keys ...string) ([]string, error) {
	if err := b.fault(ctx); err != nil {
		return make([]string, len(keys)), err
	}
	return b.Store.Get(ctx, keys...)
}

func (b *backend) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	if err := b.fault(ctx); err != nil || b.broken {
		return false, err
	}
	return b.Store.CompareAndSwap(ctx, key, old, new, expires)
}

func TestR14_AStoreThatFailsOrHangsIsUnavailableAndUsesNothingUp(t *testing.T) {
	for name, fault := range map[string]func(*backend){
		"fails": func(b *backend) { b.failure = errors.New("dial tcp 10.0.0.7: connection refused") },
		"hangs": func(b *backend) { b.hangs = true },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w world) {
				b := &backend{Store: w.store}
				a := w.server(func(c *Config) { c.Store = b })
				token := w.login(a, Identity{}).AccessToken
				ctx := context.Background()
				for step, call := range map[string]func() error{
					"login":          func() error { return second(a.Issue(ctx, Identity{Subject: "alice"})) },
					"verify":         func() error { return second(a.Verify(ctx, token)) },
					"refresh":        func() error { return second(a.Refresh(ctx, token)) },
					"logout":         func() error { return a.Logout(ctx, token) },
					"logout all":     func() error { return second(a.logoutEverywhere(ctx, token)) },
					"revoke session": func() error { return a.RevokeSession(ctx, "x") },
					"revoke subject": func() error { return a.RevokeSubject(ctx, "alice") },
				} {
					*b = backend{Store: w.store}
					fault(b)
					start := time.Now()
					err := call()
					w.expect(step, err, CodeStoreUnavailable)
					if strings.Contains(err.Error(), "10.0.0.7") {
						w.t.Errorf("%s: the error shows the driver's words: %v", step, err)
					}
					if took := time.Since(start); took > time.Second {
						w.t.Errorf("%s took %v, StoreTimeout is 1s", step, took)
					}
				}
				*b = backend{Store: w.store}
				w.verifies(a, token, "")
				w.refresh(a, token)
			})
		})
	}
}

// A step that asks the store several times waits for it no longer than one that asks once.
func TestR14_TheTimeoutIsTheStepsAndNotEachCalls(t *testing.T) {
	inBubble(t, func(w world) {
		slow := &slowBackend{Store: w.store}
		a := w.server(func(c *Config) { c.Store = slow })
		token := w.login(a, Identity{}).AccessToken
		start := time.Now()
		w.refreshes(a, token, CodeStoreUnavailable)
		if took := time.Since(start); took != time.Second {
			w.t.Errorf("refresh took %v, StoreTimeout is 1s", took)
		}
	})
}

// slowBackend answers reads late and swaps never.
type slowBackend struct{ Store }

func (b *slowBackend) Get(ctx context.Context, keys ...string) ([]string, error) {
	wait(700 * time.Millisecond)
	return b.Store.Get(ctx, keys...)
}

func (b *slowBackend) CompareAndSwap(ctx context.Context, _, _, _ string, _ time.Time) (bool, error) {
	<-ctx.Done()
	return false, ctx.Err()
}

func TestR14_AStoreThatNeverSwapsIsUnavailableAndNoEndlessLoop(t *testing.T) {
	inBubble(t, func(w world) {
		b := &backend{Store: w.store, broken: true}
		a := w.server(func(c *Config) { c.Store = b })
		token := w.login(a, Identity{}).AccessToken
		w.refreshes(a, token, CodeStoreUnavailable)
		w.logsOut(a, token, CodeStoreUnavailable)
	})
}

func TestR14_ARecordThatCannotBeReadIsNeverAPass(t *testing.T) {
	for _, value := range []string{"x", "1", "1.", ".1", "1.1.", "1.1.1.1.1", "01.1", "A.1", "-1.1", "zzzzzzzzzzzzz.1", "{}"} {
		inBubble(t, func(w world) {
			a := w.server()
			tokens := w.login(a, Identity{})
			far := time.Now().Add(time.Hour)
			if _, err := w.store.CompareAndSwap(context.Background(), "s:"+tokens.Claims.SessionID, "", value, far); err != nil {
				w.t.Fatal(err)
			}
			w.verifies(a, tokens.AccessToken, CodeStoreUnavailable)
			w.refreshes(a, tokens.AccessToken, CodeStoreUnavailable)
			w.logsOut(a, tokens.AccessToken, "") // what ends a session needs no old record

			other := w.login(a, Identity{Subject: "bob"})
			if _, err := w.store.CompareAndSwap(context.Background(), "u:bob", "", value, far); err != nil {
				w.t.Fatal(err)
			}
			w.verifies(a, other.AccessToken, CodeStoreUnavailable)
			_, err := a.Issue(context.Background(), Identity{Subject: "bob"})
			w.expect("login", err, CodeStoreUnavailable)
		})
	}
}

// stale answers reads from what it heard up to two seconds ago, and late, as a store with MaxStaleness over a slow
// network does.
type stale struct {
	Store
	mu    sync.Mutex
	known map[string]heard
}

type heard struct {
	value string
	at    time.Time
}

func (s *stale) Get(ctx context.Context, keys ...string) ([]string, error) {
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
		got, err := s.Store.Get(ctx, key)
		if err != nil {
			return nil, err
		}
		wait(1100 * time.Millisecond)
		s.mu.Lock()
		s.known[key] = heard{got[0], asked}
		s.mu.Unlock()
		values[i] = got[0]
	}
	return values, nil
}

func (s *stale) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	swapped, err := s.Store.CompareAndSwap(ctx, key, old, new, expires)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, key)
	return swapped, err
}

// A thousand sessions are refreshed on a server whose clock is 0.9 s ahead, by answers that are 2 s old and 1.1 s
// late, while another server logs their subjects out everywhere. The bubble has one clock, so the other server's
// instants are moved.
func TestR3LogOutEverywhereAgainstAFleet(t *testing.T) {
	for name, pair := range map[string]bool{"one token": false, "pair": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w world) {
				a := w.server(func(c *Config) { c.Pair = pair })
				far := w.server(func(c *Config) {
					c.Pair, c.Store, c.StoreTimeout = pair, &stale{Store: w.store, known: map[string]heard{}}, 9*time.Second
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
					for range i % 3 { // so that some answers are known, and some records are there
						_, _ = far.Verify(context.Background(), tokens[0].AccessToken)
					}
					ahead()
					var wg sync.WaitGroup
					wg.Go(func() {
						if next, err := far.Refresh(context.Background(), refreshable(tokens[0])); err == nil {
							tokens = append(tokens, next)
						}
					})
					wait(time.Duration(i) * 2500 * time.Microsecond) // from before the look to after the swap
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

// A server whose clock is behind revokes after one whose clock is ahead. Its cutoff must be the later one, or the
// logins in between survive.
func TestR12_ASecondRevocationByAServerThatIsBehind(t *testing.T) {
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

// Signing may take time, and a second may begin meanwhile. The record must tell what was signed.
func TestR7_TheRecordTellsWhatWasSigned(t *testing.T) {
	inBubble(t, func(w world) {
		a := w.server()
		first := w.login(a, Identity{}).Claims.token
		wait(500 * time.Millisecond)
		refresh, err := a.rules.BeginRefresh(context.Background(), first)
		if err != nil {
			w.t.Fatal(err)
		}
		var signed session.Token
		err = refresh.Commit(func(next *session.Token) error {
			wait(700 * time.Millisecond)
			signed = *next
			return nil
		})
		if err != nil {
			w.t.Fatal(err)
		}
		again, err := a.rules.BeginRefresh(context.Background(), first)
		if err != nil {
			w.t.Fatal(err)
		}
		err = again.Commit(func(next *session.Token) error {
			if next.Instant != signed.Instant || next.IssuedAt != signed.IssuedAt || next.ExpiresAt != signed.ExpiresAt {
				w.t.Errorf("R7: the successor is %+v, signed was %+v", next, signed)
			}
			return nil
		})
		if err != nil {
			w.t.Fatal(err)
		}
	})
}
