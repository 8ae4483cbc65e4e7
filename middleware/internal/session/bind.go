package session

import (
	"github.com/ginrefresh/ginrefresh/middleware/internal/jose"
)

// A bound session can only be refreshed by a client that has its private key (R18). The public key is in the refresh
// token (cnf, RFC 7800). The challenge is the jti of the refresh token that is to be replaced, so the swap uses each
// proof up: there is no list of used proofs, and no clocks have to agree.

// Proof is what a client has proved: that it has the private part of Key, and that it signed the challenge with it. The
// signature has been verified.
type Proof struct {
	Key       jose.ClientKey
	Challenge string
}

// Key returns the key to which the token's session is bound, or nil.
func (t *Token) Key() *jose.ClientKey { return t.key }

// isBy reports whether the proof's key is the one to which the session is bound. If the session was bound after the token was
// issued, only the record knows it.
func (p *Proof) isBy(t *Token, r record) bool {
	if t.key != nil && *t.key != p.Key {
		return false
	}
	return r.key == "" || r.key == p.Key.Digest()
}

// proofRequired returns the verdict that names the challenge: the id of the session's current refresh token.
func (t *Token) proofRequired(r record) error {
	return &Error{Reason: ProofRequired, Challenge: t.currentID(r)}
}

// currentID returns the id of the refresh token that is current according to the session's record.
func (t *Token) currentID(r record) string {
	if r.cutoff == 0 {
		return t.ID // the session was never refreshed
	}
	return tokenID(t.Session, r.cutoff)
}

// checkProof applies R18 and R19 to a token of a session that lives. If the proof is over the session's current refresh
// token, the refresh continues with that token: its client has lost an answer.
func (f *Refresh) checkProof() error {
	t, s, p := f.token, f.status, f.proof
	f.key, f.binds = nil, false
	if t.key == nil && s.key == "" {
		return f.checkBinding()
	}
	id := t.currentID(s.record)
	switch {
	case p == nil || !p.isBy(t, s.record):
		if t.key == nil && s.state == pastGrace {
			return nil // reuse (R8): a thief may have bound the session, and this may be its owner
		}
		return t.proofRequired(s.record)
	case p.Challenge == t.ID && (s.state == current || s.state == inGrace):
	case p.Challenge == id:
		f.token = t.successor(s.cutoff, s.iat)
		f.token.ID, f.status.state = id, current
	default:
		return t.proofRequired(s.record)
	}
	f.key = &p.Key
	return nil
}

// checkBinding decides about a session that is not bound. Only its current token can bind it: a replaced token has a
// successor that is already in use without a key.
func (f *Refresh) checkBinding() error {
	t, s, p := f.token, f.status, f.proof
	if s.state != current {
		return nil
	}
	if p == nil && f.rules.RequireProof || p != nil && p.Challenge != t.ID {
		return t.proofRequired(s.record)
	}
	if p != nil {
		f.key, f.binds = &p.Key, true
	}
	return nil
}

// successor returns the token that the refresh issues. It is bound like the session.
func (f *Refresh) successor(instant, iat int64) *Token {
	next := f.token.successor(instant, iat)
	if f.key != nil {
		next.key = f.key
	}
	return next
}
