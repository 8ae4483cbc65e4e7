package middleware

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
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

	// futureTolerance is how far in the future a token may begin: servers' clocks differ (R2).
	futureTolerance = 30 * time.Second

	// maxHold is how long after a swap AutoRefresh may restart its grace for a handler that is still running (R7).
	maxHold = 5 * time.Minute
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
	server      string // names this Auth in the cutoffs that it sets (R12)
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

var errRevokedMeanwhile = errors.New("the subject was revoked while its credentials were checked")

// A login is what a session begins with.
type login struct {
	began           int64 // its instant, taken before anything was looked up
	checked         bool  // the credentials were checked after began
	subject         string
	own             []byte
	ttl, refreshTTL time.Duration
}

// start begins a session (R12, R13). It returns the token that can be refreshed: in pair mode the refresh token.
//
// The session is born when its login began, so that a revocation which the login did not see comes later than its
// birth, however long either takes. A revocation that it saw is one that it follows.
func (s *sessions) start(ctx context.Context, l login) (*token, error) {
	cutoff, err := s.subjectCutoff(ctx, l.subject)
	if err != nil {
		return nil, err
	}
	if l.checked && s.mayFollow(cutoff, l.began) {
		return nil, failed(CodeStoreUnavailable, errRevokedMeanwhile)
	}
	now := time.Now().Unix()
	birth := max(l.began, cutoff.instant)
	t := &token{
		kind:     accessKind,
		paired:   s.pair,
		session:  newSessionID(birth),
		birth:    birth,
		issued:   birth,
		subject:  l.subject,
		iat:      now,
		authTime: now,
		deadline: now + int64(l.refreshTTL/time.Second),
		ttl:      int64(l.ttl / time.Second),
		own:      l.own,
	}
	if s.pair {
		t.kind = refreshKind
	}
	t.exp = expiry(t)
	t.sessionKey, t.subjectKey = sessionKey(t.session), subjectKey(t.subject)
	return t, nil
}

// mayFollow reports whether the subject may have been revoked after began (R12). A server's own instants are in
// order. Another server's clock may be a second behind, and its cutoff is a second ahead of its clock.
func (s *sessions) mayFollow(c cutoff, began int64) bool {
	if c.by == s.server {
		return c.instant-clockSkew.Microseconds() > began
	}
	return c.instant >= began
}

// expiry is exp of a token that can be refreshed: in pair mode that is the session's deadline.
func expiry(t *token) int64 {
	if t.kind == refreshKind {
		return t.deadline
	}
	return t.iat + t.ttl
}

// newSessionID returns an id that tells the session's birth, so that nothing has to be stored for R3.
func newSessionID(birth int64) string {
	return formatInstant(birth) + birthMark + randomText(16)
}

// birthMark separates the birth in a session's id from the random part. Base 36 has no such character.
const birthMark = "-"

func randomText(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails: it ends the program instead
	return base64.RawURLEncoding.EncodeToString(b)
}

// successor is the token that replaces t (R9).
func successor(t *token, issued, iat int64) *token {
	next := *t
	next.issued, next.iat, next.nbf = issued, iat, 0
	next.exp = expiry(&next)
	return &next
}

// companion is the access token that goes with a refresh token. It has the next instant, so that no jti is
// used twice.
func companion(t *token) *token {
	access := *t
	access.kind, access.issued = accessKind, t.issued+1
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
	if t.begins > now.Add(max(s.leeway, futureTolerance)).Unix() {
		return invalid("iat, nbf, auth_time or the session's birth is in the future")
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

// lastSecond is when the session's last token dies: one issued just before the deadline (R9).
func (s *sessions) lastSecond(t *token) int64 {
	return max(t.deadline+t.ttl, t.exp)
}

// deadFrom is when no token of the session can live any more. The leeway counts twice: a token may be issued
// that long after the deadline, and lives that long after its exp.
func (s *sessions) deadFrom(t *token) time.Time {
	return time.Unix(s.lastSecond(t), 0).Add(2 * s.leeway)
}

// forgetAt is when the session's record may go: when all that it revokes is dead by every clock (R13).
func (s *sessions) forgetAt(t *token) time.Time {
	return s.deadFrom(t).Add(clockSkew)
}

// standing is where a token stands in its session.
type standing uint8

const (
	current    standing = iota
	inGrace             // just replaced, and still good for its successor (R7)
	superseded          // so is its successor, and all of that within the grace: refused, but no reuse (R8)
	replaced            // replaced longer ago than the grace (R4, R8)
	revoked             // the session or all of the subject's are over (R3)
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
	case superseded, replaced:
		return fail(CodeTokenRevoked)
	}
	return nil
}

// look asks the blacklist about a token that was presented at asked.
func (s *sessions) look(v *visit, t *token, asked time.Time) (entry, error) {
	values, err := v.lookup(t.sessionKey, t.subjectKey)
	if err != nil {
		return entry{}, err
	}
	return s.judge(t, values, asked)
}

// judge reads what the blacklist said: R3, R4, and which of R6, R7 and R8 applies.
func (s *sessions) judge(t *token, values [2]string, asked time.Time) (entry, error) {
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
	case session.ended() || t.birth < cutoff.instant:
		e.standing = revoked
	case !t.refreshable() || t.issued >= session.cutoff:
		e.standing = current // in pair mode a refresh does not touch access tokens
	case t.issued == session.previous && s.graceHolds(session.graceStart(), asked):
		e.standing = inGrace
	case t.issued < session.previous && s.graceHolds(session.previous, asked):
		e.standing = superseded
	default:
		e.standing = replaced
	}
	return e, nil
}

// graceHolds reports whether a request that came at asked falls into the grace that began at start (R7). What
// the server itself needs to answer, a slow store or Reload, takes nothing from the client's grace.
func (s *sessions) graceHolds(start int64, asked time.Time) bool {
	return s.grace >= 0 && asked.UnixMicro() <= start+s.grace.Microseconds()
}

// verify lets a request's token through or says why not (R2–R4). w is the token's watch, nil if it has none.
func (s *sessions) verify(ctx context.Context, t *token, w *watch) error {
	if t.kind != accessKind {
		return invalid("the token is for refreshing only")
	}
	now := time.Now()
	if err := s.live(t, now); err != nil {
		return err
	}
	return s.stands(ctx, t, w, now)
}

// stands refuses what the blacklist has (R3, R4).
func (s *sessions) stands(ctx context.Context, t *token, w *watch, asked time.Time) error {
	g := w.glance()
	if g.passes() {
		return nil
	}
	var e entry
	var err error
	if s.peeker != nil { // every request with a new token comes along here
		e, err = s.judge(t, s.peek(t.sessionKey, t.subjectKey), asked)
	} else {
		e, err = s.look(s.visit(ctx), t, asked)
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
	now := time.Now()
	if err := s.refreshableNow(t, now); err != nil {
		return err
	}
	return s.stands(ctx, t, nil, now)
}

// forRefreshing refuses a token of another kind, and one of the other mode (R1).
func (s *sessions) forRefreshing(t *token) error {
	if !t.refreshable() || t.paired != s.pair {
		return invalid("the token is not for refreshing here")
	}
	return nil
}

// refreshableNow checks what needs no store (R5).
func (s *sessions) refreshableNow(t *token, now time.Time) error {
	if err := s.forRefreshing(t); err != nil {
		return err
	}
	return s.inWindow(t, now)
}

// renewal is one refresh under way (R5–R10): look, then the application's Reload, then finish.
type renewal struct {
	*sessions
	ctx   context.Context // the client's
	visit *visit          // goes on without the client: whoever presents a stolen token may hang up (R8)
	token *token
	asked time.Time
	entry entry
}

// refresh begins a refresh: it refuses a token that cannot be refreshed, and ends the session of one that comes
// back after it was replaced.
func (s *sessions) refresh(ctx context.Context, t *token) (*renewal, error) {
	now := time.Now()
	if err := s.refreshableNow(t, now); err != nil {
		return nil, err
	}
	r := &renewal{sessions: s, ctx: ctx, visit: s.visit(context.WithoutCancel(ctx)), token: t, asked: now}
	return r, r.look()
}

func (r *renewal) look() (err error) {
	if r.entry, err = r.sessions.look(r.visit, r.token, r.asked); err != nil {
		return err
	}
	if r.entry.standing == replaced {
		return r.reuse(r.visit, r.token)
	}
	return r.entry.refusal()
}

// finish swaps the token for its successor. sign makes the answer; it is called before the swap, so that nothing
// is used up if it fails, and again if another request won the swap (R10). The instant is taken after all that
// may be slow, because the grace counts from it.
func (r *renewal) finish(sign func(next *token) error) error {
	for range maxSwaps {
		if next := r.repeated(); next != nil {
			return sign(next)
		}
		t := r.token
		next := successor(t, r.instant(t.issued+r.width()), time.Now().Unix())
		if err := sign(next); err != nil {
			return err
		}
		if err := r.ctx.Err(); err != nil {
			return failed(CodeStoreUnavailable, err) // nobody waits for the answer, so the token is kept
		}
		new := record{cutoff: next.issued, previous: t.issued, iat: next.iat}
		if swapped, err := r.visit.swap(t.sessionKey, r.entry.value, new.encode(), r.forgetAt(t)); swapped || err != nil {
			return err
		}
		if err := r.look(); err != nil {
			return err
		}
	}
	return failed(CodeStoreUnavailable, errSwaps)
}

// repeated is the token that was already made for this one, nil if there is none: the successor of a token in its
// grace (R7), and the token itself where a swap made it less than a grace ago and what it would be answered
// with is alive (R6a).
func (r *renewal) repeated() *token {
	t, e := r.token, r.entry
	switch {
	case e.standing == inGrace:
		return successor(t, e.cutoff, e.iat)
	case t.issued == e.cutoff && r.graceHolds(e.graceStart(), r.asked) && time.Now().Unix() < t.iat+t.ttl:
		return successor(t, t.issued, t.iat)
	}
	return nil
}

// due reports whether AutoRefresh is to refresh t, because it has expired or has less than within left, and
// whether it must, because it has expired.
func (s *sessions) due(t *token, within time.Duration) (due, must bool) {
	now := time.Now()
	must = s.live(t, now) != nil
	return must || remaining(t, now) < within && s.inWindow(t, now) == nil, must
}

// remaining is how long t lives by its own exp.
func remaining(t *token, now time.Time) time.Duration {
	return time.Unix(t.exp, 0).Sub(now)
}

// confirm verifies a token that AutoRefresh need not refresh. Unlike verify it ends the session on reuse (R8).
func (s *sessions) confirm(ctx context.Context, t *token, w *watch) error {
	if err := s.forRefreshing(t); err != nil {
		return err
	}
	g := w.glance()
	if g.passes() {
		return nil
	}
	v := s.visit(context.WithoutCancel(ctx))
	e, err := s.look(v, t, time.Now())
	if err != nil {
		return err
	}
	g.found(e.standing)
	if e.standing == replaced {
		return s.reuse(v, t)
	}
	return e.refusal()
}

// hold restarts the grace of the swap that made next for as long as AutoRefresh's handler runs, at most maxHold:
// the client cannot have next before the answer is written (R7). release ends that, and counts the grace from
// now if the handler was slow.
func (s *sessions) hold(ctx context.Context, next *token) (release func()) {
	pause := s.grace / 2
	if pause <= 0 {
		return func() {}
	}
	ctx = context.WithoutCancel(ctx)
	began, done := time.Now(), make(chan struct{})
	go func() {
		tick := time.NewTicker(pause)
		defer tick.Stop()
		for time.Since(began) < maxHold {
			select {
			case <-tick.C:
				s.restartGrace(ctx, next)
			case <-done:
				return
			}
		}
	}()
	return func() {
		close(done)
		if time.Since(began) >= pause {
			s.restartGrace(ctx, next)
		}
	}
}

// restartGrace lets the grace of the swap that made next begin again, unless that token was replaced meanwhile or
// the swap is too long ago. If the store fails, the grace ends as it would have.
func (s *sessions) restartGrace(ctx context.Context, next *token) {
	_ = s.visit(ctx).update(next.sessionKey, func(value string) (string, time.Time, bool, error) {
		r, err := decodeRecord(value)
		now := time.Now().UnixMicro()
		if err != nil || r.cutoff != next.issued || now > r.cutoff+maxHold.Microseconds() {
			return "", time.Time{}, true, err
		}
		r.held = max(r.held, now)
		return r.encode(), s.forgetAt(next), false, nil
	})
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

// logout ends the session of any genuine token, until the last token of the session is dead (R11).
func (s *sessions) logout(ctx context.Context, t *token) error {
	if err := s.mattersStill(t, time.Now()); err != nil {
		return err
	}
	return s.end(s.visit(context.WithoutCancel(ctx)), t.session, s.forgetAt(t))
}

// logoutAll revokes all sessions of the token's subject. It reaches beyond the token's own session, so it takes
// no token that is revoked or replaced, and of pair mode no access token that has expired.
func (s *sessions) logoutAll(ctx context.Context, t *token) error {
	now := time.Now()
	check := s.mattersStill
	if !t.refreshable() {
		check = s.live
	}
	if err := check(t, now); err != nil {
		return err
	}
	v := s.visit(context.WithoutCancel(ctx))
	e, err := s.look(v, t, now)
	if err != nil {
		return err
	}
	if err := e.refusal(); err != nil {
		return err
	}
	return s.revokeSubject(v, t.subject)
}

// mattersStill refuses a token of which nothing is left to end: every token of its session is dead.
func (s *sessions) mattersStill(t *token, now time.Time) error {
	if !now.Before(s.deadFrom(t)) {
		return fail(CodeRefreshExpired)
	}
	return nil
}

// longest is how long a session that begins now can matter to anybody, by the configured lifetimes (R13).
func (s *sessions) longest() time.Duration {
	return s.refreshTTL + s.ttl + 2*s.leeway + clockSkew
}

// revokeSession ends a session of which only the id is known.
func (s *sessions) revokeSession(ctx context.Context, session string) error {
	return s.end(s.visit(context.WithoutCancel(ctx)), session, time.Now().Add(clockSkew+s.longest()))
}

// revokeSubject revokes all sessions of a subject that have begun (R12).
func (s *sessions) revokeSubject(v *visit, subject string) error {
	return v.update(subjectKey(subject), func(value string) (string, time.Time, bool, error) {
		old, err := decodeCutoff(value)
		if err != nil {
			return "", time.Time{}, false, err
		}
		// A login takes an instant no earlier than the old cutoff, so the new one has to be later.
		c := cutoff{instant: max(s.instant(0)+clockSkew.Microseconds(), old.instant+1), by: s.server}
		return c.encode(), time.UnixMicro(c.instant).Add(s.longest()), false, nil
	})
}

func (s *sessions) subjectCutoff(ctx context.Context, subject string) (cutoff, error) {
	value, err := s.visit(ctx).get(subjectKey(subject))
	if err != nil {
		return cutoff{}, err
	}
	return decodeCutoff(value)
}
