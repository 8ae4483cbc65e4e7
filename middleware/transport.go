package middleware

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
)

// The most that is read of a body. A token has at most 8 KiB.
const (
	maxLoginBytes   = 64 << 10
	maxRefreshBytes = 16 << 10
)

// bearerToken returns the token of the Authorization header (RFC 6750 §2.1).
func bearerToken(r *http.Request) (string, error) {
	values := r.Header["Authorization"]
	if len(values) == 0 {
		return "", fail(CodeTokenMissing)
	}
	if len(values) > 1 {
		return "", failed(CodeBadRequest, errors.New("two Authorization headers"))
	}
	const scheme = "Bearer "
	value := values[0]
	if len(value) < len(scheme) || !strings.EqualFold(value[:len(scheme)], scheme) {
		return "", fail(CodeTokenMissing) // another scheme is somebody else's
	}
	text := strings.Trim(value[len(scheme):], " ")
	if text == "" {
		return "", fail(CodeTokenMissing)
	}
	return text, nil
}

// refreshableToken looks where refresh and logout take their token from: the header, then the body.
func refreshableToken(c *gin.Context) (string, error) {
	text, err := bearerToken(c.Request)
	if hasCode(err, CodeTokenMissing) {
		return bodyToken(c)
	}
	return text, err
}

// bodyToken returns refresh_token from a body of JSON or a form.
func bodyToken(c *gin.Context) (string, error) {
	if c.Request.Body == nil {
		return "", fail(CodeTokenMissing)
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, maxRefreshBytes))
	if err != nil {
		return "", failed(CodeBadRequest, err)
	}
	if len(body) == 0 {
		return "", fail(CodeTokenMissing)
	}
	var text string
	switch media, _, _ := mime.ParseMediaType(c.GetHeader("Content-Type")); media {
	case "application/json":
		err = scanObject(body, func(name string, value []byte) (err error) {
			if name == "refresh_token" {
				text, err = stringValue(value)
			}
			return err
		})
	case "application/x-www-form-urlencoded":
		text, err = formToken(string(body))
	default:
		err = errors.New("the body is neither JSON nor a form")
	}
	if err != nil {
		return "", failed(CodeBadRequest, err)
	}
	if text == "" {
		return "", fail(CodeTokenMissing)
	}
	return text, nil
}

func formToken(body string) (string, error) {
	form, err := url.ParseQuery(body)
	if err != nil {
		return "", err
	}
	if len(form["refresh_token"]) > 1 {
		return "", errors.New("two fields of one name")
	}
	return form.Get("refresh_token"), nil
}

// tokenAnswer is the body of a login's and a refresh's answer (RFC 6749 §5.1).
type tokenAnswer struct {
	AccessToken      string `json:"access_token"`
	TokenType        string `json:"token_type"`
	ExpiresIn        int64  `json:"expires_in"`
	RefreshExpiresIn int64  `json:"refresh_expires_in"`
}

func answerTokens(c *gin.Context, tokens Tokens) {
	c.JSON(http.StatusOK, tokenAnswer{
		AccessToken:      tokens.AccessToken,
		TokenType:        "Bearer",
		ExpiresIn:        secondsUntil(tokens.ExpiresAt),
		RefreshExpiresIn: secondsUntil(tokens.RefreshUntil),
	})
}

func secondsUntil(t time.Time) int64 { return max(0, t.Unix()-time.Now().Unix()) }

// forbidStoring keeps tokens, and answers about them, out of caches (RFC 6749 §5.1).
func forbidStoring(c *gin.Context) {
	c.Header("Cache-Control", "no-store")
	c.Header("Pragma", "no-cache")
}

// errorAnswer is the body of every refusal.
type errorAnswer struct {
	Error       string `json:"error,omitempty"`
	Description string `json:"error_description"`
	Code        Code   `json:"code"`
}

// answered reports whether the application's code has answered the request itself.
func answered(c *gin.Context) bool { return c.IsAborted() || c.Writer.Written() }

// refuse ends the request with err, unless it is answered already.
func (a *Auth) refuse(c *gin.Context, err error) {
	if answered(c) {
		c.Abort()
		return
	}
	e := asError(err)
	c.Abort()
	switch e.Status {
	case http.StatusUnauthorized:
		c.Header("WWW-Authenticate", e.challenge(a.realm))
	case http.StatusServiceUnavailable:
		c.Header("Retry-After", "1")
	case http.StatusInternalServerError:
		_ = c.Error(err) // the application's own mistake belongs into its log
	}
	if a.onError != nil {
		a.onError(c, e)
		return
	}
	c.JSON(e.Status, errorAnswer{Error: e.Type, Description: e.Description, Code: e.Code})
}
