//go:build unix

package redisstore_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store/internal/redistest"
	"github.com/ginrefresh/ginrefresh/store/redisstore"
)

// The tests in this file use the store through package middleware.

// newServer returns an Auth on the given Redis, with a client of its own.
func newServer(t *testing.T, redis *redistest.Server) *middleware.Auth {
	t.Helper()
	return newServerOn(t, connect(t, redis, redisstore.Options{}))
}

func newServerOn(t *testing.T, s *redisstore.Store, changes ...func(*middleware.Config)) *middleware.Auth {
	t.Helper()
	config := middleware.Config{
		Keys:  []middleware.Key{{Algorithm: middleware.HS256, Key: []byte("a secret of more than thirty-two bytes")}},
		Store: s,
	}
	for _, change := range changes {
		change(&config)
	}
	auth, err := middleware.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return auth
}

func issue(t *testing.T, auth *middleware.Auth) string {
	t.Helper()
	tokens, err := auth.Issue(t.Context(), middleware.Identity{Subject: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	return tokens.AccessToken
}

func code(err error) middleware.Code {
	var e *middleware.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// R14: if Redis is killed, frozen or read-only, every step fails in time with store_unavailable, and no revoked token passes.
// When Redis returns, it is used again soon.
func TestR14_ServersOnAHarmedRedis(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"killed", "frozen", "read-only replica"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			redis := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
			auth := newServer(t, redis)
			living, ended := issue(t, auth), issue(t, auth)
			if err := auth.Logout(t.Context(), ended); err != nil {
				t.Fatal(err)
			}
			faults[name].harm(redis, nil)
			var steps sync.WaitGroup
			for step, call := range map[string]func() error{
				"verify":         func() error { _, err := auth.Verify(t.Context(), living); return err },
				"verify revoked": func() error { _, err := auth.Verify(t.Context(), ended); return err },
				"refresh":        func() error { _, err := auth.Refresh(t.Context(), living); return err },
				"logout":         func() error { return auth.Logout(t.Context(), living) },
			} {
				steps.Go(func() {
					start := time.Now()
					if err := call(); code(err) != middleware.CodeStoreUnavailable {
						t.Errorf("%s: %v, want store_unavailable", step, err)
					}
					if took := time.Since(start); took > middleware.DefaultStoreTimeout+500*time.Millisecond {
						t.Errorf("%s took %v", step, took)
					}
				})
			}
			steps.Wait()
			faults[name].heal(redis, nil)
			untilRevoked(t, auth, ended)
		})
	}
}

// untilRevoked waits until the server refuses a revoked token. It must never accept the token.
func untilRevoked(t *testing.T, auth *middleware.Auth, token string) {
	t.Helper()
	for returned := time.Now(); ; {
		_, err := auth.Verify(t.Context(), token)
		if code(err) == middleware.CodeTokenRevoked {
			return
		}
		if err == nil {
			t.Fatal("a revoked token passes")
		}
		if time.Since(returned) > 2*time.Second {
			t.Fatalf("2 s after the return of Redis: %v", err)
		}
	}
}

// session is the sequential model of R11: after the answer to a logout, no server accepts a token of the session.
var session = porcupine.Model{
	Init: func() any { return true },
	Step: func(state, input, output any) (bool, any) {
		switch alive := state.(bool); input {
		case "logout":
			return true, false
		default: // verify, at one of the servers
			return output.(bool) == alive, alive
		}
	},
}

// R11: two servers share the blacklist, so a logout at one takes effect at both at once.
func TestR11_LogoutIsLinearizableOverTwoServers(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	servers := []*middleware.Auth{newServer(t, redis), newServer(t, redis)}
	logouts := rounds(50, 10)
	for range logouts {
		token := issue(t, servers[0])
		var mu sync.Mutex
		var history []porcupine.Operation
		var wg sync.WaitGroup
		begin := time.Now()
		for client := range 8 {
			wg.Go(func() {
				for i := range 20 {
					op := porcupine.Operation{ClientId: client, Input: "verify", Call: time.Since(begin).Nanoseconds()}
					auth := servers[rand.IntN(2)]
					if client == 0 && i == 10 {
						op.Input = "logout"
						if err := auth.Logout(context.Background(), token); err != nil {
							t.Error(err)
						}
					} else {
						_, err := auth.Verify(context.Background(), token)
						if code(err) == middleware.CodeStoreUnavailable {
							continue // on a busy machine an answer can take longer than StoreTimeout, and then says nothing
						}
						op.Output = err == nil
					}
					op.Return = time.Since(begin).Nanoseconds()
					mu.Lock()
					history = append(history, op)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if !porcupine.CheckOperations(session, history) {
			t.Fatal("a server accepted a token after the answer to a logout, or refused it before a logout was sent")
		}
	}
	t.Logf("proof: %d histories of a logout", logouts)
}

// R11, with MaxStaleness: the guards check without Redis, a logout takes effect at once here and soon elsewhere, and the
// store is asked before anything is written.
func TestR11_LocalChecks(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	stores := []*redisstore.Store{}
	servers := []*middleware.Auth{}
	for range 2 {
		s := connect(t, redis, redisstore.Options{MaxStaleness: time.Minute})
		stores, servers = append(stores, s), append(servers, newServerOn(t, s))
	}
	verify := func(i int, token string) middleware.Code {
		_, err := servers[i].Verify(t.Context(), token)
		return code(err)
	}
	token := issue(t, servers[0])
	for i, s := range stores {
		untilKept(t, s, "key")
		if got := verify(i, token); got != "" {
			t.Fatal(got)
		}
	}
	redis.Freeze()
	for i := range servers {
		if got := verify(i, token); got != "" {
			t.Errorf("server %d asks Redis: %v", i, got)
		}
	}
	if err := servers[0].Logout(t.Context(), token); code(err) != middleware.CodeStoreUnavailable {
		t.Errorf("a logout without Redis: %v", err)
	}
	redis.Thaw()
	token = issue(t, servers[0])
	for i := range servers {
		if got := verify(i, token); got != "" {
			t.Fatal(got)
		}
	}
	if err := servers[0].Logout(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	if got := verify(0, token); got != middleware.CodeTokenRevoked {
		t.Errorf("right after the logout: %q", got)
	}
	for deadline := time.Now().Add(20 * time.Second); verify(1, token) != middleware.CodeTokenRevoked; <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the logout is not known elsewhere after 20 s")
		}
	}
}

// R17: 64 parallel logins of a user at two servers, with a limit of five, leave exactly five sessions, alive and listed.
func TestR17_ParallelLoginsAtTwoServersKeepTheLimit(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	var servers [2]*middleware.Auth
	for i := range servers {
		servers[i] = newServerOn(t, connect(t, redis, redisstore.Options{}), func(c *middleware.Config) {
			c.MaxSessions = 5
			c.StoreTimeout = 9 * time.Second // each of the logins may have to wait for all others
		})
	}
	for range rounds(50, 2) {
		var tokens [64]middleware.Tokens
		var errs [64]error
		var wg sync.WaitGroup
		for i := range tokens {
			wg.Go(func() { tokens[i], errs[i] = servers[i%2].Issue(t.Context(), middleware.Identity{Subject: "alice"}) })
		}
		wg.Wait()
		if err := errors.Join(errs[:]...); err != nil {
			t.Fatal(err)
		}
		var alive, listed []string
		for i, token := range tokens {
			if _, err := servers[i/32].Verify(t.Context(), token.AccessToken); err == nil {
				alive = append(alive, token.Claims.SessionID)
			}
		}
		list, err := servers[0].Sessions(t.Context(), "alice")
		if err != nil {
			t.Fatal(err)
		}
		for _, session := range list {
			listed = append(listed, session.ID)
		}
		slices.Sort(alive)
		slices.Sort(listed)
		if len(alive) != 5 || !slices.Equal(alive, listed) {
			t.Fatalf("alive are %q, listed %q, want the same five", alive, listed)
		}
	}
}
