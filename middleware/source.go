package middleware

import (
	"errors"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
)

// Source is a place in a request where a token may be. It is made by the From functions.
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

// FromHeader is a header, with a scheme before the token, which is compared without case, or "" for none.
func FromHeader(name, scheme string) Source {
	return Source{kind: headerSource, name: http.CanonicalHeaderKey(name), scheme: scheme}
}

// FromCookie is a cookie that another server sets; for cookies of our own use [Config].Cookie. A request that
// it authenticates and that is not GET, HEAD or OPTIONS must come from the site itself or from
// [Config].TrustedOrigins.
func FromCookie(name string) Source { return Source{kind: cookieSource, name: name} }

// FromQuery is a query parameter, for a WebSocket or server-sent events from a browser, which cannot set a
// header. URLs end up in logs and histories, and so does a token in one: use it on such routes alone, with
// short lifetimes (RFC 6750 §2.3). The answer is marked Cache-Control: private.
func FromQuery(name string) Source { return Source{kind: querySource, name: name} }

// FromForm is a field of a form in the body, application/x-www-form-urlencoded (RFC 6750 §2.2).
func FromForm(name string) Source { return Source{kind: formSource, name: name} }

// FromParam is a parameter of the route's path. What is said of [FromQuery] holds for it as well.
func FromParam(name string) Source { return Source{kind: paramSource, name: name} }

var errTwice = errors.New("the token was sent twice in one place")

// find returns the token, "" where there is none.
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
		if text != "" {
			c.Header("Cache-Control", "private")
		}
		return text, err
	case formSource:
		if err := c.Request.ParseForm(); err != nil {
			return "", failed(CodeBadRequest, err)
		}
		return single(c.Request.PostForm[s.name])
	default:
		return c.Param(s.name), nil
	}
}

// fromHeader leaves another scheme to whom it is for (RFC 6750 §2.1).
func (s *Source) fromHeader(values []string) (string, error) {
	text, err := single(values)
	if err != nil || s.scheme == "" {
		return text, err
	}
	n := len(s.scheme)
	if len(text) > n+1 && text[:n] == s.scheme && text[n] == ' ' && text[n+1] != ' ' && text[len(text)-1] != ' ' {
		return text[n+1:], nil // as nearly all clients write it
	}
	if len(text) <= n || text[n] != ' ' || !strings.EqualFold(text[:n], s.scheme) {
		return "", nil
	}
	return strings.Trim(text[n:], " "), nil
}

// single refuses to choose between two values: whatever stands in front of us may have checked the other.
func single(values []string) (string, error) {
	switch len(values) {
	case 0:
		return "", nil
	case 1:
		return values[0], nil
	}
	return "", failed(CodeBadRequest, errTwice)
}
