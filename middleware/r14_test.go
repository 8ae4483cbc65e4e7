package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// R14: a store that fails or hangs is answered 503, and nothing is used up.

// Get fails, or returns something that is not a list of records.
func TestR14StoreFails(t *testing.T) {
	t.Parallel()
	faults := map[string]*fault{
		"Get fails":            {get: failing},
		"Get returns too few":  {get: func(context.Context, []string) ([]string, error) { return nil, nil }},
		"Get returns too many": {get: func(_ context.Context, values []string) ([]string, error) { return append(values, "", ""), nil }},
		"fails with Canceled":  {get: func(context.Context, []string) ([]string, error) { return nil, context.Canceled }},
		"fails, with values":   {get: func(_ context.Context, values []string) ([]string, error) { return values, errDriver }},
	}
	for _, value := range []string{
		"x y", "Ended", "ended ", " ", "0", "-1", "+1", "1.", ".1", "1..2", "1.2.", "1.2.3.", "1.2.3.4.", "1.2.3.4.5", "01.1", "1.01", "A.B", "1,2", "1.2\n", "zzzzzzzzzzzz.1",
		"1.zzzzzzzzzzzzz", `{"cutoff":1}`, "\x00", "1e3.é",
	} {
		faults[fmt.Sprintf("record %q", value)] = answering(value)
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			store := &faulty{Store: newMemory(t)}
			d := newServer(t, func(c *middleware.Config) { c.Store = store })
			store.fault.Store(fault)
			for _, route := range append(tokenRoutes, struct{ method, path string }{"POST", "/login?user=admin"}) {
				if _, isRecord := strings.CutPrefix(name, "record"); isRecord && route.path == "/logout" {
					continue // it overwrites the record, whatever it is
				}
				r := d.send(route.method, route.path, bearer(d.text))
				if r.status != http.StatusServiceUnavailable {
					t.Errorf("R14: %s: not 503", route.path)
				}
				r.rejected(t, middleware.CodeStoreUnavailable)
				if strings.Contains(r.body+fmt.Sprint(r.header), "s3cret") {
					t.Errorf("R14: the response shows the driver's error: %s %v", r.body, r.header)
				}
			}
			d.send("GET", "/optional").passed(t, "guest") // without a token the store is not asked
			store.fault.Store(nil)
			d.send("GET", "/required", bearer(d.text)).passed(t, "admin")
			d.stillUsable("R14")
		})
	}
}

func TestR14SwapFails(t *testing.T) {
	for name, swap := range map[string]func(context.Context) (bool, error){"fails": failingSwap, "never succeeds": refusingSwap} {
		t.Run(name, func(t *testing.T) {
			store := &faulty{Store: newMemory(t)}
			d := newServer(t, noGrace, func(c *middleware.Config) { c.Store = store })
			replaced := login(t, d.auth)
			refresh(t, d.auth, replaced)
			store.fault.Store(&fault{swap: swap})
			// R8: token_reused says that the session has ended, so it must not be answered if ending it failed
			d.send("POST", "/refresh", bearer(replaced)).rejected(t, middleware.CodeStoreUnavailable)
			d.send("GET", "/autorefresh", bearer(replaced)).rejected(t, middleware.CodeStoreUnavailable)
			for _, path := range bodyRoutes {
				d.send("POST", path, bearer(d.text)).rejected(t, middleware.CodeStoreUnavailable)
			}
			for _, age := range []time.Duration{2 * time.Hour, almostExpired} {
				r := d.send("GET", "/autorefresh", bearer(aged(t, d.text, age)))
				r.rejected(t, middleware.CodeStoreUnavailable)
				if r.header.Get("Authorization") != "" {
					t.Error("R14: AutoRefresh returns a token although the swap failed")
				}
			}
			d.send("GET", "/required", bearer(d.text)).passed(t, "admin") // a guard only reads
			d.send("POST", "/login?user=admin").token(t)
			store.fault.Store(nil)
			d.stillUsable("R14")
		})
	}
}

// The application can unwrap the driver's error. The text of the error does not contain it, because clients may see the
// text.
func TestR14ErrorsOfTheSteps(t *testing.T) {
	store := &faulty{Store: newMemory(t)}
	auth := newAuth(t, func(c *middleware.Config) { c.Store = store })
	text := login(t, auth)
	store.fault.Store(&fault{get: failing})
	for name, call := range calls(auth) {
		err := call(t.Context(), text)
		if !hasCode(err, middleware.CodeStoreUnavailable) || !errors.Is(err, errDriver) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("R14: %s: %v, want %s that wraps the driver's error", name, err, middleware.CodeStoreUnavailable)
		}
	}
	store.fault.Store(answering("not a record"))
	for name, call := range calls(auth) {
		if name == "Logout" || name == "RevokeSession" {
			continue // they overwrite the record, whatever it is; here there is none, so their swaps fail
		}
		if err := call(t.Context(), text); !hasCode(err, middleware.CodeStoreUnavailable) || errors.Unwrap(err) == nil {
			t.Errorf("R14: %s with a malformed record: %v, want %s", name, err, middleware.CodeStoreUnavailable)
		}
	}
	for name, err := range map[string]error{
		"RevokeSession": auth.RevokeSession(t.Context(), ""), "RevokeSubject": auth.RevokeSubject(t.Context(), ""),
	} {
		if err == nil || hasCode(err, middleware.CodeStoreUnavailable) {
			t.Errorf("%s of the empty text: %v, want another error", name, err)
		}
	}
}

func TestR14StoreHangs(t *testing.T) {
	for _, timeout := range []time.Duration{0, 300 * time.Millisecond} { // 0 means the default of one second
		synctest.Test(t, func(t *testing.T) {
			store := &faulty{Store: newMemory(t)}
			auth := newAuth(t, func(c *middleware.Config) { c.Store, c.StoreTimeout = store, timeout })
			site, text := direct(t, oneTokenRoutes(auth)), login(t, auth)
			store.fault.Store(&fault{get: hanging})
			want := timeout
			if want == 0 {
				want = time.Second
			}
			bounded := func(name string, call func()) {
				start := time.Now()
				call()
				if took := time.Since(start); took != want {
					t.Errorf("R14: %s waits %v for the store, want %v", name, took, want)
				}
			}
			for _, route := range append(tokenRoutes, struct{ method, path string }{"POST", "/login?user=admin"}) {
				bounded(route.path, func() {
					site.send(route.method, route.path, bearer(text)).rejected(t, middleware.CodeStoreUnavailable)
				})
			}
			for name, call := range calls(auth) {
				bounded(name, func() {
					if err := call(t.Context(), text); !hasCode(err, middleware.CodeStoreUnavailable) {
						t.Errorf("R14: %s: %v", name, err)
					}
				})
			}
			store.fault.Store(nil)
			refresh(t, auth, text)
		})
	}
}

// StoreTimeout bounds all the calls of a request together. If the client hangs up, the read is completed, because it may
// detect reuse (R8), but nothing is swapped.
func TestR14StoreIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &faulty{Store: newMemory(t)}
		auth := newAuth(t, func(c *middleware.Config) { c.Store = store })
		slow := func(d time.Duration) *fault {
			wait := func(ctx context.Context) error {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(d):
					return nil
				}
			}
			return &fault{
				get:  func(ctx context.Context, values []string) ([]string, error) { return values, wait(ctx) },
				swap: func(ctx context.Context) (bool, error) { err := wait(ctx); return err == nil, err },
			}
		}
		text := login(t, auth)
		refreshing := func(ctx context.Context, latency time.Duration) (time.Duration, error) {
			store.fault.Store(slow(latency))
			start := time.Now()
			_, err := auth.Refresh(ctx, text)
			return time.Since(start), err
		}
		if took, err := refreshing(t.Context(), 600*time.Millisecond); took != time.Second || !hasCode(err, middleware.CodeStoreUnavailable) {
			t.Errorf("R14: two calls of 0.6 s: %v after %v, want 503 after 1 s", err, took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if took, err := refreshing(ctx, 600*time.Millisecond); took != 600*time.Millisecond || !hasCode(err, middleware.CodeStoreUnavailable) {
			t.Errorf("R14: the client hangs up after 0.1 s: %v after %v, want 503 after the read of 0.6 s", err, took)
		}
		if took, err := refreshing(t.Context(), 400*time.Millisecond); took != 800*time.Millisecond || err != nil {
			t.Errorf("R14: two calls of 0.4 s: %v after %v, want success after 0.8 s", err, took)
		}
	})
}

// calls are the steps that use the store.
func calls(auth *middleware.Auth) map[string]func(ctx context.Context, text string) error {
	all := steps(auth)
	all["Issue"] = func(ctx context.Context, _ string) error {
		_, err := auth.Issue(ctx, middleware.Identity{Subject: "admin"})
		return err
	}
	all["RevokeSession"] = func(ctx context.Context, _ string) error { return auth.RevokeSession(ctx, "sid") }
	all["RevokeSubject"] = func(ctx context.Context, _ string) error { return auth.RevokeSubject(ctx, "admin") }
	return all
}

// hanging waits until its context is done, as the contract of Store demands, or for an hour.
func hanging(ctx context.Context, _ []string) ([]string, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(time.Hour):
		return nil, errDriver
	}
}

func TestR14OAuthStoreDown(t *testing.T) {
	for mode, inMode := range modes {
		store := &faulty{Store: newMemory(t)}
		auth := newAuth(t, inMode, func(c *middleware.Config) { c.Store = store })
		s := listen(t, routes(auth))
		tokens := issueTokens(t, auth, middleware.Identity{})
		store.fault.Store(&fault{get: failing})
		for _, path := range endpoints {
			for _, text := range []string{tokens.AccessToken, refreshable(tokens)} {
				r := s.send("POST", path, tokenForm(text))
				if r.rejected(t, middleware.CodeStoreUnavailable); strings.Contains(r.body, "s3cret") || strings.Contains(r.body, "active") {
					t.Errorf("R14: %s, %s: response %s", path, mode, r.body)
				}
			}
		}
		if r := s.send("POST", "/introspect", tokenForm("garbage")); r.body != `{"active":false}` {
			t.Errorf("R14: introspection of garbage, which needs no store: %d %s", r.status, r.body)
		}
		store.fault.Store(nil)
		refreshTokens(t, auth, tokens)
	}
}
