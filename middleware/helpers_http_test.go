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

// A site is a handler and a way to send it requests.
type site struct {
	t   testing.TB
	url string
	do  func(*http.Request) (*http.Response, error)
}

// listen serves the handler on a real listener.
func listen(t testing.TB, handler http.Handler) site {
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return site{t: t, url: server.URL, do: server.Client().Do}
}

// direct calls the handler without a network: for synctest bubbles, and for bytes that no HTTP client sends.
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

// A testServer is an Auth in one-token mode with its routes on a real listener, and the token of a login.
type testServer struct {
	site
	auth *middleware.Auth
	text string // admin's token
}

func newServer(t *testing.T, changes ...change) testServer {
	t.Helper()
	auth := newAuth(t, changes...)
	return testServer{listen(t, oneTokenRoutes(auth)), auth, login(t, auth)}
}

// stillUsable checks that the server's token has not been replaced or revoked.
func (d testServer) stillUsable(rule string) {
	d.t.Helper()
	if r := d.send("POST", "/refresh", bearer(d.text)); r.status != http.StatusOK {
		d.t.Errorf("%s: the token can no longer be refreshed: %d %s", rule, r.status, r.body)
	}
}

// routes has the handlers and guards of both modes.
func routes(auth *middleware.Auth) *gin.Engine {
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
	r.Any("/never", auth.Allow(func(*gin.Context, middleware.Claims) bool { return false }), whoami)
	return r
}

// oneTokenRoutes adds AutoRefresh, which pair mode does not have.
func oneTokenRoutes(auth *middleware.Auth) *gin.Engine {
	r := routes(auth)
	r.Any("/autorefresh", auth.AutoRefresh(time.Minute), whoami)
	return r
}

// guards are the guards of both modes. /admin requires the role admin.
func guards(auth *middleware.Auth) map[string]gin.HandlerFunc {
	return map[string]gin.HandlerFunc{
		"/required":     auth.Required(),
		"/in/:jwt/path": auth.Required(),
		"/optional":     auth.Optional(),
		"/fresh":        auth.Fresh(10 * time.Minute),
		"/allow":        auth.Allow(func(*gin.Context, middleware.Claims) bool { return true }),
		"/admin": auth.Allow(func(_ *gin.Context, claims middleware.Claims) bool {
			var own struct{ Role string }
			return claims.Decode(&own) == nil && own.Role == "admin"
		}),
	}
}

// whoami answers with the token's subject and id, or with "guest".
func whoami(c *gin.Context) {
	claims, ok := middleware.ClaimsFrom(c)
	if !ok {
		c.String(http.StatusOK, "guest")
		return
	}
	c.String(http.StatusOK, claims.Subject+" "+claims.ID)
}

// tokenRoutes are the routes that read a token.
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

// bodyRoutes are the handlers that read a token from the body as well.
var bodyRoutes = []string{"/refresh", "/logout", "/logout/all"}

// An edit changes a request before it is sent.
type edit = func(*http.Request)

// header adds a header line, without canonicalizing the name.
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

// insertToken replaces TOKEN in the header and the body with the token, and REST with the token without its first
// three letters, "eyJ".
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

// A reply is the response that the client reads.
type reply struct {
	status int
	header http.Header
	body   string
}

// fields decodes the JSON body.
func (r reply) fields(t testing.TB) map[string]any {
	t.Helper()
	var fields map[string]any
	d := json.NewDecoder(bytes.NewReader([]byte(r.body)))
	d.UseNumber()
	if err := d.Decode(&fields); err != nil {
		t.Fatalf("the response %d %q is not JSON: %v", r.status, r.body, err)
	}
	return fields
}

// token returns the access token in the body of a login or refresh.
func (r reply) token(t testing.TB) string {
	t.Helper()
	text, _ := r.fields(t)["access_token"].(string)
	if r.status != http.StatusOK || text == "" {
		t.Fatalf("the response %d %s has no token", r.status, r.body)
	}
	return text
}

// tokens returns the tokens in the body or the cookies.
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
		t.Fatalf("the response %d %s %v has no tokens", r.status, r.body, r.header)
	}
	return middleware.Tokens{AccessToken: access, RefreshToken: refresh}
}

// cookies returns the cookies that the response sets, keyed by name without the prefix __Host- or __Secure-.
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
		t.Errorf("response %d %q, want 200 for %q", r.status, r.body, subject)
	}
}

// accepted checks for 200 from a refresh and 204 from a logout.
func (r reply) accepted(t testing.TB, path string) {
	t.Helper()
	want := http.StatusNoContent
	if path == "/refresh" {
		want = http.StatusOK
	}
	if r.status != want {
		t.Errorf("%s: response %d %s, want %d", path, r.status, r.body, want)
	}
}

// notStored checks that no cache may keep the response.
func (r reply) notStored(t testing.TB) {
	t.Helper()
	if r.header.Get("Cache-Control") != "no-store" || r.header.Get("Pragma") != "no-cache" {
		t.Errorf("response %d may be cached: %v", r.status, r.header)
	}
}

// wireErrors has the status and the RFC error type of each code.
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
	middleware.CodeProofRequired:      {400, "use_dpop_nonce"},
	middleware.CodeProofInvalid:       {400, "invalid_dpop_proof"},
	middleware.CodeSubjectRefused:     {401, "invalid_token"},
	middleware.CodeInvalidCredentials: {401, "invalid_credentials"},
	middleware.CodeLoginTooOld:        {401, "insufficient_user_authentication"},
	middleware.CodeNotFound:           {404, "not_found"},
	middleware.CodeForbidden:          {403, "insufficient_scope"},
	middleware.CodeCrossOrigin:        {403, "invalid_request"},
	middleware.CodeStoreUnavailable:   {503, "temporarily_unavailable"},
	middleware.CodeServerError:        {500, "server_error"},
}

// rejected checks the status, every member and every header that belong to the code. The challenge must end in more.
func (r reply) rejected(t testing.TB, code middleware.Code, more ...string) {
	t.Helper()
	fields := map[string]any{}
	if json.Unmarshal([]byte(r.body), &fields) != nil || fields["code"] != string(code) {
		t.Errorf("response %d %q, want code %s", r.status, r.body, code)
		return
	}
	want := wireErrors[code]
	description, _ := fields["error_description"].(string)
	members, challenge, retry := []string{"code", "error", "error_description"}, "", ""
	switch {
	case want.kind == "": // RFC 6750 §3.1: no error code if no token was sent
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
			t.Errorf("wrong %s for %s: %d %s %v", c.what, code, r.status, r.body, r.header)
		}
	}
}

// rejectedEverywhere presents a token to every step and every route.
func rejectedEverywhere(t testing.TB, auth *middleware.Auth, site site, text string, code middleware.Code) {
	t.Helper()
	for step, call := range steps(auth) {
		if err := call(t.Context(), text); !hasCode(err, code) {
			t.Errorf("%s: %v, want %s", step, err, code)
		}
	}
	for _, route := range tokenRoutes {
		site.send(route.method, route.path, bearer(text)).rejected(t, code)
	}
}
