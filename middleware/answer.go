package middleware

import (
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/gin-gonic/gin"
)

// tokenAnswer is the body of a login's and a refresh's answer (RFC 6749 §5.1). With cookies it has no tokens.
type tokenAnswer struct {
	AccessToken      string `json:"access_token,omitempty"`
	TokenType        string `json:"token_type"`
	ExpiresIn        int64  `json:"expires_in"`
	RefreshToken     string `json:"refresh_token,omitempty"`
	RefreshExpiresIn int64  `json:"refresh_expires_in"`
}

// answerTokens answers with tokens. sent is the token of a cookie that came with the request, if any.
func (a *Auth) answerTokens(c *gin.Context, tokens Tokens, sent string) {
	answer := tokenAnswer{
		TokenType:        "Bearer",
		ExpiresIn:        secondsUntil(tokens.ExpiresAt),
		RefreshExpiresIn: secondsUntil(tokens.RefreshUntil),
	}
	if a.cookies != nil {
		a.cookies.set(c, tokens, sent)
	} else {
		answer.AccessToken, answer.RefreshToken = tokens.AccessToken, tokens.RefreshToken
	}
	c.JSON(http.StatusOK, answer)
}

// SetCookies sets the cookies that LoginHandler would, after a login of another kind that ends in an answer
// of its own, as a redirect. It ends the session of the cookie that came with the request, unless the tokens are
// of that session (R16); if the store fails at that, it sets nothing and returns an [*Error]. It panics without
// [Config].Cookie.
func (a *Auth) SetCookies(c *gin.Context, tokens Tokens) error {
	if a.cookies == nil {
		panic("middleware: SetCookies needs Config.Cookie")
	}
	forbidStoring(c)
	if err := a.endReplaced(c, tokens.Claims.SessionID); err != nil {
		return err
	}
	a.cookies.set(c, tokens, "")
	return nil
}

func secondsUntil(t time.Time) int64 { return max(0, t.Unix()-time.Now().Unix()) }

// forbidStoring keeps tokens, and answers about them, out of caches (RFC 6749 §5.1).
func forbidStoring(c *gin.Context) {
	c.Header("Cache-Control", "no-store")
	c.Header("Pragma", "no-cache")
}

// errorAnswer is the body of every refusal.
type errorAnswer struct {
	Error       string `json:"error,omitempty"`
	Description string `json:"error_description"`
	Code        Code   `json:"code"`
}

// refusal is an error's answer, made once: whoever floods a server with bad tokens gets no work out of it.
type refusal struct {
	of        *Error
	body      []byte
	challenge []string
}

// jsonType is the Content-Type that gin's JSON has.
var jsonType = []string{"application/json; charset=utf-8"}

func prepareRefusals(realm string) map[Code]refusal {
	prepared := map[Code]refusal{}
	for code := range errorTable {
		prepared[code] = newRefusal(fail(code), realm)
	}
	return prepared
}

func newRefusal(e *Error, realm string) refusal {
	body, _ := json.Marshal(errorAnswer{Error: e.Type, Description: e.Description, Code: e.Code}) // strings only
	r := refusal{of: e, body: body}
	if e.Status == http.StatusUnauthorized {
		r.challenge = []string{e.challenge(realm)}
	}
	return r
}

// refusal returns the prepared one unless e says something of its own.
func (a *Auth) refusal(e *Error) refusal {
	if r, ok := a.refusals[e.Code]; ok && r.says(e) {
		return r
	}
	return newRefusal(e, a.realm)
}

func (r refusal) says(e *Error) bool {
	return e.Status == r.of.Status && e.Type == r.of.Type && e.Description == r.of.Description && e.MaxAge == r.of.MaxAge
}

// answered reports whether the application's code has answered the request itself.
func answered(c *gin.Context) bool { return c.IsAborted() || c.Writer.Written() }

// refuse ends the request with err, unless it is answered already.
func (a *Auth) refuse(c *gin.Context, err error) {
	if answered(c) {
		c.Abort()
		return
	}
	e := asError(err)
	c.Abort()
	answer := a.refusal(e)
	header := c.Writer.Header()
	if answer.challenge != nil {
		header["Www-Authenticate"] = slices.Clone(answer.challenge) // OnError may change it
	}
	switch e.Status {
	case http.StatusServiceUnavailable:
		header["Retry-After"] = []string{"1"}
	case http.StatusInternalServerError:
		_ = c.Error(err) // the application's own mistake belongs into its log
	}
	c.Status(e.Status) // also for an OnError that writes nothing
	if a.onError != nil {
		a.onError(c, e)
		return
	}
	header["Content-Type"] = jsonType
	_, _ = c.Writer.Write(answer.body) // who sent the request may be gone
}

// forget clears the cookies of a session that is known to be over. A token that was merely replaced has a
// successor, and that may be in the browser already: a slow answer must not clear it.
func (a *Auth) forget(c *gin.Context, p presented, err error) {
	if a.cookies != nil && p.byCookie && asError(err).over {
		a.cookies.clear(c)
	}
}
