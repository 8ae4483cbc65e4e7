package session

import (
	"context"
	"errors"
	"time"
)

// A Login is the beginning of a session.
type Login struct {
	Began           int64 // the instant at which it began, taken before anything was looked up
	Checked         bool  // credentials were checked after Began
	Subject         string
	AppClaims       []byte // the application's claims, from EncodeClaims
	TTL, RefreshTTL time.Duration
}

var errRevokedMeanwhile = errors.New("the subject was revoked while its credentials were checked")

// Login starts a session (R12, R13). It returns the token that can be refreshed, in pair mode the refresh token.
//
// The session is born when its login began. So a revocation that the login did not see is later than the birth, and
// revokes the session, however long either of them takes. A revocation that the login saw came before it.
func (r *Rules) Login(ctx context.Context, l Login) (*Token, error) {
	revoked, err := r.subjectCutoff(ctx, l.Subject)
	if err != nil {
		return nil, err
	}
	if l.Checked && r.revokedSince(revoked, l.Began) {
		return nil, unavailable(errRevokedMeanwhile)
	}
	now := time.Now().Unix()
	birth := max(l.Began, revoked.instant)
	t := &Token{
		Kind:      AccessToken,
		paired:    r.Pair,
		Session:   newSessionID(birth),
		birth:     birth,
		Instant:   birth,
		Subject:   l.Subject,
		IssuedAt:  now,
		AuthTime:  now,
		Deadline:  now + int64(l.RefreshTTL/time.Second),
		ttl:       int64(l.TTL / time.Second),
		AppClaims: l.AppClaims,
	}
	if r.Pair {
		t.Kind = RefreshToken
	}
	t.ExpiresAt = t.expiry()
	t.sessionKey, t.subjectKey = sessionKey(t.Session), subjectKey(t.Subject)
	return t, nil
}

// revokedSince reports whether the subject may have been revoked after began (R12). The instants of one server are in
// order. The clock of another server may be a second behind, and its cutoff is a second ahead of that clock.
func (r *Rules) revokedSince(c cutoff, began int64) bool {
	if c.by == r.name {
		return c.instant-clockSkew.Microseconds() > began
	}
	return c.instant >= began
}

// subjectCutoff reads the subject's record.
func (r *Rules) subjectCutoff(ctx context.Context, subject string) (cutoff, error) {
	values, err := r.stepStore(ctx).get(subjectKey(subject))
	if err != nil {
		return cutoff{}, err
	}
	return decodeCutoff(values[0])
}
