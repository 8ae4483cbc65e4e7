package middleware

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"

	"github.com/gin-gonic/gin"
)

// The most that is read of a body. A token has at most 8 KiB.
const (
	maxLoginBytes   = 64 << 10
	maxRefreshBytes = 16 << 10
)

// presented is a token as a request brought it.
type presented struct {
	text     string
	byCookie bool
}

// inCookie is the token if it came in a cookie.
func (p presented) inCookie() string {
	if p.byCookie {
		return p.text
	}
	return ""
}

// presented looks through sources. A request that changes something and is authenticated by a cookie, which
// browsers send along whoever made them, must come from the site itself.
func (a *Auth) presented(c *gin.Context, sources []Source) (presented, error) {
	for i := range sources {
		text, err := sources[i].find(c)
		if err != nil {
			return presented{}, err
		}
		if text == "" {
			continue
		}
		p := presented{text: text, byCookie: sources[i].kind == cookieSource}
		if p.byCookie {
			err = a.checkOrigin(c)
		}
		return p, err
	}
	return presented{}, fail(CodeTokenMissing)
}

var errCrossOrigin = errors.New("the request comes from another origin")

// checkOrigin refuses a request that another site may have made the browser send. The handshake of a WebSocket is
// a GET, but what is sent afterwards may change anything, and browsers let any site open one.
func (a *Auth) checkOrigin(c *gin.Context) error {
	r := c.Request
	if r.Header["Upgrade"] != nil {
		r = new(http.Request)
		*r = *c.Request
		r.Method = http.MethodPost
	}
	if a.protection.Check(r) != nil {
		return failed(CodeCrossOrigin, errCrossOrigin)
	}
	return nil
}

// presentedFor looks where refresh and logout take their token from: headers, the body, then the cookies.
func (a *Auth) presentedFor(c *gin.Context, cookies []Source) (presented, error) {
	if a.cookies != nil {
		if err := a.checkOrigin(c); err != nil {
			return presented{}, err
		}
	}
	p, err := a.presented(c, a.headers)
	if !hasCode(err, CodeTokenMissing) {
		return p, err
	}
	text, err := bodyToken(c, "refresh_token")
	if !hasCode(err, CodeTokenMissing) {
		return presented{text: text}, err
	}
	return a.presented(c, cookies)
}

// bodyToken returns a member of a body of JSON or a field of a form.
func bodyToken(c *gin.Context, name string) (string, error) {
	var text string
	if err := readBody(c, map[string]*string{name: &text}); err != nil {
		return "", err
	}
	if text == "" {
		return "", fail(CodeTokenMissing)
	}
	return text, nil
}

// readBody fills in the named members of a JSON body or fields of a form. A missing one stays as it is. The body
// can be read only once, so ask for everything in one call.
func readBody(c *gin.Context, fields map[string]*string) error {
	if c.Request.Body == nil {
		return nil
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, maxRefreshBytes))
	if err != nil {
		return failed(CodeBadRequest, err)
	}
	if len(body) == 0 {
		return nil
	}
	switch media, _, _ := mime.ParseMediaType(c.GetHeader("Content-Type")); media {
	case "application/json":
		err = scanObject(body, func(name string, value, _ []byte) (err error) {
			if field := fields[name]; field != nil {
				*field, err = stringValue(value)
			}
			return err
		})
	case formType:
		err = readForm(string(body), fields)
	default:
		err = errors.New("the body is neither JSON nor a form")
	}
	if err != nil {
		return failed(CodeBadRequest, err)
	}
	return nil
}

func readForm(body string, fields map[string]*string) error {
	form, err := url.ParseQuery(body)
	for name, field := range fields {
		if err == nil {
			*field, err = single(form[name])
		}
	}
	return err
}
