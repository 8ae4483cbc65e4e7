package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"golang.org/x/crypto/bcrypt"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode)
	gin.DefaultWriter = io.Discard
	cost = bcrypt.MinCost
	os.Exit(m.Run())
}

// client is a client of the API with its token.
type client struct {
	t     *testing.T
	url   string
	token string
}

// newServer returns a client of a new server with a new database.
func newServer(t *testing.T) client {
	t.Helper()
	file := strings.Replace(database, "rest.db", t.TempDir()+"/rest.db", 1)
	app, err := newApp(t.Context(), file, []byte(strings.Repeat("k", 32)))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(app.routes())
	t.Cleanup(func() {
		server.Close()
		if pool, err := app.db.DB(); err == nil {
			_ = pool.Close()
		}
	})
	return client{t: t, url: server.URL}
}

// want sends JSON and checks the status of the response, and its code if it is an error. It returns the members of the
// response.
func (c client) want(status int, code, method, path, body string) map[string]any {
	c.t.Helper()
	request, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	fields := map[string]any{}
	if err := json.NewDecoder(response.Body).Decode(&fields); err != nil && response.StatusCode != http.StatusNoContent {
		c.t.Fatalf("%s %s: %d, %v", method, path, response.StatusCode, err)
	}
	if got, _ := fields["code"].(string); response.StatusCode != status || got != code {
		c.t.Fatalf("%s %s: %d %v, want %d %q", method, path, response.StatusCode, fields, status, code)
	}
	return fields
}

// in returns a client with the token of a response.
func (c client) in(fields map[string]any) client {
	c.token, _ = fields["access_token"].(string)
	return c
}

func user(email, password string) string {
	return fmt.Sprintf(`{"email":%q,"password":%q}`, email, password)
}

func TestRegister(t *testing.T) {
	c := newServer(t)
	for body, want := range map[string]string{
		``:                               "bad_request",
		user("ann", "open sesame"):       "bad_request",
		user("ann@example.org", "short"): "bad_password",
		user("ann@example.org", strings.Repeat("ä", 37)): "bad_password",
	} {
		c.want(400, want, "POST", "/register", body)
	}
	ann := c.in(c.want(200, "", "POST", "/register", user("Ann@example.org", "open sesame")))
	if me := ann.want(200, "", "GET", "/me", ""); me["sub"] != "1" || me["role"] != "admin" {
		t.Errorf("the first user is %v", me)
	}
	c.want(409, "email_taken", "POST", "/register", user("ann@example.org", "open sesame"))
	bob := c.in(c.want(200, "", "POST", "/register", user("bob@example.org", "open sesame")))
	if me := bob.want(200, "", "GET", "/me", ""); me["sub"] != "2" || me["role"] != "user" {
		t.Errorf("the second user is %v", me)
	}
	c.want(401, "invalid_credentials", "POST", "/login", user("ann@example.org", "wrong"))
	c.want(401, "invalid_credentials", "POST", "/login", user("eve@example.org", "open sesame"))
	c.want(200, "", "POST", "/login", user("ANN@example.org", "open sesame"))
}

// A role is in the token, and is read again at each refresh.
func TestRoles(t *testing.T) {
	c := newServer(t)
	ann := c.in(c.want(200, "", "POST", "/register", user("ann@example.org", "open sesame")))
	bob := c.in(c.want(200, "", "POST", "/register", user("bob@example.org", "open sesame")))
	bob.want(403, "forbidden", "PUT", "/users/2/role", `{"role":"admin"}`)
	for path, body := range map[string]string{"/users/2/role": `{"role":"king"}`, "/users/0/role": `{"role":"user"}`, "/users/x/role": `{"role":"user"}`} {
		ann.want(400, "bad_request", "PUT", path, body)
	}
	ann.want(204, "", "PUT", "/users/2/role", `{"role":"admin"}`)
	bob.want(403, "forbidden", "PUT", "/users/1/role", `{"role":"user"}`)
	bob = bob.in(bob.want(200, "", "POST", "/refresh", ""))
	bob.want(204, "", "PUT", "/users/1/role", `{"role":"user"}`)
	ann = ann.in(ann.want(200, "", "POST", "/refresh", ""))
	ann.want(403, "forbidden", "PUT", "/users/2/role", `{"role":"user"}`)
}

// A new password ends all sessions, also one that a thief has copied.
func TestPassword(t *testing.T) {
	c := newServer(t)
	ann := c.in(c.want(200, "", "POST", "/register", user("ann@example.org", "open sesame")))
	phone := c.in(c.want(200, "", "POST", "/login", user("ann@example.org", "open sesame")))
	change := `{"old_password":"open sesame","new_password":"close sesame"}`
	ann.want(401, "invalid_credentials", "PUT", "/password", `{"old_password":"wrong","new_password":"close sesame"}`)
	ann.want(400, "bad_password", "PUT", "/password", `{"old_password":"open sesame","new_password":"short"}`)
	phone.want(200, "", "GET", "/me", "")
	next := ann.in(ann.want(200, "", "PUT", "/password", change))
	next.want(200, "", "GET", "/me", "")
	for _, old := range []client{ann, phone} {
		old.want(401, "token_revoked", "GET", "/me", "")
		old.want(401, "token_revoked", "POST", "/refresh", "")
	}
	c.want(401, "invalid_credentials", "POST", "/login", user("ann@example.org", "open sesame"))
	c.want(200, "", "POST", "/login", user("ann@example.org", "close sesame"))
}

func TestSessions(t *testing.T) {
	c := newServer(t)
	ann := c.in(c.want(200, "", "POST", "/register", user("ann@example.org", "open sesame")))
	logIn := func() client { return c.in(c.want(200, "", "POST", "/login", user("ann@example.org", "open sesame"))) }
	phone, tablet := logIn(), logIn()
	list := ann.want(200, "", "GET", "/sessions", "")["sessions"].([]any)
	if len(list) != 3 {
		t.Fatalf("%d sessions, want 3", len(list))
	}
	if label := list[0].(map[string]any)["label"]; label != "Go-http-client/1.1" {
		t.Errorf("the label is %v", label)
	}
	id := phone.want(200, "", "GET", "/me", "")["sid"].(string)
	ann.want(204, "", "DELETE", "/sessions/"+id, "")
	phone.want(401, "token_revoked", "GET", "/me", "")
	tablet.want(204, "", "POST", "/logout/others", "")
	ann.want(401, "token_revoked", "GET", "/me", "")
	tablet.want(204, "", "POST", "/logout", "")
	tablet.want(401, "token_revoked", "GET", "/me", "")
}

// Nothing that the program logs has a password's hash in it.
func TestLog(t *testing.T) {
	var out bytes.Buffer
	log.SetOutput(&out)
	defer log.SetOutput(os.Stderr)
	c := newServer(t)
	c.want(200, "", "POST", "/register", user("ann@example.org", "open sesame"))
	c.want(409, "email_taken", "POST", "/register", user("ann@example.org", "open sesame"))
	if out.Len() == 0 || strings.Contains(out.String(), "$2a$") {
		t.Errorf("the log is %q", &out)
	}
}
