package middleware

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware/internal/session"
)

// Claims are the claims of a verified token. They are a copy: changing them does not affect the token.
type Claims struct {
	Subject      string    // sub: the user's id
	SessionID    string    // sid: the same in all tokens of the session
	ID           string    // jti: unique for each token
	IssuedAt     time.Time // iat
	ExpiresAt    time.Time // exp
	AuthTime     time.Time // auth_time: when the subject logged in
	RefreshUntil time.Time // refresh_exp: the session's deadline

	token *session.Token
}

// claimsOf copies the claims, so that no handler can change what another one sees.
func claimsOf(t *session.Token) Claims {
	return Claims{
		Subject:      t.Subject,
		SessionID:    t.Session,
		ID:           t.ID,
		IssuedAt:     time.Unix(t.IssuedAt, 0),
		ExpiresAt:    time.Unix(t.ExpiresAt, 0),
		AuthTime:     time.Unix(t.AuthTime, 0),
		RefreshUntil: time.Unix(t.Deadline, 0),
		token:        t,
	}
}

// Decode stores the application's own claims, from [Identity].Claims or Reload, in the value that v points to, like
// encoding/json. In an any, numbers become json.Number, so that large integers stay exact.
func (c Claims) Decode(v any) error {
	object := []byte("{}")
	if c.token != nil {
		object = append(append([]byte{'{'}, c.token.AppClaims...), '}')
	}
	d := json.NewDecoder(bytes.NewReader(object))
	d.UseNumber()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("middleware: decoding the claims: %w", err)
	}
	return nil
}

// MarshalJSON returns all claims exactly as they are in the token.
func (c Claims) MarshalJSON() ([]byte, error) {
	if c.token == nil {
		return []byte("null"), nil
	}
	return bytes.Clone(c.token.Payload), nil
}

// contextKey is the key under which a guard stores the accepted token in the Gin context.
type contextKey struct{}

// ClaimsFrom returns the claims of the token that a guard accepted. It returns false if there is none: the route has no
// guard, or [Auth.Optional] found no token.
func ClaimsFrom(c *gin.Context) (Claims, bool) {
	t := acceptedToken(c)
	if t == nil {
		return Claims{}, false
	}
	return claimsOf(t), true
}

// acceptedToken returns the token that a guard of any Auth accepted, or nil.
func acceptedToken(c *gin.Context) *session.Token {
	value, _ := c.Get(contextKey{})
	t, _ := value.(*session.Token)
	return t
}

// MustClaims is ClaimsFrom for handlers behind [Auth.Required] or [Auth.AutoRefresh]. It panics if no guard accepted
// a token, because that is a mistake in the routes: there is no guard, the guard is [Auth.Optional], or the request is an
// OPTIONS request, which every guard lets through.
func MustClaims(c *gin.Context) Claims {
	claims, ok := ClaimsFrom(c)
	if !ok {
		panic("middleware: MustClaims needs a token that a guard accepted: put auth.Required() before this handler, " +
			"or use ClaimsFrom where the token is optional or the method is OPTIONS")
	}
	return claims
}
