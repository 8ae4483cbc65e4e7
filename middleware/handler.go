package middleware

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware/internal/session"
)

// LoginHandler checks the credentials with [Config].Authenticate and answers 200 with the tokens of a new session. If the
// subject was revoked in the meantime it answers 503, because the password may be the old one (R12). With cookies it ends
// the session of the cookie that came with the request (R16). With [Config].Bind, a DPoP header binds the session to its
// key. Mount it as POST.
func (a *Auth) LoginHandler(c *gin.Context) {
	forbidStoring(c)
	tokens, t, err := a.login(c)
	if err == nil {
		err = a.endPreviousSessions(c, t.Session)
	}
	if err != nil {
		a.reject(c, EventLogin, presentedToken{}, t, err)
		return
	}
	a.reportRequest(c, EventLogin, t, nil)
	a.answerTokens(c, tokens, "")
}

// login checks the credentials and issues the tokens. The rules' login begins before the check, because a revocation during
// the check must revoke the new session (R12).
func (a *Auth) login(c *gin.Context) (Tokens, *session.Token, error) {
	if a.authenticate == nil {
		return Tokens{}, nil, errors.New("middleware: LoginHandler needs Config.Authenticate")
	}
	if a.cookies != nil {
		if err := a.checkOrigin(c); err != nil {
			return Tokens{}, nil, err
		}
		if err := a.cookies.checkScheme(c.Request); err != nil {
			return Tokens{}, nil, err
		}
	}
	if c.Request.Body != nil {
		c.Request.Body = http.MaxBytesReader(c.Writer, c.Request.Body, maxLoginBytes)
	}
	begun, err := a.rules.BeginLogin(c.Request.Context())
	if err != nil {
		return Tokens{}, nil, fromVerdict(err)
	}
	if err := a.presentedProof(c).bind(&begun); err != nil {
		return Tokens{}, nil, err
	}
	id, err := a.authenticate(c)
	if err == nil && answered(c) {
		err = ErrRefused
	}
	if err != nil {
		return Tokens{}, nil, loginError(err)
	}
	if a.rules.MaxSessions > 0 {
		for _, t := range a.previousSessions(c) {
			begun.Replaces = append(begun.Replaces, t.Session)
		}
	}
	return a.issue(c.Request.Context(), id, begun)
}

// loginError turns an error of Authenticate into an *Error.
func loginError(err error) error {
	var tooLong *http.MaxBytesError
	switch {
	case errorOf(err) != nil:
		return err
	case errors.Is(err, ErrRefused):
		return newError(CodeInvalidCredentials, err)
	case errors.Is(err, ErrBadRequest), errors.As(err, &tooLong):
		return newError(CodeBadRequest, err)
	}
	return newError(CodeStoreUnavailable, err)
}

// previousSessions returns a genuine token of each session whose cookies came with the request.
func (a *Auth) previousSessions(c *gin.Context) (tokens []*session.Token) {
	for _, text := range a.cookies.tokens(c.Request) {
		t, _, err := a.decode(a.verifier.Load(), text)
		if err == nil && !slices.ContainsFunc(tokens, func(other *session.Token) bool { return other.Session == t.Session }) {
			tokens = append(tokens, t)
		}
	}
	return tokens
}

// endPreviousSessions ends the sessions of the cookies that came with a login, except the new session (R16).
func (a *Auth) endPreviousSessions(c *gin.Context, newSession string) error {
	for _, t := range a.previousSessions(c) {
		if t.Session == newSession {
			continue
		}
		err := fromVerdict(a.rules.Logout(c.Request.Context(), t))
		if hasCode(err, CodeRefreshExpired) {
			continue // there is nothing left to end
		}
		a.reportRequest(c, EventLogout, t, err)
		if err != nil {
			return err
		}
	}
	return nil
}

// RefreshHandler exchanges a token for the next one of its session, like [Auth.Refresh], and answers like LoginHandler.
// The token comes as Authorization: Bearer, as refresh_token in a JSON or form body, or in a cookie. A session that is
// bound to a key also needs a DPoP header over the nonce in the header DPoP-Nonce of the last response (RFC 9449). Mount
// it as POST, and not behind [Auth.Required], which rejects expired tokens.
//
// A browser that has bound its session (see [Auth.BindHandler]) refreshes by itself. Then the answer to a script says how
// long the access token in the cookie is still good for, and nothing is refreshed.
func (a *Auth) RefreshHandler(c *gin.Context) {
	forbidStoring(c)
	if a.accepted(c) != nil { // this would work until the first token expires
		a.answerError(c, errors.New("middleware: RefreshHandler is behind a guard, which rejects the expired tokens that it should refresh: mount it outside"))
		return
	}
	var tokens Tokens
	var t *session.Token
	p, err := a.presentedForSession(c, a.cookies.refreshSources())
	if err == nil {
		tokens, t, err = a.refresh(c.Request.Context(), p.text, a.presentedProof(c))
	}
	if err != nil {
		if !a.answerBound(c, t, err) {
			a.reject(c, EventRefresh, p, t, err)
		}
		return
	}
	a.reportRequest(c, EventRefresh, t, nil)
	a.answerTokens(c, tokens, p.cookie())
}

// LogoutHandler ends the session of the request's token, like [Auth.Logout], and answers 204. It reads the token from
// the same places as RefreshHandler and takes an access token as well. Mount it as POST, and not behind
// [Auth.Required]. A handler behind it runs after a successful logout and can answer in its place, for example with a
// redirect after a form.
func (a *Auth) LogoutHandler(c *gin.Context) {
	a.logoutRequest(c, EventLogout, a.logout)
}

// LogoutAllHandler logs the token's subject out everywhere, like [Auth.RevokeSubject], and answers 204. It takes the same
// tokens as LogoutHandler, except one that is revoked or past its grace period, and in pair mode an expired access token.
func (a *Auth) LogoutAllHandler(c *gin.Context) {
	a.logoutRequest(c, EventLogoutAll, a.logoutEverywhere)
}

// logoutRequest runs one of the logout steps on the request's token and answers 204.
func (a *Auth) logoutRequest(c *gin.Context, kind EventKind, step func(context.Context, string) (*session.Token, error)) {
	forbidStoring(c)
	var t *session.Token
	p, err := a.presentedForSession(c, a.cookies.logoutSources())
	if err == nil {
		t, err = step(c.Request.Context(), p.text)
	}
	if a.cookies != nil && (err == nil || asError(err).Status == http.StatusUnauthorized) {
		a.cookies.clear(c) // the user wants to be logged out, even if there was no session left to end
		p.inCookie = false // and they are cleared only once
	}
	if err != nil {
		a.reject(c, kind, p, t, err)
		return
	}
	a.reportRequest(c, kind, t, nil)
	c.Status(http.StatusNoContent)
}
