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

// The black-box tests are in package middleware_test. A test for a rule of docs/model.md is in r<rule>_test.go. Every
// other file is named after what it tests. Their helpers, in short:
//
//   - helpers_test.go: newAuth makes an Auth from a valid Config and changes to it. issueTokens, refreshTokens, verify
//     and the like are steps that must succeed. wantCode, wantVerify, wantRefresh and wantDead state an expectation.
//     eachMode, inBothModes and inPairMode run a test in a synctest bubble.
//   - helpers_http_test.go: send a request to a site, and check its reply with passed, accepted or rejected.
//   - helpers_token_test.go: tokens that a test forges, or dates back with aged.
//   - helpers_cookie_test.go: a browser with a cookie jar. helpers_key_test.go: a key of every kind.
//   - helpers_store_test.go: stores that fail or are slow.

func init() { gin.SetMode(gin.TestMode) }

// secret is the key of every test that does not set another.
var secret = []byte("this secret has 32 bytes or more.")

func hs256(id string, secret []byte) middleware.Key {
	return middleware.Key{ID: id, Algorithm: middleware.HS256, Key: secret}
}

// A change edits a Config.
type change = func(*middleware.Config)

// newConfig returns a valid Config with the changes, of which nil is none. A login needs no password, only the query
// parameter user.
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
		if change != nil {
			change(&config)
		}
	}
	return config
}

func newMemory(t testing.TB) *store.Memory {
	memory := store.NewMemory()
	t.Cleanup(func() { _ = memory.Close() })
	return memory
}

// withoutSweeper stops the sweeper of the default store. The sweeper runs once a minute, also in a synctest bubble, so
// a test that lets days pass in a bubble would be slow. It must be the first change.
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

// modes has the change for each mode.
var modes = map[string]change{"one token": func(*middleware.Config) {}, "pair": pair}

func authenticating(authenticate func(*gin.Context) (middleware.Identity, error)) change {
	return func(c *middleware.Config) { c.Authenticate = authenticate }
}

// login returns a token for admin, without HTTP.
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

// refreshable returns the token that can be refreshed.
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

// hasCode reports whether a step failed with the code and its status.
func hasCode(err error, code middleware.Code) bool {
	var e *middleware.Error
	return errors.As(err, &e) && e.Code == code && e.Status == wireErrors[code].status
}

// wantCode checks the code of a step's error. The empty code means success.
func wantCode(t testing.TB, what string, err error, code middleware.Code) {
	t.Helper()
	if code == "" && err != nil || code != "" && !hasCode(err, code) {
		t.Errorf("%s: %v, want %q", what, err, code)
	}
}

func wantVerify(t testing.TB, what string, auth *middleware.Auth, text string, code middleware.Code) {
	t.Helper()
	_, err := auth.Verify(t.Context(), text)
	wantCode(t, what+": verify", err, code)
}

func wantRefresh(t testing.TB, what string, auth *middleware.Auth, text string, code middleware.Code) {
	t.Helper()
	_, err := auth.Refresh(t.Context(), text)
	wantCode(t, what+": refresh", err, code)
}

// wantDead checks that the tokens can neither be used nor refreshed.
func wantDead(t testing.TB, what string, auth *middleware.Auth, tokens middleware.Tokens) {
	t.Helper()
	if _, err := auth.Verify(t.Context(), tokens.AccessToken); err == nil {
		t.Errorf("%s: the access token is accepted", what)
	}
	if _, err := auth.Refresh(t.Context(), refreshable(tokens)); err == nil {
		t.Errorf("%s: the session can be refreshed", what)
	}
}

// steps are the steps that take a token.
func steps(auth *middleware.Auth) map[string]func(ctx context.Context, text string) error {
	return map[string]func(ctx context.Context, text string) error{
		"Verify":  func(ctx context.Context, text string) error { _, err := auth.Verify(ctx, text); return err },
		"Refresh": func(ctx context.Context, text string) error { _, err := auth.Refresh(ctx, text); return err },
		"Logout":  auth.Logout,
	}
}

// eachMode runs a test in a synctest bubble, once for each mode. The servers that server makes share a store. TTL is one
// minute and RefreshTTL one hour.
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

// inPairMode runs a test in a synctest bubble, with two servers in pair mode that share a store. TTL is one minute and
// RefreshTTL one hour.
func inPairMode(t *testing.T, test func(t *testing.T, auth, other *middleware.Auth), changes ...change) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		memory := newMemory(t)
		changes := append([]change{pair, func(c *middleware.Config) { c.Store, c.TTL, c.RefreshTTL = memory, time.Minute, time.Hour }}, changes...)
		test(t, newAuth(t, changes...), newAuth(t, changes...))
	})
}

// inBothModes is eachMode for a test of one server and its routes.
func inBothModes(t *testing.T, test func(t *testing.T, auth *middleware.Auth, s site), changes ...change) {
	t.Helper()
	eachMode(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		auth := server(changes...)
		test(t, auth, direct(t, routes(auth)))
	})
}

// wait lets time pass in a synctest bubble.
func wait(d time.Duration) { <-time.After(d) }

// rounds returns how often a test repeats itself: full with GINREFRESH_FULL=1, as in the gate, otherwise short.
func rounds(short, full int) int {
	if os.Getenv("GINREFRESH_FULL") != "" {
		return full
	}
	return short
}

// reloader has a Reload whose result can be changed while the server runs.
type reloader struct {
	answer atomic.Pointer[reloaded]
	asked  atomic.Value // the last subject
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

func reloading(r *reloader) change { return func(c *middleware.Config) { c.Reload = r.reload } }

// slowReload sets a Reload that takes the given time.
func slowReload(d time.Duration) change {
	return func(c *middleware.Config) {
		c.Reload = func(context.Context, middleware.Claims) (any, error) {
			wait(d)
			return nil, nil
		}
	}
}

// eventLog collects the events of OnEvent.
type eventLog struct {
	mu     sync.Mutex
	events []middleware.Event
}

func (j *eventLog) record(_ context.Context, e middleware.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events = append(j.events, e)
}

// take returns the events since the last call.
func (j *eventLog) take() []middleware.Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	events := j.events
	j.events = nil
	return events
}

// mustPanic checks that a call panics with a message from this package that contains the words.
func mustPanic(t *testing.T, name string, call func(), words ...string) {
	t.Helper()
	defer func() {
		t.Helper()
		text := fmt.Sprint(recover())
		for _, word := range append(words, "middleware: ") {
			if !strings.Contains(text, word) {
				t.Errorf("%s panics with %q, want %q in the message", name, text, word)
			}
		}
	}()
	call()
}

// errorTexts formats an error and every error that it wraps.
func errorTexts(err error) (texts []string) {
	for ; err != nil; err = errors.Unwrap(err) {
		texts = append(texts, fmt.Sprintf("%v %+v %#v", err, err, err))
	}
	return texts
}

// wantNoSecret checks that a text contains neither the key nor the payload or signature of a token.
func wantNoSecret(t *testing.T, text string, tokens ...string) {
	t.Helper()
	for _, token := range tokens {
		parts := strings.Split(token, ".")
		if len(parts) == 3 && (strings.Contains(text, parts[1]) || strings.Contains(text, parts[2])) {
			t.Errorf("the text shows a token: %s", text)
		}
	}
	if strings.Contains(text, string(secret)) {
		t.Errorf("the text shows the key: %s", text)
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
