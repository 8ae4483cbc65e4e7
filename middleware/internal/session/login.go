package session

import (
	"context"
	"errors"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware/internal/jose"
)

// A Login is the beginning of a session.
type Login struct {
	Began           int64 // the instant at which it began, taken before anything was looked up
	Since           int64 // set by BeginLogin if credentials are checked after Began
	Checked         bool  // credentials were checked after Began
	Subject         string
	AppClaims       []byte          // the application's claims, from EncodeClaims
	Key             *jose.ClientKey // to which the session is bound from the start; nil: none
	AuthTime        time.Time       // when the subject authenticated; zero: now
	TTL, RefreshTTL time.Duration
	Label           string   // for the list of the subject's sessions
	Replaces        []string // the sessions that the login is going to end (R16)
}

// maxBirths limits the lookups of one login. Each but the first follows a revocation of the subject, or finds keys that the
// store forgot later than others.
const maxBirths = 8

var (
	errRevokedMeanwhile = errors.New("the subject was revoked while its credentials were checked")
	errForgotMeanwhile  = errors.New("the store may have lost a revocation of the subject while its credentials were checked")
	errSinceAhead       = errors.New("the store's clock is far ahead of this server's")
	errSinceMoves       = errors.New("the store keeps forgetting")
)

// BeginLogin begins a login that checks credentials. The store may lose the subject's revocation during the check, so that
// a password from before it would still count. Login notices such a loss by a since that has moved.
func (r *Rules) BeginLogin(ctx context.Context) (Login, error) {
	l := Login{Began: r.Now(), Checked: true, Since: r.since}
	if r.Store == nil || r.peek != nil { // the since of a store that can be peeked does not move
		return l, nil
	}
	var err error
	_, l.Since, err = r.stepStore(ctx).get(subjectKey(""))
	return l, err
}

// Login starts a session (R12, R13). It returns the token that can be refreshed, in pair mode the refresh token.
//
// The session is born when its login began. So a revocation that the login did not see is later than the birth, and
// revokes the session, however long either of them takes. A revocation that the login saw came before it.
func (r *Rules) Login(ctx context.Context, l Login) (*Token, error) {
	id, birth, err := r.newSession(ctx, l)
	if err != nil {
		return nil, err
	}
	now := time.Now().Unix()
	authTime := now
	if !l.AuthTime.IsZero() {
		authTime = l.AuthTime.Unix()
	}
	t := &Token{
		Kind:      AccessToken,
		paired:    r.Pair,
		Session:   id,
		birth:     birth,
		Instant:   birth,
		Subject:   l.Subject,
		IssuedAt:  now,
		AuthTime:  authTime,
		Deadline:  authTime + int64(l.RefreshTTL/time.Second),
		ttl:       int64(l.TTL / time.Second),
		AppClaims: l.AppClaims,
		Label:     l.Label,
		key:       l.Key,
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

// newSession returns the id and the birth of a new session. A subject's cutoff (R12), or a store that forgot something
// lately (R20), moves the birth. The session's id contains its birth, and a store may have forgotten some keys and not
// others, so each birth is looked up together with its id.
func (r *Rules) newSession(ctx context.Context, l Login) (id string, birth int64, err error) {
	a := r.stepStore(ctx)
	birth = l.Began
	for range maxBirths {
		id = newSessionID(birth)
		values, since, err := a.get(subjectKey(l.Subject), sessionKey(id))
		if err != nil {
			return "", 0, err
		}
		revoked, err := decodeCutoff(values[0])
		if err != nil {
			return "", 0, err
		}
		switch {
		case l.Checked && r.revokedSince(revoked, l.Began):
			return "", 0, unavailable(errRevokedMeanwhile)
		case l.Checked && since > max(l.Began, l.Since):
			return "", 0, unavailable(errForgotMeanwhile)
		case since > time.Now().Add(FutureTolerance).UnixMicro():
			return "", 0, unavailable(errSinceAhead)
		}
		earliest := max(revoked.instant, since)
		if earliest <= birth {
			return id, birth, nil
		}
		birth = earliest
	}
	return "", 0, unavailable(errSinceMoves)
}
