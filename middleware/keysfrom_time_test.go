package middleware_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// R1b: Config.KeysFrom over time. The network is fake, so that the bubbles can end: a goroutine that is left fails the test.

// jwksServer is the other server as an http.RoundTripper, which counts the requests.
type jwksServer struct {
	handler http.Handler
	fetches atomic.Int32
	down    atomic.Bool
	panics  atomic.Bool
	delay   time.Duration
}

func (s *jwksServer) RoundTrip(r *http.Request) (*http.Response, error) {
	s.fetches.Add(1)
	if s.panics.Load() {
		panic("a broken transport")
	}
	select {
	case <-time.After(s.delay):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	if s.down.Load() {
		return nil, errors.New("connection refused")
	}
	recorder := httptest.NewRecorder()
	s.handler.ServeHTTP(recorder, r)
	return recorder.Result(), nil
}

// wantFetches checks the number of fetches since the last call.
func (s *jwksServer) wantFetches(t *testing.T, what string, want int32) {
	t.Helper()
	if got := s.fetches.Swap(0); got != want {
		t.Errorf("%s: %d fetches, want %d", what, got, want)
	}
}

// inKeysFrom runs a test in a bubble with a server that issues tokens for a day, and one that fetches its keys.
func inKeysFrom(t *testing.T, test func(t *testing.T, issuer, verifier *middleware.Auth, server *jwksServer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		memory := newMemory(t)
		_ = memory.Close() // see withoutSweeper
		store := func(c *middleware.Config) { c.Store, c.TTL = memory, 24*time.Hour }
		issuer := newAuth(t, store, keys(signers()[middleware.EdDSA]))
		server := &jwksServer{handler: routes(issuer)}
		test(t, issuer, newAuth(t, store, keysFrom("https://auth.example.org/jwks.json", &http.Client{Transport: server})), server)
	})
}

func setKeys(t *testing.T, auth *middleware.Auth, keys ...middleware.Key) {
	t.Helper()
	if err := auth.SetKeys(keys); err != nil {
		t.Fatal(err)
	}
}

// pass lets time pass in a bubble, and the timers that end at that instant run.
func pass(d time.Duration) {
	wait(d)
	synctest.Wait()
}

// unknownKey returns a forged token that names a key of its own.
func unknownKey(n int) string {
	return forge(`{"alg":"EdDSA","kid":"`+strconv.Itoa(n)+`","typ":"JWT"}`, "{}")
}

// The keys are fetched with the first token, and again with the first token after five minutes. If they are the same,
// the token cache is kept.
func TestKeysFromAge(t *testing.T) {
	inKeysFrom(t, func(t *testing.T, issuer, verifier *middleware.Auth, server *jwksServer) {
		pass(time.Hour)
		server.wantFetches(t, "before the first token", 0)
		text := login(t, issuer)
		for range 10 {
			verify(t, verifier, text)
		}
		server.wantFetches(t, "the first token", 1)
		pass(5*time.Minute - time.Nanosecond)
		verify(t, verifier, text)
		server.wantFetches(t, "before five minutes", 0)
		for range 5 {
			before, _ := verifier.CacheStats()
			pass(5 * time.Minute)
			if due, _ := verifier.CacheStats(); due != before {
				t.Errorf("CacheStats falls from %d hits to %d when the keys are due", before, due)
			}
			for range 10 {
				verify(t, verifier, text)
			}
			server.wantFetches(t, "after five minutes", 1)
		}
		// The first token after five minutes is verified with its signature, and then found in the cache that was kept.
		if hits, misses := verifier.CacheStats(); hits != 8+1+5*9 || misses != 2+5 {
			t.Errorf("%d hits and %d misses, want %d and %d", hits, misses, 8+1+5*9, 2+5)
		}
		pass(24*time.Hour - time.Minute - 30*time.Minute)
		server.wantFetches(t, "a day without tokens", 0)
	})
}

// A key that the other server removes is rejected after five minutes, although every token is in the cache.
func TestKeysFromRemovedKey(t *testing.T) {
	inKeysFrom(t, func(t *testing.T, issuer, verifier *middleware.Auth, server *jwksServer) {
		text := login(t, issuer)
		for range 3 {
			verify(t, verifier, text)
		}
		setKeys(t, issuer, signers()[middleware.ES256])
		pass(5*time.Minute - time.Nanosecond)
		verify(t, verifier, text)
		pass(time.Nanosecond)
		for range 3 {
			wantVerify(t, "its key was removed", verifier, text, middleware.CodeTokenInvalid)
		}
		verify(t, verifier, login(t, issuer))
		server.wantFetches(t, "in all", 2)
	})
}

// A new key is fetched when a token names it, if the last fetch is ten seconds ago.
func TestKeysFromNewKey(t *testing.T) {
	inKeysFrom(t, func(t *testing.T, issuer, verifier *middleware.Auth, server *jwksServer) {
		old, next := signers()[middleware.EdDSA], signers()[middleware.ES256]
		before := login(t, issuer)
		verify(t, verifier, before)
		setKeys(t, issuer, next, old)
		after := login(t, issuer)
		pass(10*time.Second - time.Nanosecond)
		wantVerify(t, "before ten seconds", verifier, after, middleware.CodeTokenInvalid)
		server.wantFetches(t, "before ten seconds", 1)
		pass(time.Nanosecond)
		for range 3 {
			verify(t, verifier, after)
			verify(t, verifier, before)
		}
		server.wantFetches(t, "after ten seconds", 1)
		pass(5*time.Minute - time.Nanosecond)
		verify(t, verifier, before)
		server.wantFetches(t, "less than five minutes after the last fetch", 0)
	})
}

// A flood of tokens that name unknown keys causes a fetch in ten seconds at most, whether the other server is up or
// down. Genuine tokens are accepted meanwhile.
func TestKeysFromFlood(t *testing.T) {
	inKeysFrom(t, func(t *testing.T, issuer, verifier *middleware.Auth, server *jwksServer) {
		text := login(t, issuer)
		verify(t, verifier, text)
		server.wantFetches(t, "the first token", 1)
		for _, down := range []bool{false, true, false} {
			server.down.Store(down)
			pass(10 * time.Second)
			want := map[bool]middleware.Code{false: middleware.CodeTokenInvalid, true: middleware.CodeStoreUnavailable}[down]
			for n := range 600 {
				var all sync.WaitGroup
				for i := range 4 {
					all.Go(func() { wantVerify(t, "an unknown key", verifier, unknownKey(4*n+i), want) })
				}
				all.Wait()
				verify(t, verifier, text)
				pass(100 * time.Millisecond)
			}
			server.wantFetches(t, "a minute", 6)
		}
		// Only a token that names an unknown key and is well formed causes a fetch.
		pass(time.Minute)
		for _, bad := range []string{"a.b.c", text + "A", forge(`{"alg":"EdDSA","kid":"1","typ":"JWT","crit":["x"]}`, "{}"), forge(`{"alg":"none","kid":1}`, "{}")} {
			wantVerify(t, "malformed", verifier, bad, middleware.CodeTokenInvalid)
		}
		server.wantFetches(t, "malformed tokens", 0)
	})
}

// If the other server is down, its keys are used for an hour, and then no longer, also from the cache. It is asked every
// ten seconds, and every second while there are no keys.
func TestKeysFromOutage(t *testing.T) {
	inKeysFrom(t, func(t *testing.T, issuer, verifier *middleware.Auth, server *jwksServer) {
		text := login(t, issuer)
		for range 3 {
			verify(t, verifier, text)
		}
		setKeys(t, issuer, signers()[middleware.ES256])
		server.down.Store(true)
		server.wantFetches(t, "the first token", 1)
		pass(5*time.Minute - time.Second)
		for range 55 * 60 {
			pass(time.Second)
			verify(t, verifier, text)
		}
		server.wantFetches(t, "55 minutes", 55*6)
		pass(time.Second - time.Nanosecond)
		verify(t, verifier, text)
		pass(time.Nanosecond)
		wantVerify(t, "after an hour", verifier, text, middleware.CodeStoreUnavailable)
		server.fetches.Store(0)
		for range 600 {
			pass(100 * time.Millisecond)
			wantVerify(t, "after an hour", verifier, text, middleware.CodeStoreUnavailable)
		}
		server.wantFetches(t, "a minute without keys", 60)
		server.down.Store(false)
		pass(time.Second)
		wantVerify(t, "its key was removed", verifier, text, middleware.CodeTokenInvalid)
		verify(t, verifier, login(t, issuer))
	})
}

// After a long time without a request, an old key is not used first: the fetch comes before the answer.
func TestKeysFromLongPause(t *testing.T) {
	inKeysFrom(t, func(t *testing.T, issuer, verifier *middleware.Auth, server *jwksServer) {
		text := login(t, issuer)
		verify(t, verifier, text)
		setKeys(t, issuer, signers()[middleware.ES256])
		pass(59 * time.Minute)
		wantVerify(t, "its key was removed", verifier, text, middleware.CodeTokenInvalid)
		server.down.Store(true)
		text = login(t, issuer)
		verify(t, verifier, text)
		pass(2 * time.Hour)
		wantVerify(t, "the other server is down", verifier, text, middleware.CodeStoreUnavailable)
	})
}

// The hour counts from the beginning of the fetch, and ends between two attempts as well.
func TestKeysFromHour(t *testing.T) {
	inKeysFrom(t, func(t *testing.T, issuer, verifier *middleware.Auth, server *jwksServer) {
		text := login(t, issuer)
		began := time.Now()
		server.delay = 500 * time.Millisecond
		for range 3 {
			verify(t, verifier, text)
		}
		server.down.Store(true)
		pass(time.Until(began.Add(time.Hour - 5*time.Second)))
		verify(t, verifier, text)
		server.wantFetches(t, "in all", 2)
		pass(time.Until(began.Add(time.Hour - time.Nanosecond)))
		hits, _ := verifier.CacheStats()
		verify(t, verifier, text)
		if now, _ := verifier.CacheStats(); now != hits+1 {
			t.Error("the cache is not used after a failed fetch")
		}
		pass(time.Nanosecond)
		wantVerify(t, "after an hour", verifier, text, middleware.CodeStoreUnavailable)
	})
}

// Many requests at once share one fetch. At first all wait for it. When the keys are due, only the one that fetches does.
func TestKeysFromSingleFlight(t *testing.T) {
	inKeysFrom(t, func(t *testing.T, issuer, verifier *middleware.Auth, server *jwksServer) {
		server.delay = 500 * time.Millisecond
		text := login(t, issuer)
		atOnce := func(texts func(i int) string, want middleware.Code) (slow int32) {
			var all sync.WaitGroup
			var waited atomic.Int32
			for i := range 50 {
				all.Go(func() {
					began := time.Now()
					wantVerify(t, "at once", verifier, texts(i), want)
					if took := time.Since(began); took == server.delay {
						waited.Add(1)
					} else if took != 0 {
						t.Errorf("a request took %v", took)
					}
				})
			}
			all.Wait()
			return waited.Load()
		}
		same := func(int) string { return text }
		if slow := atOnce(same, ""); slow != 50 {
			t.Errorf("%d requests waited for the first keys, want 50", slow)
		}
		server.wantFetches(t, "the first tokens", 1)
		pass(10 * time.Minute)
		if slow := atOnce(same, ""); slow != 1 {
			t.Errorf("%d requests waited for keys that are due, want 1", slow)
		}
		server.wantFetches(t, "keys that are due", 1)
		pass(time.Minute)
		if slow := atOnce(unknownKey, middleware.CodeTokenInvalid); slow != 50 {
			t.Errorf("%d requests waited for unknown keys, want 50", slow)
		}
		server.wantFetches(t, "unknown keys", 1)
	})
}

// A fetch takes no longer than StoreTimeout, and it does not end when the client hangs up: otherwise a client that does
// so again and again would keep the keys from everybody.
func TestKeysFromTimeout(t *testing.T) {
	inKeysFrom(t, func(t *testing.T, issuer, verifier *middleware.Auth, server *jwksServer) {
		text := login(t, issuer)
		server.delay = time.Hour
		began := time.Now()
		wantVerify(t, "a slow server", verifier, text, middleware.CodeStoreUnavailable)
		if took := time.Since(began); took != time.Second {
			t.Errorf("the answer took %v, want StoreTimeout", took)
		}
		server.delay = 999 * time.Millisecond
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		_, _ = verifier.Verify(gone, text)
		verify(t, verifier, text)
		server.wantFetches(t, "in all", 2)
	})
}

// A transport that panics fails one request, and blocks none of the later ones.
func TestKeysFromPanic(t *testing.T) {
	inKeysFrom(t, func(t *testing.T, issuer, verifier *middleware.Auth, server *jwksServer) {
		text := login(t, issuer)
		server.panics.Store(true)
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic is lost")
				}
			}()
			_, _ = verifier.Verify(t.Context(), text)
		}()
		wantVerify(t, "after a panic", verifier, text, middleware.CodeStoreUnavailable)
		server.panics.Store(false)
		pass(time.Second)
		verify(t, verifier, text)
	})
}
