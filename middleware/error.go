package middleware

import (
	"errors"
	"net/http"
	"strconv"
	"time"
)

// Authenticate and Reload return these, alone or wrapped, to say what is wrong. Any other error of theirs
// means that they could not tell (a database that is down): the client hears 503 and keeps its session.
var (
	// ErrRefused is a no: wrong credentials at login (401 invalid_credentials), a user who may not go on
	// at refresh (401 subject_refused).
	ErrRefused = errors.New("middleware: refused")

	// ErrBadRequest says that the login's body could not be read or lacks a field (400 bad_request).
	ErrBadRequest = errors.New("middleware: bad request")
)

// Code tells a client what to do about an error. It is the member "code" of every error answer.
type Code string

const (
	CodeBadRequest         Code = "bad_request"         // 400: repair the request
	CodeTokenMissing       Code = "token_missing"       // 401: no token came with the request
	CodeTokenInvalid       Code = "token_invalid"       // 401: not genuine, or not for this use (R1, R2)
	CodeTokenExpired       Code = "token_expired"       // 401: refresh it (R2)
	CodeTokenRevoked       Code = "token_revoked"       // 401: log in (R3, R4)
	CodeRefreshExpired     Code = "refresh_expired"     // 401: the refresh window is over, log in (R5)
	CodeTokenReused        Code = "token_reused"        // 401: replaced long ago, the session is ended (R8)
	CodeSubjectRefused     Code = "subject_refused"     // 401: Reload said no, log in
	CodeInvalidCredentials Code = "invalid_credentials" // 401: the login was refused
	CodeLoginTooOld        Code = "login_too_old"       // 401: log in again for this (RFC 9470)
	CodeForbidden          Code = "forbidden"           // 403: Allow said no
	CodeCrossOrigin        Code = "cross_origin"        // 403: a cookie request from another origin
	CodeStoreUnavailable   Code = "store_unavailable"   // 503: try again later, nothing is lost (R14)
	CodeServerError        Code = "server_error"        // 500: a mistake in this application's own code
)

// Error is what a step failed with, and what the client is told. It holds no token, key or subject, and of
// a backend's error nothing that is sent: that is behind Unwrap, for the application's own log.
type Error struct {
	// Code is for programs: see the constants.
	Code Code

	// Status is the HTTP status.
	Status int

	// Type is the error code of RFC 6750 §3.1, RFC 6749 or RFC 9470, "" where the request had no token.
	Type string

	// Description is for the developer who reads the answer.
	Description string

	// MaxAge goes with CodeLoginTooOld: how old the login may be.
	MaxAge time.Duration

	cause error
	over  bool // the session has ended, so its cookies may go
}

func (e *Error) Error() string { return "middleware: " + string(e.Code) + ": " + e.Description }

// Unwrap returns what is behind the error, for the application alone: why a token is not valid, or what the
// store, Authenticate or Reload returned.
func (e *Error) Unwrap() error { return e.cause }

// challenge is the value of WWW-Authenticate (RFC 6750 §3, RFC 9470 §3).
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

// The descriptions stand in a quoted header value: no quotes, no backslashes (RFC 6750 §3).
var errorTable = map[Code]Error{
	CodeBadRequest:         {Status: http.StatusBadRequest, Type: "invalid_request", Description: "the request cannot be read"},
	CodeTokenMissing:       {Status: http.StatusUnauthorized, Description: "no token was sent"},
	CodeTokenInvalid:       {Status: http.StatusUnauthorized, Type: "invalid_token", Description: "the token is not valid here"},
	CodeTokenExpired:       {Status: http.StatusUnauthorized, Type: "invalid_token", Description: "the token has expired, refresh it"},
	CodeTokenRevoked:       {Status: http.StatusUnauthorized, Type: "invalid_token", Description: "the token was revoked, log in"},
	CodeRefreshExpired:     {Status: http.StatusUnauthorized, Type: "invalid_token", Description: "the time to refresh is over, log in"},
	CodeTokenReused:        {Status: http.StatusUnauthorized, Type: "invalid_token", Description: "the token was replaced before, log in"},
	CodeSubjectRefused:     {Status: http.StatusUnauthorized, Type: "invalid_token", Description: "the session may not go on, log in"},
	CodeInvalidCredentials: {Status: http.StatusUnauthorized, Type: "invalid_credentials", Description: "the credentials are not valid"},
	CodeLoginTooOld:        {Status: http.StatusUnauthorized, Type: "insufficient_user_authentication", Description: "a more recent login is required"},
	CodeForbidden:          {Status: http.StatusForbidden, Type: "insufficient_scope", Description: "this is not allowed"},
	CodeCrossOrigin:        {Status: http.StatusForbidden, Type: "invalid_request", Description: "this request must come from the site itself"},
	CodeStoreUnavailable:   {Status: http.StatusServiceUnavailable, Type: "temporarily_unavailable", Description: "try again later"},
	CodeServerError:        {Status: http.StatusInternalServerError, Type: "server_error", Description: "the server made a mistake"},
}

// fail returns an Error of the caller's own, so that no OnError can change what another request sees.
func fail(code Code) *Error { return failed(code, nil) }

func failed(code Code, cause error) *Error {
	e := errorTable[code]
	e.Code, e.cause = code, cause
	return &e
}

// over is fail where nothing of the session is left.
func over(code Code) *Error {
	e := fail(code)
	e.over = true
	return e
}

// invalid says why a token is refused, to the application and not to the client: what a forger should
// change is no business of his.
func invalid(reason string) *Error { return failed(CodeTokenInvalid, errors.New(reason)) }

// errorOf returns the Error that err is or wraps, nil if there is none.
func errorOf(err error) *Error {
	if e, ok := err.(*Error); ok {
		return e // nearly always, and errors.As would allocate
	}
	var e *Error
	errors.As(err, &e)
	return e
}

// asError gives what a step returned its place on the wire.
func asError(err error) *Error {
	if e := errorOf(err); e != nil {
		return e
	}
	return failed(CodeServerError, err)
}

func hasCode(err error, code Code) bool {
	e := errorOf(err)
	return e != nil && e.Code == code
}
