package middleware

import (
	"context"
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware/internal/jose"
	"github.com/ginrefresh/ginrefresh/middleware/internal/session"
)

// R18: a bound session is refreshed only with a proof by its key over the token that is replaced. R19: binding is a
// swap. These tests take for granted that signatures are checked.

// The keys of two clients.
var ownKey, otherKey = clientKey(ownJWK), clientKey(otherJWK)

func clientKey(jwk string) jose.ClientKey {
	key, err := jose.ParseClientKey([]byte(jwk))
	if err != nil {
		panic(err)
	}
	return key
}

const (
	ownJWK   = `{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}`
	otherJWK = `{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}`
)

// A boundClient refreshes with its newest tokens.
type boundClient struct {
	world
	auth   *Auth
	tokens Tokens
	key    jose.ClientKey
}

// newBoundClient logs in. At login, or at the first refresh, the session is bound.
func newBoundClient(w world, atLogin bool) *boundClient {
	a := w.server(func(c *Config) { c.Bind, c.Pair = BindOffered, true })
	b := &boundClient{world: w, auth: a, key: ownKey}
	l := session.Login{Began: a.rules.Now()}
	if atLogin {
		l.Key = &b.key
	}
	var err error
	if b.tokens, _, err = a.issue(context.Background(), Identity{Subject: "admin"}, l); err != nil {
		w.t.Fatal(err)
	}
	if !atLogin {
		b.refresh()
	}
	return b
}

func (b *boundClient) id() string { return idOf(b.auth, b.tokens.RefreshToken) }

func idOf(a *Auth, text string) string {
	t, _, err := a.decode(a.verifier.Load(), text)
	if err != nil {
		panic(err)
	}
	return t.ID
}

// present refreshes a token with a proof by key over challenge. An empty challenge means no proof.
func (b *boundClient) present(text string, key jose.ClientKey, challenge string) (Tokens, error) {
	tokens, _, err := b.auth.refresh(context.Background(), text, func(*session.Token) (*session.Proof, error) {
		if challenge == "" {
			return nil, nil
		}
		return &session.Proof{Key: key, Challenge: challenge}, nil
	})
	return tokens, err
}

// refresh replaces the client's tokens, and returns the replaced ones.
func (b *boundClient) refresh() Tokens {
	b.t.Helper()
	old := b.tokens
	next, err := b.present(old.RefreshToken, b.key, b.id())
	if err != nil {
		b.t.Fatal(err)
	}
	b.tokens = next
	return old
}

// required checks that a refresh is rejected, and names the challenge.
func (b *boundClient) required(what string, err error, challenge string) {
	b.t.Helper()
	e := errorOf(err)
	if e == nil || e.Code != CodeProofRequired || e.ProofChallenge != challenge {
		b.t.Errorf("%s: %v, want proof_required with the challenge %s", what, err, challenge)
	}
}

// lives checks that the client can still use and refresh its session.
func (b *boundClient) lives(what string) {
	b.t.Helper()
	next, err := b.present(b.tokens.RefreshToken, b.key, b.id())
	if err != nil {
		b.t.Fatalf("%s: the refresh is rejected: %v", what, err)
	}
	b.tokens = next
	if _, err := b.auth.Verify(context.Background(), next.AccessToken); err != nil {
		b.t.Errorf("%s: the access token is rejected: %v", what, err)
	}
}

func eachBinding(t *testing.T, test func(t *testing.T, b *boundClient)) {
	for name, atLogin := range map[string]bool{"at login": true, "at a refresh": false} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w world) {
				b := newBoundClient(w, atLogin)
				b.t = t
				wait(time.Minute)
				test(t, b)
			})
		})
	}
}

func TestR18_WithoutTheKey(t *testing.T) {
	eachBinding(t, func(t *testing.T, b *boundClient) {
		for what, try := range map[string]struct {
			key       jose.ClientKey
			challenge string
		}{
			"no proof":                  {},
			"another key":               {otherKey, b.id()},
			"another challenge":         {ownKey, "another"},
			"another key and challenge": {otherKey, "another"},
		} {
			_, err := b.present(b.tokens.RefreshToken, try.key, try.challenge)
			b.required("R18: "+what, err, b.id())
		}
		b.lives("R18")
	})
}

// Whoever captured a proof with its token gets the same successor within the grace period, and nothing after it.
func TestR18_ACapturedProof(t *testing.T) {
	eachBinding(t, func(t *testing.T, b *boundClient) {
		captured := b.id()
		old := b.refresh()
		same, err := b.present(old.RefreshToken, ownKey, captured)
		if err != nil || same.RefreshToken != b.tokens.RefreshToken {
			t.Errorf("R7, R18: within the grace period: %v, want the same successor", err)
		}
		_, err = b.present(same.RefreshToken, ownKey, captured)
		b.required("R18: the successor with the captured proof", err, b.id())
		wait(11 * time.Second)
		_, err = b.present(old.RefreshToken, ownKey, captured)
		b.required("R18: after the grace period", err, b.id())
		b.lives("R18")
		b.refresh()
		_, err = b.present(old.RefreshToken, ownKey, captured)
		b.required("R18: another refresh later", err, b.id())
		b.lives("R18")
	})
}

// An answer was lost a minute ago. The client has the old token, and signs the challenge that it is sent.
func TestR18_ALostAnswer(t *testing.T) {
	eachBinding(t, func(t *testing.T, b *boundClient) {
		for _, pause := range []time.Duration{time.Second, time.Minute, 30 * time.Minute} {
			old := b.tokens
			lost, err := b.present(old.RefreshToken, ownKey, b.id())
			if err != nil {
				t.Fatal(err)
			}
			wait(pause)
			current := idOf(b.auth, lost.RefreshToken)
			if pause > 10*time.Second {
				_, err = b.present(old.RefreshToken, ownKey, idOf(b.auth, old.RefreshToken))
				b.required("R18: a proof over the old token", err, current)
			}
			b.tokens, err = b.present(old.RefreshToken, ownKey, current)
			if err != nil {
				t.Fatalf("R18: %v after the answer was lost: %v", pause, err)
			}
			b.lives("R18")
			wait(time.Minute)
		}
	})
}

// Old tokens may be in a log. Those of a bound session end nothing.
func TestR18_OldTokensEndNothing(t *testing.T) {
	eachBinding(t, func(t *testing.T, b *boundClient) {
		var old []Tokens
		for range 4 {
			old = append(old, b.refresh())
			wait(time.Minute)
		}
		for i, tokens := range old {
			for _, key := range []jose.ClientKey{ownKey, otherKey} {
				for _, challenge := range []string{"", idOf(b.auth, tokens.RefreshToken)} {
					_, err := b.present(tokens.RefreshToken, key, challenge)
					b.required("R18: old token", err, b.id())
				}
			}
			if _, err := b.present(tokens.RefreshToken, otherKey, b.id()); errorOf(err) == nil {
				t.Errorf("R18: old token %d is refreshed with another key", i)
			}
		}
		b.lives("R18")
	})
}

// Whoever steals a token of a session that is not bound can bind it. The owner's token then counts as reused, as it
// would without binding (R8).
func TestR19_AThiefBinds(t *testing.T) {
	for what, key := range map[string]*jose.ClientKey{"without a key": nil, "with a key": &otherKey} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, func(w world) {
				thief := newBoundClient(w, true)
				thief.t = t
				owner := w.login(thief.auth, Identity{})
				thief.tokens = owner
				thief.refresh()
				present := func() error {
					challenge := ""
					if key != nil {
						challenge = idOf(thief.auth, owner.RefreshToken)
					}
					_, err := thief.present(owner.RefreshToken, otherKey, challenge)
					return err
				}
				thief.required("R18: within the grace period", present(), thief.id())
				thief.lives("R18")
				wait(11 * time.Second)
				if err := present(); !hasCode(err, CodeTokenReused) {
					t.Errorf("R8: the owner refreshes after the thief has bound the session: %v, want reuse", err)
				}
				if _, err := thief.present(thief.tokens.RefreshToken, ownKey, thief.id()); !hasCode(err, CodeTokenRevoked) {
					t.Errorf("R8: the thief refreshes after the reuse: %v", err)
				}
			})
		})
	}
}

// The client that bound the session is no thief, even if it has lost the answer and has no challenge yet.
func TestR19_TheAnswerWasLost(t *testing.T) {
	inBubble(t, func(w world) {
		b := newBoundClient(w, true)
		unbound := w.login(b.auth, Identity{})
		b.tokens = unbound
		b.refresh()
		wait(time.Minute)
		for _, challenge := range []string{"unknown", idOf(b.auth, unbound.RefreshToken)} {
			_, err := b.present(unbound.RefreshToken, ownKey, challenge)
			b.required("R19", err, b.id())
		}
		next, err := b.present(unbound.RefreshToken, ownKey, b.id())
		if err != nil {
			w.t.Fatalf("R19: the right proof is rejected: %v", err)
		}
		b.tokens = next
		b.lives("R19")
	})
}

func TestR19_BindingReplacesWhatCameBefore(t *testing.T) {
	inBubble(t, func(w world) {
		b := newBoundClient(w, true)
		unbound := w.login(b.auth, Identity{})
		wait(time.Minute)
		b.tokens = unbound
		_, err := b.present(unbound.RefreshToken, ownKey, "another")
		b.required("R19: a proof over another challenge binds nothing", err, b.id())
		b.refresh()
		_, err = b.present(unbound.RefreshToken, otherKey, idOf(b.auth, unbound.RefreshToken))
		b.required("R19: another key binds the same token", err, b.id())
		_, err = b.present(unbound.RefreshToken, ownKey, "")
		b.required("R19: no proof within the grace period", err, b.id())
		same, err := b.present(unbound.RefreshToken, ownKey, idOf(b.auth, unbound.RefreshToken))
		if err != nil || same.RefreshToken != b.tokens.RefreshToken {
			w.t.Errorf("R7: the same key asks again: %v, want the same successor", err)
		}
		b.lives("R19")
	})
}

// A session can be bound right after a refresh, although R6a would return the same token.
func TestR19_BindingWithinTheGracePeriod(t *testing.T) {
	inBubble(t, func(w world) {
		b := newBoundClient(w, true)
		b.tokens = w.login(b.auth, Identity{})
		next, err := b.present(b.tokens.RefreshToken, ownKey, "")
		if err != nil {
			w.t.Fatal(err)
		}
		b.tokens = next
		wait(time.Second)
		old := b.refresh()
		if old.RefreshToken == b.tokens.RefreshToken {
			w.t.Error("R19: binding returned the token that is not bound")
		}
		for _, tokens := range []Tokens{old, b.tokens} {
			_, err = b.present(tokens.RefreshToken, ownKey, "")
			b.required("R18, R19: without a proof", err, b.id())
		}
		b.lives("R19")
	})
}

func TestR19_Required(t *testing.T) {
	inBubble(t, func(w world) {
		b := newBoundClient(w, true)
		b.auth = w.server(func(c *Config) { c.Bind, c.Pair = BindRequired, true })
		b.tokens = w.login(b.auth, Identity{})
		wait(time.Minute)
		_, err := b.present(b.tokens.RefreshToken, ownKey, "")
		b.required("R19", err, b.id())
		b.refresh()
		b.lives("R19")
	})
}

// Bound sessions stay bound, whatever the configuration says later.
func TestR18_BindOff(t *testing.T) {
	eachBinding(t, func(t *testing.T, b *boundClient) {
		b.auth = b.server(func(c *Config) { c.Pair = true })
		_, err := b.present(b.tokens.RefreshToken, ownKey, "")
		b.required("R18", err, b.id())
	})
}

// A thousand bound clients lose an answer, and come back a minute later.
func TestR18_AThousandLostAnswers(t *testing.T) {
	inBubble(t, func(w world) {
		clients := make([]*boundClient, 1000)
		for i := range clients {
			clients[i] = newBoundClient(w, i%2 == 0)
		}
		wait(time.Minute)
		current := make([]string, len(clients))
		for i, b := range clients {
			lost, err := b.present(b.tokens.RefreshToken, ownKey, b.id())
			if err != nil {
				w.t.Fatal(err)
			}
			current[i] = idOf(b.auth, lost.RefreshToken)
		}
		wait(time.Minute)
		loggedOut := 0
		for i, b := range clients {
			_, err := b.present(b.tokens.RefreshToken, ownKey, b.id())
			b.required("R18: after a minute", err, current[i])
			if _, err := b.present(b.tokens.RefreshToken, ownKey, current[i]); err != nil {
				loggedOut++
			}
		}
		if loggedOut != 0 {
			w.t.Errorf("R18: %d of %d clients are logged out", loggedOut, len(clients))
		}
	})
}
