package middleware_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
)

// Mistakes that a newcomer makes in the first hour. Each must lead to words that say what to do: in the error of New, in the
// program's log, or in the output of the compiler or go vet. The other mistakes in a Config are in r15_*_test.go.

// An app is a program with a mistake, and what its author sees of it.
type app struct {
	t      *testing.T
	auth   *middleware.Auth
	router *gin.Engine
	log    *bytes.Buffer // written by gin's logger
	events []middleware.Event
}

func newApp(t *testing.T, mistake func(*middleware.Config)) *app {
	t.Helper()
	n := &app{t: t, router: gin.New(), log: new(bytes.Buffer)}
	config := middleware.Config{
		Keys:    []middleware.Key{{Algorithm: middleware.HS256, Key: bytes.Repeat([]byte("k"), 32)}},
		Store:   newMemory(t),
		OnEvent: func(_ context.Context, e middleware.Event) { n.events = append(n.events, e) },
		Authenticate: func(*gin.Context) (middleware.Identity, error) {
			return middleware.Identity{Subject: "ann"}, nil
		},
	}
	mistake(&config)
	auth, err := middleware.New(config)
	if err != nil {
		t.Fatal(err)
	}
	n.auth = auth
	n.router.Use(gin.LoggerWithWriter(n.log), gin.CustomRecoveryWithWriter(n.log, func(c *gin.Context, _ any) {
		c.AbortWithStatus(http.StatusInternalServerError)
	}))
	n.router.POST("/login", auth.LoginHandler)
	return n
}

func (n *app) token(id middleware.Identity) middleware.Tokens {
	n.t.Helper()
	tokens, err := n.auth.Issue(n.t.Context(), id)
	if err != nil {
		n.t.Fatal(err)
	}
	return tokens
}

func (n *app) ask(method, path, authorization string) *httptest.ResponseRecorder {
	request := httptest.NewRequest(method, path, nil)
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	answer := httptest.NewRecorder()
	n.router.ServeHTTP(answer, request)
	return answer
}

// reads checks the status of a response, and that a text contains the words.
func (n *app) reads(answer *httptest.ResponseRecorder, status int, text string, words ...string) {
	n.t.Helper()
	if answer.Code != status {
		n.t.Errorf("response %d %s, want %d", answer.Code, answer.Body, status)
	}
	for _, word := range words {
		if !strings.Contains(text, word) {
			n.t.Errorf("%q, want %q in it", text, word)
		}
	}
}

func nothingWrong(*middleware.Config) {}

// For an empty Config, the error lists what to do.
func TestUsabilityEmptyConfig(t *testing.T) {
	_, err := middleware.New(middleware.Config{})
	if err == nil {
		t.Fatal("New accepts an empty Config")
	}
	for _, word := range []string{"Store is missing: use store.NewMemory()", "Keys", "pass at least one"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error %q, want %q in it", err, word)
		}
	}
}

func TestUsabilityKeys(t *testing.T) {
	for name, row := range map[string]struct {
		key  middleware.Key
		want []string
	}{
		"JWT_SECRET is not set":  {middleware.Key{Algorithm: middleware.HS256, Key: []byte("")}, []string{"32 bytes or more", "has 0", "openssl rand -hex 32"}},
		"a word for a secret":    {middleware.Key{Algorithm: middleware.HS512, Key: []byte("secret")}, []string{"64 bytes or more", "has 6", "openssl rand -hex 64"}},
		"a string":               {middleware.Key{Algorithm: middleware.HS256, Key: strings.Repeat("k", 32)}, []string{"a []byte as Key, not string"}},
		"no algorithm":           {middleware.Key{Key: bytes.Repeat([]byte("k"), 32)}, []string{"Algorithm is missing", "HS256"}},
		"a name in lower case":   {middleware.Key{Algorithm: "hs256", Key: bytes.Repeat([]byte("k"), 32)}, []string{`"hs256" is not supported`, "HS256"}},
		"a file's content":       {middleware.Key{Algorithm: middleware.RS256, Key: []byte("-----BEGIN PRIVATE KEY-----")}, []string{"*rsa.PrivateKey", "ParsePEM"}},
		"a file that is missing": {middleware.Key{Algorithm: middleware.EdDSA, Key: nil}, []string{"ed25519.PrivateKey", "<nil>"}},
	} {
		memory := store.NewMemory()
		_, err := middleware.New(middleware.Config{Keys: []middleware.Key{row.key}, Store: memory})
		_ = memory.Close()
		if err == nil {
			t.Errorf("%s: New accepts it", name)
			continue
		}
		for _, word := range row.want {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%s: the error %q, want %q in it", name, err, word)
			}
		}
	}
}

// A mistake in the application's code is a 500 for the client, and a line in the log for its author.
func TestUsabilityLoginHandler(t *testing.T) {
	returns := func(id middleware.Identity, err error) func(*middleware.Config) {
		return func(c *middleware.Config) {
			c.Authenticate = func(*gin.Context) (middleware.Identity, error) { return id, err }
		}
	}
	for name, row := range map[string]struct {
		mistake func(*middleware.Config)
		want    string
	}{
		"no Authenticate":     {func(c *middleware.Config) { c.Authenticate = nil }, "LoginHandler needs Config.Authenticate"},
		"no subject":          {returns(middleware.Identity{}, nil), "Identity.Subject is empty"},
		"a claim that's ours": {returns(middleware.Identity{Subject: "ann", Claims: gin.H{"exp": 1}}, nil), `"exp" is reserved: choose another name`},
		"claims of a string":  {returns(middleware.Identity{Subject: "ann", Claims: "admin"}, nil), "not a JSON object: use a struct or a map"},
		"half a second":       {returns(middleware.Identity{Subject: "ann", TTL: time.Second / 2}, nil), "a lifetime is at least one second"},
		"a whole profile": {returns(middleware.Identity{Subject: "ann", Claims: gin.H{"photo": strings.Repeat("x", 8192)}}, nil),
			"put less into the claims"},
		"claims beyond a cookie": {func(c *middleware.Config) {
			c.Cookie = &middleware.Cookie{}
			returns(middleware.Identity{Subject: "ann", Claims: gin.H{"photo": strings.Repeat("x", 4096)}}, nil)(c)
		}, "does not fit into a cookie"},
	} {
		n := newApp(t, row.mistake)
		answer := n.ask("POST", "/login", "")
		n.reads(answer, http.StatusInternalServerError, n.log.String(), row.want)
		if strings.Contains(answer.Body.String(), row.want) {
			t.Errorf("%s: the response shows it to the client: %s", name, answer.Body)
		}
	}
}

// Any other error of Authenticate means that the credentials could not be checked. OnEvent gets it.
func TestUsabilityAuthenticateError(t *testing.T) {
	n := newApp(t, func(c *middleware.Config) {
		c.Authenticate = func(*gin.Context) (middleware.Identity, error) {
			return middleware.Identity{}, errors.New("wrong password") // instead of ErrRefused
		}
	})
	answer := n.ask("POST", "/login", "")
	n.reads(answer, http.StatusServiceUnavailable, errors.Unwrap(n.events[0].Err).Error(), "wrong password")
}

func TestUsabilityMustClaims(t *testing.T) {
	n := newApp(t, nothingWrong)
	n.router.GET("/me", func(c *gin.Context) { c.JSON(http.StatusOK, middleware.MustClaims(c)) })
	n.reads(n.ask("GET", "/me", ""), http.StatusInternalServerError, n.log.String(), "MustClaims", "put auth.Required() before this handler", "ClaimsFrom")
}

func TestUsabilityPanicsAtStart(t *testing.T) {
	for want, mistake := range map[string]func(auth *middleware.Auth){
		"AutoRefresh is for one-token mode": func(auth *middleware.Auth) { auth.AutoRefresh(time.Minute) },
		"AutoRefresh expects within >= 0":   func(auth *middleware.Auth) { auth.AutoRefresh(-1) },
		"Fresh expects maxAge > 0":          func(auth *middleware.Auth) { auth.Fresh(0) },
		"Allow expects a condition":         func(auth *middleware.Auth) { auth.Allow(nil) },
		"SetCookies needs Config.Cookie":    func(auth *middleware.Auth) { _ = auth.SetCookies(nil, middleware.Tokens{}) },
	} {
		n := newApp(t, func(c *middleware.Config) { c.Pair = true })
		func() {
			defer func() {
				if text, _ := recover().(string); !strings.HasPrefix(text, "middleware: ") || !strings.Contains(text, want) {
					t.Errorf("panic %q, want %q", text, want)
				}
			}()
			mistake(n.auth)
		}()
	}
}

// RefreshHandler behind a guard would work until the token expires, and then answer the refresh with "refresh it".
func TestUsabilityRefreshBehindGuard(t *testing.T) {
	n := newApp(t, nothingWrong)
	n.router.POST("/refresh", n.auth.Required(), n.auth.RefreshHandler)
	answer := n.ask("POST", "/refresh", "Bearer "+n.token(middleware.Identity{Subject: "ann"}).AccessToken)
	if answer.Code != http.StatusInternalServerError {
		t.Errorf("response %d %s to a valid token, want 500", answer.Code, answer.Body)
	}
}

// Over http a browser drops a Secure cookie, so the login would seem to succeed and have no effect.
func TestUsabilitySecureCookieOverHTTP(t *testing.T) {
	for _, test := range []struct {
		origin, host string
		insecure     bool
		want         int
	}{
		{"http://app.example", "app.example", false, http.StatusInternalServerError},
		{"http://app.example:8080", "app.example:8080", false, http.StatusInternalServerError},
		{"http://app.example", "app.example", true, http.StatusOK},
		{"https://app.example", "app.example", false, http.StatusOK},
		{"http://localhost:8080", "localhost:8080", false, http.StatusOK},
		{"http://127.0.0.1:8080", "127.0.0.1:8080", false, http.StatusOK},
		{"http://[::1]:8080", "[::1]:8080", false, http.StatusOK},
		{"", "app.example", false, http.StatusOK},
	} {
		n := newApp(t, func(c *middleware.Config) {
			c.Cookie = &middleware.Cookie{Insecure: test.insecure}
			c.Authenticate = func(*gin.Context) (middleware.Identity, error) { return middleware.Identity{Subject: "ann"}, nil }
		})
		request := httptest.NewRequest("POST", "/login", nil)
		request.Host = test.host
		if test.origin != "" {
			request.Header.Set("Origin", test.origin)
		}
		answer := httptest.NewRecorder()
		n.router.ServeHTTP(answer, request)
		if answer.Code != test.want {
			t.Errorf("login from %q at %q, Insecure %v: response %d %s, want %d", test.origin, test.host, test.insecure, answer.Code, answer.Body, test.want)
		}
	}
}

// Two guards on one route do no harm: the second relies on the first.
func TestUsabilityTwoGuards(t *testing.T) {
	n := newApp(t, nothingWrong)
	hello := func(c *gin.Context) { c.String(http.StatusOK, middleware.MustClaims(c).Subject) }
	group := n.router.Group("/", n.auth.Required())
	group.GET("/twice", n.auth.Required(), hello)
	group.GET("/renewing", n.auth.AutoRefresh(2*time.Hour), hello)
	group.GET("/fresh", n.auth.Fresh(time.Minute), n.auth.Allow(func(*gin.Context, middleware.Claims) bool { return true }), hello)
	bearer := "Bearer " + n.token(middleware.Identity{Subject: "ann"}).AccessToken
	for _, path := range []string{"/twice", "/renewing", "/fresh"} {
		answer := n.ask("GET", path, bearer)
		n.reads(answer, http.StatusOK, answer.Body.String(), "ann")
		answer = n.ask("GET", path, "")
		n.reads(answer, http.StatusUnauthorized, answer.Body.String(), "token_missing")
		if strings.Count(answer.Body.String(), "{") != 1 {
			t.Errorf("%s has two responses: %s", path, answer.Body)
		}
	}
}

// The response does not say why a token is not valid. The event does.
func TestUsabilityWhyNotValid(t *testing.T) {
	n := newApp(t, func(c *middleware.Config) { c.Pair, c.Issuer = true, "https://a.example" })
	n.router.GET("/me", n.auth.Required())
	n.router.POST("/refresh", n.auth.RefreshHandler)
	tokens := n.token(middleware.Identity{Subject: "ann"})
	elsewhere := newApp(t, func(c *middleware.Config) {
		c.Keys = []middleware.Key{{Algorithm: middleware.HS256, Key: bytes.Repeat([]byte("x"), 32)}}
	}).token(middleware.Identity{Subject: "ann"})
	staging := newApp(t, func(c *middleware.Config) { c.Issuer = "https://b.example" }).token(middleware.Identity{Subject: "ann"})
	for why, answer := range map[string]func() *httptest.ResponseRecorder{
		"the signature does not match":           func() *httptest.ResponseRecorder { return n.ask("GET", "/me", "Bearer "+elsewhere.AccessToken) },
		"iss is not the configured Issuer":       func() *httptest.ResponseRecorder { return n.ask("GET", "/me", "Bearer "+staging.AccessToken) },
		"a refresh token was sent":               func() *httptest.ResponseRecorder { return n.ask("GET", "/me", "Bearer "+tokens.RefreshToken) },
		"the token cannot be refreshed":          func() *httptest.ResponseRecorder { return n.ask("POST", "/refresh", "Bearer "+tokens.AccessToken) },
		"the token does not have three segments": func() *httptest.ResponseRecorder { return n.ask("GET", "/me", "Bearer undefined") },
		"a segment is not canonical base64url":   func() *httptest.ResponseRecorder { return n.ask("GET", "/me", "Bearer {{a}}.{{b}}.{{c}}") },
	} {
		n.events = nil
		a := answer()
		if len(n.events) != 1 {
			t.Fatalf("%s: %d events, want one", why, len(n.events))
		}
		n.reads(a, http.StatusUnauthorized, errors.Unwrap(n.events[0].Err).Error(), why)
		n.reads(a, http.StatusUnauthorized, a.Body.String(), "token_invalid")
	}
}

// go vet reports a copied Auth, and the compiler a Config or Key without field names.
func TestUsabilityTools(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct{ body, want string }{
		"an Auth by value": {`auth, _ := middleware.New(middleware.Config{})
			copied := *auth
			_ = &copied`, "copies lock value"},
		"Config without names": {`_ = middleware.Config{nil, nil}`, "implicit assignment to unexported field"},
		"JWKS without names":   {`_ = middleware.JWKS{"https://auth.example.org/jwks.json", nil}`, "implicit assignment to unexported field"},
		"Key without names":    {`_ = middleware.Key{"id", middleware.HS256, []byte("k")}`, "implicit assignment to unexported field"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "main.go")
			source := "package main\nimport \"github.com/ginrefresh/ginrefresh/middleware\"\nfunc main() {\n" + row.body + "\n}\n"
			if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command("go", "vet", file).CombinedOutput()
			if err == nil || !strings.Contains(string(out), row.want) {
				t.Errorf("go vet: %v, %s, want %q", err, out, row.want)
			}
		})
	}
}

// If the error of a store's constructor is ignored, Store is a nil pointer, which is not a nil interface. And a public key
// is not a secret.
func TestUsabilityNilStoreAndPEMSecret(t *testing.T) {
	var forgotten *store.Memory
	_, err := middleware.New(middleware.Config{
		Keys:  []middleware.Key{{Algorithm: middleware.HS256, Key: []byte("\n-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----")}},
		Store: forgotten,
	})
	for _, words := range []string{"Store is missing", "ParsePEM"} {
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("New returns %v, want %q in it", err, words)
		}
	}
}
