package middleware

import "context"

// EventKind is what happened.
type EventKind string

const (
	EventLogin       EventKind = "login"        // tokens were issued
	EventLoginFailed EventKind = "login_failed" // Authenticate said no, or could not tell
	EventRefresh     EventKind = "refresh"      // a token was swapped, or its successor given again
	EventReuse       EventKind = "reuse"        // a token that was replaced before came back (R8)
	EventLogout      EventKind = "logout"       // one session ended
	EventLogoutAll   EventKind = "logout_all"   // all sessions of a subject ended
	EventRejected    EventKind = "rejected"     // anything else that was refused
)

// Event is what [Config].OnEvent hears. It never holds a token or a key.
type Event struct {
	Kind EventKind

	// Subject and SessionID are those of a genuine token, or "" where none is known.
	Subject   string
	SessionID string

	// Code says why, "" on success.
	Code Code

	// ClientIP is gin's Context.ClientIP, "" where no HTTP request is behind the event.
	ClientIP string

	// Err is what Code was made of, nil on success. Unwrapped it may show a backend's own words.
	Err error
}

// report tells OnEvent how a step ended: as kind, or as what the failure makes of it.
func (a *Auth) report(ctx context.Context, clientIP string, kind EventKind, t *token, err error) {
	if a.onEvent == nil {
		return
	}
	e := Event{Kind: kind, ClientIP: clientIP, Err: err}
	if t != nil {
		e.Subject, e.SessionID = t.subject, t.session
	}
	if err != nil {
		e.Code = asError(err).Code
		switch {
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
