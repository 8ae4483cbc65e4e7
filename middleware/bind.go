package middleware

import (
	"net/url"

	"github.com/gin-gonic/gin"

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
		m.check(err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.RawQuery == "" && u.Fragment == "" && u.User == nil && isQuotable(u.Host),
			"PublicURL is %q: it must be like https://api.example.org", c.PublicURL)
	}
	return m
}

// prove returns what a client has proved about the genuine token that it refreshes, or about a login if t is nil. It
// returns nil if the client has proved nothing.
type prove func(t *session.Token) (*session.Proof, error)

// bind binds the session of a login to the key that the client has proved, if any.
func (p prove) bind(l *session.Login) error {
	proof, err := p(nil)
	if proof != nil {
		l.Key = &proof.Key
	}
	return err
}

// presentedProof returns the prove of a login or refresh request.
func (a *Auth) presentedProof(c *gin.Context) prove {
	return a.prove(dpopProofs(c.Request, a.publicURL))
}
