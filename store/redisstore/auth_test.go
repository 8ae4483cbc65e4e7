//go:build unix

package redisstore_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store/internal/redistest"
	"github.com/ginrefresh/ginrefresh/store/redisstore"
)

// What the store promises, seen by those who rely on it: two servers on one Redis.

func newServer(t *testing.T, address string) *middleware.Auth {
	t.Helper()
	auth, err := middleware.New(middleware.Config{
		Keys:  []middleware.Key{{Algorithm: middleware.HS256, Key: []byte("a secret of more than thirty-two bytes")}},
		Store: newStore(t, dial(t, nil, address), redisstore.Options{}),
	})
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

// R14: a Redis that is gone, silent or takes no writes is answered 503 in time, lets nothing revoked through,
// and is used again soon after its return.
func TestR14_ServersOnAHarmedRedis(t *testing.T) {
	for name, fault := range map[string]struct{ harm, heal func(*redistest.Server) }{
		"killed":    {(*redistest.Server).Kill, (*redistest.Server).Restart},
		"frozen":    {(*redistest.Server).Freeze, (*redistest.Server).Thaw},
		"read-only": {func(s *redistest.Server) { s.Do("REPLICAOF", "127.0.0.1", "1") }, func(s *redistest.Server) { s.Do("REPLICAOF", "NO", "ONE") }},
	} {
		t.Run(name, func(t *testing.T) {
			redis := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
			auth := newServer(t, redis.Addr())
			living, ended := issue(t, auth), issue(t, auth)
			if err := auth.Logout(t.Context(), ended); err != nil {
				t.Fatal(err)
			}
			fault.harm(redis)
			for step, call := range map[string]func() error{
				"verify":         func() error { _, err := auth.Verify(t.Context(), living); return err },
				"verify revoked": func() error { _, err := auth.Verify(t.Context(), ended); return err },
				"refresh":        func() error { _, err := auth.Refresh(t.Context(), living); return err },
				"logout":         func() error { return auth.Logout(t.Context(), living) },
			} {
				start := time.Now()
				if err := call(); code(err) != middleware.CodeStoreUnavailable {
					t.Errorf("%s: %v, want store_unavailable", step, err)
				}
				if took := time.Since(start); took > middleware.DefaultStoreTimeout+500*time.Millisecond {
					t.Errorf("%s took %v", step, took)
				}
			}
			fault.heal(redis)
			returned := time.Now()
			for {
				_, err := auth.Verify(t.Context(), ended)
				if code(err) == middleware.CodeTokenRevoked {
					break
				}
				if err == nil {
					t.Fatal("a revoked token passes")
				}
				if time.Since(returned) > 2*time.Second {
					t.Fatalf("2 s after its return: %v", err)
				}
			}
		})
	}
}

// session is the sequential model of R11: once its logout has been answered, no server accepts a session's token.
var session = porcupine.Model{
	Init: func() any { return true },
	Step: func(state, input, output any) (bool, any) {
		switch alive := state.(bool); input {
		case "logout":
			return true, false
		default: // verify, at either server
			return output.(bool) == alive, alive
		}
	},
}

func TestR11_LogoutIsLinearizableOverTwoServers(t *testing.T) {
	redis := redistest.Start(t)
	servers := []*middleware.Auth{newServer(t, redis.Addr()), newServer(t, redis.Addr())}
	for range 50 {
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
			t.Fatal("a server accepted a token after a logout had been answered, or refused it before one was sent")
		}
	}
}
