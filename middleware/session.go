package middleware

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"sync/atomic"
	"time"
)

// This file holds the rules R2–R13 and nothing else: no HTTP, no Gin, no encoding of tokens. They are
// written out, with the reasons, in docs/model.md.

const (
	microsPerSecond = int64(time.Second / time.Microsecond)

	// clockSkew is how far the clocks of two servers may differ: what one issued must still be revoked by
	// the other's "now" (R12).
	clockSkew = time.Second

	// subjectStep is how far a second cutoff of a subject moves beyond the first where the clock alone
	// would not carry it there: room for every token issued at the first cutoff meanwhile.
	subjectStep = time.Millisecond

	// futureTolerance is how far in the future iat and nbf may be: servers' clocks differ (R2).
	futureTolerance = 30 * time.Second
)

// sessions keeps the rules.
type sessions struct {
	blacklist
	ttl         time.Duration
	refreshTTL  time.Duration
	idleTTL     time.Duration // 0: none
	grace       time.Duration // negative: none
	leeway      time.Duration
	pair        bool
	keepOnReuse bool
	lastInstant atomic.Int64
}

// instant returns the next issue instant: later than every one before it, the clock's time where that is
// enough, and no earlier than floor. It takes as many instants as a refresh issues tokens. The floor is not
// remembered: one subject's must not carry all others into the future.
func (s *sessions) instant(floor int64) int64 {
	for {
		last := s.lastInstant.Load()
		next := max(time.Now().UnixMicro(), last+1)
		if s.lastInstant.CompareAndSwap(last, next+s.width()-1) {
			return max(next, floor)
		}
	}
}

// width is how many tokens, and so instants, one login or refresh issues.
func (s *sessions) width() int64 {
	if s.pair {
		return 2
	}
	return 1
}

// start begins a session (R12, R13). It returns the token that can be refreshed: in pair mode the refresh token.
func (s *sessions) start(ctx context.Context, subject string, own []byte, ttl, refreshTTL time.Duration) (*token, error) {
	cutoff, err := s.subjectCutoff(ctx, subject)
	if err != nil {
		return nil, err
	}
	now := time.Now().Unix()
	t := &token{
		kind:     s.refreshable(),
		session:  newSessionID(),
		issued:   s.instant(cutoff),
		subject:  subject,
		iat:      now,
		authTime: now,
		deadline: now + int64(refreshTTL/time.Second),
		ttl:      int64(ttl / time.Second),
		own:      own,
	}
	t.exp = s.expiry(t)
	t.sessionKey, t.subjectKey = sessionKey(t.session), subjectKey(t.subject)
	return t, nil
}

func (s *sessions) refreshable() kind {
	if s.pair {
		return refreshKind
	}
	return accessKind
}

// expiry is exp of a refreshable token: in pair mode that is the session's deadline.
func (s *sessions) expiry(t *token) int64 {
	if t.kind == refreshKind {
		return t.deadline
	}
	return t.iat + t.ttl
}

func newSessionID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails: it ends the program instead
	return base64.RawURLEncoding.EncodeToString(id[:])
}

// successor is the token that replaces t (R9).
func (s *sessions) successor(t *token, issued, iat int64) *token {
	next := *t
	next.issued, next.iat, next.nbf = issued, iat, 0
	next.exp = s.expiry(&next)
	return &next
}

// companion is the access token that goes with a refresh token. It has the next instant, so that no jti is
// used twice.
func companion(t *token) *token {
	access := *t
	access.kind, access.issued, access.deadline = accessKind, t.issued+1, 0
	access.exp = t.iat + t.ttl
	return &access
}

// live checks R2.
func (s *sessions) live(t *token, now time.Time) error {
	if err := s.begun(t, now); err != nil {
		return err
	}
	if !s.before(now, t.exp) {
		return fail(CodeTokenExpired)
	}
	return nil
}

// begun refuses a token from the future (R2).
func (s *sessions) begun(t *token, now time.Time) error {
	latest := now.Add(max(s.leeway, futureTolerance)).Unix()
	if t.iat > latest || t.nbf > latest {
		return invalid("iat or nbf is in the future")
	}
	return nil
}

// before reports whether now is before a second that a token names, by a clock that may be Leeway late.
func (s *sessions) before(now time.Time, second int64) bool {
	return now.UnixMicro() < second*microsPerSecond+s.leeway.Microseconds()
}

// inWindow checks R5.
func (s *sessions) inWindow(t *token, now time.Time) error {
	if err := s.begun(t, now); err != nil {
		return err
	}
	if t.deadline == 0 || t.authTime == 0 {
		return invalid("the token has no refresh window")
	}
	if !s.before(now, min(t.deadline, s.latestDeadline(t))) {
		return fail(CodeRefreshExpired)
	}
	if s.idleTTL > 0 && now.UnixMicro()-t.issued >= s.idleTTL.Microseconds() {
		return fail(CodeRefreshExpired)
	}
	return nil
}

// latestDeadline is the deadline that the configuration allows, which a shortened one brings forward (R5).
func (s *sessions) latestDeadline(t *token) int64 {
	return t.authTime + int64(s.refreshTTL/time.Second)
}

// deadlineOf is the session's deadline. An access token of pair mode does not know it, but the configured window
// is the longest.
func (s *sessions) deadlineOf(t *token) int64 {
	if t.deadline == 0 {
		return s.latestDeadline(t)
	}
	return t.deadline
}

// lastSecond is when the session's last token dies: one issued just before the deadline (R9).
func (s *sessions) lastSecond(t *token) int64 {
	return max(s.deadlineOf(t)+t.ttl, t.exp)
}

// forgetAt is when the session's record may go: nothing that it revokes lives any more (R13). The leeway
// counts twice: a token may be issued that long after the deadline, and lives that long after its exp.
func (s *sessions) forgetAt(t *token) time.Time {
	return time.Unix(s.lastSecond(t), 0).Add(2 * s.leeway)
}

// standing is where a token stands in its session.
type standing uint8

const (
	current  standing = iota
	inGrace           // just replaced, and still good for its successor (R7)
	replaced          // replaced before that (R4, R8)
	revoked           // the session or all of the subject's are over (R3)
)

// entry is what the blacklist says of a token.
type entry struct {
	standing
	record
	value string // the record's text, to be swapped
}

// refusal is what a request with the token is answered, nil if it passes (R3, R4).
func (e entry) refusal() error {
	switch e.standing {
	case revoked:
		return over(CodeTokenRevoked)
	case replaced:
		return fail(CodeTokenRevoked)
	}
	return nil
}

// look asks the blacklist about a token.
func (s *sessions) look(v *visit, t *token) (entry, error) {
	values, err := v.lookup(t.sessionKey, t.subjectKey)
	if err != nil {
		return entry{}, err
	}
	return s.judge(t, values)
}

// judge reads what the blacklist said: R3, R4, and which of R6, R7 and R8 applies.
func (s *sessions) judge(t *token, values [2]string) (entry, error) {
	if values == [2]string{} {
		return entry{}, nil
	}
	session, err := decodeRecord(values[0])
	if err != nil {
		return entry{}, err
	}
	cutoff, err := decodeCutoff(values[1])
	if err != nil {
		return entry{}, err
	}
	e := entry{record: session, value: values[0]}
	switch {
	case session.ended() || t.issued < cutoff:
		e.standing = revoked
	case t.kind != s.refreshable() || t.issued >= session.cutoff:
		e.standing = current // in pair mode a refresh does not touch access tokens
	case t.issued == session.previous && s.graceHolds(session):
		e.standing = inGrace
	default:
		e.standing = replaced
	}
	return e, nil
}

// graceHolds counts from the replacement and is never extended (R7).
func (s *sessions) graceHolds(r record) bool {
	return s.grace >= 0 && time.Now().UnixMicro() <= r.cutoff+s.grace.Microseconds()
}

// verify lets a request's token through or says why not (R2–R4). w is the token's watch, nil if it has none.
func (s *sessions) verify(ctx context.Context, t *token, w *watch) error {
	if t.kind != accessKind {
		return invalid("the token is for refreshing only")
	}
	if err := s.live(t, time.Now()); err != nil {
		return err
	}
	return s.stands(ctx, t, w)
}

// stands refuses what the blacklist has (R3, R4).
func (s *sessions) stands(ctx context.Context, t *token, w *watch) error {
	g := w.glance()
	if g.passes() {
		return nil
	}
	var e entry
	var err error
	if s.peeker != nil { // every request with a new token comes along here
		e, err = s.judge(t, s.peek(t.sessionKey, t.subjectKey))
	} else {
		e, err = s.look(s.visit(ctx), t)
	}
	if err != nil {
		return err
	}
	g.found(e.standing)
	return e.refusal()
}

// active reports whether a token of either kind is good for anything (R2–R5).
func (s *sessions) active(ctx context.Context, t *token) error {
	if t.kind == accessKind {
		return s.verify(ctx, t, nil)
	}
	if t.kind != s.refreshable() {
		return invalid("the token is not for refreshing")
	}
	if err := s.inWindow(t, time.Now()); err != nil {
		return err
	}
	return s.stands(ctx, t, nil)
}

// refresh swaps t for its successor (R5–R10). produce makes the answer from the successor; it is called
// before the swap, so that nothing is used up if it fails, and again if another request won the swap.
func (s *sessions) refresh(ctx context.Context, t *token, produce func(next *token) error) error {
	if t.kind != s.refreshable() {
		return invalid("the token is not for refreshing")
	}
	if err := s.inWindow(t, time.Now()); err != nil {
		return err
	}
	v := s.visit(ctx)
	for range maxSwaps {
		e, err := s.look(v, t)
		if err != nil {
			return err
		}
		switch e.standing {
		case revoked:
			return over(CodeTokenRevoked)
		case replaced:
			return s.reuse(v, t)
		case inGrace:
			return produce(s.successor(t, e.cutoff, e.iat))
		}
		next := s.successor(t, s.instant(t.issued+s.width()), time.Now().Unix())
		if err := produce(next); err != nil {
			return err
		}
		r := record{cutoff: next.issued, previous: t.issued, iat: next.iat}
		if swapped, err := v.swap(t.sessionKey, e.value, r.encode(), s.forgetAt(t)); swapped || err != nil {
			return err
		}
	}
	return failed(CodeStoreUnavailable, errSwaps)
}

// renew is refresh for a request that goes on afterwards, if the token is expired or has less than within
// left; otherwise, and if a token that still lives cannot be refreshed, it is verified. It reports whether
// the token was refreshed.
func (s *sessions) renew(ctx context.Context, t *token, w *watch, within time.Duration, produce func(next *token) error) (bool, error) {
	if t.kind != s.refreshable() {
		return false, invalid("the token is not for refreshing")
	}
	now := time.Now()
	alive := s.live(t, now) == nil
	if !alive || remaining(t, now) < within && s.inWindow(t, now) == nil {
		unproduced := false
		err := s.refresh(ctx, t, func(next *token) error {
			err := produce(next)
			unproduced = err != nil && !hasCode(err, CodeSubjectRefused)
			return err
		})
		if !alive || !unproduced {
			return err == nil, err
		}
	}
	g := w.glance()
	if g.passes() {
		return false, nil
	}
	v := s.visit(ctx)
	e, err := s.look(v, t)
	if err != nil {
		return false, err
	}
	g.found(e.standing)
	if e.standing == replaced {
		return false, s.reuse(v, t)
	}
	return false, e.refusal()
}

// remaining is how long t lives by its own exp.
func remaining(t *token, now time.Time) time.Duration {
	return time.Unix(t.exp, 0).Sub(now)
}

// reuse answers a token that was replaced longer ago than the grace: somebody else may have it (R8).
func (s *sessions) reuse(v *visit, t *token) error {
	if s.keepOnReuse {
		return fail(CodeTokenReused)
	}
	if err := s.end(v, t.session, s.forgetAt(t)); err != nil {
		return err
	}
	return over(CodeTokenReused)
}

// end ends a session for good. No refresh can win against it: its swap would be from a record that is gone.
func (s *sessions) end(v *visit, session string, forgetAt time.Time) error {
	return v.update(sessionKey(session), func(value string) (string, time.Time, bool, error) {
		return endedValue, forgetAt, value == endedValue, nil
	})
}

// logout ends the session of any genuine token that could still matter (R11).
func (s *sessions) logout(ctx context.Context, t *token) error {
	if err := s.mattersStill(t, time.Now()); err != nil {
		return err
	}
	return s.end(s.visit(ctx), t.session, s.forgetAt(t))
}

// logoutAll revokes all that was issued to the token's subject. Unlike logout it reaches beyond the token's
// own session, so it takes no token that is revoked or replaced, and none whose record may be gone: one that
// does not know its session's deadline must be alive.
func (s *sessions) logoutAll(ctx context.Context, t *token) error {
	check := s.mattersStill
	if t.deadline == 0 {
		check = s.live
	}
	if err := check(t, time.Now()); err != nil {
		return err
	}
	v := s.visit(ctx)
	e, err := s.look(v, t)
	if err != nil {
		return err
	}
	if err := e.refusal(); err != nil {
		return err
	}
	return s.revokeSubject(v, t.subject)
}

// mattersStill refuses a token that is expired and whose session can be refreshed no more.
func (s *sessions) mattersStill(t *token, now time.Time) error {
	if !s.before(now, max(t.exp, s.deadlineOf(t))) {
		return fail(CodeRefreshExpired)
	}
	return nil
}

// longest is how long anything issued now can live, counting refreshes (R13).
func (s *sessions) longest() time.Duration { return s.refreshTTL + s.ttl + s.leeway }

// revokeSession ends a session of which only the id is known.
func (s *sessions) revokeSession(v *visit, session string) error {
	return s.end(v, session, time.Now().Add(s.longest()))
}

// revokeSubject revokes all that was issued to a subject before (R12).
func (s *sessions) revokeSubject(v *visit, subject string) error {
	return v.update(subjectKey(subject), func(value string) (string, time.Time, bool, error) {
		old, err := decodeCutoff(value)
		if err != nil {
			return "", time.Time{}, false, err
		}
		cutoff := s.instant(0) + clockSkew.Microseconds()
		if old > 0 {
			cutoff = max(cutoff, old+subjectStep.Microseconds())
		}
		return formatInstant(cutoff), time.UnixMicro(cutoff).Add(s.longest()), false, nil
	})
}

func (s *sessions) subjectCutoff(ctx context.Context, subject string) (int64, error) {
	value, err := s.visit(ctx).get(subjectKey(subject))
	if err != nil {
		return 0, err
	}
	return decodeCutoff(value)
}
