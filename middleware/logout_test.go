package middleware_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// The responses of LogoutHandler and LogoutAllHandler, and of the routes after a logout.
func TestLogoutAnswer(t *testing.T) {
	d := newServer(t)
	for range 2 { // a second logout succeeds too (R11)
		r := d.send("POST", "/logout", bearer(d.text))
		if r.status != http.StatusNoContent || r.body != "" {
			t.Errorf("R11: response %d %q to a logout, want 204 and no body", r.status, r.body)
		}
		r.notStored(t)
	}
	for _, path := range []string{"/required", "/optional", "/autorefresh"} {
		d.send("GET", path, bearer(d.text)).rejected(t, middleware.CodeTokenRevoked)
	}
	d.send("POST", "/refresh", bearer(d.text)).rejected(t, middleware.CodeTokenRevoked)
	d.send("POST", "/logout/all", bearer(d.text)).rejected(t, middleware.CodeTokenRevoked)
	d.send("POST", "/logout").notStored(t)

	first, second := login(t, d.auth), login(t, d.auth)
	d.send("POST", "/logout/all", bearer(first)).accepted(t, "/logout/all")
	for _, text := range []string{first, second} {
		d.send("GET", "/required", bearer(text)).rejected(t, middleware.CodeTokenRevoked)
	}
	d.send("GET", "/required", bearer(login(t, d.auth))).passed(t, "admin") // R12
}

// A handler behind LogoutHandler answers in its place, but only after a logout.
func TestLogoutThenRedirect(t *testing.T) {
	auth := newAuth(t, withCookie(middleware.Cookie{Insecure: true}))
	r := gin.New()
	r.POST("/logout", auth.LogoutHandler, func(c *gin.Context) { c.Redirect(http.StatusSeeOther, "/bye") })
	for text, want := range map[string]int{login(t, auth): http.StatusSeeOther, "": http.StatusUnauthorized} {
		request := httptest.NewRequest("POST", "/logout", nil)
		if text != "" {
			request.AddCookie(&http.Cookie{Name: "access_token", Value: text})
		}
		w := httptest.NewRecorder()
		r.ServeHTTP(w, request)
		if cleared := len(w.Result().Cookies()) == 1; w.Code != want || !cleared {
			t.Errorf("response %d, cookie cleared: %v, want %d and true", w.Code, cleared, want)
		}
	}
}
