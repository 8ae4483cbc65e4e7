// These tests follow a session from its login to its end, over HTTP and through the public API alone.
package ginrefresh_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// Some tests build and run other programs. Go caches a result by the log of what the test read, which does not include
	// those programs. Without the log it caches nothing.
	if err := flag.Set("test.testlogfile", ""); err != nil {
		panic(err)
	}
	// Tests that run a program choose its environment. A test that passes on the user's environment fails: this secret is too short.
	if err := os.Setenv("JWT_SECRET", "short"); err != nil {
		panic(err)
	}
	gin.SetMode(gin.TestMode)
	m.Run()
}

// newApp builds a typical application: a user table, handlers behind guards. Times in a token are whole seconds, so a TTL of
// two seconds lasts at least one.
func newApp(t *testing.T, ttl, refreshTTL, grace time.Duration) http.Handler {
	t.Helper()
	blacklist := store.NewMemory()
	t.Cleanup(func() { _ = blacklist.Close() })

	passwords := map[string]string{"admin": "admin", "alice": "wonderland"}
	auth, err := middleware.New(middleware.Config{
		Keys:  []middleware.Key{{Algorithm: middleware.HS256, Key: []byte("a secret of 32 bytes or more, and random")}},
		Store: blacklist,
		Authenticate: func(c *gin.Context) (middleware.Identity, error) {
			var login struct {
				Username string `json:"username" binding:"required"`
				Password string `json:"password" binding:"required"`
			}
			if err := c.ShouldBindJSON(&login); err != nil {
				return middleware.Identity{}, fmt.Errorf("%w: %w", middleware.ErrBadRequest, err)
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

	return r
}

// serve runs the application on a real listener.
func serve(t *testing.T, ttl, refreshTTL, grace time.Duration) client {
	t.Helper()
	server := httptest.NewServer(newApp(t, ttl, refreshTTL, grace))
	t.Cleanup(server.Close)
	return client{t, server}
}

// serveInBubble runs the application within a synctest bubble, where connections must be in memory.
func serveInBubble(t *testing.T, ttl, refreshTTL, grace time.Duration) client {
	t.Helper()
	listener := &memoryListener{connections: make(chan net.Conn), closed: make(chan struct{})}
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: newApp(t, ttl, refreshTTL, grace)}}
	server.Start()
	server.Client().Transport.(*http.Transport).DialContext = listener.dial
	t.Cleanup(server.Close)
	return client{t, server}
}

// memoryListener is a net.Listener whose connections are pipes.
type memoryListener struct {
	connections chan net.Conn
	closed      chan struct{}
	once        sync.Once
}

func (l *memoryListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case l.connections <- theirs:
		return ours, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case connection := <-l.connections:
		return connection, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *memoryListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }

func TestSession(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const ttl, refreshTTL = time.Hour, 5 * time.Hour
		c := serveInBubble(t, ttl, refreshTTL, 0)

		// The token of a login is accepted until it expires.
		deadline := time.Now().Add(refreshTTL)
		token := c.login("admin", "admin")
		c.get("/hello", token).is(http.StatusOK, "Hello, admin!")
		time.Sleep(ttl - time.Second)
		c.get("/hello", token).is(http.StatusOK, "Hello, admin!")
		time.Sleep(time.Second)
		c.get("/hello", token).is(http.StatusUnauthorized, "token_expired")

		// An expired token is refreshed. Afterwards it is still expired.
		next := c.post("/refresh", token).token()
		c.get("/hello", next).is(http.StatusOK, "Hello, admin!")
		c.get("/hello", token).is(http.StatusUnauthorized, "token_expired")

		// Each refresh returns the next token of the same session, until the deadline.
		seen := map[string]bool{jti(token): true}
		for {
			if seen[jti(next)] || sid(next) != sid(token) {
				t.Errorf("refresh returned %s after %v, want a new token of the same session", jti(next), seen)
			}
			seen[jti(next)] = true
			c.get("/hello", next).is(http.StatusOK, "Hello, admin!")
			if time.Until(deadline) <= ttl {
				break
			}
			time.Sleep(ttl)
			c.get("/hello", next).is(http.StatusUnauthorized, "token_expired")
			next = c.post("/refresh", next).token()
		}
		time.Sleep(time.Until(deadline) - time.Second)
		next = c.post("/refresh", next).token()
		time.Sleep(time.Second)
		c.post("/refresh", next).is(http.StatusUnauthorized, "refresh_expired")

		// The last token is accepted for the rest of its TTL. After that the user must log in again.
		c.get("/hello", next).is(http.StatusOK, "Hello, admin!")
		time.Sleep(ttl)
		c.get("/hello", next).is(http.StatusUnauthorized, "token_expired")
		c.post("/refresh", next).is(http.StatusUnauthorized, "refresh_expired")
		token = c.login("admin", "admin")
		c.get("/hello", token).is(http.StatusOK, "Hello, admin!")
		if seen[jti(token)] || sid(token) == sid(next) {
			t.Errorf("the login returned %s, want a new session", jti(token))
		}
	})
}

func TestReplacedTokenAfterTheGracePeriod(t *testing.T) {
	t.Parallel()
	c := serve(t, time.Hour, 24*time.Hour, 300*time.Millisecond)
	old := c.login("admin", "admin")
	token := c.post("/refresh", old).token()

	c.until("the old token is rejected", func() bool { return c.get("/hello", old).code() == "token_revoked" })
	c.get("/hello", token).is(http.StatusOK, "Hello, admin!")

	// Either the client or a thief presents it again. The server cannot tell which, so the session ends.
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

	// A logout revokes all tokens of one session at once.
	c.post("/logout", phone).is(http.StatusNoContent, "")
	for _, token := range []string{phone, old} {
		c.get("/hello", token).is(http.StatusUnauthorized, "token_revoked")
		c.post("/refresh", token).is(http.StatusUnauthorized, "token_revoked")
	}
	c.post("/logout", phone).is(http.StatusNoContent, "") // a second logout succeeds as well
	c.get("/hello", laptop).is(http.StatusOK, "Hello, alice!")

	// Log out everywhere ends all sessions of this user, and of no other.
	admin := c.login("admin", "admin")
	c.post("/logout/all", laptop).is(http.StatusNoContent, "")
	c.get("/hello", laptop).is(http.StatusUnauthorized, "token_revoked")
	c.get("/hello", admin).is(http.StatusOK, "Hello, admin!")
	c.get("/hello", c.login("alice", "wonderland")).is(http.StatusOK, "Hello, alice!")
}

// When many tabs refresh at once, all get the same token, and the session continues.
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
					t.Fatalf("the refreshes returned two successors, %s and %s", jti(next[0]), jti(other))
				}
			}
			c.get("/hello", next[0]).is(http.StatusOK, "Hello, admin!")
			c.post("/logout", next[0]).is(http.StatusNoContent, "")
			c.post("/refresh", token).is(http.StatusUnauthorized, "token_revoked")
		})
	}
}

// AutoRefresh sends the new token with the response, for clients that cannot call /refresh.
func TestAutoRefresh(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const ttl, refreshTTL = time.Hour, 2 * time.Hour
		c := serveInBubble(t, ttl, refreshTTL, 0)
		token := c.login("admin", "admin")
		time.Sleep(ttl - time.Second)
		if answer := c.get("/renewing", token); answer.status != http.StatusOK || answer.header.Get("Authorization") != "" {
			t.Errorf("a token that has not expired: got %d and the header %q, want 200 and no new token", answer.status, answer.header.Get("Authorization"))
		}
		time.Sleep(time.Second)
		c.get("/hello", token).is(http.StatusUnauthorized, "token_expired")
		answer := c.get("/renewing", token)
		next := answer.renewed()
		answer.is(http.StatusOK, "token "+jti(next)) // the handler already sees the new token
		c.get("/hello", next).is(http.StatusOK, "Hello, admin!")
		time.Sleep(refreshTTL - ttl)
		c.get("/renewing", next).is(http.StatusUnauthorized, "refresh_expired")
	})
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
	c.post("/refresh", token).token() // the errors above did not use the token up
}

// New returns one error that lists every mistake in the configuration.
func TestWrongConfiguration(t *testing.T) {
	_, err := middleware.New(middleware.Config{TTL: time.Hour, RefreshTTL: time.Minute})
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) || len(joined.Unwrap()) != 3 {
		t.Errorf("New returned %v, want three mistakes: no key, no store, RefreshTTL shorter than TTL", err)
	}
}

// client sends requests to the server of a test.
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

// until polls until done returns true.
func (c client) until(condition string, done func() bool) {
	c.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	patience := time.After(20 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-patience:
			c.t.Fatal("timeout waiting until", condition)
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

// code returns the error code, or "" for a success.
func (a answer) code() string { return a.member("code") }

// is checks the status, and the body of a success or the code of an error.
func (a answer) is(status int, text string) {
	a.t.Helper()
	got := a.body
	if status >= http.StatusBadRequest {
		got = a.code()
	}
	if a.status != status || got != text {
		a.t.Errorf("got %d %s, want %d %s", a.status, a.body, status, text)
	}
}

// token returns the token that a login or a refresh sent.
func (a answer) token() string {
	a.t.Helper()
	token := a.member("access_token")
	if a.status != http.StatusOK || token == "" {
		a.t.Errorf("got %d %s, want a token", a.status, a.body)
	}
	return token
}

// renewed returns the token that AutoRefresh sent.
func (a answer) renewed() string {
	a.t.Helper()
	token, found := strings.CutPrefix(a.header.Get("Authorization"), "Bearer ")
	if a.status != http.StatusOK || !found {
		a.t.Errorf("got %d %s, want a token in the Authorization header", a.status, a.body)
	}
	return token
}

func jti(token string) string { return claim(token, "jti") }
func sid(token string) string { return claim(token, "sid") }

// claim reads a claim without verifying the token.
func claim(token, name string) string {
	_, rest, _ := strings.Cut(token, ".")
	payload, _, _ := strings.Cut(rest, ".")
	object, _ := base64.RawURLEncoding.DecodeString(payload)
	return answer{body: string(object)}.member(name)
}
