// Package session implements the rules R2–R14 and R18–R21 of docs/model.md, the records that they keep in the blacklist,
// and the claims (R1).
//
// [Rules] decides about tokens: [Rules.Login] starts a session, [Rules.Verify] checks a token for a request,
// [Rules.BeginRefresh] replaces it, [Rules.Logout] and [Rules.RevokeSubject] end sessions. A verdict is an [*Error].
// [Codec] is the wire form of a token's claims. The package knows no HTTP and no Gin.
package session

import (
	"context"
	"sync/atomic"
	"time"
)

const (
	// clockSkew is how far the clocks of two servers may differ. A server whose clock is behind must still be able to
	// revoke a token that another server issued (R12).
	clockSkew = time.Second

	// FutureTolerance is how far in the future a token may begin, as servers' clocks differ (R2).
	FutureTolerance = 30 * time.Second

	// maxExtension is how long after a swap AutoRefresh may restart the grace period for a handler that is still
	// running (R7).
	maxExtension = 5 * time.Minute
)

// Config is what the rules depend on. Package middleware has validated it and filled in the defaults.
type Config struct {
	Store              Store // nil: revocations are ignored
	StoreTimeout       time.Duration
	TTL                time.Duration
	RefreshTTL         time.Duration
	IdleTTL            time.Duration // 0: none
	Grace              time.Duration // negative: none
	Leeway             time.Duration
	Pair               bool
	KeepSessionOnReuse bool
	MaxSessions        int  // of a subject; 0: they are not listed (R17)
	RequireProof       bool // a session that is not bound cannot be refreshed (R19)
}

// Rules applies the session rules. It is used by many goroutines at once.
type Rules struct {
	Config
	peek    func(key string) string                                      // nil: the store has to be asked with Get
	counter func(key string) *atomic.Uint64                              // nil: the store has no change counters
	since   int64                                                        // of a store that can be peeked (R20)
	recent  func(key string) (value string, since time.Time, known bool) // nil: the store keeps no recent answers
	name    string                                                       // identifies this Auth in the cutoffs that it writes (R12)

	// LastInstant is the latest instant that was reserved, apart from floors. Tests set it to act as a server whose clock is ahead.
	LastInstant atomic.Int64
}

// New returns rules with a configuration. It fails if a store in this process's memory cannot be read.
func New(c Config) (*Rules, error) {
	r := &Rules{Config: c, name: randomText(nameBytes)}
	r.peek, r.counter = localReads(c.Store)
	r.recent = recentReads(c.Store)
	if r.peek != nil {
		var err error
		if _, r.since, err = r.stepStore(context.Background()).get(); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Now returns a new instant: it is later than every instant before it that had no floor, and otherwise the
// clock's time.
func (r *Rules) Now() int64 { return r.instant(0) }

// instant returns a new instant that is not before floor. One call reserves as many instants as a login or refresh
// issues tokens. The floor is not remembered, so one session whose instants are ahead of the clock does not move all
// others into the future.
func (r *Rules) instant(floor int64) int64 {
	for {
		last := r.LastInstant.Load()
		next := max(time.Now().UnixMicro(), last+1)
		if r.LastInstant.CompareAndSwap(last, next+r.tokensPerIssue()-1) {
			return max(next, floor)
		}
	}
}

// tokensPerIssue is the number of tokens, and so of instants, that one login or refresh uses.
func (r *Rules) tokensPerIssue() int64 {
	if r.Pair {
		return 2
	}
	return 1
}

// checkExpiry applies R2.
func (r *Rules) checkExpiry(t *Token, now time.Time) error {
	if err := r.checkBegins(t, now); err != nil {
		return err
	}
	if !r.before(now, t.ExpiresAt) {
		return errExpired
	}
	return nil
}

// checkBegins rejects a token from the future (R2).
func (r *Rules) checkBegins(t *Token, now time.Time) error {
	if t.begins > now.Add(max(r.Leeway, FutureTolerance)).Unix() {
		return errInFuture
	}
	return nil
}

// before reports whether now is before a date in a token, allowing for Leeway.
func (r *Rules) before(now time.Time, second int64) bool {
	return now.UnixMicro() < second*microsPerSecond+r.Leeway.Microseconds()
}

// checkWindow applies R5: the token's deadline, the deadline that the current configuration allows, and IdleTTL.
func (r *Rules) checkWindow(t *Token, now time.Time) error {
	if err := r.checkBegins(t, now); err != nil {
		return err
	}
	configured := t.AuthTime + int64(r.RefreshTTL/time.Second)
	if !r.before(now, min(t.Deadline, configured)) {
		return errWindowOver
	}
	if r.isIdle(t.Instant, now) {
		return errWindowOver
	}
	return nil
}

// isIdle reports whether a session whose newest token was issued at this instant has not been refreshed for too long.
func (r *Rules) isIdle(issued int64, now time.Time) bool {
	return r.IdleTTL > 0 && now.UnixMicro()-issued >= r.IdleTTL.Microseconds()
}

// checkRefreshable rejects a token that a refresh does not take: one of another kind or of the other mode (R1), or one
// outside the refresh window (R5).
func (r *Rules) checkRefreshable(t *Token, now time.Time) error {
	if err := r.checkMode(t); err != nil {
		return err
	}
	return r.checkWindow(t, now)
}

// checkMode rejects a token that is never refreshed in this mode (R1).
func (r *Rules) checkMode(t *Token) error {
	if !t.refreshable() || t.paired != r.Pair {
		return errWrongMode
	}
	return nil
}

// allDeadAt returns when the last token of t's session has expired: one that was issued at the deadline (R9). Leeway
// counts twice, because a token may be issued that long after the deadline and lives that long after its exp.
func (r *Rules) allDeadAt(t *Token) time.Time {
	last := max(t.Deadline+t.ttl, t.ExpiresAt)
	return time.Unix(last, 0).Add(2 * r.Leeway)
}

// checkAnyAlive rejects a token of a session in which no token can be alive: there is nothing left to end.
func (r *Rules) checkAnyAlive(t *Token, now time.Time) error {
	if !now.Before(r.allDeadAt(t)) {
		return errWindowOver
	}
	return nil
}

// recordExpiry returns when the record of t's session may be deleted: when everything it revokes has expired on every
// server's clock (R13).
func (r *Rules) recordExpiry(t *Token) time.Time { return r.allDeadAt(t).Add(clockSkew) }

// longestSession is how long a session that begins now can need its record, with the configured lifetimes (R13).
func (r *Rules) longestSession() time.Duration {
	return r.RefreshTTL + r.TTL + 2*r.Leeway + clockSkew
}
