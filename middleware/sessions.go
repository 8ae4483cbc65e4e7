package middleware

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware/internal/session"
)

// Session is a session of a subject that lives, for a list of devices.
type Session struct {
	// ID is the session's id, as in [Claims].SessionID.
	ID string `json:"id"`

	// Label is the [Identity].Label of its login.
	Label string `json:"label,omitempty"`

	// LoginAt is the time of the login.
	LoginAt time.Time `json:"login_at"`

	// RefreshedAt is the time of its last refresh. It is the zero time, and absent from JSON, if there was none.
	RefreshedAt time.Time `json:"refreshed_at,omitzero"`

	// RefreshUntil is the session's deadline.
	RefreshUntil time.Time `json:"refresh_until"`

	// Current is set by [Auth.SessionsHandler] for the session of the request.
	Current bool `json:"current,omitempty"`
}

// maxLabelBytes limits a label.
const maxLabelBytes = 64

// label cuts a label, which may come from a User-Agent header.
func label(text string) string {
	if len(text) > maxLabelBytes {
		text = text[:maxLabelBytes] // may cut a character in two
	}
	return strings.ToValidUTF8(text, "")
}

// sessionMistakes checks MaxSessions.
func (c Config) sessionMistakes() (m mistakes) {
	m.check(c.MaxSessions >= 0 && c.MaxSessions <= session.MaxListed, "MaxSessions is %d: it must be between 0 and %d", c.MaxSessions, session.MaxListed)
	m.check(c.MaxSessions == 0 || c.Store != nil, "MaxSessions is set, but there is no Store")
	return m
}

var errNoList = errors.New("middleware: this Auth keeps no list of sessions: set Config.MaxSessions")

// checkListed rejects a step that needs the list of a subject's sessions.
func (a *Auth) checkListed(subject string) error {
	switch {
	case a.rules.MaxSessions == 0:
		return newError(CodeServerError, errNoList)
	case subject == "":
		return newError(CodeServerError, errors.New("middleware: the subject is empty"))
	}
	return nil
}

// Sessions returns the sessions of a subject that live, oldest login first (R17). Only sessions whose login was answered by
// an Auth with [Config].MaxSessions are listed. The error is an [*Error].
func (a *Auth) Sessions(ctx context.Context, subject string) ([]Session, error) {
	if err := a.checkListed(subject); err != nil {
		return nil, err
	}
	listed, err := a.rules.Sessions(ctx, subject)
	if err != nil {
		return nil, fromVerdict(err)
	}
	sessions := make([]Session, len(listed))
	for i, l := range listed {
		sessions[i] = Session{ID: l.ID, Label: l.Label, LoginAt: l.LoginAt, RefreshedAt: l.RefreshedAt, RefreshUntil: l.Deadline}
	}
	return sessions, nil
}

// RevokeOthers ends all sessions of the subject except the one of the claims, for example after a password change: call it
// after the new password is stored (R12, R17). Like [Auth.RevokeSubject], it lets no login through LoginHandler succeed that
// began before, and does not stop when ctx is cancelled. The error is an [*Error].
func (a *Auth) RevokeOthers(ctx context.Context, claims Claims) error {
	err := a.checkListed(claims.Subject)
	if err == nil {
		err = fromVerdict(a.rules.RevokeOthers(ctx, claims.Subject, claims.SessionID))
	}
	a.report(ctx, "", EventLogoutOthers, &session.Token{Subject: claims.Subject, Session: claims.SessionID}, err)
	return err
}

// SessionsHandler answers 200 with the sessions of the request's subject, as {"sessions": […]}. Mount it as GET behind a
// guard.
func (a *Auth) SessionsHandler(c *gin.Context) {
	a.ownSessions(c, func(t *session.Token) error {
		sessions, err := a.Sessions(c.Request.Context(), t.Subject)
		if err != nil {
			return err
		}
		for i := range sessions {
			sessions[i].Current = sessions[i].ID == t.Session
		}
		c.JSON(http.StatusOK, gin.H{"sessions": sessions})
		return nil
	})
}

// EndSessionHandler ends the session of the request's subject that the route's parameter id names, and answers 204, or 404
// if the subject has no such session. Mount it as DELETE /sessions/:id behind a guard.
func (a *Auth) EndSessionHandler(c *gin.Context) {
	a.ownSessions(c, func(t *session.Token) error {
		id := c.Param("id")
		found, err := a.rules.RevokeListed(c.Request.Context(), t.Subject, id)
		switch {
		case err != nil:
			return fromVerdict(err)
		case !found:
			return newError(CodeNotFound, nil)
		}
		a.reportRequest(c, EventLogout, &session.Token{Session: id, Subject: t.Subject}, nil)
		c.Status(http.StatusNoContent)
		return nil
	})
}

// LogoutOthersHandler ends all other sessions of the request's subject, like [Auth.RevokeOthers], and answers 204. Mount it as
// POST behind a guard.
func (a *Auth) LogoutOthersHandler(c *gin.Context) {
	a.ownSessions(c, func(t *session.Token) error {
		if err := a.rules.RevokeOthers(c.Request.Context(), t.Subject, t.Session); err != nil {
			return fromVerdict(err)
		}
		a.reportRequest(c, EventLogoutOthers, t, nil)
		c.Status(http.StatusNoContent)
		return nil
	})
}

// ownSessions runs a handler for the token that a guard has accepted.
func (a *Auth) ownSessions(c *gin.Context, handle func(t *session.Token) error) {
	forbidStoring(c)
	t := a.accepted(c)
	if t == nil {
		a.answerError(c, errors.New("middleware: this handler must be behind a guard, such as Required"))
		return
	}
	err := a.checkListed(t.Subject)
	if err == nil {
		err = handle(t)
	}
	if err != nil {
		a.reject(c, EventRejected, presentedToken{}, t, err)
	}
}
