package middleware

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware/internal/jose"
	"github.com/ginrefresh/ginrefresh/middleware/internal/session"
)

// This file is the carrier of proofs for browsers: Device Bound Session Credentials
// (https://w3c.github.io/webappsec-dbsc/). It is experimental, because DBSC is a draft.
//
// The response to a login offers a registration. The browser makes a key and sends its public part to BindHandler. From
// then on it refreshes by itself: when the cookie of the access token has expired, it holds its requests back until
// BindHandler has set a new one. The challenge is the jti of the refresh token in the cookie (R18).

// dbsc is what the browser is told about sessions.
type dbsc struct {
	offered      bool
	instructions sessionInstructions // without the session's id
}

// sessionInstructions is the body of BindHandler's response (the draft's JSON session instructions). The scope is the
// origin of BindHandler, because it names no other.
type sessionInstructions struct {
	SessionIdentifier string              `json:"session_identifier"`
	RefreshURL        string              `json:"refresh_url"`
	Scope             map[string]bool     `json:"scope"`
	Credentials       []sessionCredential `json:"credentials"`
	AllowedInitiators []string            `json:"allowed_refresh_initiators,omitempty"`
}

// sessionCredential describes the cookie whose absence makes the browser refresh.
type sessionCredential struct {
	Type       string `json:"type"`
	Name       string `json:"name"`
	Attributes string `json:"attributes"`
}

// newDBSC returns nil if there are no cookies of a pair, or if subdomains share them: the browser would refresh
// for requests to one of the hosts only.
func newDBSC(c Config) *dbsc {
	if c.Cookie == nil || !c.Pair || c.Cookie.Domain != "" {
		return nil
	}
	access := newCookieJar(*c.Cookie, true).access
	_, attributes, _ := strings.Cut(access.String(), "; ")
	d := &dbsc{offered: c.Bind != BindOff, instructions: sessionInstructions{
		RefreshURL:  c.Cookie.withDefaults().BindPath,
		Scope:       map[string]bool{"include_site": false},
		Credentials: []sessionCredential{{Type: "cookie", Name: access.Name, Attributes: attributes}},
	}}
	for _, origin := range c.TrustedOrigins { // their pages make requests that may have to be held back
		u, _ := url.Parse(origin) // it was validated
		d.instructions.AllowedInitiators = append(d.instructions.AllowedInitiators, u.Hostname())
	}
	return d
}

// offer invites the browser to bind a session that is not bound. t is its refresh token.
func (d *dbsc) offer(c *gin.Context, t *session.Token) {
	if d != nil && d.offered && t != nil && t.Key() == nil {
		c.Header("Secure-Session-Registration", `(ES256);path="`+d.instructions.RefreshURL+`";challenge="`+t.ID+`"`)
	}
}

// cookieEnd returns when the cookie of an access token expires. If the session is bound, that is a little before the
// token: the browser sends the cookie until the last moment, and a request takes a while.
func cookieEnd(tokens Tokens) time.Time {
	end := tokens.ExpiresAt
	if tokens.refresh != nil && tokens.refresh.Key() != nil {
		end = end.Add(-min(10*time.Second, end.Sub(tokens.Claims.IssuedAt)/10))
	}
	return end
}

// BindHandler binds a session to a key of the browser (R19) and refreshes bound sessions. Only browsers with Device
// Bound Session Credentials call it, by themselves. It needs pair mode with cookies, and [Config].Bind. Mount it as
// POST at [Cookie].BindPath.
//
// It answers 200 with new cookies, or 403 with the challenge if the browser has to sign another one. After any other
// 4xx the browser forgets the session; after a 5xx it tries again. Unlike other handlers it clears no cookies, because
// browsers refresh at any time, also while the user logs in again. BindHandler is experimental.
func (a *Auth) BindHandler(c *gin.Context) {
	forbidStoring(c)
	p, tokens, t, err := a.bind(c)
	if err != nil {
		if hasCode(err, CodeProofRequired) {
			e := errorOf(err)
			e.Status, e.Type = http.StatusForbidden, "invalid_request"
			setChallenge(c, e.ProofChallenge, t)
			e.ProofChallenge = "" // it belongs to another header
		}
		p.inCookie = false // keep the cookies: they may already be those of a login that happens at the same time
		a.reject(c, EventRefresh, p, t, err)
		return
	}
	a.reportRequest(c, EventRefresh, t, nil)
	a.cookies.set(c, tokens, p.cookie())
	setChallenge(c, tokens.refresh.ID, t)
	answer := a.cookies.dbsc.instructions
	answer.SessionIdentifier = t.Session
	c.JSON(http.StatusOK, answer)
}

// setChallenge sends the browser the challenge that its next proof must contain.
func setChallenge(c *gin.Context, challenge string, t *session.Token) {
	c.Header("Secure-Session-Challenge", `"`+challenge+`";id="`+t.Session+`"`)
}

// bind refreshes the refresh token of the cookie with the browser's proof.
func (a *Auth) bind(c *gin.Context) (p presentedToken, tokens Tokens, t *session.Token, err error) {
	if a.cookies == nil || a.cookies.dbsc == nil {
		return p, Tokens{}, nil, errors.New("middleware: BindHandler needs Config.Pair, and Config.Cookie without Domain")
	}
	if p, err = a.presented(c, a.cookies.refreshSources()); err != nil {
		return p, Tokens{}, nil, err
	}
	tokens, t, err = a.refresh(c.Request.Context(), p.text, func(t *session.Token) (*session.Proof, error) {
		return a.cookies.dbsc.proof(c.Request.Header, t)
	})
	if err == nil && tokens.refresh.Key() == nil { // R7: only the successor of this token can be bound
		e := newError(CodeProofRequired, nil)
		e.ProofChallenge = tokens.refresh.ID
		err = e
	}
	return p, tokens, t, err
}

// answerBound answers a script that asks RefreshHandler to refresh a session that the browser refreshes by itself.
// While the access token in the cookie is good, there is nothing to do, and the answer only says how long that is: if the
// cookie had expired, the browser has held the request back. Clients with a key of their own send a DPoP header.
func (a *Auth) answerBound(c *gin.Context, t *session.Token, err error) bool {
	if a.cookies == nil || !hasCode(err, CodeProofRequired) || t.Key() == nil || c.GetHeader("DPoP") != "" {
		return false
	}
	source := FromCookie(a.cookies.access.Name)
	text, _ := source.find(c)
	access, err := a.verify(c.Request.Context(), text)
	if err != nil || access.Session != t.Session {
		return false
	}
	end, deadline := time.Unix(access.ExpiresAt, 0), time.Unix(access.Deadline, 0)
	c.JSON(http.StatusOK, tokenResponse{TokenType: "Bearer", ExpiresIn: secondsUntil(end), RefreshExpiresIn: secondsUntil(deadline)})
	return true
}

var (
	errOtherSession = errors.New("the browser refreshes another session than that of its cookies")
	errNoDBSC       = errors.New("the request is neither a registration nor a refresh")
	errDBSCProof    = jose.Malformed("the proof is not one of DBSC for this kind of request")
)

// proof reads the proof of a registration, which contains the key, or of a refresh, which names the session. A refresh
// without a proof asks for the challenge: no challenge fits the empty proof. The claim authorization is not used,
// because the cookie and the challenge already say which login is meant.
func (d *dbsc) proof(h http.Header, t *session.Token) (*session.Proof, error) {
	id, err := headerString(h["Sec-Secure-Session-Id"])
	if err != nil {
		return nil, err
	}
	text, err := headerString(h["Secure-Session-Response"])
	registration := id == ""
	switch {
	case err != nil:
		return nil, err
	case registration && (text == "" || !d.offered):
		return nil, newError(CodeBadRequest, errNoDBSC)
	case !registration && id != t.Session: // another login has replaced it: the browser forgets it, but keeps the cookies
		return nil, newError(CodeTokenMissing, errOtherSession)
	case text == "":
		return &session.Proof{}, nil
	}
	p, err := jose.ReadProof(text, t.Key())
	if err == nil && (p.Type != "dbsc+jwt" || p.OwnKey != registration) {
		err = errDBSCProof
	}
	proof := &session.Proof{Key: p.Key}
	if err == nil {
		proof.Challenge, err = p.ID()
	}
	if err != nil {
		return nil, newError(CodeProofInvalid, err)
	}
	return proof, nil
}

// headerString reads a string of a structured header (RFC 9651 §3.3.3), and ignores its parameters. Chromium leaves the
// quotes out. Neither a session's id nor a JWT contains a quote, a backslash or a semicolon.
func headerString(values []string) (string, error) {
	text, err := single(values)
	text, _, _ = strings.Cut(text, ";")
	return strings.Trim(strings.TrimSpace(text), `"`), err
}
