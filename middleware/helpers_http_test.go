package middleware_test

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// A site is a router to talk to.
type site struct {
	t   testing.TB
	url string
	do  func(*http.Request) (*http.Response, error)
}

// listen serves on a real listener.
func listen(t testing.TB, handler http.Handler) site {
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return site{t: t, url: server.URL, do: server.Client().Do}
}

// direct calls the handler without a network: for bubbles, and for bytes that no HTTP client sends.
func direct(t testing.TB, handler http.Handler) site {
	return site{t: t, do: func(r *http.Request) (*http.Response, error) {
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, r)
		return recorder.Result(), nil
	}}
}

func (s site) send(method, path string, edits ...edit) reply {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, edit := range edits {
		edit(r)
	}
	response, err := s.do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return reply{status: response.StatusCode, header: response.Header, body: string(text)}
}

// A testServer is an Auth with all its routes on a real listener, and a login.
type testServer struct {
	site
	auth *middleware.Auth
	text string // the token of admin's login
}

func newServer(t *testing.T, changes ...change) testServer {
	t.Helper()
	auth := newAuth(t, changes...)
	return testServer{listen(t, routes(auth)), auth, login(t, auth)}
}

// stillUsable checks that the desk's token is not used up.
func (d testServer) stillUsable(rule string) {
	d.t.Helper()
	if r := d.send("POST", "/refresh", bearer(d.text)); r.status != http.StatusOK {
		d.t.Errorf("%s: the token is used up: %d %s", rule, r.status, r.body)
	}
}

// routes has every handler and every guard once. The guarded handler answers with whom it sees.
func routes(auth *middleware.Auth) *gin.Engine {
	r := gin.New()
	r.POST("/login", auth.LoginHandler)
	r.POST("/refresh", auth.RefreshHandler)
	r.POST("/logout", auth.LogoutHandler)
	r.POST("/logout/all", auth.LogoutAllHandler)
	for path, guard := range map[string]gin.HandlerFunc{
		"/required":    auth.Required(),
		"/optional":    auth.Optional(),
		"/autorefresh": auth.AutoRefresh(time.Minute),
		"/fresh":       auth.Fresh(10 * time.Minute),
		"/allow":       auth.Allow(func(*gin.Context, middleware.Claims) bool { return true }),
		"/never":       auth.Allow(func(*gin.Context, middleware.Claims) bool { return false }),
	} {
		r.Any(path, guard, whoami)
	}
	return r
}

// sharedRoutes has the handlers and the guards of both modes.
func sharedRoutes(auth *middleware.Auth) *gin.Engine {
	r := gin.New()
	for path, handler := range map[string]gin.HandlerFunc{
		"/login": auth.LoginHandler, "/refresh": auth.RefreshHandler, "/logout": auth.LogoutHandler, "/logout/all": auth.LogoutAllHandler,
		"/revoke": auth.RevokeHandler, "/introspect": auth.IntrospectHandler,
	} {
		r.POST(path, handler)
	}
	r.GET("/jwks.json", auth.JWKSHandler)
	for path, guard := range guards(auth) {
		r.Any(path, guard, whoami)
	}
	return r
}

// guards are those of both modes. /allow is for the role admin.
func guards(auth *middleware.Auth) map[string]gin.HandlerFunc {
	return map[string]gin.HandlerFunc{
		"/required":     auth.Required(),
		"/in/:jwt/path": auth.Required(),
		"/optional":     auth.Optional(),
		"/fresh":        auth.Fresh(10 * time.Minute),
		"/allow": auth.Allow(func(_ *gin.Context, claims middleware.Claims) bool {
			var own struct{ Role string }
			return claims.Decode(&own) == nil && own.Role == "admin"
		}),
	}
}

// whoami answers with the subject and the token's id, or "guest".
func whoami(c *gin.Context) {
	claims, ok := middleware.ClaimsFrom(c)
	if !ok {
		c.String(http.StatusOK, "guest")
		return
	}
	c.String(http.StatusOK, claims.Subject+" "+claims.ID)
}

// tokenRoutes are the requests that take a token.
var tokenRoutes = []struct{ method, path string }{
	{"GET", "/required"},
	{"GET", "/optional"},
	{"GET", "/autorefresh"},
	{"GET", "/fresh"},
	{"GET", "/allow"},
	{"GET", "/never"},
	{"POST", "/refresh"},
	{"POST", "/logout"},
	{"POST", "/logout/all"},
}

// bodyRoutes are the handlers that take a token from more places than the header.
var bodyRoutes = []string{"/refresh", "/logout", "/logout/all"}

// An edit completes a request.
type edit = func(*http.Request)

// header adds a header.
func header(name, value string) edit {
	return func(r *http.Request) { r.Header[name] = append(r.Header[name], value) }
}

func authorization(value string) edit {
	return func(r *http.Request) { r.Header.Set("Authorization", value) }
}

func bearer(text string) edit { return header("Authorization", "Bearer "+text) }

func anonymous(r *http.Request) { r.Header.Del("Authorization") }

func body(contentType, text string) edit {
	return func(r *http.Request) {
		r.Body = io.NopCloser(strings.NewReader(text))
		r.ContentLength = int64(len(text))
		r.Header.Set("Content-Type", contentType)
	}
}

const form = "application/x-www-form-urlencoded"

func jsonBody(text string) edit { return body("application/json", text) }

// insertToken puts the token where TOKEN stands in the header or the body, and what follows "eyJ" where REST does.
func insertToken(text string) edit {
	replace := strings.NewReplacer("TOKEN", text, "REST", strings.TrimPrefix(text, "eyJ")).Replace
	return func(r *http.Request) {
		for i, value := range r.Header["Authorization"] {
			r.Header["Authorization"][i] = replace(value)
		}
		if r.Body != nil {
			var b bytes.Buffer
			_, _ = b.ReadFrom(r.Body)
			body(r.Header.Get("Content-Type"), replace(b.String()))(r)
		}
	}
}

// A reply is what the client sees.
type reply struct {
	status int
	header http.Header
	body   string
}

// fields reads an answer's members.
func (r reply) fields(t testing.TB) map[string]any {
	t.Helper()
	var fields map[string]any
	d := json.NewDecoder(bytes.NewReader([]byte(r.body)))
	d.UseNumber()
	if err := d.Decode(&fields); err != nil {
		t.Fatalf("%v in the answer %d %q", err, r.status, r.body)
	}
	return fields
}

// token is the one that a login or refresh answered with.
func (r reply) token(t testing.TB) string {
	t.Helper()
	text, _ := r.fields(t)["access_token"].(string)
	if r.status != http.StatusOK || text == "" {
		t.Fatalf("no token in the answer %d %s", r.status, r.body)
	}
	return text
}

// tokens are those of an answer's body or cookies.
func (r reply) tokens(t testing.TB) middleware.Tokens {
	t.Helper()
	fields := r.fields(t)
	access, _ := fields["access_token"].(string)
	refresh, _ := fields["refresh_token"].(string)
	if access == "" {
		cookies := r.cookies()
		access, refresh = cookies["access_token"].Value, cookies["refresh_token"].Value
	}
	if r.status != http.StatusOK || access == "" {
		t.Fatalf("no tokens in the answer %d %s %v", r.status, r.body, r.header)
	}
	return middleware.Tokens{AccessToken: access, RefreshToken: refresh}
}

// cookies are those that an answer sets, by their names without prefix.
func (r reply) cookies() map[string]http.Cookie {
	set := map[string]http.Cookie{}
	for _, cookie := range (&http.Response{Header: r.header}).Cookies() {
		name := strings.TrimPrefix(strings.TrimPrefix(cookie.Name, "__Host-"), "__Secure-")
		if _, twice := set[name]; twice {
			set["twice "+name] = *cookie
		}
		set[name] = *cookie
	}
	return set
}

// passed checks that a guard let the request through.
func (r reply) passed(t testing.TB, subject string) {
	t.Helper()
	if got, _, _ := strings.Cut(r.body, " "); r.status != http.StatusOK || got != subject {
		t.Errorf("answer %d %q, want it to be %q", r.status, r.body, subject)
	}
}

// accepts is 200 for a refresh and 204 for both logouts.
func (r reply) accepted(t testing.TB, path string) {
	t.Helper()
	want := http.StatusNoContent
	if path == "/refresh" {
		want = http.StatusOK
	}
	if r.status != want {
		t.Errorf("%s answers %d %s, want %d", path, r.status, r.body, want)
	}
}

func (r reply) notStored(t testing.TB) {
	t.Helper()
	if r.header.Get("Cache-Control") != "no-store" || r.header.Get("Pragma") != "no-cache" {
		t.Errorf("answer %d can be stored: %v", r.status, r.header)
	}
}

// wireErrors is the table of the wire: what goes with a code.
var wireErrors = map[middleware.Code]struct {
	status int
	kind   string
}{
	middleware.CodeBadRequest:         {400, "invalid_request"},
	middleware.CodeTokenMissing:       {401, ""},
	middleware.CodeTokenInvalid:       {401, "invalid_token"},
	middleware.CodeTokenExpired:       {401, "invalid_token"},
	middleware.CodeTokenRevoked:       {401, "invalid_token"},
	middleware.CodeRefreshExpired:     {401, "invalid_token"},
	middleware.CodeTokenReused:        {401, "invalid_token"},
	middleware.CodeSubjectRefused:     {401, "invalid_token"},
	middleware.CodeInvalidCredentials: {401, "invalid_credentials"},
	middleware.CodeLoginTooOld:        {401, "insufficient_user_authentication"},
	middleware.CodeForbidden:          {403, "insufficient_scope"},
	middleware.CodeStoreUnavailable:   {503, "temporarily_unavailable"},
	middleware.CodeServerError:        {500, "server_error"},
}

// rejected checks an answer against the wire's table: status, members and headers, to the letter. The
// challenge ends with more.
func (r reply) rejected(t testing.TB, code middleware.Code, more ...string) {
	t.Helper()
	fields := map[string]any{}
	if json.Unmarshal([]byte(r.body), &fields) != nil || fields["code"] != string(code) {
		t.Errorf("answer %d %q, want code %s", r.status, r.body, code)
		return
	}
	want := wireErrors[code]
	description, _ := fields["error_description"].(string)
	members, challenge, retry := []string{"code", "error", "error_description"}, "", ""
	switch {
	case want.kind == "": // RFC 6750 §3.1: no error where no token was sent
		members, challenge = []string{"code", "error_description"}, `Bearer realm="api"`
	case want.status == http.StatusUnauthorized:
		challenge = `Bearer realm="api", error="` + want.kind + `", error_description="` + description + `"`
	case want.status == http.StatusServiceUnavailable:
		retry = "1"
	}
	challenge += strings.Join(more, "")
	kind, _ := fields["error"].(string)
	for _, c := range []struct {
		what string
		ok   bool
	}{
		{"status", r.status == want.status},
		{"error", kind == want.kind},
		{"error_description", description != "" && !strings.ContainsAny(description, `"\`)},
		{"members", slices.Equal(slices.Sorted(maps.Keys(fields)), members)},
		{"WWW-Authenticate", strings.Join(r.header.Values("WWW-Authenticate"), "|") == challenge},
		{"Retry-After", r.header.Get("Retry-After") == retry},
		{"Content-Type", strings.HasPrefix(r.header.Get("Content-Type"), "application/json")},
	} {
		if !c.ok {
			t.Errorf("%s is not the wire's for %s: %d %s %v", c.what, code, r.status, r.body, r.header)
		}
	}
}

// rejectedEverywhere offers a token to every step and every door.
func rejectedEverywhere(t testing.TB, auth *middleware.Auth, site site, text string, code middleware.Code) {
	t.Helper()
	for step, call := range steps(auth) {
		if err := call(t.Context(), text); !hasCode(err, code) {
			t.Errorf("%s: %v, want %s", step, err, code)
		}
	}
	for _, door := range tokenRoutes {
		site.send(door.method, door.path, bearer(text)).rejected(t, code)
	}
}
