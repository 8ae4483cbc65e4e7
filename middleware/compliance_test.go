package middleware_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// Requirements of docs/compliance.md that no test of a rule shows.

// presets are the limits of NIST SP 800-63B-4 §2.1.3, §2.2.3 and §2.3.3. A token that is issued right before the deadline
// lives for TTL (R9), so RefreshTTL is the overall limit less TTL.
var presets = map[string]middleware.Config{
	"AAL1": {TTL: time.Hour, RefreshTTL: 30*24*time.Hour - time.Hour},
	"AAL2": {TTL: 10 * time.Minute, RefreshTTL: 24*time.Hour - 10*time.Minute, IdleTTL: time.Hour},
	"AAL3": {TTL: 5 * time.Minute, RefreshTTL: 12*time.Hour - 5*time.Minute, IdleTTL: 15 * time.Minute},
}

func TestReauthenticationPresets(t *testing.T) {
	for level, limits := range map[string]struct{ overall, idle time.Duration }{
		"AAL1": {30 * 24 * time.Hour, 0}, "AAL2": {24 * time.Hour, time.Hour}, "AAL3": {12 * time.Hour, 15 * time.Minute},
	} {
		for mode, inMode := range modes {
			t.Run(level+", "+mode, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					preset := presets[level]
					auth := newAuth(t, withoutSweeper, inMode, func(c *middleware.Config) {
						c.TTL, c.RefreshTTL, c.IdleTTL = preset.TTL, preset.RefreshTTL, preset.IdleTTL
					})
					login := time.Now()
					tokens := issueTokens(t, auth, middleware.Identity{})
					for time.Since(login)+preset.TTL < preset.RefreshTTL { // a user who is always active
						wait(preset.TTL)
						tokens = refreshTokens(t, auth, tokens)
					}
					wait(preset.RefreshTTL - time.Second - time.Since(login))
					tokens = refreshTokens(t, auth, tokens)
					wait(limits.overall - time.Since(login))
					wantDead(t, level+": after "+limits.overall.String(), auth, tokens)

					idle := issueTokens(t, auth, middleware.Identity{})
					if limits.idle == 0 {
						wait(preset.RefreshTTL - time.Second)
						refreshTokens(t, auth, idle)
						return
					}
					wait(limits.idle - time.Second)
					idle = refreshTokens(t, auth, idle)
					wait(limits.idle)
					wantDead(t, level+": idle for "+limits.idle.String(), auth, idle)
				})
			})
		}
	}
}

// A header that is set in front of LogoutHandler is sent with every answer. Clear-Site-Data must not be: another site could
// make a browser send the request. A handler that waits for the outcome sends it with a logout only.
func TestClearSiteDataAtLogout(t *testing.T) {
	const data = `"cache", "storage"`
	before := func(c *gin.Context) { c.Header("Clear-Site-Data", data) }
	after := func(c *gin.Context) {
		c.Next()
		if c.Writer.Status() == http.StatusNoContent {
			c.Header("Clear-Site-Data", data)
		}
	}
	for name, row := range map[string]struct {
		edits  []edit
		fault  *fault
		status int
	}{
		"a logout":     {status: http.StatusNoContent},
		"no session":   {edits: []edit{func(r *http.Request) { r.Header.Del("Cookie") }}, status: http.StatusUnauthorized},
		"another site": {edits: []edit{header("Sec-Fetch-Site", "cross-site")}, status: http.StatusForbidden},
		"an outage":    {fault: &fault{get: failing}, status: http.StatusServiceUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			store := &faulty{Store: newMemory(t)}
			auth := newAuth(t, withCookie(middleware.Cookie{}), func(c *middleware.Config) { c.Store = store })
			r := gin.New()
			for _, logout := range []gin.HandlerFunc{auth.LogoutHandler, auth.LogoutAllHandler} {
				path := "/logout"
				if len(r.Routes()) > 0 {
					path = "/logout/all"
				}
				r.POST("/before"+path, before, logout)
				r.POST("/after"+path, after, logout)
			}
			s := listen(t, r)
			for _, route := range r.Routes() {
				store.fault.Store(nil)
				cookie := header("Cookie", "__Host-access_token="+login(t, auth))
				store.fault.Store(row.fault)
				answer := s.send("POST", route.Path, append([]edit{cookie}, row.edits...)...)
				want := ""
				if row.status == http.StatusNoContent || strings.HasPrefix(route.Path, "/before") {
					want = data
				}
				if got := answer.header.Get("Clear-Site-Data"); answer.status != row.status || got != want {
					t.Errorf("%s: response %d with Clear-Site-Data %q, want %d with %q", route.Path, answer.status, got, row.status, want)
				}
			}
		})
	}
}

// Browsers take a cookie with the prefix __Host-Http- only with Secure, HttpOnly and Path=/, and without Domain.
func TestCookiesCanHaveTheHTTPPrefix(t *testing.T) {
	for mode, inMode := range modes {
		auth := newAuth(t, inMode, withCookie(middleware.Cookie{
			Name: "__Host-Http-access", RefreshName: "__Host-Http-refresh", SameSite: http.SameSiteStrictMode,
		}))
		s := listen(t, routes(auth))
		cookies := (&http.Response{Header: s.send("POST", "/login?user=admin").header}).Cookies()
		if len(cookies) == 0 {
			t.Fatalf("%s: the login sets no cookies", mode)
		}
		for _, c := range cookies {
			if !strings.HasPrefix(c.Name, "__Host-Http-") || !c.Secure || !c.HttpOnly || c.Path != "/" || c.Domain != "" || c.SameSite != http.SameSiteStrictMode {
				t.Errorf("%s: cookie %v", mode, c)
			}
		}
		s.send("GET", "/required", header("Cookie", cookies[0].Name+"="+cookies[0].Value)).passed(t, "admin")
		last := cookies[len(cookies)-1]
		s.send("POST", "/refresh", header("Cookie", last.Name+"="+last.Value)).cookieAnswer(t)
	}
	_, err := middleware.New(newConfig(t, withCookie(middleware.Cookie{Name: "__Host-Http-access", Domain: "example.com"})))
	if err == nil || !strings.Contains(err.Error(), "__Host-Http-access") {
		t.Errorf("R15: the prefix with a Domain: %v", err)
	}
}

// A session's id has 128 random bits behind its birth, and each of them varies.
func TestSessionIDsHave128RandomBits(t *testing.T) {
	auth := newAuth(t)
	seen := map[string]bool{}
	var ones, zeros [16]byte
	for range 200 {
		_, random, _ := strings.Cut(issueTokens(t, auth, middleware.Identity{}).Claims.SessionID, "-")
		bits, err := base64.RawURLEncoding.DecodeString(random)
		if err != nil || len(bits) != 16 || seen[random] {
			t.Fatalf("the random part is %q: %v, seen before: %v", random, err, seen[random])
		}
		seen[random] = true
		for i, b := range bits {
			ones[i], zeros[i] = ones[i]|b, zeros[i]|^b
		}
	}
	for i := range ones {
		if ones[i] != 0xff || zeros[i] != 0xff {
			t.Errorf("byte %d has constant bits: ones %08b, zeros %08b", i, ones[i], zeros[i])
		}
	}
}

// An application may sign other JWTs with the same key. None of them is a token of a session, even with the typ of one.
func TestOtherKindsOfTokens(t *testing.T) {
	f := newForger(t)
	now := time.Now().Unix()
	dates := fmt.Sprintf(`"iat":%d,"exp":%d,"auth_time":%d`, now, now+600, now)
	others := map[string]string{}
	for _, typ := range []string{"JWT", "refresh+jwt", "at+jwt", "logout+jwt", "dpop+jwt"} {
		head := `{"alg":"HS256","typ":"` + typ + `"}`
		others["an ID token, typ "+typ] = forge(head, `{"iss":"https://we.example","sub":"admin","aud":"app","nonce":"n","jti":"1",`+dates+`}`)
		others["a logout token, typ "+typ] = forge(head, `{"iss":"https://we.example","sub":"admin","sid":"1","jti":"1","events":{},`+dates+`}`)
		others["a link to verify an address, typ "+typ] = forge(head, `{"sub":"admin","email":"ann@example.org",`+dates+`}`)
		if typ != "JWT" {
			others["our claims, typ "+typ] = forge(head, f.members.object())
		}
	}
	f.rejects("R1", others)
}

// Every JSON answer says that it is UTF-8. (The media type of a JWK Set has no charset, RFC 7517 §8.5.)
func TestAnswersNameTheirCharset(t *testing.T) {
	auth := newAuth(t, limited(2), keys(signers()[middleware.ES256]))
	r := oneTokenRoutes(auth)
	r.GET("/sessions", auth.Required(), auth.SessionsHandler)
	s := listen(t, r)
	text := login(t, auth)
	for _, request := range []struct {
		method, path string
		edit         edit
	}{
		{"POST", "/login?user=admin", anonymous}, {"POST", "/refresh", bearer(text)}, {"GET", "/sessions", bearer(text)},
		{"POST", "/introspect", tokenForm(text)}, {"POST", "/introspect", tokenForm("a.b.c")}, {"GET", "/required", anonymous},
		{"POST", "/refresh", jsonBody("{")}, {"POST", "/revoke", jsonBody("{")}, {"GET", "/never", bearer(text)},
	} {
		answer := s.send(request.method, request.path, request.edit)
		if got := answer.header.Get("Content-Type"); got != "application/json; charset=utf-8" || !json.Valid([]byte(answer.body)) {
			t.Errorf("%s %s: response %d %s with Content-Type %q", request.method, request.path, answer.status, answer.body, got)
		}
	}
}

// A token is not accepted before nbf, of which clocks that differ get 30 seconds (R2).
func TestNbfIsChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auth := newAuth(t, withoutSweeper)
		m := membersOf(t, login(t, auth))
		early := forge(ourHeader, m.with("nbf", strconv.FormatInt(time.Now().Add(10*time.Minute).Unix(), 10)).object())
		wait(10*time.Minute - 31*time.Second)
		for range 3 { // the token cache must not change that
			wantVerify(t, "R2: before nbf", auth, early, middleware.CodeTokenInvalid)
			wantRefresh(t, "R2: before nbf", auth, early, middleware.CodeTokenInvalid)
		}
		wait(time.Second)
		wantVerify(t, "R2: 30 seconds before nbf", auth, early, "")
	})
}
