package middleware_test

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// A refresh that is under way while a leaked key is replaced must not carry the thief over to the new key.
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

// Thieves hold a key that leaked, and refresh without a pause while it is replaced.
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
								return // the key is gone
							}
							newest[i] = next
							begun()
							runtime.Gosched()
							select {
							case <-replaced:
								after++ // one refresh may have been under way, no more
							default:
							}
						}
						t.Error("R1a: the refreshes go on after the key was replaced")
					})
				}
				refreshed.Wait()
				if err := auth.SetKeys([]middleware.Key{hs256("new", []byte("a secret that nobody else knows yet"))}); err != nil {
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
