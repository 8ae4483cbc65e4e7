package middleware

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware/internal/jose"
)

// The limits of what is read from a body. A token has at most 8 KiB.
const (
	maxLoginBytes   = 64 << 10
	maxRefreshBytes = 16 << 10
)

// presentedToken is a token as the request carried it.
type presentedToken struct {
	text     string
	inCookie bool
}

// cookie returns the token if it came in a cookie.
func (p presentedToken) cookie() string {
	if p.inCookie {
		return p.text
	}
	return ""
}

// presented returns the token of the first source that has one. Browsers send cookies with every request, whichever
// site made it. So a request that a cookie authenticates and that changes something must be same-origin, or come
// from a trusted origin.
func (a *Auth) presented(c *gin.Context, sources []Source) (presentedToken, error) {
	for i := range sources {
		text, err := sources[i].find(c)
		if err != nil {
			return presentedToken{}, err
		}
		if text == "" {
			continue
		}
		p := presentedToken{text: text, inCookie: sources[i].kind == cookieSource}
		if p.inCookie {
			err = a.checkOrigin(c)
		}
		return p, err
	}
	return presentedToken{}, newError(CodeTokenMissing, nil)
}

// PresentedToken returns the text of the request's token, for a handler that passes it on to another service. It returns ""
// if a guard of this Auth has not accepted the request. Behind AutoRefresh it may be the token that was replaced. Do not
// log it.
func (a *Auth) PresentedToken(c *gin.Context) string {
	if a.accepted(c) == nil {
		return ""
	}
	p, _ := a.presented(c, a.sources) // the guard has found it before
	return p.text
}

// errNoRefreshToken tells a developer whose body names the token differently.
var errNoRefreshToken = errors.New("the body has no member or field refresh_token")

var errCrossOrigin = errors.New("the request comes from another origin")

// checkOrigin rejects a request that another site may have made the browser send. The handshake of a WebSocket is a GET,
// but the messages after it may change anything, and browsers let any site open a WebSocket.
func (a *Auth) checkOrigin(c *gin.Context) error {
	r := c.Request
	if r.Header["Upgrade"] != nil {
		r = new(http.Request)
		*r = *c.Request
		r.Method = http.MethodPost
	}
	if a.protection.Check(r) != nil {
		return newError(CodeCrossOrigin, errCrossOrigin)
	}
	return nil
}

// presentedForSession returns the token for a refresh or logout: from a header, the body, or one of the cookies.
func (a *Auth) presentedForSession(c *gin.Context, cookies []Source) (presentedToken, error) {
	if a.cookies != nil {
		if err := a.checkOrigin(c); err != nil {
			return presentedToken{}, err
		}
	}
	p, err := a.presented(c, a.headers)
	if !hasCode(err, CodeTokenMissing) {
		return p, err
	}
	var text string
	if err := readBody(c, map[string]*string{"refresh_token": &text}); text != "" || err != nil {
		return presentedToken{text: text}, err
	}
	p, err = a.presented(c, cookies)
	if hasCode(err, CodeTokenMissing) && c.Request.ContentLength != 0 {
		e := newError(CodeTokenMissing, errNoRefreshToken)
		e.Description = "the request has no token: its body lacks refresh_token"
		err = e
	}
	return p, err
}

// readBody fills in the named members of a JSON body or fields of a form. Missing ones stay empty. The body can
// be read only once, so ask for everything in one call.
func readBody(c *gin.Context, fields map[string]*string) error {
	if c.Request.Body == nil {
		return nil
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, maxRefreshBytes))
	if err != nil {
		return newError(CodeBadRequest, err)
	}
	if len(body) == 0 {
		return nil
	}
	switch media, _, _ := mime.ParseMediaType(c.GetHeader("Content-Type")); media {
	case "application/json":
		err = readJSON(body, fields)
	case formType:
		err = readForm(string(body), fields)
	default:
		err = errors.New("the body is neither JSON nor a form")
	}
	if err != nil {
		return newError(CodeBadRequest, err)
	}
	return nil
}

// readJSON is strict, like the parser of tokens: it rejects a member that appears twice.
func readJSON(body []byte, fields map[string]*string) error {
	return jose.ScanObject(body, func(name string, value, _ []byte) (err error) {
		if field := fields[name]; field != nil {
			*field, err = jose.String(value)
		}
		return err
	})
}

// readForm rejects a field that appears twice (RFC 6749 §3.2).
func readForm(body string, fields map[string]*string) error {
	form, err := url.ParseQuery(body)
	for name, field := range fields {
		if err == nil {
			*field, err = single(form[name])
		}
	}
	return err
}
