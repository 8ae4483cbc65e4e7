package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode)
	log.SetOutput(io.Discard)
	os.Exit(m.Run())
}

// roundTripper sends requests to a handler without a network, so that a synctest bubble can wait for it.
type roundTripper struct{ http.Handler }

func (h roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	recorder := httptest.NewRecorder()
	h.ServeHTTP(recorder, r)
	return recorder.Result(), nil
}

// client sends requests to one of the servers.
type client struct {
	*http.Client
	t   *testing.T
	url string
}

// send sends a form, with a token unless it is "", and returns the status and the members of the response.
func (c client) send(method, path, token string, form url.Values, header ...string) (int, map[string]any) {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if len(header) == 2 {
		r.Header.Set(header[0], header[1])
	}
	response, err := c.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	fields := map[string]any{}
	_ = json.NewDecoder(response.Body).Decode(&fields) // not every response has a body
	return response.StatusCode, fields
}

// tokens are those of a login or refresh.
type tokens struct{ access, refresh string }

func (c client) tokens(path string, form url.Values, header ...string) tokens {
	c.t.Helper()
	status, fields := c.send("POST", path, "", form, header...)
	if status != http.StatusOK {
		c.t.Fatalf("%s: %d %v", path, status, fields)
	}
	return tokens{fields["access_token"].(string), fields["refresh_token"].(string)}
}

func (c client) logIn(header ...string) tokens {
	c.t.Helper()
	return c.tokens("/auth/login", url.Values{"user": {"ann"}, "password": {"open sesame"}}, header...)
}

func (c client) refresh(old tokens) tokens {
	c.t.Helper()
	return c.tokens("/auth/refresh", url.Values{"refresh_token": {old.refresh}})
}

// want checks the response of the orders service: its status, and the user or the code of the error.
func (c client) want(what, token string, status int, text string) {
	c.t.Helper()
	got, fields := c.send("GET", "/orders", token, nil)
	if s, _ := fields["orders_of"].(string); got != status || s != text && fields["code"] != text {
		c.t.Errorf("%s: %d %v, want %d %s", what, got, fields, status, text)
	}
}

// from is a client with an IP address of its own.
func from(t *testing.T, ip, url string) client {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has all addresses of 127.0.0.0/8")
	}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	transport := &http.Transport{DialContext: dialer.DialContext}
	t.Cleanup(transport.CloseIdleConnections)
	return client{&http.Client{Transport: transport}, t, url}
}

func TestServices(t *testing.T) {
	var logged bytes.Buffer
	log.SetOutput(&logged)
	defer log.SetOutput(io.Discard)
	blacklist := store.NewMemory()
	defer func() { _ = blacklist.Close() }()
	keys, err := loadKeys("")
	if err != nil {
		t.Fatal(err)
	}
	auth, err := newAuth(blacklist, keys)
	if err != nil {
		t.Fatal(err)
	}
	authServer := httptest.NewServer(authRoutes(auth))
	defer authServer.Close()
	orders, err := newOrders(blacklist, &middleware.JWKS{URL: authServer.URL + "/.well-known/jwks.json"})
	if err != nil {
		t.Fatal(err)
	}
	ordersServer := httptest.NewServer(orders)
	defer ordersServer.Close()
	proxy := httptest.NewServer(newProxy(authServer.URL, ordersServer.URL))
	defer proxy.Close()

	c := from(t, "127.0.0.7", proxy.URL)
	ann := c.logIn("X-Forwarded-For", "192.0.2.1")
	c.want("an access token", ann.access, 200, "ann")
	c.want("no token", "", 401, "token_missing")
	c.want("a refresh token", ann.refresh, 401, "token_invalid")
	if status, _ := c.send("GET", "/.well-known/jwks.json", "", nil); status != http.StatusNotFound {
		t.Errorf("the proxy answers %d for the keys", status)
	}
	if status, fields := c.send("POST", "/auth/login", "", url.Values{"user": {"ann"}, "password": {"wrong"}}); status != 401 || fields["code"] != "invalid_credentials" {
		t.Errorf("a wrong password: %d %v", status, fields)
	}

	for what, row := range map[string]struct {
		client client
		want   string
	}{
		"through the proxy":    {c, "127.0.0.7"},
		"around the proxy":     {from(t, "127.0.0.7", ordersServer.URL), "127.0.0.7"},
		"another client":       {from(t, "127.0.0.8", proxy.URL), "127.0.0.8"},
		"a proxy on this host": {from(t, "127.0.0.1", ordersServer.URL), "192.0.2.1"},
	} {
		if _, fields := row.client.send("GET", "/orders", ann.access, nil, "X-Forwarded-For", "192.0.2.1"); fields["client"] != row.want {
			t.Errorf("%s: the client's address is %v, want %s", what, fields["client"], row.want)
		}
	}
	for _, line := range []string{`login  subject="ann" client=127.0.0.7`, `login_failed invalid_credentials subject="" client=127.0.0.7`} {
		if !strings.Contains(logged.String(), line) {
			t.Errorf("the log is %s\nwant %q in it", &logged, line)
		}
	}

	billing, err := middleware.New(middleware.Config{Keys: keys, Store: blacklist, Pair: true, Issuer: issuer, Audience: "billing"})
	if err != nil {
		t.Fatal(err)
	}
	other, err := billing.Issue(t.Context(), middleware.Identity{Subject: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	c.want("a token for another audience", other.AccessToken, 401, "token_invalid")

	next := c.refresh(ann)
	c.want("after a refresh", next.access, 200, "ann")
	if status, fields := c.send("POST", "/auth/logout", next.access, nil); status != http.StatusNoContent {
		t.Errorf("logout: %d %v", status, fields)
	}
	c.want("after the logout", next.access, 401, "token_revoked")
}

// writeKey writes a new private key.
func writeKey(t *testing.T, file string) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// rotation is the services in a bubble, with a directory of keys.
type rotation struct {
	client
	auth *middleware.Auth
	dir  string
}

// inBubble runs a test with fake time.
func inBubble(t *testing.T, test func(t *testing.T, r rotation)) {
	dir := t.TempDir()
	writeKey(t, filepath.Join(dir, "1.pem"))
	synctest.Test(t, func(t *testing.T) {
		blacklist := store.NewMemory()
		_ = blacklist.Close() // ends its sweeper only
		keys, err := loadKeys(dir)
		if err != nil {
			t.Fatal(err)
		}
		auth, err := newAuth(blacklist, keys)
		if err != nil {
			t.Fatal(err)
		}
		routes := authRoutes(auth)
		orders, err := newOrders(blacklist, &middleware.JWKS{URL: "https://auth.example.org/.well-known/jwks.json", Client: &http.Client{Transport: roundTripper{routes}}})
		if err != nil {
			t.Fatal(err)
		}
		mux := http.NewServeMux()
		mux.Handle("/auth/", routes)
		mux.Handle("/", orders)
		test(t, rotation{client{&http.Client{Transport: roundTripper{mux}}, t, "https://example.org"}, auth, dir})
	})
}

func (r rotation) reload() {
	r.t.Helper()
	if err := reloadKeys(r.auth, r.dir); err != nil {
		r.t.Fatal(err)
	}
}

// kid returns the header of a token, which names its key.
func kid(token string) string {
	header, _, _ := strings.Cut(token, ".")
	return header
}

// The orders service follows a rotation by itself, and nobody is logged out.
func TestRotation(t *testing.T) {
	inBubble(t, func(t *testing.T, r rotation) {
		ann := r.logIn()
		r.want("the first key", ann.access, 200, "ann")

		writeKey(t, filepath.Join(r.dir, "2.pem"))
		r.reload()
		if bob := r.logIn(); kid(bob.access) != kid(ann.access) {
			t.Error("the new key signs before the services have it")
		}
		<-time.After(9 * time.Minute)
		r.want("the first key, while both are there", ann.access, 200, "ann")

		if err := os.Rename(filepath.Join(r.dir, "2.pem"), filepath.Join(r.dir, "0.pem")); err != nil {
			t.Fatal(err)
		}
		r.reload()
		r.want("the first key, which signs no more", ann.access, 200, "ann")
		next := r.refresh(ann)
		if kid(next.access) == kid(ann.access) {
			t.Error("the new key does not sign")
		}
		r.want("the second key", next.access, 200, "ann")

		<-time.After(middleware.DefaultRefreshTTL)
		if err := os.Remove(filepath.Join(r.dir, "1.pem")); err != nil {
			t.Fatal(err)
		}
		r.reload()
		r.want("the second key alone", r.logIn().access, 200, "ann")
	})
}

// A key that has leaked is replaced in one step. The orders service rejects its tokens as soon as it sees the new key, and
// within five minutes in any case.
func TestLeakedKey(t *testing.T) {
	for what, row := range map[string]struct {
		wait   time.Duration
		logIn  bool
		status int
		text   string
	}{
		"at once":                  {0, false, 200, "ann"},
		"after a token of the new": {10 * time.Second, true, 401, "token_invalid"},
		"after five minutes":       {5 * time.Minute, false, 401, "token_invalid"},
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r rotation) {
				leaked := r.logIn().access
				r.want("before", leaked, 200, "ann")
				writeKey(t, filepath.Join(r.dir, "1.pem"))
				r.reload()
				<-time.After(row.wait)
				synctest.Wait()
				if row.logIn {
					r.want("the new key", r.logIn().access, 200, "ann")
				}
				r.want("the leaked key", leaked, row.status, row.text)
			})
		})
	}
}
