package middleware

import (
	"context"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware/internal/session"
)

// EventKind says what happened.
type EventKind string

const (
	EventLogin        EventKind = "login"         // tokens were issued
	EventLoginFailed  EventKind = "login_failed"  // Authenticate refused the login or failed
	EventRefresh      EventKind = "refresh"       // a token was replaced, or an earlier answer was repeated (R6a, R7)
	EventReuse        EventKind = "reuse"         // a token was presented long after it had been replaced (R8)
	EventLogout       EventKind = "logout"        // one session ended
	EventLogoutAll    EventKind = "logout_all"    // all sessions of a subject ended
	EventLogoutOthers EventKind = "logout_others" // all other sessions of a subject ended
	EventStoreForgot  EventKind = "store_forgot"  // the store has lost records, so a session that may have been revoked was rejected (R20, R21)
	EventRejected     EventKind = "rejected"      // anything else was rejected
)

// Event is passed to [Config].OnEvent. It never contains a token or a key.
type Event struct {
	Kind EventKind

	// Subject and SessionID come from a genuine token, or are the id that was passed to RevokeSubject or RevokeSession.
	// Otherwise they are "".
	Subject   string
	SessionID string

	// Label is the [Identity].Label of a login, and of a session that a login ended because of [Config].MaxSessions.
	// Otherwise it is "".
	Label string

	// Code is the error code, "" on success.
	Code Code

	// ClientIP is gin's Context.ClientIP, "" if the event does not come from an HTTP request.
	ClientIP string

	// Err is the error behind Code, nil on success. Unwrapped it may contain the backend's own text.
	Err error
}

// report passes the outcome of a step to OnEvent. A failure changes the kind of the event. t is nil if there was no
// genuine token.
func (a *Auth) report(ctx context.Context, clientIP string, kind EventKind, t *session.Token, err error) {
	if a.onEvent == nil {
		return
	}
	e := Event{Kind: kind, ClientIP: clientIP, Err: err}
	if t != nil {
		e.Subject, e.SessionID, e.Label = t.Subject, t.Session, t.Label
	}
	if err != nil {
		failure := asError(err)
		e.Code = failure.Code
		switch {
		case failure.storeForgot:
			e.Kind = EventStoreForgot
		case e.Code == CodeTokenReused:
			e.Kind = EventReuse
		case kind == EventLogin:
			e.Kind = EventLoginFailed
		default:
			e.Kind = EventRejected
		}
	}
	a.onEvent(ctx, e)
}

// reportRequest is report for a step of an HTTP request.
func (a *Auth) reportRequest(c *gin.Context, kind EventKind, t *session.Token, err error) {
	if a.onEvent != nil { // ClientIP parses headers
		a.report(c.Request.Context(), c.ClientIP(), kind, t, err)
	}
}
