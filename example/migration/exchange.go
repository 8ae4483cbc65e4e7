package main

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/golang-jwt/jwt/v5"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// oldSystem exchanges the tokens of another system for sessions, each token once. Delete this file after one old refresh window.
type oldSystem struct {
	auth      *middleware.Auth
	blacklist middleware.Store // of auth: it remembers which tokens were exchanged

	method string        // the algorithm of the old tokens, and no other
	key    any           // its key: a []byte for HS256, an *rsa.PublicKey for RS256. Not the new one
	window time.Duration // MaxRefresh or refresh_ttl, counted from the login. 0: a token is good until its exp
	from   time.Time     // when the exchange opened: the same instant on all servers, and after a restart
	until  time.Time     // when it closes: from + window, or + the lifetime of the old refresh tokens

	// subject returns the user of a token that may be exchanged, or ErrRefused.
	subject func(old oldClaims) (string, error)

	// identify looks the user up. It returns ErrRefused if the user is blocked, the password was changed after the token was
	// issued, or the old system has the token on its blacklist.
	identify func(ctx context.Context, subject string, old oldClaims) (middleware.Identity, error)
}

// oldClaims are the claims of gin-jwt, tymon/jwt-auth and Flask-JWT-Extended that matter here.
type oldClaims struct {
	jwt.RegisteredClaims
	Subject userID           `json:"sub"`
	User    userID           `json:"id"`       // gin-jwt: IdentityKey
	OrigIat *jwt.NumericDate `json:"orig_iat"` // gin-jwt
	Model   string           `json:"prv"`      // jwt-auth: the SHA-1 of the model's name
	Type    string           `json:"type"`     // Flask-JWT-Extended: access or refresh
	Session string           `json:"sid"`      // ours

	window time.Duration
}

// login returns when the user logged in.
func (c oldClaims) login() (time.Time, error) {
	at := c.OrigIat
	if at == nil {
		at = c.IssuedAt
	}
	if at == nil {
		return time.Time{}, errors.New("the token does not say when it was issued")
	}
	return at.Time, nil
}

// GetExpirationTime returns the end of the refresh window, because an expired token could be refreshed.
func (c oldClaims) GetExpirationTime() (*jwt.NumericDate, error) {
	login, err := c.login()
	if err != nil || c.window == 0 || c.ExpiresAt == nil {
		return c.ExpiresAt, err
	}
	return jwt.NewNumericDate(login.Add(c.window)), nil
}

// userID is a string or an integer: databases count users.
type userID string

// UnmarshalJSON implements json.Unmarshaler.
func (id *userID) UnmarshalJSON(data []byte) error {
	if number, err := strconv.ParseInt(string(data), 10, 64); err == nil {
		*id = userID(strconv.FormatInt(number, 10))
		return nil
	}
	return json.Unmarshal(data, (*string)(id))
}

// ginJWT is the basic example of gin-jwt as the old system. It has no blacklist.
func ginJWT(auth *middleware.Auth, blacklist middleware.Store, secret []byte, from time.Time) *oldSystem {
	const maxRefresh = time.Hour
	return &oldSystem{
		auth: auth, blacklist: blacklist, method: "HS256", key: secret,
		window: maxRefresh, from: from, until: from.Add(maxRefresh), subject: ginJWTSubject,
		identify: func(_ context.Context, subject string, _ oldClaims) (middleware.Identity, error) {
			return middleware.Identity{Subject: subject}, nil
		},
	}
}

// ginJWTSubject demands orig_iat, which no other token has that was signed with the same secret.
func ginJWTSubject(old oldClaims) (string, error) {
	if old.OrigIat == nil {
		return "", middleware.ErrRefused
	}
	return string(old.User), nil
}

// laravelSubject accepts the users of one model, such as App\Models\User. With the same secret and the same ids, a token of
// another model would be somebody else's.
func laravelSubject(model string) func(oldClaims) (string, error) {
	sum := sha1.Sum([]byte(model))
	return func(old oldClaims) (string, error) {
		if old.Model != hex.EncodeToString(sum[:]) {
			return "", middleware.ErrRefused
		}
		return string(old.Subject), nil
	}
}

// flaskSubject accepts refresh tokens only. Use it with a window of 0: their exp is the end of the session.
func flaskSubject(old oldClaims) (string, error) {
	if old.Type != "refresh" {
		return "", middleware.ErrRefused
	}
	return string(old.Subject), nil
}

// errReused means that the token was exchanged before.
var errReused = errors.New("the token was already exchanged")

// exchange is the handler of POST /exchange, with the old token as Authorization: Bearer. It takes the token from no other place,
// so another site cannot make a browser send one.
func (o *oldSystem) exchange(c *gin.Context) {
	text, _ := strings.CutPrefix(c.GetHeader("Authorization"), "Bearer ")
	tokens, err := o.start(c.Request.Context(), text)
	c.Header("Cache-Control", "no-store")
	var failed *middleware.Error // of Issue: the new RefreshTTL is over as well, or the store is down
	switch {
	case err == nil:
		o.auth.Answer(c, tokens)
	case errors.As(err, &failed):
		c.AbortWithStatusJSON(failed.Status, gin.H{"error": failed.Type, "code": failed.Code})
	case errors.Is(err, errReused):
		c.AbortWithStatusJSON(http.StatusUnauthorized, gin.H{"error": "invalid_token", "code": middleware.CodeTokenReused})
	case errors.Is(err, middleware.ErrRefused):
		c.AbortWithStatusJSON(http.StatusUnauthorized, gin.H{"error": "invalid_token", "code": middleware.CodeTokenInvalid})
	default:
		_ = c.Error(err)
		c.Header("Retry-After", "1")
		c.AbortWithStatusJSON(http.StatusServiceUnavailable, gin.H{"error": "temporarily_unavailable", "code": middleware.CodeStoreUnavailable})
	}
}

// verify returns the claims of a genuine old token that could still be refreshed.
func (o *oldSystem) verify(text string) (oldClaims, string, error) {
	claims := oldClaims{window: o.window}
	parser := jwt.NewParser(jwt.WithValidMethods([]string{o.method}), jwt.WithExpirationRequired(), jwt.WithIssuedAt())
	_, err := parser.ParseWithClaims(text, &claims, func(*jwt.Token) (any, error) { return o.key, nil })
	if err != nil || claims.Session != "" || time.Now().After(o.until) {
		return oldClaims{}, "", middleware.ErrRefused // one of our own tokens would start its refresh window again
	}
	// The signature covers exactly this text. The signature's own text is no identity: base64 can be written in several ways.
	signed := text[:strings.LastIndexByte(text, '.')]
	return claims, fmt.Sprintf("old:token:%x", sha256.Sum256([]byte(signed))), nil
}

func closedKey(subject string) string { return "old:closed:" + subject }

// start verifies an old token and starts a session in exchange.
func (o *oldSystem) start(ctx context.Context, text string) (middleware.Tokens, error) {
	old, usedKey, err := o.verify(text)
	if err != nil {
		return middleware.Tokens{}, err
	}
	subject, err := o.subject(old)
	if err != nil || subject == "" {
		return middleware.Tokens{}, middleware.ErrRefused
	}
	id, err := o.identify(ctx, subject, old)
	if err != nil {
		return middleware.Tokens{}, err
	}
	claim, err := o.claim(ctx, usedKey, id.Subject)
	if err != nil {
		return middleware.Tokens{}, err
	}
	// The new session ends when the old one would have ended, and Fresh counts from the old login. verify has checked both times.
	end, _ := old.GetExpirationTime()
	id.AuthTime, _ = old.login()
	id.RefreshTTL = end.Sub(id.AuthTime)
	tokens, err := o.auth.Issue(ctx, id)
	if err != nil {
		return middleware.Tokens{}, err
	}
	if err := o.finish(ctx, usedKey, claim, tokens.Claims); err != nil {
		return middleware.Tokens{}, err
	}
	return tokens, nil
}

// get reads records of the exchange. If the store has forgotten some, no token is accepted (as with R20).
func (o *oldSystem) get(ctx context.Context, keys ...string) ([]string, error) {
	values, since, err := o.blacklist.Get(ctx, keys...)
	if err == nil && since.After(o.from) {
		err = middleware.ErrRefused
	}
	return values, err
}

// reuseAfter leaves time for the tabs of a browser that all send the same old token.
const reuseAfter = 10 * time.Second

// claim marks the token as used, before there is a session. If it was used before, either its owner or a thief has the session, and
// the session ends (as with R8).
func (o *oldSystem) claim(ctx context.Context, usedKey, subject string) (string, error) {
	values, err := o.get(ctx, usedKey, closedKey(subject))
	switch {
	case err != nil:
		return "", err
	case values[0] != "":
		at, session, _ := strings.Cut(values[0], " ")
		if used, _ := strconv.ParseInt(at, 10, 64); session != "" && time.Since(time.Unix(used, 0)) > reuseAfter {
			if err := o.auth.RevokeSession(ctx, session); err != nil {
				return "", err
			}
		}
		return "", errReused
	case values[1] != "":
		return "", middleware.ErrRefused
	}
	claim := strconv.FormatInt(time.Now().Unix(), 10)
	first, err := o.blacklist.CompareAndSwap(ctx, usedKey, "", claim, o.forget())
	if err == nil && !first {
		err = errReused
	}
	return claim, err
}

// finish notes which session the token has become, and takes it back if close has come in between.
func (o *oldSystem) finish(ctx context.Context, usedKey, claim string, claims middleware.Claims) error {
	if _, err := o.blacklist.CompareAndSwap(ctx, usedKey, claim, claim+" "+claims.SessionID, o.forget()); err != nil {
		return err
	}
	values, err := o.get(ctx, closedKey(claims.Subject))
	if err == nil && values[0] != "" {
		err = errors.Join(middleware.ErrRefused, o.auth.RevokeSession(ctx, claims.SessionID))
	}
	return err
}

// forget returns when the records of the exchange are no longer needed.
func (o *oldSystem) forget() time.Time { return o.until.Add(time.Minute) }

// close refuses all old tokens of a user from now on. Call it before each call of RevokeSubject: log out everywhere does not reach
// tokens that are not yet exchanged.
func (o *oldSystem) close(ctx context.Context, subject string) error {
	_, err := o.blacklist.CompareAndSwap(ctx, closedKey(subject), "", "1", o.forget())
	return err
}

// check returns an error if no token would be accepted, because the store is younger than the exchange.
func (o *oldSystem) check(ctx context.Context) error {
	_, since, err := o.blacklist.Get(ctx, "old:")
	if err == nil && since.After(o.from) {
		err = fmt.Errorf("the exchange opened %v, but the store may have forgotten what was before %v", o.from, since)
	}
	return err
}
