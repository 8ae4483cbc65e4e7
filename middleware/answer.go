package middleware

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware/internal/session"
)

// tokenResponse is the body of the response to a login or refresh (RFC 6749 §5.1). With cookies it has no tokens.
type tokenResponse struct {
	AccessToken      string `json:"access_token,omitempty"`
	TokenType        string `json:"token_type"`
	ExpiresIn        int64  `json:"expires_in"`
	RefreshToken     string `json:"refresh_token,omitempty"`
	RefreshExpiresIn int64  `json:"refresh_expires_in"`
}

// MarshalJSON writes the body of the response to a login or refresh without cookies (RFC 6749 §5.1): access_token,
// token_type, expires_in and refresh_expires_in in seconds from now, and in pair mode refresh_token.
func (t Tokens) MarshalJSON() ([]byte, error) { return json.Marshal(t.response()) }

func (t Tokens) response() tokenResponse {
	return tokenResponse{
		AccessToken:      t.AccessToken,
		TokenType:        "Bearer",
		ExpiresIn:        secondsUntil(t.ExpiresAt),
		RefreshToken:     t.RefreshToken,
		RefreshExpiresIn: secondsUntil(t.RefreshUntil),
	}
}

// answerTokens responds with tokens. sent is the token of a cookie that came with the request, if any.
func (a *Auth) answerTokens(c *gin.Context, tokens Tokens, sent string) {
	if a.cookies != nil {
		a.cookies.set(c, tokens, sent)
	}
	sendChallenge(c.Writer.Header(), tokens.ProofChallenge)
	if a.onTokens != nil {
		a.onTokens(c, tokens)
		return
	}
	if a.cookies != nil {
		tokens.AccessToken, tokens.RefreshToken = "", "" // scripts must not see them
	}
	c.JSON(http.StatusOK, tokens.response()) // not tokens: encoding/json would check the output of MarshalJSON once more
}

// Answer responds with tokens from [Auth.Issue] as LoginHandler does, for a login of the application's own, such as
// "register, then log in". With cookies it ends the session of the cookie that came with the request (R16). It checks
// no origin: call it from a handler that does, or that no other site can use. If the store fails it answers 503.
func (a *Auth) Answer(c *gin.Context, tokens Tokens) {
	forbidStoring(c)
	if a.cookies != nil {
		if err := a.endPreviousSessions(c, tokens.Claims.SessionID); err != nil {
			a.answerError(c, err)
			return
		}
	}
	a.answerTokens(c, tokens, "")
}

// AnswerError responds with an error as the handlers do, for a handler of the application's own that calls [Auth.Issue],
// [Auth.RevokeSubject] or another step. [ErrRefused] and [ErrBadRequest] are answered as at a login: 401
// invalid_credentials and 400. Any error that is not an [*Error] is answered 500, and is in gin's Context.Errors. An
// [*Error] of your own with Code, Status and Description is sent as it is. The handlers behind this one do not run.
func (a *Auth) AnswerError(c *gin.Context, err error) {
	forbidStoring(c)
	if errors.Is(err, ErrRefused) || errors.Is(err, ErrBadRequest) {
		err = loginError(err)
	}
	a.answerError(c, err)
}

// ClearCookies deletes the cookies that SetCookies and LoginHandler set. It does not end the session: see [Auth.Logout]. It panics
// without [Config].Cookie.
func (a *Auth) ClearCookies(c *gin.Context) {
	if a.cookies == nil {
		panic("middleware: ClearCookies needs Config.Cookie")
	}
	a.cookies.clear(c)
}

// SetCookies sets the cookies that LoginHandler sets, for another kind of login with its own response, such as a
// redirect. It ends the session of the cookie that came with the request, unless the tokens belong to that session
// (R16). If the store fails, SetCookies sets nothing and returns an [*Error]. It panics without [Config].Cookie.
func (a *Auth) SetCookies(c *gin.Context, tokens Tokens) error {
	if a.cookies == nil {
		panic("middleware: SetCookies needs Config.Cookie")
	}
	forbidStoring(c)
	if err := a.endPreviousSessions(c, tokens.Claims.SessionID); err != nil {
		return err
	}
	a.cookies.set(c, tokens, "")
	return nil
}

// secondsUntil returns whole seconds, as expires_in wants them (RFC 6749 §5.1).
func secondsUntil(t time.Time) int64 { return max(0, t.Unix()-time.Now().Unix()) }

// forbidStoring keeps tokens, and responses about them, out of caches (RFC 6749 §5.1).
func forbidStoring(c *gin.Context) {
	c.Header("Cache-Control", "no-store")
	c.Header("Pragma", "no-cache")
}

// errorResponse is the encoded response for an error. The responses for the error table's entries are encoded once, because
// a flood of bad tokens should cost the server little.
type errorResponse struct {
	body      []byte
	challenge []string // WWW-Authenticate; nil: none
}

func prepareResponses(realm string) map[Code]errorResponse {
	prepared := map[Code]errorResponse{}
	for code := range errorTable {
		prepared[code] = encodeError(newError(code, nil), realm)
	}
	return prepared
}

// encodeError encodes the body and the challenge of an error.
func encodeError(e *Error, realm string) (r errorResponse) {
	r.body, _ = json.Marshal(struct { // strings always marshal
		Error       string `json:"error,omitempty"`
		Description string `json:"error_description"`
		Code        Code   `json:"code"`
	}{e.Type, e.Description, e.Code})
	if e.Status == http.StatusUnauthorized {
		r.challenge = []string{e.challenge(realm)}
	}
	return r
}

// errorResponse returns the prepared response, unless e differs from the error table.
func (a *Auth) errorResponse(e *Error) errorResponse {
	standard := errorTable[e.Code]
	if e.Status == standard.Status && e.Type == standard.Type && e.Description == standard.Description && e.MaxAge == 0 {
		return a.responses[e.Code]
	}
	return encodeError(e, a.realm)
}

// answered reports whether the application has responded itself. The status of a redirect is only written at the end of the
// request.
func answered(c *gin.Context) bool {
	redirects := c.Writer.Status() >= 300 && c.Writer.Status() < 400
	return c.IsAborted() || c.Writer.Written() || redirects
}

var jsonType = []string{"application/json; charset=utf-8"} // as gin's c.JSON sets it

// answerError ends the request with an error, unless the application has already answered it.
func (a *Auth) answerError(c *gin.Context, err error) {
	if answered(c) {
		c.Abort()
		return
	}
	e := asError(err)
	c.Abort()
	response := a.errorResponse(e)
	header := c.Writer.Header()
	if response.challenge != nil {
		header["Www-Authenticate"] = slices.Clone(response.challenge) // OnError may change it
	}
	sendChallenge(header, e.ProofChallenge)
	switch e.Status {
	case http.StatusServiceUnavailable:
		header["Retry-After"] = []string{"1"}
	case http.StatusInternalServerError:
		_ = c.Error(err) // the application's mistake belongs in its log
	}
	c.Status(e.Status) // also for an OnError that writes nothing
	if a.onError != nil {
		a.onError(c, e)
		return
	}
	header["Content-Type"] = jsonType
	_, _ = c.Writer.Write(response.body) // the client may have gone
}

// reject reports a failed step and answers the request with its error. It clears the cookies of a session that is known
// to have ended. A token that was only replaced has a successor, whose cookie may already be in the browser: this
// response, if it is slow, must not clear it.
func (a *Auth) reject(c *gin.Context, kind EventKind, p presentedToken, t *session.Token, err error) {
	a.reportRequest(c, kind, t, err)
	if a.cookies != nil && p.inCookie && asError(err).over {
		a.cookies.clear(c)
	}
	a.answerError(c, err)
}
