package middleware

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware/internal/jose"
	"github.com/ginrefresh/ginrefresh/middleware/internal/session"
)

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
			w.verifies(a, last, "") // R9: the deadline limits refreshing, not the last token
		})
	}
}

func TestR5_AShorterWindowAppliesAtOnceAndALongerOneRevivesNothing(t *testing.T) {
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

func TestR7_ARefreshDoesNotExtendTheGracePeriod(t *testing.T) {
	inBubble(t, func(w world) {
		a := w.server()
		first := w.login(a, Identity{}).AccessToken
		wait(time.Second)
		second := w.refresh(a, first)
		for range 4 { // each refresh is inside the grace period
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

func TestR7_OnlyTheDirectPredecessorHasAGracePeriod(t *testing.T) {
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

func TestR8_ReuseEndsTheSessionUnlessKeepSessionOnReuse(t *testing.T) {
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

func TestR8_ReuseUnderAutoRefreshEndsTheSession(t *testing.T) {
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

func TestR9_ReloadReplacesTheClaimsAndItsFailureUsesNothingUp(t *testing.T) {
	inBubble(t, func(w world) {
		var fresh any
		var failure error
		asked := 0
		a := w.server(func(c *Config) {
			c.Reload = func(_ context.Context, claims Claims) (any, error) {
				asked++
				if claims.Subject != "alice" {
					w.t.Errorf("Reload was called for %q", claims.Subject)
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
			w.t.Error("R10: a failed refresh left a record")
		}
		wait(time.Hour / 2) // long after any grace period: the token was not used up
		fresh, failure = map[string]any{"role": "admin"}, nil
		tokens := w.refresh(a, token)
		var own struct{ Role string }
		if err := tokens.Claims.Decode(&own); err != nil || own.Role != "admin" {
			w.t.Errorf("own claims are %+v, %v", own, err)
		}
		if asked != 5 {
			w.t.Errorf("Reload was called %d times, want once per refresh", asked)
		}
	})
}

func TestR10_SigningComesBeforeTheSwap(t *testing.T) {
	inBubble(t, func(w world) {
		a := w.server()
		first := w.login(a, Identity{}).Claims.token
		broken := errors.New("no signature today")
		refresh, err := a.rules.BeginRefresh(context.Background(), first, nil)
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

// Signing may take so long that another second begins. The record must match the signed token.
func TestR7_TheRecordMatchesTheSignedToken(t *testing.T) {
	inBubble(t, func(w world) {
		a := w.server()
		first := w.login(a, Identity{}).Claims.token
		wait(500 * time.Millisecond)
		refresh, err := a.rules.BeginRefresh(context.Background(), first, nil)
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
		again, err := a.rules.BeginRefresh(context.Background(), first, nil)
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
