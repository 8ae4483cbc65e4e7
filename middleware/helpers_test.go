package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
)

func init() { gin.SetMode(gin.TestMode) }

// secret signs in every test that does not bring a key of its own.
var secret = []byte("this secret has 32 bytes or more.")

func hs256(id string, secret []byte) middleware.Key {
	return middleware.Key{ID: id, Algorithm: middleware.HS256, Key: secret}
}

type change = func(*middleware.Config)

// newConfig is a configuration without mistakes: /login takes whoever gives a name.
func newConfig(t testing.TB, changes ...change) middleware.Config {
	t.Helper()
	config := middleware.Config{
		Keys:  []middleware.Key{hs256("", secret)},
		Store: newMemory(t),
		Authenticate: func(c *gin.Context) (middleware.Identity, error) {
			return middleware.Identity{Subject: c.Query("user")}, nil
		},
	}
	for _, change := range changes {
		change(&config)
	}
	return config
}

func newMemory(t testing.TB) *store.Memory {
	memory := store.NewMemory()
	t.Cleanup(func() { _ = memory.Close() })
	return memory
}

// withoutSweeper stops the sweeper of the default store, which runs once a minute also in a synctest bubble. The store
// goes on to forget expired records. Tests that let days pass in a bubble use it first of all changes.
func withoutSweeper(c *middleware.Config) { _ = c.Store.(*store.Memory).Close() }

func newAuth(t testing.TB, changes ...change) *middleware.Auth {
	t.Helper()
	auth, err := middleware.New(newConfig(t, changes...))
	if err != nil {
		t.Fatal(err)
	}
	return auth
}

func keys(keys ...middleware.Key) change {
	return func(c *middleware.Config) { c.Keys = keys }
}

func noGrace(c *middleware.Config) { c.Grace = -1 }

func pair(c *middleware.Config) { c.Pair = true }

// modes are what a login can return.
var modes = map[string]change{"one token": func(*middleware.Config) {}, "pair": pair}

func authenticating(authenticate func(*gin.Context) (middleware.Identity, error)) change {
	return func(c *middleware.Config) { c.Authenticate = authenticate }
}

// login issues a token to admin without HTTP.
func login(t testing.TB, auth *middleware.Auth) string {
	t.Helper()
	return issue(t, auth, middleware.Identity{Subject: "admin"})
}

func issue(t testing.TB, auth *middleware.Auth, id middleware.Identity) string {
	t.Helper()
	tokens, err := auth.Issue(t.Context(), id)
	if err != nil {
		t.Fatal("issue:", err)
	}
	return tokens.AccessToken
}

func refresh(t testing.TB, auth *middleware.Auth, text string) string {
	t.Helper()
	tokens, err := auth.Refresh(t.Context(), text)
	if err != nil {
		t.Fatal("refresh:", err)
	}
	return tokens.AccessToken
}

func verify(t testing.TB, auth *middleware.Auth, text string) middleware.Claims {
	t.Helper()
	claims, err := auth.Verify(t.Context(), text)
	if err != nil {
		t.Fatal("verify:", err)
	}
	return claims
}

func issueTokens(t testing.TB, auth *middleware.Auth, id middleware.Identity) middleware.Tokens {
	t.Helper()
	if id.Subject == "" {
		id.Subject = "admin"
	}
	tokens, err := auth.Issue(t.Context(), id)
	if err != nil {
		t.Fatal("issue:", err)
	}
	return tokens
}

// refreshable is the token that is swapped.
func refreshable(tokens middleware.Tokens) string {
	if tokens.RefreshToken != "" {
		return tokens.RefreshToken
	}
	return tokens.AccessToken
}

func refreshTokens(t testing.TB, auth *middleware.Auth, tokens middleware.Tokens) middleware.Tokens {
	t.Helper()
	next, err := auth.Refresh(t.Context(), refreshable(tokens))
	if err != nil {
		t.Fatal("refresh:", err)
	}
	return next
}

// hasCode reports whether a step failed with the code, and the status that goes with it.
func hasCode(err error, code middleware.Code) bool {
	var e *middleware.Error
	return errors.As(err, &e) && e.Code == code && e.Status == wireErrors[code].status
}

// wantCode checks the code that a step failed with, "" for success.
func wantCode(t testing.TB, what string, err error, code middleware.Code) {
	t.Helper()
	if code == "" && err != nil || code != "" && !hasCode(err, code) {
		t.Errorf("%s: %v, want %q", what, err, code)
	}
}

func wantVerify(t testing.TB, what string, auth *middleware.Auth, text string, code middleware.Code) {
	t.Helper()
	_, err := auth.Verify(t.Context(), text)
	wantCode(t, what+", verified", err, code)
}

func wantRefresh(t testing.TB, what string, auth *middleware.Auth, text string, code middleware.Code) {
	t.Helper()
	_, err := auth.Refresh(t.Context(), text)
	wantCode(t, what+", refreshed", err, code)
}

// wantDead checks that neither token of an answer is good for anything.
func wantDead(t testing.TB, what string, auth *middleware.Auth, tokens middleware.Tokens) {
	t.Helper()
	if _, err := auth.Verify(t.Context(), tokens.AccessToken); err == nil {
		t.Errorf("%s: the access token passes", what)
	}
	if _, err := auth.Refresh(t.Context(), refreshable(tokens)); err == nil {
		t.Errorf("%s: the session can be refreshed", what)
	}
}

// steps are the ways to present a token without HTTP.
func steps(auth *middleware.Auth) map[string]func(ctx context.Context, text string) error {
	return map[string]func(ctx context.Context, text string) error{
		"Verify":  func(ctx context.Context, text string) error { _, err := auth.Verify(ctx, text); return err },
		"Refresh": func(ctx context.Context, text string) error { _, err := auth.Refresh(ctx, text); return err },
		"Logout":  auth.Logout,
	}
}

// eachMode runs a test in a bubble for both modes: servers made by server share one memory, with a ttl of one minute
// and a window of one hour.
func eachMode(t *testing.T, test func(t *testing.T, server func(changes ...change) *middleware.Auth)) {
	t.Helper()
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				memory := newMemory(t)
				test(t, func(changes ...change) *middleware.Auth {
					return newAuth(t, append([]change{mode, func(c *middleware.Config) {
						c.Store, c.TTL, c.RefreshTTL = memory, time.Minute, time.Hour
					}}, changes...)...)
				})
			})
		})
	}
}

// inPairMode runs a test in a bubble, with two servers on one store: ttl 1 minute, refresh window 1 hour.
func inPairMode(t *testing.T, test func(t *testing.T, auth, other *middleware.Auth), changes ...change) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		memory := newMemory(t)
		changes := append([]change{pair, func(c *middleware.Config) { c.Store, c.TTL, c.RefreshTTL = memory, time.Minute, time.Hour }}, changes...)
		test(t, newAuth(t, changes...), newAuth(t, changes...))
	})
}

func inBothModes(t *testing.T, name string, play func(t *testing.T, auth *middleware.Auth, s site), changes ...change) {
	for mode, inMode := range modes {
		t.Run(name+", "+mode, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				auth := newAuth(t, inMode, func(c *middleware.Config) {
					c.TTL, c.RefreshTTL = time.Minute, time.Hour
					for _, change := range changes {
						if change != nil {
							change(c)
						}
					}
				})
				play(t, auth, direct(t, sharedRoutes(auth)))
			})
		})
	}
}

func wait(d time.Duration) { <-time.After(d) }

func rounds(short, full int) int {
	if os.Getenv("GINREFRESH_FULL") != "" {
		return full
	}
	return short
}

// reloader is a Reload whose answer can be changed while the server runs.
type reloader struct {
	answer atomic.Pointer[reloaded]
	asked  atomic.Value
}

type reloaded struct {
	claims any
	err    error
}

func (r *reloader) reload(_ context.Context, claims middleware.Claims) (any, error) {
	r.asked.Store(claims.Subject)
	answer := r.answer.Load()
	return answer.claims, answer.err
}

// A reload is a refresh's second opinion; it can be changed while the server runs.
func reloading(r *reloader) change { return func(c *middleware.Config) { c.Reload = r.reload } }

// slowReload takes a while for each refresh.
func slowReload(d time.Duration) change {
	return func(c *middleware.Config) {
		c.Reload = func(context.Context, middleware.Claims) (any, error) {
			wait(d)
			return nil, nil
		}
	}
}

// eventLog collects events.
type eventLog struct {
	mu     sync.Mutex
	events []middleware.Event
}

func (j *eventLog) record(_ context.Context, e middleware.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events = append(j.events, e)
}

// take takes out what was written.
func (j *eventLog) take() []middleware.Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	events := j.events
	j.events = nil
	return events
}

// mustPanic checks that a mistake in the program is told at once, by whom and what to do.
func mustPanic(t *testing.T, name string, call func(), words ...string) {
	t.Helper()
	defer func() {
		t.Helper()
		text := fmt.Sprint(recover())
		for _, word := range append(words, "middleware: ") {
			if !strings.Contains(text, word) {
				t.Errorf("%s panics with %q, want %q in it", name, text, word)
			}
		}
	}()
	call()
}

// errorTexts is the text of an error and of all that is behind it.
func errorTexts(err error) (texts []string) {
	for ; err != nil; err = errors.Unwrap(err) {
		texts = append(texts, fmt.Sprintf("%v %+v %#v", err, err, err))
	}
	return texts
}

// wantNoSecret checks that a text shows no part of a token that would help anybody, and no key.
func wantNoSecret(t *testing.T, text string, tokens ...string) {
	t.Helper()
	for _, token := range tokens {
		parts := strings.Split(token, ".")
		if len(parts) == 3 && (strings.Contains(text, parts[1]) || strings.Contains(text, parts[2])) {
			t.Errorf("a token shows in %s", text)
		}
	}
	if strings.Contains(text, string(secret)) {
		t.Errorf("the key shows in %s", text)
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func errOf[T any](_ T, err error) error { return err }

const day = 24 * time.Hour
