// The story of a session from login to its end, on a real listener and through the public API alone.
package ginrefresh_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// Some tests build and run other programs. Without this log go test never caches a result, as it cannot know
	// when those programs have changed.
	if err := flag.Set("test.testlogfile", ""); err != nil {
		panic(err)
	}
	gin.SetMode(gin.TestMode)
	m.Run()
}

// serve starts a server such as an application would: users in a database, handlers behind guards. Dates in a
// token are whole seconds, so a TTL of two seconds is one second at least.
func serve(t *testing.T, ttl, refreshTTL, grace time.Duration) client {
	t.Helper()
	blacklist := store.NewMemory()
	t.Cleanup(func() { _ = blacklist.Close() })

	passwords := map[string]string{"admin": "admin", "alice": "wonderland"}
	auth, err := middleware.New(middleware.Config{
		Keys:  []middleware.Key{{Algorithm: middleware.HS256, Key: []byte("a secret of at least 32 bytes, random please")}},
		Store: blacklist,
		Authenticate: func(c *gin.Context) (middleware.Identity, error) {
			var login struct {
				Username string `json:"username" binding:"required"`
				Password string `json:"password" binding:"required"`
			}
			if err := c.ShouldBindJSON(&login); err != nil {
				return middleware.Identity{}, middleware.ErrBadRequest
			}
			if password, known := passwords[login.Username]; !known || password != login.Password {
				return middleware.Identity{}, middleware.ErrRefused
			}
			return middleware.Identity{Subject: login.Username, Claims: gin.H{"admin": login.Username == "admin"}}, nil
		},
		TTL:        ttl,
		RefreshTTL: refreshTTL,
		Grace:      grace,
	})
	if err != nil {
		t.Fatal(err)
	}

	r := gin.New()
	r.POST("/login", auth.LoginHandler)
	r.POST("/refresh", auth.RefreshHandler)
	r.POST("/logout", auth.LogoutHandler)
	r.POST("/logout/all", auth.LogoutAllHandler)
	r.GET("/hello", auth.Required(), func(c *gin.Context) {
		c.String(http.StatusOK, "Hello, "+middleware.MustClaims(c).Subject+"!")
	})
	r.GET("/renewing", auth.AutoRefresh(0), func(c *gin.Context) {
		c.String(http.StatusOK, "token "+middleware.MustClaims(c).ID)
	})
	r.GET("/admin", auth.Allow(func(_ *gin.Context, claims middleware.Claims) bool {
		var own struct{ Admin bool }
		return claims.Decode(&own) == nil && own.Admin
	}), func(c *gin.Context) { c.String(http.StatusOK, "Welcome") })

	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	return client{t, server}
}

func TestSession(t *testing.T) {
	t.Parallel()
	const ttl, refreshTTL = 2 * time.Second, 5 * time.Second
	c := serve(t, ttl, refreshTTL, 0)

	// A login gives a token, and the token opens the door.
	began := time.Now()
	token := c.login("admin", "admin")
	c.get("/hello", token).is(http.StatusOK, "Hello, admin!")

	// It expires.
	c.until("the token expires", func() bool { return c.get("/hello", token).code() == "token_expired" })

	// An expired token is swapped for a new one, and is itself as dead as before.
	next := c.post("/refresh", token).token()
	c.get("/hello", next).is(http.StatusOK, "Hello, admin!")
	c.get("/hello", token).is(http.StatusUnauthorized, "token_expired")

	// Again and again: each token is swapped once it has expired, and each is the session's next.
	seen := map[string]bool{jti(token): true}
	refreshed := 0
	c.until("the refresh window is over", func() bool {
		if c.get("/hello", next).code() != "token_expired" {
			return false
		}
		answer := c.post("/refresh", next)
		if answer.code() == "refresh_expired" {
			return true
		}
		next = answer.token()
		if seen[jti(next)] || sid(next) != sid(token) {
			t.Errorf("refresh gives %s after %v, want a new token of the same session", jti(next), seen)
		}
		seen[jti(next)] = true
		refreshed++
		return false
	})
	if lasted := time.Since(began); refreshed == 0 || lasted < refreshTTL-time.Second {
		t.Errorf("the session was refreshed %d times and ended after %v, want it to last %v", refreshed, lasted, refreshTTL)
	}

	// The window is counted from the login, so now only a login helps.
	c.get("/hello", next).is(http.StatusUnauthorized, "token_expired")
	c.post("/refresh", next).is(http.StatusUnauthorized, "refresh_expired")
	token = c.login("admin", "admin")
	c.get("/hello", token).is(http.StatusOK, "Hello, admin!")
	if seen[jti(token)] || sid(token) == sid(next) {
		t.Errorf("the login gives %s, want a new session", jti(token))
	}
}

func TestReplacedTokenDiesAfterTheGrace(t *testing.T) {
	t.Parallel()
	c := serve(t, time.Hour, 24*time.Hour, 300*time.Millisecond)
	old := c.login("admin", "admin")
	token := c.post("/refresh", old).token()

	c.until("the old token is dead", func() bool { return c.get("/hello", old).code() == "token_revoked" })
	c.get("/hello", token).is(http.StatusOK, "Hello, admin!")

	// Whoever comes back with it has kept it, or has stolen it: nobody can tell, so the session ends.
	c.post("/refresh", old).is(http.StatusUnauthorized, "token_reused")
	c.get("/hello", token).is(http.StatusUnauthorized, "token_revoked")
	c.post("/refresh", token).is(http.StatusUnauthorized, "token_revoked")
	c.get("/hello", c.login("admin", "admin")).is(http.StatusOK, "Hello, admin!")
}

func TestLogout(t *testing.T) {
	t.Parallel()
	c := serve(t, time.Hour, 24*time.Hour, 0)
	phone, laptop := c.login("alice", "wonderland"), c.login("alice", "wonderland")
	old := phone
	phone = c.post("/refresh", phone).token()

	// A logout ends one session at once, with all its tokens.
	c.post("/logout", phone).is(http.StatusNoContent, "")
	for _, token := range []string{phone, old} {
		c.get("/hello", token).is(http.StatusUnauthorized, "token_revoked")
		c.post("/refresh", token).is(http.StatusUnauthorized, "token_revoked")
	}
	c.post("/logout", phone).is(http.StatusNoContent, "") // twice is fine
	c.get("/hello", laptop).is(http.StatusOK, "Hello, alice!")

	// A logout everywhere ends them all, of this user only.
	admin := c.login("admin", "admin")
	c.post("/logout/all", laptop).is(http.StatusNoContent, "")
	c.get("/hello", laptop).is(http.StatusUnauthorized, "token_revoked")
	c.get("/hello", admin).is(http.StatusOK, "Hello, admin!")
	c.get("/hello", c.login("alice", "wonderland")).is(http.StatusOK, "Hello, alice!")
}

// Tabs wake up together and all refresh: they get one and the same token, and nobody is logged out.
func TestParallelRefreshes(t *testing.T) {
	t.Parallel()
	for name, refresh := range map[string]func(c client, token string) string{
		"RefreshHandler": func(c client, token string) string { return c.post("/refresh", token).token() },
		"AutoRefresh":    func(c client, token string) string { return c.get("/renewing", token).renewed() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := serve(t, 2*time.Second, time.Hour, 0)
			token := c.login("admin", "admin")
			c.until("the token expires", func() bool { return c.get("/hello", token).code() == "token_expired" })

			next := make([]string, 64)
			var tabs sync.WaitGroup
			for i := range next {
				tabs.Go(func() { next[i] = refresh(c, token) })
			}
			tabs.Wait()
			for _, other := range next {
				if other != next[0] {
					t.Fatalf("two successors: %s and %s", jti(next[0]), jti(other))
				}
			}
			c.get("/hello", next[0]).is(http.StatusOK, "Hello, admin!")
			c.post("/logout", next[0]).is(http.StatusNoContent, "")
			c.post("/refresh", token).is(http.StatusUnauthorized, "token_revoked")
		})
	}
}

// A client that cannot call /refresh gets its new token with the answer.
func TestAutoRefresh(t *testing.T) {
	t.Parallel()
	c := serve(t, 2*time.Second, 4*time.Second, 0)
	token := c.login("admin", "admin")
	if answer := c.get("/renewing", token); answer.header.Get("Authorization") != "" {
		t.Error("a token that lives is renewed")
	}
	c.until("the token expires", func() bool { return c.get("/hello", token).code() == "token_expired" })
	answer := c.get("/renewing", token)
	next := answer.renewed()
	answer.is(http.StatusOK, "token "+jti(next)) // the handler sees the new one already
	c.get("/hello", next).is(http.StatusOK, "Hello, admin!")
	c.until("the refresh window is over", func() bool { return c.get("/renewing", next).code() == "refresh_expired" })
}

func TestErrors(t *testing.T) {
	t.Parallel()
	c := serve(t, time.Hour, 24*time.Hour, 0)
	for _, body := range []string{``, `{`, `{"username":"admin"}`, `{"username":1,"password":"admin"}`, strings.Repeat("x", 1<<20)} {
		c.send("POST", "/login", "", body).is(http.StatusBadRequest, "bad_request")
	}
	c.send("POST", "/login", "", `{"username":"admin","password":"wrong"}`).is(http.StatusUnauthorized, "invalid_credentials")
	c.send("POST", "/login", "", `{"username":"nobody","password":"admin"}`).is(http.StatusUnauthorized, "invalid_credentials")

	token := c.login("admin", "admin")
	forged := token[:len(token)-4] + "AAAA"
	for _, route := range []struct{ method, path string }{
		{"GET", "/hello"}, {"GET", "/renewing"}, {"GET", "/admin"}, {"POST", "/refresh"}, {"POST", "/logout"}, {"POST", "/logout/all"},
	} {
		c.send(route.method, route.path, "", "").is(http.StatusUnauthorized, "token_missing")
		c.send(route.method, route.path, forged, "").is(http.StatusUnauthorized, "token_invalid")
	}
	c.get("/admin", token).is(http.StatusOK, "Welcome")
	c.get("/admin", c.login("alice", "wonderland")).is(http.StatusForbidden, "forbidden")
	c.post("/refresh", token).token() // nothing was used up
}

// A wrong configuration is one error that lists every mistake.
func TestWrongConfiguration(t *testing.T) {
	_, err := middleware.New(middleware.Config{TTL: time.Hour, RefreshTTL: time.Minute})
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) || len(joined.Unwrap()) != 3 {
		t.Errorf("New gives %v, want three mistakes: no key, no store, a window shorter than a token", err)
	}
}

// client talks to a server of serve.
type client struct {
	t      *testing.T
	server *httptest.Server
}

func (c client) get(path, token string) answer  { return c.send("GET", path, token, "") }
func (c client) post(path, token string) answer { return c.send("POST", path, token, "") }

func (c client) login(username, password string) (token string) {
	c.t.Helper()
	return c.send("POST", "/login", "", `{"username":"`+username+`","password":"`+password+`"}`).token()
}

func (c client) send(method, path, token, body string) answer {
	c.t.Helper()
	request, err := http.NewRequestWithContext(c.t.Context(), method, c.server.URL+path, strings.NewReader(body))
	if err != nil {
		c.t.Error(err)
		return answer{t: c.t}
	}
	request.Header.Set("Content-Type", "application/json")
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := c.server.Client().Do(request)
	if err != nil {
		c.t.Error(err)
		return answer{t: c.t}
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Error(err)
	}
	return answer{c.t, response.StatusCode, response.Header, string(text)}
}

// until asks again and again, for what only time can bring.
func (c client) until(what string, done func() bool) {
	c.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	patience := time.After(20 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-patience:
			c.t.Fatal("waited in vain until", what)
		}
	}
}

type answer struct {
	t      *testing.T
	status int
	header http.Header
	body   string
}

func (a answer) member(name string) string {
	var members map[string]any
	_ = json.Unmarshal([]byte(a.body), &members)
	text, _ := members[name].(string)
	return text
}

// code is what went wrong, "" if nothing did.
func (a answer) code() string { return a.member("code") }

// is checks the status and, of a success, the body, of an error its code.
func (a answer) is(status int, text string) {
	a.t.Helper()
	got := a.body
	if status >= http.StatusBadRequest {
		got = a.code()
	}
	if a.status != status || got != text {
		a.t.Errorf("the answer is %d %s, want %d %s", a.status, a.body, status, text)
	}
}

// token is the new one of a login or a refresh.
func (a answer) token() string {
	a.t.Helper()
	token := a.member("access_token")
	if a.status != http.StatusOK || token == "" {
		a.t.Errorf("the answer is %d %s, want a token", a.status, a.body)
	}
	return token
}

// renewed is the new one that AutoRefresh sends.
func (a answer) renewed() string {
	a.t.Helper()
	token, found := strings.CutPrefix(a.header.Get("Authorization"), "Bearer ")
	if a.status != http.StatusOK || !found {
		a.t.Errorf("the answer is %d %s, want a token in its header", a.status, a.body)
	}
	return token
}

func jti(token string) string { return claim(token, "jti") }
func sid(token string) string { return claim(token, "sid") }

// claim looks into a token as anybody can.
func claim(token, name string) string {
	_, rest, _ := strings.Cut(token, ".")
	payload, _, _ := strings.Cut(rest, ".")
	object, _ := base64.RawURLEncoding.DecodeString(payload)
	return answer{body: string(object)}.member(name)
}
