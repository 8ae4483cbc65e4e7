package middleware_test

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// Every handler and guard calls OnEvent once, without the text of a token. Requests that pass a guard have no event.
func TestOnEvent(t *testing.T) {
	var j eventLog
	store := &faulty{Store: newMemory(t)}
	d := newServer(t, noGrace, func(c *middleware.Config) {
		c.Store, c.OnEvent = store, j.record
		authenticate := c.Authenticate
		c.Authenticate = func(c *gin.Context) (middleware.Identity, error) {
			if c.Query("user") == "" {
				return middleware.Identity{}, middleware.ErrRefused
			}
			return authenticate(c)
		}
	})
	revoked := login(t, d.auth)
	if err := d.auth.Logout(t.Context(), revoked); err != nil {
		t.Fatal(err)
	}
	replaced := func(age time.Duration) string {
		text := aged(t, login(t, d.auth), age)
		refresh(t, d.auth, text)
		return text
	}
	for name, row := range map[string]struct {
		method, path string
		edit         edit
		want         middleware.Event // SessionID "sid" stands for the session of the presented token, "new" for any
	}{
		"login":               {"POST", "/login?user=admin", anonymous, middleware.Event{Kind: "login", Subject: "admin", SessionID: "new"}},
		"login refused":       {"POST", "/login", anonymous, middleware.Event{Kind: "login_failed", Code: "invalid_credentials"}},
		"refresh":             {"POST", "/refresh", bearer(login(t, d.auth)), middleware.Event{Kind: "refresh", Subject: "admin", SessionID: "sid"}},
		"refresh refused":     {"POST", "/refresh", bearer(revoked), middleware.Event{Kind: "rejected", Subject: "admin", SessionID: "sid", Code: "token_revoked"}},
		"refresh, no token":   {"POST", "/refresh", anonymous, middleware.Event{Kind: "rejected", Code: "token_missing"}},
		"refresh, bad body":   {"POST", "/refresh", body(form, "refresh_token="+d.text+"%zz"), middleware.Event{Kind: "rejected", Code: "bad_request"}},
		"reuse":               {"POST", "/refresh", bearer(replaced(0)), middleware.Event{Kind: "reuse", Subject: "admin", SessionID: "sid", Code: "token_reused"}},
		"reuse, AutoRefresh":  {"GET", "/autorefresh", bearer(replaced(2 * time.Hour)), middleware.Event{Kind: "reuse", Subject: "admin", SessionID: "sid", Code: "token_reused"}},
		"AutoRefresh":         {"GET", "/autorefresh", bearer(aged(t, login(t, d.auth), 2*time.Hour)), middleware.Event{Kind: "refresh", Subject: "admin", SessionID: "sid"}},
		"logout":              {"POST", "/logout", bearer(login(t, d.auth)), middleware.Event{Kind: "logout", Subject: "admin", SessionID: "sid"}},
		"logout refused":      {"POST", "/logout", bearer(aged(t, login(t, d.auth), 1000*time.Hour)), middleware.Event{Kind: "rejected", Subject: "admin", SessionID: "sid", Code: "refresh_expired"}},
		"logout all":          {"POST", "/logout/all", bearer(issue(t, d.auth, middleware.Identity{Subject: "alice"})), middleware.Event{Kind: "logout_all", Subject: "alice", SessionID: "sid"}},
		"logout all, revoked": {"POST", "/logout/all", bearer(revoked), middleware.Event{Kind: "rejected", Subject: "admin", SessionID: "sid", Code: "token_revoked"}},
		"no token":            {"GET", "/required", anonymous, middleware.Event{Kind: "rejected", Code: "token_missing"}},
		"forged":              {"GET", "/required", bearer(d.text + "A"), middleware.Event{Kind: "rejected", Code: "token_invalid"}},
		"two headers":         {"GET", "/optional", func(r *http.Request) { r.Header["Authorization"] = []string{d.text, d.text} }, middleware.Event{Kind: "rejected", Code: "bad_request"}},
		"expired":             {"GET", "/required", bearer(aged(t, d.text, 2*time.Hour)), middleware.Event{Kind: "rejected", Subject: "admin", SessionID: "sid", Code: "token_expired"}},
		"revoked":             {"GET", "/optional", bearer(revoked), middleware.Event{Kind: "rejected", Subject: "admin", SessionID: "sid", Code: "token_revoked"}},
		"too old":             {"GET", "/fresh", bearer(aged(t, d.text, 30*time.Minute)), middleware.Event{Kind: "rejected", Subject: "admin", SessionID: "sid", Code: "login_too_old"}},
		"not allowed":         {"GET", "/never", bearer(d.text), middleware.Event{Kind: "rejected", Subject: "admin", SessionID: "sid", Code: "forbidden"}},
	} {
		t.Run(name, func(t *testing.T) {
			j.take()
			var sent string
			d.send(row.method, row.path, row.edit, func(r *http.Request) { sent = strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ") })
			events := j.take()
			if len(events) != 1 {
				t.Fatalf("%d events, want one: %+v", len(events), events)
			}
			got := events[0]
			wantNoSecret(t, fmt.Sprintf("%+v %q", got, errorTexts(got.Err)), sent, d.text)
			if (got.Err == nil) != (row.want.Code == "") || got.ClientIP != "127.0.0.1" {
				t.Errorf("event %+v", got)
			}
			switch row.want.SessionID {
			case "sid":
				row.want.SessionID = membersOf(t, sent).sid()
			case "new":
				row.want.SessionID = got.SessionID
				if !regexp.MustCompile(`^[0-9a-z]{10}-[\w-]{22}$`).MatchString(got.SessionID) {
					t.Errorf("the session id is %q", got.SessionID)
				}
			}
			got.Err, got.ClientIP = nil, ""
			if got != row.want {
				t.Errorf("event %+v, want %+v", got, row.want)
			}
		})
	}
	for name, edits := range map[string][]edit{"/optional": nil, "/required": {bearer(d.text)}, "/autorefresh": {bearer(d.text)}} {
		d.send("GET", name, edits...)
		if events := j.take(); len(events) > 0 {
			t.Errorf("a request that passes %s has the events %+v", name, events)
		}
	}
	store.fault.Store(&fault{get: failing})
	for path, kind := range map[string]middleware.EventKind{"/login?user=admin": "login_failed", "/refresh": "rejected", "/logout": "rejected"} {
		d.send("POST", path, bearer(d.text))
		events := j.take()
		if len(events) != 1 || events[0].Kind != kind || events[0].Code != "store_unavailable" || !errors.Is(events[0].Err, errDriver) {
			t.Errorf("R14: %s has the events %+v", path, events)
		}
	}
}

// The steps without HTTP call OnEvent too, without ClientIP.
func TestOnEventOfTheSteps(t *testing.T) {
	var j eventLog
	auth := newAuth(t, func(c *middleware.Config) { c.OnEvent = j.record })
	text := login(t, auth)
	sid := membersOf(t, text).sid()
	_, _ = auth.Verify(t.Context(), text)
	text = refresh(t, auth, text)
	_ = auth.Logout(t.Context(), text)
	_, _ = auth.Verify(t.Context(), text)
	_, _ = auth.Refresh(t.Context(), "a.b.c")
	_, _ = auth.Issue(t.Context(), middleware.Identity{})
	_ = auth.RevokeSession(t.Context(), sid)
	_ = auth.RevokeSubject(t.Context(), "admin")
	want := []middleware.Event{
		{Kind: middleware.EventLogin, Subject: "admin", SessionID: sid},
		{Kind: middleware.EventRefresh, Subject: "admin", SessionID: sid},
		{Kind: middleware.EventLogout, Subject: "admin", SessionID: sid},
		{Kind: middleware.EventRejected, Subject: "admin", SessionID: sid, Code: middleware.CodeTokenRevoked},
		{Kind: middleware.EventRejected, Code: middleware.CodeTokenInvalid},
		{Kind: middleware.EventLoginFailed, Code: middleware.CodeServerError},
		{Kind: middleware.EventLogout, SessionID: sid},
		{Kind: middleware.EventLogoutAll, Subject: "admin"},
	}
	got := j.take()
	for i := range got {
		wantNoSecret(t, fmt.Sprintf("%+v %q", got[i], errorTexts(got[i].Err)), text)
		got[i].Err = nil
	}
	if !slices.Equal(got, want) {
		t.Errorf("events\n%+v, want\n%+v", got, want)
	}
}
