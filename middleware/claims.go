package middleware

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/gin-gonic/gin"
)

// Claims is what a verified token says. It is a copy: changing it changes nothing.
type Claims struct {
	Subject      string    // sub: whose session it is
	SessionID    string    // sid: the session, the same in all its tokens
	ID           string    // jti: this token
	IssuedAt     time.Time // iat
	ExpiresAt    time.Time // exp
	AuthTime     time.Time // auth_time: when the subject logged in
	RefreshUntil time.Time // refresh_exp: the session's deadline

	token *token
}

func claimsOf(t *token) Claims {
	return Claims{
		Subject:      t.subject,
		SessionID:    t.session,
		ID:           t.id,
		IssuedAt:     time.Unix(t.iat, 0),
		ExpiresAt:    time.Unix(t.exp, 0),
		AuthTime:     time.Unix(t.authTime, 0),
		RefreshUntil: time.Unix(t.deadline, 0),
		token:        t,
	}
}

// Decode reads the application's own claims, those that [Identity].Claims or Reload gave, into what v points
// to, by the rules of encoding/json. In an any, numbers become json.Number, so that large integers stay exact.
func (c Claims) Decode(v any) error {
	object := []byte("{}")
	if c.token != nil {
		object = append(append([]byte{'{'}, c.token.own...), '}')
	}
	d := json.NewDecoder(bytes.NewReader(object))
	d.UseNumber()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("middleware: decoding the claims: %w", err)
	}
	return nil
}

// MarshalJSON returns all claims as they stand in the token.
func (c Claims) MarshalJSON() ([]byte, error) {
	if c.token == nil {
		return []byte("null"), nil
	}
	return bytes.Clone(c.token.payload), nil
}

// contextKey is where a guard leaves the token that it let through, for the handlers behind it.
type contextKey struct{}

// ClaimsFrom returns the claims of the token that a guard let through, and false where none did: the route
// has no guard, or [Auth.Optional] saw no token.
func ClaimsFrom(c *gin.Context) (Claims, bool) {
	t := letThrough(c)
	if t == nil {
		return Claims{}, false
	}
	return claimsOf(t), true
}

func letThrough(c *gin.Context) *token {
	value, _ := c.Get(contextKey{})
	t, _ := value.(*token)
	return t
}

// MustClaims is ClaimsFrom for handlers behind [Auth.Required] or [Auth.AutoRefresh]. It panics where no
// guard ran, as that is a mistake in the routes.
func MustClaims(c *gin.Context) Claims {
	claims, ok := ClaimsFrom(c)
	if !ok {
		panic("middleware: MustClaims on a request that no guard let through: put auth.Required() before " +
			"this handler, or use ClaimsFrom where the token is optional or the method is OPTIONS")
	}
	return claims
}
