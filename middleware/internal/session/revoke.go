package session

import (
	"context"
	"time"
)

// Everything in this file runs to its end within StoreTimeout, even if the client disconnects (R8, R11, R12).

// Logout ends the session of any genuine token, until the last token of the session is dead (R11).
func (r *Rules) Logout(ctx context.Context, t *Token) error {
	if err := r.checkAnyAlive(t, time.Now()); err != nil {
		return err
	}
	return r.end(r.stepStore(context.WithoutCancel(ctx)), t.Session, r.recordExpiry(t))
}

// LogoutEverywhere revokes all sessions of the token's subject (R12). It affects other sessions, so it takes no token
// that is revoked or past its grace period, and in pair mode no access token that has expired.
func (r *Rules) LogoutEverywhere(ctx context.Context, t *Token) error {
	now := time.Now()
	check := r.checkAnyAlive
	if !t.refreshable() {
		check = r.checkExpiry
	}
	if err := check(t, now); err != nil {
		return err
	}
	a := r.stepStore(context.WithoutCancel(ctx))
	s, err := r.read(a, t, now)
	if err != nil {
		return err
	}
	if s.state == forgotten {
		return r.reject(a, t, s.state)
	}
	if err := s.err(); err != nil {
		return err
	}
	return r.revoke(a, t.Subject)
}

// RevokeSession ends a session of which only the id is known (R11).
func (r *Rules) RevokeSession(ctx context.Context, session string) error {
	return r.end(r.stepStore(context.WithoutCancel(ctx)), session, time.Now().Add(clockSkew+r.longestSession()))
}

// RevokeSubject revokes all sessions of a subject that have begun (R12).
func (r *Rules) RevokeSubject(ctx context.Context, subject string) error {
	return r.revoke(r.stepStore(context.WithoutCancel(ctx)), subject)
}

// nextCutoff returns a cutoff that is a clock skew ahead of now. A login is born no earlier than the cutoff and the store's
// since that it saw, so each cutoff has to be later than both.
func (r *Rules) nextCutoff(old, since int64) int64 {
	return max(r.instant(0)+clockSkew.Microseconds(), old+1, since+1)
}

// revoke moves the subject's cutoff.
func (r *Rules) revoke(a *stepStore, subject string) error {
	return a.update(subjectKey(subject), func(value string, since int64) (change, error) {
		old, err := decodeCutoff(value)
		if err != nil {
			return change{}, err
		}
		c := cutoff{instant: r.nextCutoff(old.instant, since), by: r.name}
		return change{value: c.encode(), expires: time.UnixMicro(c.instant).Add(r.longestSession())}, nil
	})
}

// reject returns the verdict on a token in a state, and ends its session if the token proves that one of its tokens may be
// in the wrong hands: it was replaced longer ago than the grace period, so both the client and a thief may hold a copy
// (R8), or the store has forgotten which tokens of the session were replaced, or that it was logged out (R21).
func (r *Rules) reject(a *stepStore, t *Token, s state) error {
	verdict := s.err()
	switch {
	case s == forgotten:
	case s == pastGrace && r.KeepSessionOnReuse:
		return errReused
	case s == pastGrace:
		verdict = errReuseEnded
	default:
		return verdict
	}
	if err := r.end(a, t.Session, r.recordExpiry(t)); err != nil {
		return err
	}
	return verdict
}

// end ends a session for good. A concurrent refresh cannot undo it, because its swap expects a value that is no longer
// there. It writes even if the session has ended already: the record that it reads may be one that the store failed to
// replicate, and a failover would lose it. The later of the two expiries counts.
func (r *Rules) end(a *stepStore, session string, expires time.Time) error {
	return a.update(sessionKey(session), func(value string, _ int64) (change, error) {
		old, _ := decodeRecord(value) // a malformed record is replaced
		ended := record{cutoff: endOfTime, expires: max(expires.UnixMicro(), old.expires)}
		return change{value: ended.encode(), expires: time.UnixMicro(ended.expires)}, nil
	})
}
