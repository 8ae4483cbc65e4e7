package main

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

type listed struct {
	ID, Label string
	Current   bool
}

func (s server) sessions(token string) []listed {
	s.t.Helper()
	a := s.get("/sessions", token)
	s.is(a, http.StatusOK, `"sessions":[`)
	var list struct{ Sessions []listed }
	if err := json.Unmarshal([]byte(a.body), &list); err != nil {
		s.t.Fatal(err)
	}
	return list.Sessions
}

func TestSessions(t *testing.T) {
	t.Parallel()
	s := start(t)
	laptop, phone, tablet, admin := s.login("alice"), s.login("alice"), s.login("alice"), s.login("admin")
	list := s.sessions(laptop)
	if len(list) != 3 || !list[0].Current || list[1].Current || list[2].Current || list[0].Label != "Go-http-client/1.1" {
		t.Fatalf("alice has the sessions %+v, want three with the label of the client, the first marked as current", list)
	}

	other := s.sessions(admin)
	s.is(s.send("DELETE", "/sessions/"+other[0].ID, laptop, "", ""), http.StatusNotFound, "not_found") // of another user
	s.is(s.send("DELETE", "/sessions/"+list[1].ID, laptop, "", ""), http.StatusNoContent, "")
	s.is(s.get("/protected", phone), http.StatusUnauthorized, "token_revoked")
	s.is(s.get("/protected", tablet), http.StatusOK, "Hello, alice!")

	s.is(s.post("/logout/others", laptop), http.StatusNoContent, "")
	s.is(s.get("/protected", tablet), http.StatusUnauthorized, "token_revoked")
	s.is(s.get("/protected", admin), http.StatusOK, "Hello, admin!")
	if rest := s.sessions(laptop); len(rest) != 1 || rest[0].ID != list[0].ID {
		t.Errorf("alice has the sessions %+v, want only %s", rest, list[0].ID)
	}

	for _, route := range []string{"GET /sessions", "DELETE /sessions/" + list[0].ID, "POST /logout/others"} {
		method, path, _ := strings.Cut(route, " ")
		s.is(s.send(method, path, "", "", ""), http.StatusUnauthorized, "token_missing")
	}
}

func TestMaxSessions(t *testing.T) {
	t.Parallel()
	s := start(t, "-max-sessions", "2")
	first, second, third := s.login("alice"), s.login("alice"), s.login("alice")
	s.is(s.get("/protected", first), http.StatusUnauthorized, "token_revoked")
	for _, token := range []string{second, third} {
		s.is(s.get("/protected", token), http.StatusOK, "Hello, alice!")
	}
	s.is(s.get("/settings", ""), http.StatusOK, `"sessions":true`)

	off := start(t, "-max-sessions", "0")
	token := off.login("alice")
	off.is(off.get("/sessions", token), http.StatusNotFound, "")
	off.is(off.send("DELETE", "/sessions/1", token, "", ""), http.StatusNotFound, "")
	off.is(off.post("/logout/others", token), http.StatusNotFound, "")
	off.is(off.get("/settings", ""), http.StatusOK, `"sessions":false`)
}

// With cookies, another site must not end sessions.
func TestSessionsNeedTheOwnOrigin(t *testing.T) {
	t.Parallel()
	s := start(t, "-cookies")
	login, err := s.client.Post(s.url+"/login", "application/json", strings.NewReader(`{"username":"alice","password":"alice"}`))
	if err != nil {
		t.Fatal(err)
	}
	login.Body.Close()
	for _, route := range []string{"POST /logout/others", "DELETE /sessions/1"} {
		method, path, _ := strings.Cut(route, " ")
		for site, foreign := range map[string]bool{"cross-site": true, "same-origin": false} {
			r, err := http.NewRequestWithContext(context.Background(), method, s.url+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, cookie := range login.Cookies() {
				r.AddCookie(cookie)
			}
			r.Header.Set("Sec-Fetch-Site", site)
			response, err := s.client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if rejected := response.StatusCode == http.StatusForbidden; rejected != foreign {
				t.Errorf("%s from %s: %s", route, site, response.Status)
			}
		}
	}
}

func TestDevice(t *testing.T) {
	t.Parallel()
	const webkit = "AppleWebKit/537.36 (KHTML, like Gecko) "
	for userAgent, want := range map[string]string{
		"Mozilla/5.0 (X11; Linux x86_64) " + webkit + "Chrome/140.0.0.0 Safari/537.36":                          "Chrome on Linux",
		"Mozilla/5.0 (Linux; Android 10; K) " + webkit + "Chrome/140.0.0.0 Mobile Safari/537.36":                "Chrome on Android",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) " + webkit + "Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0":  "Edge on Windows",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) " + webkit + "Version/18.0 Mobile Safari/604.1": "Safari on iPhone",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:140.0) Gecko/20100101 Firefox/140.0":                  "Firefox on macOS",
		"curl/8.5.0": "curl/8.5.0",
		"":           "",
	} {
		if got := device(userAgent); got != want {
			t.Errorf("%q: got the label %q, want %q", userAgent, got, want)
		}
	}
}
