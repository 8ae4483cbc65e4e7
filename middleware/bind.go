package middleware

import (
	"net/url"

	"github.com/ginrefresh/ginrefresh/middleware/internal/session"
)

// Binding says whether sessions can be bound to a key of the client. Only the refresh needs the key: access tokens work
// without it until they expire, so a stolen pair is worth one TTL. What is bound stays bound, whatever the
// configuration says later.
type Binding string

const (
	BindOff      Binding = ""         // sessions are not bound
	BindOffered  Binding = "offered"  // a client that can prove a key binds its session to it
	BindRequired Binding = "required" // a session that is not bound cannot be refreshed (R19)
)

// bindMistakes checks that there is a refresh token to bind, and what proofs are compared with.
func (c Config) bindMistakes() (m mistakes) {
	m.check(c.Bind == BindOff || c.Bind == BindOffered || c.Bind == BindRequired, "Bind is %q: use BindOff, BindOffered or BindRequired", c.Bind)
	m.check(c.Bind == BindOff || c.Pair, "Bind is %q without Pair: only the refresh token of a pair is bound", c.Bind)
	if c.PublicURL != "" {
		u, err := url.Parse(c.PublicURL)
		m.check(err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.RawQuery == "" && u.Fragment == "" && u.User == nil,
			"PublicURL is %q: it must be like https://api.example.org", c.PublicURL)
	}
	return m
}

// prove returns what a client has proved about a genuine token, or nil if it has proved nothing.
type prove func(t *session.Token) (*session.Proof, error)

// noProof is the prove of a client that sends none.
func noProof(*session.Token) (*session.Proof, error) { return nil, nil }
