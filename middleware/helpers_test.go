package middleware_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"hash"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
)

func init() { gin.SetMode(gin.TestMode) }

// secret signs in every test that does not bring a key of its own.
var secret = []byte("this secret has 32 bytes or more.")

func hs256(id string, secret []byte) middleware.Key {
	return middleware.Key{ID: id, Algorithm: middleware.HS256, Key: secret}
}

type change = func(*middleware.Config)

// newConfig is a configuration without mistakes: /login takes whoever gives a name.
func newConfig(t testing.TB, changes ...change) middleware.Config {
	t.Helper()
	config := middleware.Config{
		Keys:  []middleware.Key{hs256("", secret)},
		Store: newMemory(t),
		Authenticate: func(c *gin.Context) (middleware.Identity, error) {
			return middleware.Identity{Subject: c.Query("user")}, nil
		},
	}
	for _, change := range changes {
		change(&config)
	}
	return config
}

func newMemory(t testing.TB) *store.Memory {
	memory := store.NewMemory()
	t.Cleanup(func() { _ = memory.Close() })
	return memory
}

func newAuth(t testing.TB, changes ...change) *middleware.Auth {
	t.Helper()
	auth, err := middleware.New(newConfig(t, changes...))
	if err != nil {
		t.Fatal(err)
	}
	return auth
}

func issue(t testing.TB, auth *middleware.Auth, id middleware.Identity) string {
	t.Helper()
	tokens, err := auth.Issue(t.Context(), id)
	if err != nil {
		t.Fatal("issue:", err)
	}
	return tokens.AccessToken
}

func refresh(t testing.TB, auth *middleware.Auth, text string) string {
	t.Helper()
	tokens, err := auth.Refresh(t.Context(), text)
	if err != nil {
		t.Fatal("refresh:", err)
	}
	return tokens.AccessToken
}

func verify(t testing.TB, auth *middleware.Auth, text string) middleware.Claims {
	t.Helper()
	claims, err := auth.Verify(t.Context(), text)
	if err != nil {
		t.Fatal("verify:", err)
	}
	return claims
}

// login issues a token to admin without HTTP.
func login(t testing.TB, auth *middleware.Auth) string {
	t.Helper()
	return issue(t, auth, middleware.Identity{Subject: "admin"})
}

// Tokens that we make ourselves.

const ourHeader = `{"alg":"HS256","typ":"JWT"}`

func segment(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// seal signs two segments as they are.
func seal(newHash func() hash.Hash, key []byte, header, payload string) string {
	mac := hmac.New(newHash, key)
	_, _ = io.WriteString(mac, header+"."+payload)
	return header + "." + payload + "." + segment(string(mac.Sum(nil)))
}

// forge signs any header and payload with the genuine secret.
func forge(header, payload string) string {
	return seal(sha256.New, secret, segment(header), segment(payload))
}

// members are a payload's, as JSON.
type members map[string]string

func membersOf(t testing.TB, text string) members {
	t.Helper()
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(text, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(payload, &raw); err != nil {
		t.Fatal(err)
	}
	m := members{}
	for name, value := range raw {
		m[name] = string(value)
	}
	return m
}

func (m members) with(name, value string) members {
	m = maps.Clone(m)
	m[name] = value
	return m
}

func (m members) without(name string) members {
	m = maps.Clone(m)
	delete(m, name)
	return m
}

// object writes the members in the order of their names, and then more as it is.
func (m members) object(more ...string) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		all = append(all, strconv.Quote(name)+":"+m[name])
	}
	return "{" + strings.Join(append(all, more...), ",") + "}"
}

// integer reads a date of a payload.
func (m members) integer(name string) int64 {
	n, _ := strconv.ParseInt(m[name], 10, 64)
	return n
}

// sid is the session's id, without the quotes.
func (m members) sid() string { return strings.Trim(m["sid"], `"`) }

// aged is the token as it would be had its session begun so much earlier.
func aged(t testing.TB, text string, age time.Duration) string {
	t.Helper()
	m := membersOf(t, text)
	sid := m.sid()
	for _, date := range []string{"iat", "exp", "auth_time", "refresh_exp"} {
		m[date] = strconv.FormatInt(m.integer(date)-int64(age/time.Second), 10)
	}
	issued, err := strconv.ParseInt(strings.TrimPrefix(strings.Trim(m["jti"], `"`), sid+"."), 36, 64)
	if err != nil {
		t.Fatal(err)
	}
	m["jti"] = strconv.Quote(sid + "." + strconv.FormatInt(issued-age.Microseconds(), 36))
	return forge(ourHeader, m.object())
}

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

// doors are the requests that take a token.
var doors = []struct{ method, path string }{
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

// whoami answers with the subject and the token's id, or "guest".
func whoami(c *gin.Context) {
	claims, ok := middleware.ClaimsFrom(c)
	if !ok {
		c.String(http.StatusOK, "guest")
		return
	}
	c.String(http.StatusOK, claims.Subject+" "+claims.ID)
}

// An edit completes a request.
type edit = func(*http.Request)

func bearer(text string) edit { return header("Authorization", "Bearer "+text) }

// header adds a header.
func header(name, value string) edit {
	return func(r *http.Request) { r.Header[name] = append(r.Header[name], value) }
}

func body(contentType, text string) edit {
	return func(r *http.Request) {
		r.Body = io.NopCloser(strings.NewReader(text))
		r.ContentLength = int64(len(text))
		r.Header.Set("Content-Type", contentType)
	}
}

func jsonBody(text string) edit { return body("application/json", text) }

// A reply is what the client sees.
type reply struct {
	status int
	header http.Header
	body   string
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

// passed checks that a guard let the request through.
func (r reply) passed(t testing.TB, subject string) {
	t.Helper()
	if got, _, _ := strings.Cut(r.body, " "); r.status != http.StatusOK || got != subject {
		t.Errorf("answer %d %q, want it to be %q", r.status, r.body, subject)
	}
}

// refusals is the table of the wire: what goes with a code.
var refusals = map[middleware.Code]struct {
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

// refused checks an answer against the wire's table: status, members and headers, to the letter. The
// challenge ends with more.
func (r reply) refused(t testing.TB, code middleware.Code, more ...string) {
	t.Helper()
	fields := map[string]any{}
	if json.Unmarshal([]byte(r.body), &fields) != nil || fields["code"] != string(code) {
		t.Errorf("answer %d %q, want code %s", r.status, r.body, code)
		return
	}
	want := refusals[code]
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

// refusedEverywhere offers a token to every step and every door.
func refusedEverywhere(t testing.TB, auth *middleware.Auth, site site, text string, code middleware.Code) {
	t.Helper()
	for step, call := range steps(auth) {
		if err := call(t.Context(), text); !hasCode(err, code) {
			t.Errorf("%s: %v, want %s", step, err, code)
		}
	}
	for _, door := range doors {
		site.send(door.method, door.path, bearer(text)).refused(t, code)
	}
}

// steps are the ways to present a token without HTTP.
func steps(auth *middleware.Auth) map[string]func(ctx context.Context, text string) error {
	return map[string]func(ctx context.Context, text string) error{
		"Verify":  func(ctx context.Context, text string) error { _, err := auth.Verify(ctx, text); return err },
		"Refresh": func(ctx context.Context, text string) error { _, err := auth.Refresh(ctx, text); return err },
		"Logout":  auth.Logout,
	}
}

// hasCode reports whether a step failed with the code, and the status that goes with it.
func hasCode(err error, code middleware.Code) bool {
	var e *middleware.Error
	return errors.As(err, &e) && e.Code == code && e.Status == refusals[code].status
}
