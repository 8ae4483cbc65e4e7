package middleware

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware/internal/jose"
	"github.com/ginrefresh/ginrefresh/middleware/internal/session"
)

// Authenticate and Reload return these errors, alone or wrapped. Any other error means that they could not decide, for
// example because a database is down: the client receives 503 and keeps its session.
var (
	// ErrRefused means no: wrong credentials at login (401 invalid_credentials), or, at refresh, a user whose session
	// must not continue (401 subject_refused).
	ErrRefused = errors.New("middleware: refused")

	// ErrBadRequest means that the login request cannot be parsed or lacks a field (400 bad_request). Wrap the cause as
	// well, with fmt.Errorf("%w: %w", ErrBadRequest, err), for OnError and OnEvent. The client does not see it.
	ErrBadRequest = errors.New("middleware: bad request")
)

// Code tells a client what to do about an error. It is the member "code" of every error response.
type Code string

const (
	CodeBadRequest         Code = "bad_request"         // 400: fix the request
	CodeTokenMissing       Code = "token_missing"       // 401: the request has no token
	CodeTokenInvalid       Code = "token_invalid"       // 401: not genuine, or not for this use (R1, R2)
	CodeTokenExpired       Code = "token_expired"       // 401: refresh the token (R2)
	CodeTokenRevoked       Code = "token_revoked"       // 401: log in (R3, R4, R20, R21)
	CodeRefreshExpired     Code = "refresh_expired"     // 401: the refresh window is over, log in (R5)
	CodeTokenReused        Code = "token_reused"        // 401: replaced long ago; the session has been ended, unless KeepSessionOnReuse (R8)
	CodeProofRequired      Code = "proof_required"      // 400: the session is bound to a key, or must be; sign the challenge and try again (R18, R19)
	CodeProofInvalid       Code = "proof_invalid"       // 400: the proof does not fit the request (RFC 9449 §4.3)
	CodeSubjectRefused     Code = "subject_refused"     // 401: Reload refused the subject, log in
	CodeInvalidCredentials Code = "invalid_credentials" // 401: the login was refused
	CodeLoginTooOld        Code = "login_too_old"       // 401: log in again for this action (RFC 9470)
	CodeNotFound           Code = "not_found"           // 404: the subject has no such session
	CodeForbidden          Code = "forbidden"           // 403: the condition of Allow is not met
	CodeCrossOrigin        Code = "cross_origin"        // 403: a cookie request from another origin
	CodeStoreUnavailable   Code = "store_unavailable"   // 503: retry later; the token is still usable (R14)
	CodeServerError        Code = "server_error"        // 500: a mistake in the application that uses this package
)

// Error is the error of a step and the client's response. It contains no token, key or subject. The text of a backend's
// error is available to the application through Unwrap and is never sent.
type Error struct {
	// Code is for programs: see the constants.
	Code Code

	// Status is the HTTP status.
	Status int

	// Type is the member "error": a code of RFC 6750 §3.1, RFC 6749 or RFC 9470, or invalid_credentials for a refused
	// login. It is "" if the request had no token.
	Type string

	// Description is for the developer who reads the response.
	Description string

	// MaxAge is set with CodeLoginTooOld: how old the login may be.
	MaxAge time.Duration

	// ProofChallenge is set with CodeProofRequired: the nonce that the proof must contain (R18). It is not a secret.
	ProofChallenge string

	cause error
	over  bool // the session has ended, so its cookies can be cleared

	storeForgot bool // R20 or R21
}

// Error implements error.
func (e *Error) Error() string { return "middleware: " + string(e.Code) + ": " + e.Description }

// Unwrap returns the cause: why a token is not valid, or the error of the store, Authenticate or Reload. It is for the
// application only.
func (e *Error) Unwrap() error { return e.cause }

// challenge returns the value of WWW-Authenticate (RFC 6750 §3, RFC 9470 §3).
func (e *Error) challenge(realm string) string {
	s := `Bearer realm="` + realm + `"`
	if e.Type != "" {
		s += `, error="` + e.Type + `", error_description="` + e.Description + `"`
	}
	if e.Code == CodeLoginTooOld {
		s += `, max_age="` + strconv.FormatInt(int64(e.MaxAge/time.Second), 10) + `"`
	}
	return s
}

// errorTable has the HTTP response for each code. The descriptions are part of a quoted header value, so they contain no
// quotes and no backslashes (RFC 6750 §3).
var errorTable = map[Code]Error{
	CodeBadRequest:         {Status: http.StatusBadRequest, Type: "invalid_request", Description: "the request is malformed"},
	CodeTokenMissing:       {Status: http.StatusUnauthorized, Description: "the request has no token"},
	CodeTokenInvalid:       {Status: http.StatusUnauthorized, Type: "invalid_token", Description: "the token is not valid"},
	CodeTokenExpired:       {Status: http.StatusUnauthorized, Type: "invalid_token", Description: "the token has expired, refresh it"},
	CodeTokenRevoked:       {Status: http.StatusUnauthorized, Type: "invalid_token", Description: "the token was revoked, log in"},
	CodeRefreshExpired:     {Status: http.StatusUnauthorized, Type: "invalid_token", Description: "the refresh window is over, log in"},
	CodeTokenReused:        {Status: http.StatusUnauthorized, Type: "invalid_token", Description: "the token was already replaced, log in"},
	CodeProofRequired:      {Status: http.StatusBadRequest, Type: "use_dpop_nonce", Description: "a proof of possession over the challenge is required"},
	CodeProofInvalid:       {Status: http.StatusBadRequest, Type: "invalid_dpop_proof", Description: "the proof of possession is not valid"},
	CodeSubjectRefused:     {Status: http.StatusUnauthorized, Type: "invalid_token", Description: "the session must not continue, log in"},
	CodeInvalidCredentials: {Status: http.StatusUnauthorized, Type: "invalid_credentials", Description: "the credentials are not valid"},
	CodeLoginTooOld:        {Status: http.StatusUnauthorized, Type: "insufficient_user_authentication", Description: "a more recent login is required"},
	CodeNotFound:           {Status: http.StatusNotFound, Type: "not_found", Description: "the subject has no such session"},
	CodeForbidden:          {Status: http.StatusForbidden, Type: "insufficient_scope", Description: "access denied"},
	CodeCrossOrigin:        {Status: http.StatusForbidden, Type: "invalid_request", Description: "cross-origin request refused"},
	CodeStoreUnavailable:   {Status: http.StatusServiceUnavailable, Type: "temporarily_unavailable", Description: "try again later"},
	CodeServerError:        {Status: http.StatusInternalServerError, Type: "server_error", Description: "internal server error"},
}

// codes maps the verdicts of the session rules to codes.
var codes = [...]Code{
	session.Invalid:       CodeTokenInvalid,
	session.Expired:       CodeTokenExpired,
	session.Revoked:       CodeTokenRevoked,
	session.WindowOver:    CodeRefreshExpired,
	session.Reused:        CodeTokenReused,
	session.Forgotten:     CodeTokenRevoked,
	session.ProofRequired: CodeProofRequired,
	session.Unavailable:   CodeStoreUnavailable,
	session.NoStore:       CodeServerError,
}

// forgottenDescription is the description of a token_revoked that no logout has caused (R20, R21).
const forgottenDescription = "the server has lost its record of this session, log in"

// newError returns an Error that belongs to the caller, so that an OnError cannot change the response of another
// request.
func newError(code Code, cause error) *Error {
	e := errorTable[code]
	e.Code, e.cause = code, cause
	return &e
}

// fromVerdict turns a verdict of the session rules, or what is wrong with a token, into an *Error. It returns any other
// error unchanged.
func fromVerdict(err error) error {
	switch verdict := err.(type) {
	case *session.Error:
		e := newError(codes[verdict.Reason], verdict.Cause)
		e.over, e.ProofChallenge = verdict.Over, verdict.Challenge
		if verdict.Reason == session.Forgotten {
			e.storeForgot, e.Description = true, forgottenDescription
		}
		return e
	case jose.Malformed:
		return newError(CodeTokenInvalid, err)
	}
	return err
}

// errorOf returns the Error that err is or wraps, or nil.
func errorOf(err error) *Error {
	if e, ok := err.(*Error); ok {
		return e // the usual case; errors.As would allocate
	}
	var e *Error
	errors.As(err, &e)
	return e
}

// asError returns errorOf(err), or a server_error. An Error that the application made without an error status would be
// answered 200.
func asError(err error) *Error {
	if e := errorOf(err); e != nil && e.Status >= http.StatusBadRequest {
		return e
	}
	return newError(CodeServerError, err)
}

// hasCode reports whether err is or wraps an Error with this code.
func hasCode(err error, code Code) bool {
	e := errorOf(err)
	return e != nil && e.Code == code
}
