package session

import (
	"context"
	"strings"
	"time"
)

// state is a token's place in its session, according to the blacklist.
type state uint8

const (
	current    state = iota
	inGrace          // just replaced; still accepted, and a refresh returns its successor (R7)
	superseded       // it and its successor were replaced within one grace period: rejected, but not reuse (R8)
	pastGrace        // replaced longer ago than the grace period (R4, R8)
	revoked          // the session has ended, or its subject was revoked (R3)
	tooOld           // the session is older than the blacklist (R20)
	forgotten        // a refresh issued it, but the record of that refresh is missing or older (R21)
)

// err returns the verdict for a request with such a token (R3, R4).
func (s state) err() error {
	switch s {
	case revoked:
		return errEnded
	case superseded, pastGrace:
		return errReplaced
	case tooOld:
		return errTooOld
	case forgotten:
		return errForgotten
	}
	return nil
}

// over reports whether the session itself is over, whichever of its tokens is presented.
func (s state) over() bool { return s == revoked || s == tooOld || s == forgotten }

// status is what the blacklist says about a token.
type status struct {
	state
	record
	value string // the encoded record, for the swap
}

// Verify decides whether a token is good for a request (R2–R4). m is the token's memo, or nil.
func (r *Rules) Verify(ctx context.Context, t *Token, m *Memo) error {
	if t.Kind != AccessToken {
		return errRefreshOnly
	}
	now := time.Now()
	if err := r.checkExpiry(t, now); err != nil {
		return err
	}
	return r.checkBlacklist(ctx, t, m, now, false)
}

// Introspect decides whether a token of either kind is good for anything (R2–R5).
func (r *Rules) Introspect(ctx context.Context, t *Token) error {
	if t.Kind == AccessToken {
		return r.Verify(ctx, t, nil)
	}
	now := time.Now()
	if err := r.checkRefreshable(t, now); err != nil {
		return err
	}
	return r.checkBlacklist(ctx, t, nil, now, false)
}

// Alive decides whether the session of a token lives, whatever became of the token itself: it may have expired or been
// replaced (R3, R5, R20). Without a store it cannot know the newest token, and so whether the session is idle.
func (r *Rules) Alive(ctx context.Context, t *Token) error {
	now := time.Now()
	if err := r.checkAnyAlive(t, now); err != nil {
		return err
	}
	var a *stepStore
	if r.peek == nil {
		a = r.stepStore(ctx)
	}
	s, err := r.read(a, t, now)
	switch {
	case err != nil:
		return err
	case s.state.over():
		return s.err()
	case r.Store != nil && r.isIdle(max(t.Instant, s.record.cutoff), now):
		return errWindowOver
	}
	return nil
}

// VerifyUnrefreshed decides about a token that NeedsRefresh has found to be alive. Unlike Verify it ends the session
// on reuse (R8).
func (r *Rules) VerifyUnrefreshed(ctx context.Context, t *Token, m *Memo) error {
	if err := r.checkMode(t); err != nil {
		return err
	}
	return r.checkBlacklist(ctx, t, m, time.Now(), true)
}

// checkBlacklist rejects a token that is revoked or replaced (R3, R4, R20, R21). With punish it ends the session on
// reuse (R8).
func (r *Rules) checkBlacklist(ctx context.Context, t *Token, m *Memo, arrived time.Time, punish bool) error {
	snap := m.snapshot()
	if snap.unchanged() {
		return nil
	}
	if punish {
		ctx = context.WithoutCancel(ctx) // the client may hang up, but the session must end
	}
	if s, known := r.readRecent(t, arrived); known {
		return s.err()
	}
	var a *stepStore
	if r.peek == nil { // peeking needs no stepStore, so do not allocate one: every new token takes this path
		a = r.stepStore(ctx)
	}
	s, err := r.read(a, t, arrived)
	if err != nil {
		return err
	}
	snap.remember(s.state)
	if s.state != forgotten && !(punish && s.state == pastGrace) {
		return s.err()
	}
	if a == nil {
		a = r.stepStore(ctx)
	}
	return r.reject(a, t, s.state)
}

// readRecent decides about a token by the recent answers of the store. It reports false if there are none, or if the
// token may be good all the same because the record has changed since. A session that has ended and one that is older
// than the blacklist remain so.
func (r *Rules) readRecent(t *Token, arrived time.Time) (state, bool) {
	if r.recent == nil || r.peek != nil {
		return 0, false
	}
	session, since, known := r.recent(t.sessionKey)
	if !known {
		return 0, false
	}
	subject, subjectSince, known := r.recent(t.subjectKey)
	if !known {
		return 0, false
	}
	instant := max(sinceInstant(since), sinceInstant(subjectSince))
	s, err := r.decide(t, [2]string{session, subject}, instant, arrived)
	switch {
	case err != nil, s.state == superseded, s.state == pastGrace, s.state == forgotten:
		return 0, false
	}
	return s.state, true
}

// read asks the blacklist about a token whose request came in at arrived.
func (r *Rules) read(a *stepStore, t *Token, arrived time.Time) (status, error) {
	var values [2]string
	since := r.since
	switch {
	case r.Store == nil:
		return status{}, nil
	case r.peek != nil:
		// The subject's record adds nothing to a session that has ended.
		if values[0] = r.peek(t.sessionKey); !strings.HasPrefix(values[0], endedMark) {
			values[1] = r.peek(t.subjectKey)
		}
	default:
		var err error
		if values, since, err = a.get(t.sessionKey, t.subjectKey); err != nil {
			return status{}, err
		}
	}
	return r.decide(t, values, since, arrived)
}

// decide derives the token's state from its records: R3, R4, R20, R21, and which of R6, R7 and R8 applies.
func (r *Rules) decide(t *Token, values [2]string, since int64, arrived time.Time) (status, error) {
	if t.birth < since {
		return status{state: tooOld}, nil
	}
	recorded := t.swapInstant() // the session's cutoff was moved to it, so the record must say so (R21)
	if since == sinceUnknown {
		recorded = 0
	}
	if values == [2]string{} && recorded == 0 {
		return status{}, nil
	}
	session, err := decodeRecord(values[0])
	if err != nil {
		return status{}, err
	}
	subject, err := decodeCutoff(values[1])
	if err != nil {
		return status{}, err
	}
	s := status{record: session, value: values[0]}
	switch {
	case session.ended() || t.birth < subject.instant:
		s.state = revoked
	case session.cutoff < recorded:
		s.state = forgotten
	case !t.refreshable() || t.Instant >= session.cutoff:
		s.state = current // in pair mode a refresh does not affect access tokens
	case t.Instant == session.previous && r.graceHolds(session.graceStart(), arrived):
		s.state = inGrace
	case t.Instant < session.previous && r.graceHolds(session.previous, arrived):
		s.state = superseded
	default:
		s.state = pastGrace
	}
	return s, nil
}

// graceHolds reports whether a request that came in at arrived is inside the grace period that began at start
// (R7). The time that the server itself needs, for a slow store or Reload, does not shorten the client's grace.
func (r *Rules) graceHolds(start int64, arrived time.Time) bool {
	return r.Grace >= 0 && arrived.UnixMicro() <= start+r.Grace.Microseconds()
}
