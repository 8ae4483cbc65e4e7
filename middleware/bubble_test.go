package middleware

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware/internal/session"
	"github.com/ginrefresh/ginrefresh/store"
)

var testSecret = []byte("0123456789abcdef0123456789abcdef")

// world is one synctest bubble: a memory store and servers that share it. Time is fake, so every boundary is exact.
type world struct {
	t     *testing.T
	store *store.Memory
}

// inBubble runs a test in a bubble. Its clock starts at a whole second, so that iat and instants agree.
func inBubble(t *testing.T, test func(w world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		memory := store.NewMemory()
		defer func() { _ = memory.Close() }()
		test(world{t: t, store: memory})
	})
}

// server returns an Auth with the world's store: TTL 1 minute, refresh window 1 hour, grace period 10 seconds.
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

// verifies checks the code with which a request is rejected, "" if it is accepted.
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

// forge issues a token that no login would issue.
func (w world) forge(a *Auth, change func(*session.Token)) string {
	w.t.Helper()
	claims := w.login(a, Identity{}).Claims
	change(claims.token)
	return w.text(a, claims)
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
