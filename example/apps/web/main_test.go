package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/gin-gonic/gin"
	"golang.org/x/oauth2"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode)
	gin.DefaultWriter = io.Discard
	os.Exit(m.Run())
}

// site is the application behind TLS, as browsers see it.
type site struct {
	*httptest.Server
	app      *app
	provider *provider
}

func newSite(t *testing.T, ttl time.Duration) site {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	a := &app{publicURL: "https://" + server.Listener.Addr().String(), ttl: ttl, tick: 10 * time.Millisecond}
	p := newProvider(t, a)
	routes, err := a.routes([]byte(strings.Repeat("k", 32)))
	if err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = routes
	server.StartTLS()
	t.Cleanup(server.Close)
	return site{server, a, p}
}

// browser is a browser with its own cookies. All its tabs share them.
type browser struct {
	t    *testing.T
	site site
	http *http.Client
}

func (s site) browser(t *testing.T) browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := *s.Client()
	client.Jar = jar
	return browser{t, s, &client}
}

// page is where a browser ends up after the redirects.
type page struct {
	status    int
	path, url string
	text      string
	cookies   []*http.Cookie
}

func (b browser) send(r *http.Request, err error) page {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
	response, err := b.http.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	u := response.Request.URL
	return page{response.StatusCode, u.Path, u.RequestURI(), string(text), response.Cookies()}
}

func (b browser) get(path string) page {
	b.t.Helper()
	return b.send(http.NewRequestWithContext(b.t.Context(), "GET", b.site.URL+path, nil))
}

// post submits a form of a page of the given origin.
func (b browser) post(path, origin string, form url.Values) page {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), "POST", b.site.URL+path, strings.NewReader(form.Encode()))
	if err == nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", origin)
	}
	return b.send(r, err)
}

func (b browser) logIn(fields ...string) page {
	b.t.Helper()
	form := url.Values{"user": {"ann"}, "password": {"open sesame"}}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	return b.post("/login", b.site.URL, form)
}

// cookie returns a cookie of the site, or "".
func (b browser) cookie(name string) string {
	u, _ := url.Parse(b.site.URL)
	for _, c := range b.http.Jar.Cookies(u) {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

const access = "__Host-access_token"

func want(t *testing.T, what string, got page, status int, url, text string) {
	t.Helper()
	if got.status != status || got.url != url || !strings.Contains(got.text, text) {
		t.Fatalf("%s: %d %s %q, want %d %s %q", what, got.status, got.url, got.text, status, url, text)
	}
}

func TestFormLogin(t *testing.T) {
	b := newSite(t, time.Hour).browser(t)
	want(t, "a guest", b.get("/clock?zone=utc"), 200, "/login?next=%2Fclock%3Fzone%3Dutc", "Log in")
	want(t, "a wrong password", b.logIn("password", "wrong", "next", "/clock"), 200, "/login?failed=1&next=%2Fclock", "is wrong")
	want(t, "an unknown user", b.logIn("user", "eve"), 200, "/login?failed=1&next=", "is wrong")
	if b.cookie(access) != "" {
		t.Error("a failed login sets a cookie")
	}
	want(t, "from another site", b.post("/login", "https://evil.example", url.Values{"user": {"ann"}, "password": {"open sesame"}}), 403, "/login", "cross-origin")
	want(t, "the right password", b.logIn("next", "/clock?zone=utc"), 200, "/clock?zone=utc", "The clock")
	want(t, "home", b.get("/"), 200, "/", "Hello, ann")
	old := b.cookie(access)
	want(t, "logout", b.post("/logout", b.site.URL, nil), 200, "/login", "Log in")
	if b.cookie(access) != "" {
		t.Error("the cookie remains")
	}
	want(t, "logout again", b.post("/logout", b.site.URL, nil), 200, "/login", "Log in")
	stolen := b.site.browser(t)
	u, _ := url.Parse(b.site.URL)
	stolen.http.Jar.SetCookies(u, []*http.Cookie{{Name: access, Value: old, Secure: true, Path: "/"}})
	want(t, "the cookie after the logout", stolen.get("/"), 200, "/login?next=%2F", "Log in")
	for _, next := range []string{"https://evil.example", "//evil.example", `/\evil.example`, "/\t/evil.example", "javascript:alert(1)", ""} {
		want(t, next, b.logIn("next", next), 200, "/", "Hello, ann")
	}
}

func TestRememberMe(t *testing.T) {
	b := newSite(t, time.Hour).browser(t)
	b.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for remember, want := range map[string]int{"": 12 * 60 * 60, "1": 30 * 24 * 60 * 60} {
		cookies := b.logIn("remember", remember).cookies
		if len(cookies) != 1 || cookies[0].MaxAge > want || cookies[0].MaxAge < want-60 {
			t.Errorf("remember %q: the cookies are %v, want one for %d seconds", remember, cookies, want)
		}
	}
}

// provider is an OAuth 2.0 server with PKCE.
type provider struct {
	t         *testing.T
	challenge string // of the last code
	code      string
	exchanges int
}

// newProvider lets the application use a new provider.
func newProvider(t *testing.T, a *app) *provider {
	p := &provider{t: t}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /authorize", p.authorize)
	mux.HandleFunc("POST /token", p.token)
	mux.HandleFunc("GET /user", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer of-the-provider" {
			w.WriteHeader(http.StatusUnauthorized)
		}
		_, _ = io.WriteString(w, `{"id": 7, "login": "ann"}`)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	a.oauth = oauth2.Config{ClientID: "web", ClientSecret: "s3cret", Endpoint: oauth2.Endpoint{
		AuthURL: server.URL + "/authorize", TokenURL: server.URL + "/token", AuthStyle: oauth2.AuthStyleInHeader}}
	a.userURL = server.URL + "/user"
	return p
}

func (p *provider) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if q.Get("response_type") != "code" || q.Get("client_id") != "web" || q.Get("code_challenge_method") != "S256" {
		p.t.Errorf("the request to the provider is %s", r.URL)
	}
	p.challenge, p.code = q.Get("code_challenge"), "code-of-"+q.Get("state")[:8]
	http.Redirect(w, r, q.Get("redirect_uri")+"?"+url.Values{"code": {p.code}, "state": {q.Get("state")}}.Encode(), http.StatusFound)
}

func (p *provider) token(w http.ResponseWriter, r *http.Request) {
	p.exchanges++
	id, secret, _ := r.BasicAuth()
	sum := sha256.Sum256([]byte(r.FormValue("code_verifier")))
	if id != "web" || secret != "s3cret" || r.FormValue("code") != p.code || base64.RawURLEncoding.EncodeToString(sum[:]) != p.challenge {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	p.code = "used"
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"access_token": "of-the-provider", "token_type": "bearer"}`)
}

func TestOAuthLogin(t *testing.T) {
	s := newSite(t, time.Hour)
	b := s.browser(t)
	want(t, "the login", b.get("/login"), 200, "/login", "Log in with GitHub")
	var callback string
	b.http.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if r.URL.Path == "/oauth/callback" {
			callback = r.URL.RequestURI()
		}
		return nil
	}
	want(t, "the login with OAuth", b.get("/oauth/login"), 200, "/", "Hello, github:7")
	if b.cookie("__Host-oauth") != "" {
		t.Error("the state can be used again")
	}
	want(t, "the same callback again", b.get(callback), 400, callback, "the login with GitHub failed")
	want(t, "still logged in", b.get("/"), 200, "/", "Hello, github:7")
}

// An attacker begins a login, does not follow the last redirect, and sends its URL to a victim. The victim must not be logged
// in to the attacker's account.
func TestOAuthCallbackOfAnotherBrowser(t *testing.T) {
	s := newSite(t, time.Hour)
	stop := func(r *http.Request, _ []*http.Request) error {
		if r.URL.Path == "/oauth/callback" {
			return http.ErrUseLastResponse
		}
		return nil
	}
	callback := func() string {
		attacker := s.browser(t)
		attacker.http.CheckRedirect = stop
		response, err := attacker.http.Get(s.URL + "/oauth/login")
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		u, err := response.Location()
		if err != nil {
			t.Fatal(err)
		}
		return u.RequestURI()
	}
	victim := s.browser(t)
	url := callback()
	want(t, "no login begun", victim.get(url), 400, url, "the login with GitHub failed")
	victim.http.CheckRedirect = stop
	victim.get("/oauth/login")
	victim.http.CheckRedirect = nil
	url = callback()
	want(t, "another login begun", victim.get(url), 400, url, "the login with GitHub failed")
	if victim.cookie(access) != "" || s.provider.exchanges > 0 {
		t.Errorf("the victim has the cookie %q, and %d codes were exchanged", victim.cookie(access), s.provider.exchanges)
	}

	// A stolen code, with the victim's own state: the provider compares the verifier.
	thief := s.browser(t)
	thief.http.CheckRedirect = stop
	thief.get("/oauth/login")
	state, _, _ := strings.Cut(thief.cookie("__Host-oauth"), ".")
	stolen, _, _ := strings.Cut(strings.TrimPrefix(callback(), "/oauth/callback?code="), "&")
	url = "/oauth/callback?code=" + stolen + "&state=" + state
	want(t, "a stolen code", thief.get(url), 400, url, "the login with GitHub failed")
	if s.provider.exchanges != 1 {
		t.Errorf("%d codes were exchanged, want the stolen one", s.provider.exchanges)
	}
}

// clock opens the WebSocket of a page.
func (b browser) clock(origin string) (*websocket.Conn, *http.Response, error) {
	b.t.Helper()
	conn, response, err := websocket.Dial(b.t.Context(), b.site.URL+"/clock/socket", &websocket.DialOptions{
		HTTPClient: b.http, HTTPHeader: http.Header{"Origin": {origin}}})
	if err == nil {
		b.t.Cleanup(func() { _ = conn.CloseNow() })
	}
	return conn, response, err
}

// read reads n messages. It returns an error if the connection is closed before.
func read(ctx context.Context, conn *websocket.Conn, n int) error {
	for range n {
		if _, _, err := conn.Read(ctx); err != nil {
			return err
		}
	}
	return nil
}

// A page never shows a 401, and its WebSocket lives as long as the session: longer than the token, and not longer.
func TestPagesAndSocket(t *testing.T) {
	s := newSite(t, 3*time.Second) // of which a token may lose one to rounding
	b := s.browser(t)
	b.logIn()
	conn, _, err := b.clock(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	first := b.cookie(access)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		if err := read(ctx, conn, 1); err != nil {
			t.Fatalf("the WebSocket is closed when its token expires: %v", err)
		}
		if _, err := s.app.auth.Verify(ctx, first); err != nil {
			break
		}
	}
	want(t, "a page with an expired token", b.get("/"), 200, "/", "Hello, ann") // in another tab
	if b.cookie(access) == first {
		t.Error("the token is not refreshed")
	}
	if err := read(ctx, conn, 20); err != nil {
		t.Errorf("a refresh in another tab closes the WebSocket: %v", err)
	}
	second := s.browser(t)
	second.logIn()
	other, _, err := second.clock(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "logout in another tab", b.post("/logout", s.URL, nil), 200, "/login", "Log in")
	err = read(ctx, conn, 1000)
	if websocket.CloseStatus(err) != websocket.StatusPolicyViolation || !strings.Contains(err.Error(), "token_revoked") {
		t.Errorf("after the logout: %v, want a close with 1008 token_revoked", err)
	}
	if err := read(ctx, other, 20); err != nil {
		t.Errorf("the logout closes the WebSocket of another session: %v", err)
	}
}

func TestSocketHandshake(t *testing.T) {
	s := newSite(t, time.Hour)
	b := s.browser(t)
	if _, response, err := b.clock(s.URL); err == nil || response.Request.URL.Path != "/login" {
		t.Errorf("without a session: %v", err)
	}
	b.logIn()
	if _, response, err := b.clock("https://evil.example"); err == nil || response.StatusCode != http.StatusForbidden {
		t.Errorf("from another site: %v", err)
	}
	if _, _, err := b.clock(s.URL); err != nil {
		t.Errorf("from the site itself: %v", err)
	}
}
