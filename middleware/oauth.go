package middleware

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/gin-gonic/gin"
)

// RevokeHandler is a revocation endpoint (RFC 7009): it ends the session of the form field token, as
// [Auth.Logout] does, and answers 200, also to what is no token of ours or is over already. Who has a token
// may end its session, so it needs no guard. Mount it as POST.
func (a *Auth) RevokeHandler(c *gin.Context) {
	forbidStoring(c)
	t, err := a.revokeSent(c)
	switch {
	case hasCode(err, CodeTokenInvalid), hasCode(err, CodeRefreshExpired):
		err = nil // RFC 7009 §2.2: the client could do nothing about it
	default:
		a.report(c.Request.Context(), a.clientIP(c), EventLogout, t, err)
	}
	if err != nil {
		a.refuse(c, err)
		return
	}
	c.Status(http.StatusOK)
}

func (a *Auth) revokeSent(c *gin.Context) (*token, error) {
	text, err := sentToken(c)
	if err != nil {
		return nil, err
	}
	return a.logout(c.Request.Context(), text)
}

var errNoToken = errors.New("the parameter token is missing")

// sentToken returns the parameter token, without which the request makes no sense.
func sentToken(c *gin.Context) (string, error) {
	text, err := bodyToken(c, "token")
	if hasCode(err, CodeTokenMissing) {
		err = failed(CodeBadRequest, errNoToken)
	}
	return text, err
}

// IntrospectHandler is an introspection endpoint (RFC 7662) for services that cannot verify a token
// themselves: it answers {"active":true} and the claims for the form field token if [Auth.Required] would let
// it through, or in pair mode if it could be refreshed, and {"active":false} for anything else. Mount it as
// POST behind a guard of your own: who may ask learns the claims (RFC 7662 §4).
func (a *Auth) IntrospectHandler(c *gin.Context) {
	forbidStoring(c)
	text, err := sentToken(c)
	if err != nil {
		a.refuse(c, err)
		return
	}
	t, err := a.decode(text)
	if err == nil {
		err = a.sessions.active(c.Request.Context(), t)
	}
	switch {
	case err == nil:
		c.JSON(http.StatusOK, introspection(t))
	case asError(err).Status == http.StatusUnauthorized:
		c.JSON(http.StatusOK, gin.H{"active": false})
	default:
		a.refuse(c, err)
	}
}

// introspection is the token's claims and the members of RFC 7662, which no claim may take the place of.
func introspection(t *token) map[string]json.RawMessage {
	answer := map[string]json.RawMessage{}
	_ = scanObject(t.payload, func(name string, value, _ []byte) error { // it was read before
		answer[name] = value
		return nil
	})
	answer["active"] = json.RawMessage("true")
	answer["token_type"] = json.RawMessage(`"Bearer"`)
	return answer
}
