package middleware

import (
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
)

// Required lets requests through whose token lives, and answers all others (R1–R4). Handlers behind it read
// the token with [MustClaims].
//
// This guard and all others let OPTIONS pass without a token, as browsers send a CORS preflight without
// one. So a handler that answers OPTIONS as well (gin's Any) must not act on it; MustClaims panics there.
func (a *Auth) Required() gin.HandlerFunc {
	return func(c *gin.Context) {
		if passes(c) || a.admitted(c) != nil {
			return
		}
		if p, t, err := a.check(c); err != nil {
			a.reject(c, p, t, err)
		} else {
			a.admit(c, t)
		}
	}
}

// Optional is Required for routes that are open to guests: a request without a token passes without claims
// ([ClaimsFrom] returns false), one with a bad token is refused.
func (a *Auth) Optional() gin.HandlerFunc {
	return func(c *gin.Context) {
		if passes(c) || a.admitted(c) != nil {
			return
		}
		p, t, err := a.check(c)
		switch {
		case err == nil:
			a.admit(c, t)
		case !hasCode(err, CodeTokenMissing):
			a.reject(c, p, t, err)
		}
	}
}

// AutoRefresh is Required for clients that cannot call RefreshHandler. A token that has expired inside its
// refresh window, or has less than within left (0: only what has expired), is refreshed before the handler
// runs: the handler sees the new claims, and the answer carries the new token as Authorization: Bearer, or
// as cookie where the old one came as such. The client must use that one from then on, as the old one passes
// for the grace only; its later return ends the session (R8). That grace counts from when the handler is done,
// for handlers of up to five minutes. For one-token mode, and in place of Required: behind it nothing expired
// arrives.
func (a *Auth) AutoRefresh(within time.Duration) gin.HandlerFunc {
	if within < 0 {
		panic("middleware: AutoRefresh expects within >= 0")
	}
	if a.sessions.pair {
		panic("middleware: AutoRefresh is for one-token mode: in pair mode requests carry no refresh token")
	}
	return func(c *gin.Context) {
		if passes(c) || a.admitted(c) != nil {
			return
		}
		p, err := a.presented(c, a.sources)
		if err != nil {
			a.reject(c, p, nil, err)
			return
		}
		ctx := c.Request.Context()
		tokens, t, err := a.renew(ctx, p.text, within)
		if err != nil {
			a.reject(c, p, t, err)
			return
		}
		if tokens.AccessToken == "" {
			a.admit(c, t)
			return
		}
		a.report(ctx, a.clientIP(c), EventRefresh, t, nil)
		a.handOver(c, p, tokens)
		next := tokens.Claims.token
		a.admit(c, next)
		if next.issued != t.issued { // the client gets next with the handler's answer, and has t alone until then
			release := a.sessions.hold(ctx, next)
			defer release()
			c.Next()
		}
	}
}

// handOver sends the new token at once: gin cannot once the handler wrote.
func (a *Auth) handOver(c *gin.Context, p presented, tokens Tokens) {
	forbidStoring(c)
	if a.cookies != nil && p.byCookie {
		a.cookies.set(c, tokens, p.text)
		return
	}
	c.Header("Authorization", "Bearer "+tokens.AccessToken)
	c.Writer.Header().Add("Access-Control-Expose-Headers", "Authorization")
}

// Fresh is Required for what matters most: the login itself must not be older than maxAge, however often the
// token was refreshed since. Otherwise the answer is the challenge of RFC 9470 with max_age.
func (a *Auth) Fresh(maxAge time.Duration) gin.HandlerFunc {
	if maxAge <= 0 {
		panic("middleware: Fresh expects maxAge > 0")
	}
	return a.requiring(func(c *gin.Context, t *token) error {
		if time.Since(time.Unix(t.authTime, 0)) > maxAge+a.sessions.leeway {
			e := fail(CodeLoginTooOld)
			e.MaxAge = maxAge
			return e
		}
		return nil
	})
}

// Allow is Required with a condition, on a role for instance: where it returns false the answer is 403.
func (a *Auth) Allow(condition func(c *gin.Context, claims Claims) bool) gin.HandlerFunc {
	if condition == nil {
		panic("middleware: Allow expects a condition")
	}
	return a.requiring(func(c *gin.Context, t *token) error {
		if !condition(c, claimsOf(t)) {
			return fail(CodeForbidden)
		}
		return nil
	})
}

// requiring is Required and then a check of what was let through, by this guard or one before it.
func (a *Auth) requiring(check func(c *gin.Context, t *token) error) gin.HandlerFunc {
	required := a.Required()
	return func(c *gin.Context) {
		if passes(c) {
			return
		}
		required(c)
		t := a.admitted(c)
		if t == nil {
			return // Required has answered
		}
		if err := check(c, t); err != nil {
			a.reject(c, presented{}, t, err)
		}
	}
}

// passes lets a CORS preflight through.
func passes(c *gin.Context) bool { return c.Request.Method == http.MethodOptions }

// check finds the request's token and verifies it. It returns the token with an error where it is genuine.
func (a *Auth) check(c *gin.Context) (presented, *token, error) {
	p, err := a.presented(c, a.sources)
	if err != nil {
		if hasCode(err, CodeTokenMissing) && a.cookies.expired(c.Request) {
			err = fail(CodeTokenExpired)
		}
		return p, nil, err
	}
	t, err := a.verify(c.Request.Context(), p.text)
	return p, t, err
}

func (a *Auth) admit(c *gin.Context, t *token) { c.Set(contextKey{}, t) }

// admitted returns the token that a guard of this Auth let through already: after AutoRefresh the request
// still carries the old one. Another Auth's verdict does not count.
func (a *Auth) admitted(c *gin.Context) *token {
	if t := letThrough(c); t != nil && t.owner == a {
		return t
	}
	return nil
}

func (a *Auth) reject(c *gin.Context, p presented, t *token, err error) {
	a.report(c.Request.Context(), a.clientIP(c), EventRejected, t, err)
	a.forget(c, p, err)
	a.refuse(c, err)
}
