package middleware_test

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// R1a: a step signs with the key set with which it verified the token.

// A key has leaked and is replaced while its thief refreshes. The refresh must not return a token signed with the new
// key.
func TestR1aAStepSignsWithTheKeysThatItVerifiedWith(t *testing.T) {
	eachMode(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		auth := server(slowReload(3 * time.Second))
		tokens := issueTokens(t, auth, middleware.Identity{})
		var next middleware.Tokens
		var wg sync.WaitGroup
		wg.Go(func() { next, _ = auth.Refresh(t.Context(), refreshable(tokens)) })
		wait(time.Second)
		if err := auth.SetKeys([]middleware.Key{hs256("new", []byte("another secret of 32 bytes or more"))}); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		wantDead(t, "R1a: the token of the replaced key", auth, tokens)
		wantDead(t, "R1a: its successor", auth, next)
	})
}

// Many thieves refresh tokens without a pause while the leaked key is replaced, round after round.
func TestKeyReplacementUnderLoad(t *testing.T) {
	const thieves = 32
	for name, reload := range map[string]time.Duration{"without Reload": 0, "with a slow Reload": 2 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			auth := newAuth(t, noGrace, func(c *middleware.Config) {
				if reload > 0 {
					slowReload(reload)(c)
				}
			})
			for round := range rounds(20, 200) {
				key := hs256(fmt.Sprint("key ", round), fmt.Appendf(nil, "the secret of round %d, which leaked", round))
				if err := auth.SetKeys([]middleware.Key{key}); err != nil {
					t.Fatal(err)
				}
				newest := make([]middleware.Tokens, thieves)
				replaced := make(chan struct{})
				var refreshed, done sync.WaitGroup
				for i := range newest {
					newest[i] = issueTokens(t, auth, middleware.Identity{Subject: fmt.Sprint("user ", i)})
				}
				for i := range newest {
					refreshed.Add(1)
					done.Go(func() {
						begun := sync.OnceFunc(refreshed.Done)
						for after := 0; after < 3; {
							next, err := auth.Refresh(t.Context(), newest[i].AccessToken)
							if err != nil {
								return // the key was replaced
							}
							newest[i] = next
							begun()
							runtime.Gosched()
							select {
							case <-replaced:
								after++ // one refresh may have been in flight
							default:
							}
						}
						t.Error("R1a: refreshes still succeed after the key was replaced")
					})
				}
				refreshed.Wait()
				if err := auth.SetKeys([]middleware.Key{hs256("new", []byte("a secret that has not leaked so far"))}); err != nil {
					t.Fatal(err)
				}
				close(replaced)
				done.Wait()
				for _, tokens := range newest {
					wantDead(t, "R1a: a session of the leaked key", auth, tokens)
				}
				if t.Failed() {
					t.Fatalf("round %d", round)
				}
			}
		})
	}
}
