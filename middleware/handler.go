package middleware

import (
	"context"
	"errors"
	"net/http"

	"github.com/gin-gonic/gin"
)

// LoginHandler checks the credentials with [Config].Authenticate and answers 200 with the tokens of a new
// session. If the subject was revoked meanwhile it answers 503: the password may be the old one (R12). With
// cookies it ends the session of the cookie that came with the request (R16). Mount it as POST.
func (a *Auth) LoginHandler(c *gin.Context) {
	forbidStoring(c)
	tokens, t, err := a.login(c)
	if err == nil {
		err = a.endReplaced(c, t.session)
	}
	a.report(c.Request.Context(), a.clientIP(c), EventLogin, t, err)
	if err != nil {
		a.refuse(c, err)
		return
	}
	a.answerTokens(c, tokens, "")
}

// endReplaced ends the sessions of the cookies that came with a login, but not session, the new one (R16).
func (a *Auth) endReplaced(c *gin.Context, session string) error {
	if a.cookies == nil {
		return nil
	}
	ended := map[string]bool{session: true}
	for _, text := range a.cookies.texts(c.Request) {
		t, err := a.decode(text)
		if err != nil || ended[t.session] {
			continue
		}
		ended[t.session] = true
		err = a.sessions.logout(c.Request.Context(), t)
		if hasCode(err, CodeRefreshExpired) {
			continue // nothing is left to end
		}
		a.report(c.Request.Context(), a.clientIP(c), EventLogout, t, err)
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *Auth) login(c *gin.Context) (Tokens, *token, error) {
	if a.authenticate == nil {
		return Tokens{}, nil, errors.New("middleware: LoginHandler needs Config.Authenticate")
	}
	if a.cookies != nil {
		if err := a.checkOrigin(c); err != nil {
			return Tokens{}, nil, err
		}
		if err := a.cookies.arrive(c.Request); err != nil {
			return Tokens{}, nil, err
		}
	}
	if c.Request.Body != nil {
		c.Request.Body = http.MaxBytesReader(c.Writer, c.Request.Body, maxLoginBytes)
	}
	began := a.sessions.instant(0)
	id, err := a.authenticate(c)
	if err == nil && answered(c) {
		err = ErrRefused
	}
	if err != nil {
		return Tokens{}, nil, loginError(err)
	}
	return a.issue(c.Request.Context(), id, login{began: began, checked: true})
}

// loginError gives what Authenticate returned its place on the wire.
func loginError(err error) error {
	var tooLong *http.MaxBytesError
	switch {
	case errorOf(err) != nil:
		return err
	case errors.Is(err, ErrRefused):
		return failed(CodeInvalidCredentials, err)
	case errors.Is(err, ErrBadRequest), errors.As(err, &tooLong):
		return failed(CodeBadRequest, err)
	}
	return failed(CodeStoreUnavailable, err)
}

// RefreshHandler swaps a token for the next one of its session, as [Auth.Refresh] does, and answers like
// LoginHandler. The token comes as Authorization: Bearer, as refresh_token in a body of JSON or a form, or
// in a cookie. Mount it as POST, and not behind [Auth.Required]: that refuses what has expired.
func (a *Auth) RefreshHandler(c *gin.Context) {
	forbidStoring(c)
	if a.admitted(c) != nil { // it would work until the first token expires
		a.refuse(c, errors.New("middleware: RefreshHandler is behind a guard, which refuses the expired tokens that it is for: mount it outside"))
		return
	}
	var tokens Tokens
	var t *token
	p, err := a.presentedFor(c, a.cookies.refreshSources())
	if err == nil {
		tokens, t, err = a.refresh(c.Request.Context(), p.text)
	}
	a.report(c.Request.Context(), a.clientIP(c), EventRefresh, t, err)
	if err != nil {
		a.forget(c, p, err)
		a.refuse(c, err)
		return
	}
	a.answerTokens(c, tokens, p.inCookie())
}

// LogoutHandler ends the session of the token that it is sent, as [Auth.Logout] does, and answers 204. It
// takes the token from where RefreshHandler does, an access token as well. Mount it as POST, and not behind
// [Auth.Required].
func (a *Auth) LogoutHandler(c *gin.Context) {
	a.leave(c, EventLogout, a.logout)
}

// LogoutAllHandler logs the token's subject out everywhere, as [Auth.RevokeSubject] does, and answers 204.
// It takes what LogoutHandler takes, but no token that is revoked or replaced, and no access token of pair
// mode that has expired.
func (a *Auth) LogoutAllHandler(c *gin.Context) {
	a.leave(c, EventLogoutAll, a.logoutAll)
}

func (a *Auth) leave(c *gin.Context, kind EventKind, step func(context.Context, string) (*token, error)) {
	forbidStoring(c)
	var t *token
	p, err := a.presentedFor(c, a.cookies.logoutSources())
	if err == nil {
		t, err = step(c.Request.Context(), p.text)
	}
	a.report(c.Request.Context(), a.clientIP(c), kind, t, err)
	if a.cookies != nil && (err == nil || asError(err).Status == http.StatusUnauthorized) {
		a.cookies.clear(c) // who logs out wants the cookies gone, even where no session was left to end
	}
	if err != nil {
		a.refuse(c, err)
		return
	}
	c.Status(http.StatusNoContent)
}

// clientIP is worked out for OnEvent alone.
func (a *Auth) clientIP(c *gin.Context) string {
	if a.onEvent == nil {
		return ""
	}
	return c.ClientIP()
}
