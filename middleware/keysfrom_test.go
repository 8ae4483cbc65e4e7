package middleware_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// Config.KeysFrom on a real listener. What depends on time is in keysfrom_time_test.go.

// keysFrom makes a verify-only service. client may be nil.
func keysFrom(url string, client *http.Client) change {
	return func(c *middleware.Config) {
		c.Keys, c.Authenticate, c.KeysFrom = nil, nil, &middleware.JWKS{URL: url, Client: client}
	}
}

// sharing sets the store of several servers.
func sharing(t testing.TB) change {
	memory := newMemory(t)
	return func(c *middleware.Config) { c.Store = memory }
}

// listenTLS serves the handler with a certificate that only the returned client trusts.
func listenTLS(t testing.TB, handler http.Handler) (url string, client *http.Client) {
	server := httptest.NewTLSServer(handler)
	server.Config.ErrorLog = nil
	t.Cleanup(server.Close)
	return server.URL, server.Client()
}

// A service that has only a URL verifies the tokens of every algorithm, and learns of a logout through the store.
func TestKeysFrom(t *testing.T) {
	t.Parallel()
	all := signers()
	all[middleware.Ed25519] = middleware.Key{Algorithm: middleware.Ed25519, Key: edKey()}
	for alg, key := range all {
		for mode, inMode := range modes {
			t.Run(string(alg)+", "+mode, func(t *testing.T) {
				store := sharing(t)
				issuer := newAuth(t, store, inMode, keys(key))
				url, client := listenTLS(t, routes(issuer))
				verifier := newAuth(t, store, inMode, keysFrom(url+"/jwks.json", client))
				s := listen(t, routes(verifier))
				tokens := issueTokens(t, issuer, middleware.Identity{})
				if _, isSecret := key.Key.([]byte); isSecret { // a secret is never published
					s.send("GET", "/required", bearer(tokens.AccessToken)).rejected(t, middleware.CodeStoreUnavailable)
					return
				}
				for range 3 {
					s.send("GET", "/required", bearer(tokens.AccessToken)).passed(t, "admin")
				}
				if hits, misses := verifier.CacheStats(); hits != 1 || misses != 2 {
					t.Errorf("%d hits and %d misses in the token cache, want 1 and 2", hits, misses)
				}
				s.send("GET", "/required", bearer(tokens.AccessToken+"A")).rejected(t, middleware.CodeTokenInvalid)
				s.send("POST", "/refresh", bearer(refreshable(tokens))).rejected(t, middleware.CodeServerError)
				s.send("POST", "/logout", bearer(refreshable(tokens))).accepted(t, "/logout")
				s.send("GET", "/required", bearer(tokens.AccessToken)).rejected(t, middleware.CodeTokenRevoked)
			})
		}
	}
}

// An issuer that is not up yet is a 503 on every route, and no failed start. The service recovers by itself.
func TestKeysFromAnIssuerThatStartsLater(t *testing.T) {
	t.Parallel()
	store, log := sharing(t), new(eventLog)
	issuer := newAuth(t, store, keys(signers()[middleware.EdDSA]))
	url, client := listenTLS(t, routes(issuer))
	var up atomic.Bool
	transport := client.Transport.(*http.Transport)
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		address := "127.0.0.1:1" // nobody listens there
		if up.Load() {
			address = strings.TrimPrefix(url, "https://")
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	verifier := newAuth(t, store, keysFrom(url+"/jwks.json", client), func(c *middleware.Config) { c.OnEvent = log.record })
	s := listen(t, oneTokenRoutes(verifier))
	text := login(t, issuer)
	rejectedEverywhere(t, verifier, s, text, middleware.CodeStoreUnavailable)
	for _, route := range []string{"/revoke", "/introspect"} {
		s.send("POST", route, jsonBody(`{"token":"`+text+`"}`)).rejected(t, middleware.CodeStoreUnavailable)
	}
	for _, e := range log.take() {
		if e.Code != middleware.CodeStoreUnavailable || e.Subject != "" || !strings.Contains(strings.Join(errorTexts(e.Err), " "), "fetching the keys") {
			t.Errorf("event %+v, want store_unavailable with the cause", e)
		}
	}
	up.Store(true)
	r := s.send("GET", "/required", bearer(text))
	for ; r.status == http.StatusServiceUnavailable; r = s.send("GET", "/required", bearer(text)) {
		time.Sleep(50 * time.Millisecond) // a client that tries again
	}
	r.passed(t, "admin")
}

// Answers that are no JWK Set, too long, somewhere else, or late are a 503. The client does not see the cause.
func TestKeysFromBadAnswers(t *testing.T) {
	t.Parallel()
	const limit = 256 << 10
	issuer := newAuth(t, keys(signers()[middleware.ES256]))
	good := listen(t, routes(issuer)).send("GET", "/jwks.json").body
	text := login(t, issuer)
	write := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	stall := func(w http.ResponseWriter) { // the end of a handler would end the response
		if connection, _, err := http.NewResponseController(w).Hijack(); err == nil {
			t.Cleanup(func() { _ = connection.Close() })
		}
	}
	padded := func(size int) string { return good + strings.Repeat(" ", size-len(good)) }
	var elsewhere atomic.Int32
	for name, row := range map[string]struct {
		handler http.HandlerFunc
		ok      bool
		cause   string
	}{
		"good":         {write(200, good), true, ""},
		"at the limit": {write(200, padded(limit)), true, ""},
		"above it":     {write(200, padded(limit+1)), false, "longer than"},
		"HTML":         {write(200, "<!DOCTYPE html>"), false, "malformed"},
		"empty":        {write(200, ""), false, "malformed"},
		"no keys":      {write(200, `{"keys":[]}`), false, "no key"},
		"404":          {write(404, good), false, "404"},
		"500":          {write(500, good), false, "500"},
		"201":          {write(201, good), false, "201"},
		"204":          {write(204, ""), false, "204"},
		"same origin":  {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, false, "302"},
		"another origin": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusPermanentRedirect)
		}, false, "308"},
		"slow headers": {func(w http.ResponseWriter, _ *http.Request) { stall(w) }, false, "deadline"},
		"slow body": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, good[:20])
			_ = http.NewResponseController(w).Flush()
			stall(w)
		}, false, "deadline"},
		"cut body": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5000")
			_, _ = io.WriteString(w, good)
		}, false, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			mux := http.NewServeMux()
			mux.HandleFunc("/jwks.json", row.handler)
			mux.HandleFunc("/elsewhere", func(w http.ResponseWriter, r *http.Request) { elsewhere.Add(1); write(200, good)(w, r) })
			url, client := listenTLS(t, mux)
			log := new(eventLog)
			verifier := newAuth(t, keysFrom(url+"/jwks.json", client), func(c *middleware.Config) {
				c.OnEvent = log.record
				if row.cause == "deadline" {
					c.StoreTimeout = 50 * time.Millisecond
				}
			})
			// The sessions of issuer are older than verifier's store (R20), so token_revoked means that the key was found.
			r := listen(t, routes(verifier)).send("GET", "/required", bearer(text))
			if row.ok {
				r.rejected(t, middleware.CodeTokenRevoked)
				return
			}
			r.rejected(t, middleware.CodeStoreUnavailable)
			events := log.take()
			if len(events) != 1 || !strings.Contains(strings.Join(errorTexts(events[0].Err), " "), row.cause) {
				t.Errorf("events %+v, caused by %v, want %q", events, errorTexts(events[0].Err), row.cause)
			}
		})
	}
	if n := elsewhere.Load(); n != 0 {
		t.Errorf("%d redirects were followed", n)
	}
}

// New names every mistake, and never prints the URL: it may contain a password.
func TestR15KeysFromMistakes(t *testing.T) {
	const good = "https://auth.example.org/.well-known/jwks.json"
	for name, row := range map[string]struct {
		change change
		words  []string // nil if it is accepted
	}{
		"https":               {keysFrom(good, nil), nil},
		"with a query":        {keysFrom("https://auth.example.org:8443/keys?tenant=7", nil), nil},
		"localhost":           {keysFrom("http://localhost:8080/jwks.json", nil), nil},
		"loopback":            {keysFrom("http://127.0.0.1:8080/jwks.json", nil), nil},
		"loopback IPv6":       {keysFrom("http://[::1]:8080/jwks.json", nil), nil},
		"http":                {keysFrom("http://auth.example.org/jwks.json", nil), []string{"KeysFrom.URL", "https"}},
		"http in a network":   {keysFrom("http://10.0.0.1/jwks.json", nil), []string{"KeysFrom.URL", "https"}},
		"like localhost":      {keysFrom("http://localhost.example.org/jwks.json", nil), []string{"KeysFrom.URL", "https"}},
		"like an address":     {keysFrom("http://127.0.0.1.example.org/jwks.json", nil), []string{"KeysFrom.URL", "https"}},
		"no URL":              {keysFrom("", nil), []string{"KeysFrom.URL", "https"}},
		"no scheme":           {keysFrom("auth.example.org/jwks.json", nil), []string{"KeysFrom.URL"}},
		"no host":             {keysFrom("https:///jwks.json", nil), []string{"KeysFrom.URL"}},
		"a file":              {keysFrom("file:///etc/jwks.json", nil), []string{"KeysFrom.URL"}},
		"a password":          {keysFrom("https://me:hunter2@auth.example.org/jwks.json", nil), []string{"KeysFrom.URL", "password"}},
		"a broken one":        {keysFrom("https://me:hunter2@auth.example.org/%zz", nil), []string{"KeysFrom.URL"}},
		"Keys as well":        {func(c *middleware.Config) { keysFrom(good, nil)(c); keys(public(signers()[middleware.EdDSA]))(c) }, []string{"Keys and KeysFrom"}},
		"Authenticate":        {func(c *middleware.Config) { a := c.Authenticate; keysFrom(good, nil)(c); c.Authenticate = a }, []string{"Authenticate", "verify-only"}},
		"Reload":              {func(c *middleware.Config) { keysFrom(good, nil)(c); c.Reload = new(reloader).reload }, []string{"Reload", "verify-only"}},
		"all of them":         {func(c *middleware.Config) { c.KeysFrom = &middleware.JWKS{} }, []string{"KeysFrom.URL", "Keys and KeysFrom", "Authenticate"}},
		"no store":            {func(c *middleware.Config) { keysFrom(good, nil)(c); c.Store = nil }, []string{"Store is missing"}},
		"blind":               {func(c *middleware.Config) { keysFrom(good, nil)(c); c.Store, c.DangerouslyIgnoreRevocation = nil, true }, nil},
		"blind, with a store": {func(c *middleware.Config) { keysFrom(good, nil)(c); c.DangerouslyIgnoreRevocation = true }, []string{"DangerouslyIgnoreRevocation"}},
	} {
		_, err := middleware.New(newConfig(t, row.change))
		if (err == nil) != (row.words == nil) {
			t.Errorf("R15: %s: %v", name, err)
		}
		for _, word := range row.words {
			if err != nil && (!strings.Contains(err.Error(), word) || strings.Contains(err.Error(), "hunter2")) {
				t.Errorf("R15: %s: %q, want %q in it", name, err, word)
			}
		}
	}
}

// An Auth with KeysFrom has no keys of its own to replace or to publish.
func TestKeysFromHasNoKeysOfItsOwn(t *testing.T) {
	verifier := newAuth(t, keysFrom("https://auth.example.org/jwks.json", nil))
	if err := verifier.SetKeys([]middleware.Key{public(signers()[middleware.EdDSA])}); err == nil || !strings.Contains(err.Error(), "KeysFrom") {
		t.Errorf("SetKeys: %v, want an error that names KeysFrom", err)
	}
	listen(t, routes(verifier)).send("GET", "/jwks.json").rejected(t, middleware.CodeServerError)
	if _, err := verifier.Issue(t.Context(), middleware.Identity{Subject: "admin"}); err == nil || !strings.Contains(err.Error(), "only public keys") {
		t.Errorf("Issue: %v, want an error that says why", err)
	}
	if hits, misses := verifier.CacheStats(); hits != 0 || misses != 0 {
		t.Errorf("%d hits and %d misses before the first token", hits, misses)
	}
}

// Requests race with each other and with rotations on the other server. For the race detector.
func TestKeysFromRaces(t *testing.T) {
	t.Parallel()
	store := sharing(t)
	old, next := signers()[middleware.EdDSA], signers()[middleware.ES256]
	issuer := newAuth(t, store, keys(old, next))
	url, client := listenTLS(t, routes(issuer))
	verifier := newAuth(t, store, keysFrom(url+"/jwks.json", client))
	texts := []string{login(t, issuer), login(t, issuer)}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 100 {
				if i == 0 {
					_ = issuer.SetKeys([]middleware.Key{[]middleware.Key{old, next}[n%2], []middleware.Key{next, old}[n%2]})
				}
				if _, err := verifier.Verify(t.Context(), texts[n%2]); err != nil {
					t.Errorf("a genuine token: %v", err)
				}
				if _, err := verifier.Verify(t.Context(), forge(`{"alg":"EdDSA","kid":"unknown","typ":"JWT"}`, "{}")); !hasCode(err, middleware.CodeTokenInvalid) {
					t.Errorf("an unknown key: %v, want token_invalid", err)
				}
				verifier.CacheStats()
			}
		})
	}
	all.Wait()
}
