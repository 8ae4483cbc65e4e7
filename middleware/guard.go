package middleware

import (
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware/internal/session"
)

// Required is a guard that accepts requests with a valid token and rejects all others (R1–R4). Handlers behind it read
// the token's claims with [MustClaims].
//
// This guard and all others let OPTIONS requests through without a token, because browsers send CORS preflights without
// one. A handler that answers OPTIONS as well (gin's Any) must not act on it; MustClaims panics there.
func (a *Auth) Required() gin.HandlerFunc {
	return func(c *gin.Context) {
		if isPreflight(c) || a.accepted(c) != nil {
			return
		}
		if p, t, err := a.check(c); err != nil {
			a.reject(c, EventRejected, p, t, err)
		} else {
			a.accept(c, t)
		}
	}
}

// Optional is Required for routes that are open to guests: a request without a token is accepted without claims
// ([ClaimsFrom] returns false), and one with a bad token is rejected.
func (a *Auth) Optional() gin.HandlerFunc {
	return func(c *gin.Context) {
		if isPreflight(c) || a.accepted(c) != nil {
			return
		}
		p, t, err := a.check(c)
		switch {
		case err == nil:
			a.accept(c, t)
		case !hasCode(err, CodeTokenMissing):
			a.reject(c, EventRejected, p, t, err)
		}
	}
}

// AutoRefresh is Required for clients that cannot call RefreshHandler. A token that has expired inside its refresh
// window, or has less than within left (0: only expired tokens), is refreshed before the handler runs. The handler sees
// the new claims. The response carries the new token as Authorization: Bearer, or as a cookie if the old one came in a
// cookie. The client must use the new token from then on: the old one is accepted only for the grace period, and
// presenting it later ends the session (R8). If the handler takes longer than half of the grace period, the grace
// period counts from its end, for handlers of up to five minutes.
//
// AutoRefresh is for one-token mode and is used in place of Required, which lets no expired token through.
func (a *Auth) AutoRefresh(within time.Duration) gin.HandlerFunc {
	if within < 0 {
		panic("middleware: AutoRefresh expects within >= 0")
	}
	if a.rules.Pair {
		panic("middleware: AutoRefresh is for one-token mode: in pair mode requests carry no refresh token")
	}
	return func(c *gin.Context) {
		if isPreflight(c) || a.accepted(c) != nil {
			return
		}
		p, err := a.presented(c, a.sources)
		if err != nil {
			a.reject(c, EventRejected, p, nil, err)
			return
		}
		ctx := c.Request.Context()
		tokens, t, err := a.autoRefresh(ctx, p.text, within)
		if err != nil {
			a.reject(c, EventRejected, p, t, err)
			return
		}
		if tokens.AccessToken == "" {
			a.accept(c, t)
			return
		}
		a.reportRequest(c, EventRefresh, t, nil)
		a.sendRefreshed(c, p, tokens)
		next := tokens.Claims.token
		a.accept(c, next)
		if next.Instant != t.Instant { // the client receives next with the handler's response, and has only t until then
			stop := a.rules.ExtendGrace(ctx, next)
			defer stop()
			c.Next()
		}
	}
}

// sendRefreshed sends the new token before the handler runs, because gin cannot set a header once the handler has
// written.
func (a *Auth) sendRefreshed(c *gin.Context, p presentedToken, tokens Tokens) {
	forbidStoring(c)
	if a.cookies != nil && p.inCookie {
		a.cookies.set(c, tokens, p.text)
		return
	}
	c.Header("Authorization", "Bearer "+tokens.AccessToken)
	c.Writer.Header().Add("Access-Control-Expose-Headers", "Authorization")
}

// Fresh is Required with a limit on the age of the login, for sensitive actions. It does not matter how often the token
// was refreshed since the login. An older login is answered with the challenge of RFC 9470 with max_age.
func (a *Auth) Fresh(maxAge time.Duration) gin.HandlerFunc {
	if maxAge <= 0 {
		panic("middleware: Fresh expects maxAge > 0")
	}
	return a.requiredAnd(func(c *gin.Context, t *session.Token) error {
		if time.Since(time.Unix(t.AuthTime, 0)) > maxAge+a.rules.Leeway {
			e := newError(CodeLoginTooOld, nil)
			e.MaxAge = maxAge
			return e
		}
		return nil
	})
}

// Allow is Required with a condition, for example on a role. If the condition returns false, the response is 403.
func (a *Auth) Allow(condition func(c *gin.Context, claims Claims) bool) gin.HandlerFunc {
	if condition == nil {
		panic("middleware: Allow expects a condition")
	}
	return a.requiredAnd(func(c *gin.Context, t *session.Token) error {
		if !condition(c, claimsOf(t)) {
			return newError(CodeForbidden, nil)
		}
		return nil
	})
}

// requiredAnd is Required followed by a check of the token that this guard or one before it accepted.
func (a *Auth) requiredAnd(check func(c *gin.Context, t *session.Token) error) gin.HandlerFunc {
	required := a.Required()
	return func(c *gin.Context) {
		if isPreflight(c) {
			return
		}
		required(c)
		t := a.accepted(c)
		if t == nil {
			return // Required has rejected the request
		}
		if err := check(c, t); err != nil {
			a.reject(c, EventRejected, presentedToken{}, t, err)
		}
	}
}

// isPreflight takes every OPTIONS request for a CORS preflight.
func isPreflight(c *gin.Context) bool { return c.Request.Method == http.MethodOptions }

// check finds and verifies the request's token. It returns a genuine token even with an error.
func (a *Auth) check(c *gin.Context) (presentedToken, *session.Token, error) {
	p, err := a.presented(c, a.sources)
	if err != nil {
		if hasCode(err, CodeTokenMissing) && a.cookies.accessExpired(c.Request) {
			err = newError(CodeTokenExpired, nil)
		}
		return p, nil, err
	}
	t, err := a.verify(c.Request.Context(), p.text)
	return p, t, err
}

// accept stores the token for the handlers behind the guard.
func (a *Auth) accept(c *gin.Context, t *session.Token) { c.Set(contextKey{}, t) }

// accepted returns the token that another guard of this Auth has accepted. Its token must not be checked again:
// after AutoRefresh the request still carries the old one. The verdict of another Auth does not count.
func (a *Auth) accepted(c *gin.Context) *session.Token {
	if t := acceptedToken(c); t != nil && t.Owner == any(a) {
		return t
	}
	return nil
}
