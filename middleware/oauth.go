package middleware

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware/internal/session"
)

// RevokeHandler is a token revocation endpoint (RFC 7009). It ends the session of the token in the form field
// (or JSON member) token, like [Auth.Logout], and answers 200. It also answers 200 if the token is unknown or its session
// is already over. It needs no guard: anyone holding a token can end its session. Mount it as POST.
func (a *Auth) RevokeHandler(c *gin.Context) {
	forbidStoring(c)
	t, err := a.revokeSent(c)
	switch {
	case hasCode(err, CodeTokenInvalid), hasCode(err, CodeRefreshExpired):
		err = nil // RFC 7009 §2.2: the client could not do anything about it
	default:
		a.reportRequest(c, EventLogout, t, err)
	}
	if err != nil {
		a.answerError(c, err)
		return
	}
	c.Status(http.StatusOK)
}

func (a *Auth) revokeSent(c *gin.Context) (*session.Token, error) {
	var text string
	if err := readParameters(c, map[string]*string{"token": &text}); err != nil {
		return nil, err
	}
	return a.logout(c.Request.Context(), text)
}

// refreshHint is the token_type_hint of a refresh token (RFC 7009 §2.1).
const refreshHint = "refresh_token"

var errNoToken = errors.New("the parameter token is missing")

// readParameters is readBody for a request whose parameter token is required.
func readParameters(c *gin.Context, fields map[string]*string) error {
	if err := readBody(c, fields); err != nil {
		return err
	}
	if *fields["token"] == "" {
		return newError(CodeBadRequest, errNoToken)
	}
	return nil
}

// IntrospectHandler is a token introspection endpoint (RFC 7662) for services that cannot verify a token
// themselves. For the token in the form field (or JSON member) token it answers {"active":true} and the claims if [Auth.Required]
// would accept it, and {"active":false} otherwise.
//
// In pair mode a refresh token is inactive, so that a service that forwards whatever a client sent as a bearer
// token never accepts one. Send token_type_hint=refresh_token to ask whether it can be refreshed; the answer
// then has no token_type. Other hints are ignored.
//
// Mount it as POST behind a guard of your own: whoever can call it can read the claims (RFC 7662 §4).
func (a *Auth) IntrospectHandler(c *gin.Context) {
	forbidStoring(c)
	t, err := a.introspect(c)
	switch {
	case err == nil:
		c.JSON(http.StatusOK, introspection(t))
	case asError(err).Status == http.StatusUnauthorized:
		c.JSON(http.StatusOK, gin.H{"active": false})
	default:
		a.answerError(c, err)
	}
}

// introspect returns the token that the request asks about, if it is active.
func (a *Auth) introspect(c *gin.Context) (*session.Token, error) {
	var text, hint string
	if err := readParameters(c, map[string]*string{"token": &text, "token_type_hint": &hint}); err != nil {
		return nil, err
	}
	t, _, err := a.decode(a.verifier.Load(), text)
	if err != nil {
		return nil, err
	}
	if t.Kind == session.RefreshToken && hint != refreshHint {
		return nil, newError(CodeTokenInvalid, errors.New("a refresh token needs token_type_hint=refresh_token"))
	}
	return t, fromVerdict(a.rules.Introspect(c.Request.Context(), t))
}

// introspection returns the token's claims and the members of RFC 7662, which take precedence over claims of the
// same name. Only an access token has a token_type: it tells how to use the token on requests (RFC 6749 §5.1).
func introspection(t *session.Token) map[string]json.RawMessage {
	answer := t.Claims()
	answer["active"] = json.RawMessage("true")
	if t.Kind == session.AccessToken {
		answer["token_type"] = json.RawMessage(`"Bearer"`)
	} else {
		delete(answer, "token_type")
	}
	return answer
}
