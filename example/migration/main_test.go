package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
)

const newSecret = "a new secret of at least 32 bytes, and random"

func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode)
	m.Run()
}

// newServer returns the routes of the program, and what they are made of.
func newServer(t *testing.T) (*gin.Engine, *middleware.Auth, *store.Memory) {
	t.Helper()
	blacklist := store.NewMemory()
	t.Cleanup(func() { _ = blacklist.Close() })
	auth, err := newAuth([]byte(newSecret), blacklist)
	if err != nil {
		t.Fatal(err)
	}
	r := gin.New()
	register(r, auth)
	return r, auth, blacklist
}

// The original answers these requests with the same statuses, except those that docs/coming-from.md names.
func TestPortedExample(t *testing.T) {
	t.Parallel()
	r, _, _ := newServer(t)
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	send := func(method, path, token string, form url.Values) (int, string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		if form != nil {
			request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		response, err := server.Client().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(body)
	}
	token := func(path, token string, form url.Values) string {
		t.Helper()
		status, body := send("POST", path, token, form)
		var answer struct {
			AccessToken string `json:"access_token"`
		}
		if err := json.Unmarshal([]byte(body), &answer); err != nil || status != http.StatusOK || answer.AccessToken == "" {
			t.Fatalf("%s: got %d %s, want a token", path, status, body)
		}
		return answer.AccessToken
	}
	user := func(name, password string) url.Values { return url.Values{"username": {name}, "password": {password}} }

	admin := token("/login", "", user("admin", "admin"))
	next := token("/refresh", admin, nil)
	test := token("/login", "", user("test", "test"))
	const helloBody = `{"text":"Hello World.","userID":"admin","userName":"admin"}`
	for _, step := range []struct {
		method, path, token string
		form                url.Values
		status              int
		body                string
	}{
		{"POST", "/login", "", user("admin", "wrong"), 401, `{"code":401,"message":"the credentials are not valid"}`},
		{"POST", "/login", "", url.Values{"username": {"admin"}}, 400, `{"code":400,"message":"the request is malformed"}`},
		{"GET", "/auth/hello", "", nil, 401, `{"code":401,"message":"the request has no token"}`},
		{"GET", "/auth/hello", test, nil, 403, `{"code":403,"message":"access denied"}`},
		{"GET", "/auth/hello", admin, nil, 200, helloBody},
		{"GET", "/auth/hello?token=" + next, "", nil, 200, helloBody},
		{"GET", "/nowhere", "", nil, 401, `{"code":401,"message":"the request has no token"}`},
		{"GET", "/nowhere", next, nil, 404, `{"code":"PAGE_NOT_FOUND","message":"Page not found"}`},
		{"POST", "/auth/logout", "", nil, 401, `{"code":401,"message":"the request has no token"}`},
		{"POST", "/auth/logout", next, nil, 200, `{"code":200,"message":"Successfully logged out"}`},
		{"GET", "/auth/hello", next, nil, 401, `{"code":401,"message":"the token was revoked, log in"}`}, // gin-jwt accepts it
	} {
		if status, body := send(step.method, step.path, step.token, step.form); status != step.status || body != step.body {
			t.Errorf("%s %s: got %d %s, want %d %s", step.method, step.path, status, body, step.status, step.body)
		}
	}
}

// New refuses the settings of the original, and the documents quote its error.
func TestOldSettings(t *testing.T) {
	t.Parallel()
	_, err := middleware.New(middleware.Config{
		Realm:        "test zone",
		Keys:         []middleware.Key{{Algorithm: middleware.HS256, Key: []byte("secret key")}},
		TTL:          time.Hour,
		RefreshTTL:   time.Hour,
		Authenticate: authenticate,
	})
	if err == nil {
		t.Fatal("New accepts the settings of gin-jwt's example")
	}
	program, readErr := os.ReadFile("main.go")
	if readErr != nil {
		t.Fatal(readErr)
	}
	_, config, _ := strings.Cut(string(program), "func newAuth")
	config = "func newAuth" + config
	for _, page := range []string{"coming-from.md", "coming-from.zh-CN.md"} {
		text, readErr := os.ReadFile("../../docs/" + page)
		if readErr != nil {
			t.Fatal(readErr)
		}
		if !strings.Contains(string(text), "```\n"+err.Error()+"\n```") {
			t.Errorf("%s does not quote\n%v", page, err)
		}
		if !strings.Contains(string(text), "```go\n"+config+"```") {
			t.Errorf("%s does not show main.go from newAuth on", page)
		}
	}
}
