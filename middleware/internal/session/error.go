package session

import "errors"

// Reason says why a rule rejects a token. The HTTP status, the wire's code and the headers that go with it are the
// caller's business.
type Reason uint8

const (
	Invalid       Reason = iota // not genuine, or not for this use (R1, R2)
	Expired                     // past exp (R2)
	Revoked                     // the session has ended, its subject was revoked, or the token was replaced (R3, R4)
	WindowOver                  // the refresh window is over (R5)
	Reused                      // replaced longer ago than the grace period (R8)
	Forgotten                   // the store may have forgotten a revocation of the session (R20, R21)
	ProofRequired               // the session is bound to a key: a proof over Challenge is required; nothing was used up (R18, R19)
	Unavailable                 // the store did not answer; the token is still usable (R14)
	NoStore                     // there is no store to write to: a mistake in the application
)

// Error is the verdict on a token that is rejected.
type Error struct {
	Reason    Reason
	Over      bool   // the session is known to have ended, so the client can discard its tokens
	Challenge string // with ProofRequired: the id of the token to sign
	Cause     error  // for the application's log; nil if the reason says it all
}

var reasons = [...]string{"invalid", "expired", "revoked", "refresh window over", "reused", "forgotten by the store", "proof required", "store unavailable", "no store"}

// Error implements error.
func (e *Error) Error() string {
	if e.Cause != nil {
		return reasons[e.Reason] + ": " + e.Cause.Error()
	}
	return reasons[e.Reason]
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// These verdicts are the same every time, so they are shared, and rejecting a token does not allocate here.
var (
	errExpired     = &Error{Reason: Expired}
	errReplaced    = &Error{Reason: Revoked}
	errEnded       = &Error{Reason: Revoked, Over: true}
	errWindowOver  = &Error{Reason: WindowOver}
	errReused      = &Error{Reason: Reused}
	errReuseEnded  = &Error{Reason: Reused, Over: true}
	errTooOld      = &Error{Reason: Forgotten, Over: true, Cause: errors.New("the session is older than the blacklist")}
	errForgotten   = &Error{Reason: Forgotten, Over: true, Cause: errors.New("the blacklist has lost the record of the session")}
	errInFuture    = &Error{Reason: Invalid, Cause: malformed("iat, nbf, auth_time or the session's birth is in the future")}
	errRefreshOnly = &Error{Reason: Invalid, Cause: malformed("a refresh token was sent in place of an access token")}
	errWrongMode   = &Error{Reason: Invalid, Cause: malformed("the token cannot be refreshed here")}
)

var errNoStore = &Error{Reason: NoStore, Cause: errors.New("this Auth has no Store: it ignores revocations and cannot revoke")}

func unavailable(cause error) error { return &Error{Reason: Unavailable, Cause: cause} }
