package middleware

import (
	"errors"
	"mime"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
)

// Source is a place in a request where a token may be. Use one of the From functions to create it.
type Source struct {
	kind   sourceKind
	name   string
	scheme string
}

type sourceKind uint8

const (
	headerSource sourceKind = iota
	cookieSource
	querySource
	formSource
	paramSource
)

// FromHeader reads a header. The scheme, such as Bearer, precedes the token and is case-insensitive; "" means that
// the header is the bare token.
func FromHeader(name, scheme string) Source {
	return Source{kind: headerSource, name: http.CanonicalHeaderKey(name), scheme: scheme}
}

// FromCookie reads a cookie that another server sets. For cookies that this package sets use [Config].Cookie. A
// request authenticated by the cookie must come from the same origin or from [Config].TrustedOrigins, unless its
// method is GET, HEAD or OPTIONS and it is not a WebSocket handshake.
func FromCookie(name string) Source { return Source{kind: cookieSource, name: name} }

// FromQuery reads a query parameter. It is meant for WebSockets and server-sent events, because a browser cannot
// set a header on those. URLs end up in logs and browser histories, and so do the tokens in them: list this source
// only on such routes and keep lifetimes short (RFC 6750 §2.3). The response is marked Cache-Control: private.
func FromQuery(name string) Source { return Source{kind: querySource, name: name} }

// FromForm reads a field of an application/x-www-form-urlencoded body of a POST, PUT or PATCH request
// (RFC 6750 §2.2). It reads at most 64 KiB of such a form and refuses a longer one with 400; the handler can still
// use [gin.Context.PostForm]. It leaves bodies of any other type to the handler.
func FromForm(name string) Source { return Source{kind: formSource, name: name} }

// FromParam reads a parameter of the route's path. Everything said about [FromQuery] applies to it as well.
func FromParam(name string) Source { return Source{kind: paramSource, name: name} }

const (
	formType = "application/x-www-form-urlencoded"

	// maxFormBytes limits what FromForm reads, as it runs before anything is known about the client. net/http would
	// read 10 MB.
	maxFormBytes = 64 << 10
)

var errTwice = errors.New("the token was sent more than once in one place")

// find returns the token, or "" if the source has none.
func (s *Source) find(c *gin.Context) (string, error) {
	switch s.kind {
	case headerSource:
		return s.fromHeader(c.Request.Header[s.name])
	case cookieSource:
		var values []string
		for _, cookie := range c.Request.CookiesNamed(s.name) {
			values = append(values, cookie.Value)
		}
		return single(values)
	case querySource:
		text, err := single(c.QueryArray(s.name))
		return private(c, text, err)
	case formSource:
		return s.fromForm(c)
	default:
		return private(c, c.Param(s.name), nil)
	}
}

// fromHeader ignores a header with another scheme, which is meant for another authentication method (RFC 6750 §2.1).
func (s *Source) fromHeader(values []string) (string, error) {
	text, err := single(values)
	if err != nil || s.scheme == "" {
		return text, err
	}
	n := len(s.scheme)
	if len(text) > n+1 && text[:n] == s.scheme && text[n] == ' ' && text[n+1] != ' ' && text[len(text)-1] != ' ' {
		return text[n+1:], nil // the form that nearly all clients use
	}
	if len(text) <= n || text[n] != ' ' || !strings.EqualFold(text[:n], s.scheme) {
		return "", nil
	}
	return strings.Trim(text[n:], " "), nil
}

// fromForm parses the form into the request, so that the handler can use it as well.
func (s *Source) fromForm(c *gin.Context) (string, error) {
	if media, _, _ := mime.ParseMediaType(c.GetHeader("Content-Type")); media != formType || c.Request.Body == nil {
		return "", nil
	}
	switch c.Request.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch: // the methods whose body ParseForm reads
	default:
		return "", nil
	}
	c.Request.Body = http.MaxBytesReader(c.Writer, c.Request.Body, maxFormBytes)
	if err := c.Request.ParseForm(); err != nil {
		return "", newError(CodeBadRequest, err)
	}
	return single(c.Request.PostForm[s.name])
}

// private marks the response to a request whose URL contains a token (RFC 6750 §2.3).
func private(c *gin.Context, text string, err error) (string, error) {
	if text != "" || err != nil {
		c.Header("Cache-Control", "private")
	}
	return text, err
}

// single rejects a token that was sent twice: a proxy in front of the server may have checked the other value.
func single(values []string) (string, error) {
	switch len(values) {
	case 0:
		return "", nil
	case 1:
		return values[0], nil
	}
	return "", newError(CodeBadRequest, errTwice)
}
