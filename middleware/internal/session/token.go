package session

import (
	"crypto/rand"
	"encoding/base64"

	"github.com/ginrefresh/ginrefresh/middleware/internal/jose"
)

// Kind is what a token is for. On the wire it is the typ of the header (RFC 8725 §3.11).
type Kind uint8

const (
	AccessToken  Kind = iota // used on requests; in one-token mode it is refreshed as well
	RefreshToken             // pair mode: exchanged for a new pair, and good for nothing else
)

// Token is the decoded form of a JWT that this package issued. Once decoded or signed it is immutable
// and shared between requests.
type Token struct {
	// The fields that every request reads come first, so that they share a cache line.
	Kind      Kind
	paired    bool  // belongs to a pair: an access token that cannot be refreshed, or a refresh token
	Owner     any   // the Auth that decoded it; another Auth does not rely on its verdict
	begins    int64 // the latest of iat, nbf, auth_time and the birth, in seconds
	ExpiresAt int64 // exp, in seconds

	ID       string // jti
	Session  string // sid
	Subject  string // sub
	birth    int64  // the session's birth, in microseconds
	Instant  int64  // the issue instant, in microseconds
	IssuedAt int64  // iat, in seconds
	nbf      int64  // in seconds
	AuthTime int64  // auth_time, in seconds
	Deadline int64  // of the session, in seconds
	ttl      int64  // the lifetime of the session's access tokens, in seconds

	key *jose.ClientKey // cnf of a refresh token: the key to which the session is bound, or nil

	Label string // of the login that has just issued it; not part of the wire form

	// AppClaims holds the application's claims as JSON members, without the braces around them.
	AppClaims []byte
	// Payload is the complete JSON object that was signed.
	Payload []byte

	// The store's keys for the session and the subject, made once because a cached token is checked often.
	sessionKey, subjectKey string
}

// refreshable reports whether a refresh replaces tokens of this kind.
func (t *Token) refreshable() bool { return t.Kind == RefreshToken || !t.paired }

// expiry returns exp for a token that can be refreshed. For a refresh token that is the session's deadline.
func (t *Token) expiry() int64 {
	if t.Kind == RefreshToken {
		return t.Deadline
	}
	return t.IssuedAt + t.ttl
}

// swapInstant returns the instant to which a refresh moved the session's cutoff before it handed out t, or 0 if t was
// issued by the login (R21).
func (t *Token) swapInstant() int64 {
	instant := t.Instant
	if !t.refreshable() {
		instant-- // see AccessToken
	}
	if instant <= t.birth {
		return 0
	}
	return instant
}

// successor returns the token that replaces t (R9).
func (t *Token) successor(instant, iat int64) *Token {
	next := *t
	next.Instant, next.IssuedAt, next.nbf = instant, iat, 0
	next.ExpiresAt = next.expiry()
	return &next
}

// AccessToken returns the access token that is issued together with the refresh token t. It has the next instant, so
// that every jti is unique.
func (t *Token) AccessToken() *Token {
	access := *t
	access.Kind, access.Instant, access.key = AccessToken, t.Instant+1, nil
	access.ExpiresAt = t.IssuedAt + t.ttl
	return &access
}

// tokenID returns the jti of the token of a session that was issued at an instant.
func tokenID(session string, instant int64) string { return session + "." + formatInstant(instant) }

// birthMark separates the birth in a session's id from the random part. Base 36 does not contain it.
const birthMark = "-"

// newSessionID returns an id that contains the session's birth, so that R3 needs no record of it.
func newSessionID(birth int64) string {
	return formatInstant(birth) + birthMark + randomText(16)
}

// randomText returns random bytes as base64url.
func randomText(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never returns an error: it crashes the program instead
	return base64.RawURLEncoding.EncodeToString(b)
}
