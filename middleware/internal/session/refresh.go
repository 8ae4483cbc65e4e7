package session

import (
	"context"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware/internal/jose"
)

// A Refresh is one refresh in progress (R5–R10): BeginRefresh, then the application's Reload and Recheck, then Commit.
type Refresh struct {
	rules   *Rules
	client  context.Context
	store   *stepStore // outlives the client: a thief may hang up, but the session must end (R8)
	token   *Token
	proof   *Proof // nil: none
	arrived time.Time
	status  status
	key     *jose.ClientKey // to which the successor is bound (R18); nil: that of token, if any
	binds   bool            // the swap binds the session (R19)
}

// BeginRefresh rejects a token that cannot be refreshed, and ends the session on reuse. proof is nil if the client sent none.
func (r *Rules) BeginRefresh(ctx context.Context, t *Token, proof *Proof) (*Refresh, error) {
	now := time.Now()
	if err := r.checkRefreshable(t, now); err != nil {
		return nil, err
	}
	f := &Refresh{rules: r, client: ctx, store: r.stepStore(context.WithoutCancel(ctx)), token: t, proof: proof, arrived: now}
	return f, f.Recheck()
}

// Recheck reads the blacklist again. Call it after anything slow.
func (f *Refresh) Recheck() (err error) {
	if f.status, err = f.rules.read(f.store, f.token, f.arrived); err != nil {
		return err
	}
	if !f.status.state.over() {
		if err := f.checkProof(); err != nil {
			return err
		}
	}
	return f.rules.reject(f.store, f.token, f.status.state)
}

// Commit replaces the token with its successor. sign makes the client's answer. Commit calls it before the swap, so that
// nothing is used up if it fails. It calls it again if another request's swap came first (R10). The instant is taken after
// everything that may be slow except sign, because the grace period counts from it.
func (f *Refresh) Commit(sign func(next *Token) error) error {
	r := f.rules
	for range maxSwaps {
		t := f.token
		if next := f.sameAnswer(); next != nil {
			return sign(next)
		}
		next := f.successor(r.instant(t.Instant+r.tokensPerIssue()), time.Now().Unix())
		if err := sign(next); err != nil {
			return err
		}
		if err := f.client.Err(); err != nil {
			return unavailable(err) // the client has gone, so its token is not used up
		}
		updated := record{cutoff: next.Instant, previous: t.Instant, iat: next.IssuedAt, key: f.status.key}
		if f.binds {
			updated.key = f.key.Digest()
		}
		swapped, err := f.store.swap(t.sessionKey, f.status.value, updated.encode(), r.recordExpiry(t))
		if swapped || err != nil {
			return err
		}
		if err := f.Recheck(); err != nil {
			return err
		}
	}
	return unavailable(errSwaps)
}

// sameAnswer returns the token of an earlier refresh that also answers this one: the successor of a token
// in its grace period (R7), or the presented token itself if a swap made it less than a grace period ago and the
// tokens of the answer are still alive (R6a). Otherwise, or if the refresh binds the session, it returns nil.
func (f *Refresh) sameAnswer() *Token {
	t, s := f.token, f.status
	switch {
	case s.state == inGrace:
		return f.successor(s.cutoff, s.iat)
	case f.binds:
	case t.Instant == s.cutoff && f.rules.graceHolds(s.graceStart(), f.arrived) && time.Now().Unix() < t.IssuedAt+t.ttl:
		return f.successor(t.Instant, t.IssuedAt)
	}
	return nil
}

// NeedsRefresh reports whether AutoRefresh must refresh t: it has expired, or less than within is left. expired says that
// t is not valid now, so the request cannot succeed without the refresh.
func (r *Rules) NeedsRefresh(t *Token, within time.Duration) (needed, expired bool) {
	now := time.Now()
	if r.checkExpiry(t, now) != nil {
		return true, true
	}
	left := time.Unix(t.ExpiresAt, 0).Sub(now)
	return left < within && r.checkWindow(t, now) == nil, false
}

// ExtendGrace restarts the grace period of the swap that made next while AutoRefresh's handler runs, for at most
// maxExtension: the client does not have next before the answer is written (R7). stop ends that, and restarts the
// period once more if the handler was slow.
func (r *Rules) ExtendGrace(ctx context.Context, next *Token) (stop func()) {
	pause := r.Grace / 2
	if pause <= 0 {
		return func() {}
	}
	ctx = context.WithoutCancel(ctx)
	began, done := time.Now(), make(chan struct{})
	go func() {
		tick := time.NewTicker(pause)
		defer tick.Stop()
		for time.Since(began) < maxExtension {
			select {
			case <-tick.C:
				r.restartGrace(ctx, next)
			case <-done:
				return
			}
		}
	}()
	return func() {
		close(done)
		if time.Since(began) >= pause {
			r.restartGrace(ctx, next)
		}
	}
}

// restartGrace lets the grace period of the swap that made next begin again, unless next was replaced in the meantime
// or the swap is too long ago. If the store fails, the period ends when it otherwise would have.
func (r *Rules) restartGrace(ctx context.Context, next *Token) {
	_ = r.stepStore(ctx).update(next.sessionKey, func(value string, _ int64) (change, error) {
		rec, err := decodeRecord(value)
		now := time.Now().UnixMicro()
		if err != nil || rec.cutoff != next.Instant || now > rec.cutoff+maxExtension.Microseconds() {
			return change{done: true}, err
		}
		rec.extended = max(rec.extended, now)
		return change{value: rec.encode(), expires: r.recordExpiry(next)}, nil
	})
}
