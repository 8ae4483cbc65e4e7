package middleware_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// FromForm: it reads forms of at most 64 KiB and leaves every other body to the handler.

// The handler can still read the body, whether or not the token was in it.
func TestFormSourceLeavesTheBody(t *testing.T) {
	auth := newAuth(t, sources(tokenPlaces))
	r := gin.New()
	r.POST("/", auth.Required(), func(c *gin.Context) {
		rest, _ := io.ReadAll(c.Request.Body)
		c.String(http.StatusOK, "%s %s", c.PostForm("message"), rest)
	})
	s := listen(t, r)
	text := login(t, auth)
	for what, row := range map[string]struct {
		edits []edit
		want  string
	}{
		"form":            {[]edit{body(form, "jwt="+text+"&message=hello")}, "hello "},
		"JSON":            {[]edit{bearer(text), jsonBody(`{"a":1}`)}, ` {"a":1}`},
		"token elsewhere": {[]edit{bearer(text), body(form, "message=hello")}, " message=hello"},
	} {
		if got := s.send("POST", "/", row.edits...); got.body != row.want {
			t.Errorf("%s: the handler reads %d %q, want %q", what, got.status, got.body, row.want)
		}
	}
	if got := s.send("POST", "/", jsonBody(`{"jwt":"`+text+`"}`)); got.status != http.StatusUnauthorized {
		t.Errorf("a token in JSON: response %d %s, want 401", got.status, got.body)
	}
}

// A longer form is rejected, and at most one byte more than the limit is read.
func TestFormSourceIsBounded(t *testing.T) {
	auth := newAuth(t, func(c *middleware.Config) {
		c.Sources = []middleware.Source{middleware.FromForm("jwt"), middleware.FromHeader("Authorization", "Bearer")}
	})
	r := gin.New()
	for path, guard := range map[string]gin.HandlerFunc{"/required": auth.Required(), "/optional": auth.Optional(), "/autorefresh": auth.AutoRefresh(time.Minute)} {
		r.Any(path, guard, func(c *gin.Context) { c.String(http.StatusOK, c.PostForm("message")) })
	}
	s := direct(t, r)
	text := login(t, auth)
	forms := map[int]string{}
	for _, size := range []int{1 << 10, maxForm, maxForm + 1, 9 << 20} {
		forms[size] = padded(text, size)
	}
	for _, path := range []string{"/required", "/optional", "/autorefresh"} {
		for _, method := range []string{"POST", "PUT", "PATCH"} {
			for _, contentType := range []string{form, form + "; charset=utf-8", "Application/X-WWW-Form-Urlencoded"} {
				for size, body := range forms {
					read := &countedBody{Reader: strings.NewReader(body)}
					got := s.send(method, path, func(r *http.Request) {
						r.Header.Set("Content-Type", contentType)
						r.Body, r.ContentLength = read, -1
					})
					if size <= maxForm && got.body != "hello" {
						t.Fatalf("%s %s: a form of %d bytes: response %d %s", method, path, size, got.status, got.body)
					}
					if size > maxForm {
						got.rejected(t, middleware.CodeBadRequest)
					}
					if read.n > maxForm+1 {
						t.Fatalf("%s %s: %d of %d bytes were read", method, path, read.n, size)
					}
				}
			}
		}
	}
}

// Other bodies may be longer.
func TestFormSourceLeavesOtherBodies(t *testing.T) {
	t.Parallel()
	header, field := middleware.FromHeader("Authorization", "Bearer"), middleware.FromForm("jwt")
	upload := `{"data":"` + strings.Repeat("x", 16*maxForm) + `"}`
	for order, list := range map[string][]middleware.Source{"header first": {header, field}, "form first": {field, header}} {
		auth := newAuth(t, func(c *middleware.Config) { c.Sources = list })
		r := gin.New()
		r.Any("/", auth.Required(), func(c *gin.Context) {
			all, err := io.ReadAll(c.Request.Body)
			c.String(http.StatusOK, "%d %v", len(all), err)
		})
		s := listen(t, r)
		text := login(t, auth)
		want := fmt.Sprintf("%d <nil>", len(upload))
		for _, contentType := range []string{"application/json", "application/octet-stream", "text/plain; charset", "multipart/form-data", "image/png", "not a type", ""} {
			for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
				if got := s.send(method, "/", bearer(text), body(contentType, upload)); got.body != want {
					t.Errorf("%s: %s of %q: %d %s, want %s", order, method, contentType, got.status, got.body, want)
				}
			}
		}
		// Like ParseForm, FromForm does not read the body of a DELETE.
		if got := s.send("DELETE", "/", bearer(text), body(form, upload)); got.body != want {
			t.Errorf("%s: a form with DELETE: %d %s, want %s", order, got.status, got.body, want)
		}
	}
}

// A request that does not come from a server may have a nil Body.
func TestFormSourceWithoutBody(t *testing.T) {
	auth := newAuth(t, sources(tokenPlaces))
	direct(t, routes(auth)).send("POST", "/required", func(r *http.Request) {
		r.Header.Set("Content-Type", form)
		r.Body = nil
	}).rejected(t, middleware.CodeTokenMissing)
}

// maxForm is the largest form that FromForm reads.
const maxForm = 64 << 10

// padded returns a form of the given size with the token at its end.
func padded(text string, size int) string {
	end := "&message=hello&jwt=" + text
	return "a=" + strings.Repeat("x", size-len("a=")-len(end)) + end
}

// countedBody counts the bytes that are read.
type countedBody struct {
	io.Reader
	n int
}

func (c *countedBody) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.n += n
	return n, err
}

func (c *countedBody) Close() error { return nil }
