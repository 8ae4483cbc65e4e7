package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
)

func init() {
	refusals[middleware.CodeCrossOrigin] = struct {
		status int
		kind   string
	}{http.StatusForbidden, "invalid_request"}
}

func cookies(cookie middleware.Cookie) change {
	return func(c *middleware.Config) { c.Cookie = &cookie }
}

// cookieModes are the modes with the cookie that is refreshed.
var cookieModes = map[string]struct {
	change
	name string
}{
	"one token": {modes["one token"], "__Host-access_token"},
	"pair":      {modes["pair"], "__Host-refresh_token"},
}

// cookieRoutes has AutoRefresh where there is one, and a login that ends in a redirect.
func cookieRoutes(auth *middleware.Auth, mode string) *gin.Engine {
	r := sharedRoutes(auth)
	if mode == "one token" {
		r.Any("/autorefresh", auth.AutoRefresh(time.Minute), whoami)
	}
	r.GET("/callback", func(c *gin.Context) {
		tokens, err := auth.Issue(c.Request.Context(), middleware.Identity{Subject: c.Query("user")})
		if err != nil {
			_ = c.AbortWithError(http.StatusInternalServerError, err)
			return
		}
		if err := auth.SetCookies(c, tokens); err != nil {
			_ = c.AbortWithError(http.StatusServiceUnavailable, err)
			return
		}
		c.Redirect(http.StatusSeeOther, "/required")
	})
	return r
}

// A browser keeps cookies.
type browser struct {
	site
	jar *cookiejar.Jar
}

// browse opens a browser on a server that answers for example.com and its subdomains over TLS.
func browse(t testing.TB, auth *middleware.Auth, mode string) browser {
	t.Helper()
	server := httptest.NewTLSServer(cookieRoutes(auth, mode))
	t.Cleanup(server.Close)
	return openBrowser(t, server, "https://example.com")
}

// openBrowser takes every name for the server's.
func openBrowser(t testing.TB, server *httptest.Server, url string) browser {
	client := server.Client()
	transport := client.Transport.(*http.Transport)
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
	}
	if transport.TLSClientConfig != nil {
		transport.TLSClientConfig.ServerName = "example.com"
	}
	jar := made(cookiejar.New(nil))
	client.Jar = jar
	return browser{site{t: t, url: url, do: client.Do}, jar}
}

// cookie is what the browser sends to a path by that name.
func (b browser) cookie(path, name string) string {
	for _, cookie := range b.jar.Cookies(made(url.Parse(b.url + path))) {
		if cookie.Name == name {
			return cookie.Value
		}
	}
	return ""
}

// alter changes a token in the browser.
func (b browser) alter(path, name string, alter func(text string) string) {
	b.t.Helper()
	u := made(url.Parse(b.url + path))
	b.jar.SetCookies(u, []*http.Cookie{{Name: name, Value: alter(b.cookie(path, name)), Path: path, Secure: true, MaxAge: 1000}})
}

// cookieAnswer checks that an answer gives its tokens in cookies alone.
func (r reply) cookieAnswer(t testing.TB) {
	t.Helper()
	if got := slices.Sorted(maps.Keys(r.fields(t))); r.status != http.StatusOK || !slices.Equal(got, []string{"expires_in", "refresh_expires_in", "token_type"}) {
		t.Errorf("answer %d %s, want no tokens in the body", r.status, r.body)
	}
	r.notStored(t)
}

const day = 24 * time.Hour

// What is sent is compared to the letter. A is the access token, R the refresh token.
func TestCookieAttributes(t *testing.T) {
	const lax, host = "; Max-Age=N; HttpOnly; Secure; SameSite=Lax", "__Host-access_token=A; Path=/"
	const plain = "; Max-Age=N; HttpOnly; SameSite=Lax"
	for name, row := range map[string]struct {
		cookie middleware.Cookie
		mode   string
		want   []string
	}{
		"one token":      {middleware.Cookie{}, "one token", []string{host + lax}},
		"pair":           {middleware.Cookie{}, "pair", []string{host + lax, "__Host-refresh_token=R; Path=/" + lax}},
		"domain":         {middleware.Cookie{Domain: "example.com"}, "one token", []string{"__Secure-access_token=A; Path=/; Domain=example.com" + lax}},
		"domain, pair":   {middleware.Cookie{Domain: "example.com"}, "pair", []string{"__Secure-access_token=A; Path=/; Domain=example.com" + lax, "__Secure-refresh_token=R; Path=/; Domain=example.com" + lax}},
		"insecure":       {middleware.Cookie{Insecure: true}, "one token", []string{"access_token=A; Path=/" + plain}},
		"insecure, pair": {middleware.Cookie{Insecure: true}, "pair", []string{"access_token=A; Path=/" + plain, "refresh_token=R; Path=/" + plain}},
		"names":          {middleware.Cookie{Name: "a", RefreshName: "r"}, "pair", []string{"a=A; Path=/" + lax, "r=R; Path=/" + lax}},
		"strict":         {middleware.Cookie{SameSite: http.SameSiteStrictMode}, "one token", []string{host + "; Max-Age=N; HttpOnly; Secure; SameSite=Strict"}},
		"none":           {middleware.Cookie{SameSite: http.SameSiteNoneMode}, "one token", []string{host + "; Max-Age=N; HttpOnly; Secure; SameSite=None"}},
		"default mode":   {middleware.Cookie{SameSite: http.SameSiteDefaultMode}, "one token", []string{host + lax}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				auth := newAuth(t, modes[row.mode], cookies(row.cookie))
				s := direct(t, cookieRoutes(auth, row.mode))
				sets := func(r reply, maxAge string, texts ...string) {
					t.Helper()
					var want []string
					for i, line := range row.want {
						if len(texts) == 0 {
							texts = []string{"", ""}
						}
						age := maxAge
						if maxAge != "0" && len(row.want) == 2 && i == 0 {
							age = "3600" // an access token that can refresh nothing lasts for its TTL
						}
						want = append(want, strings.NewReplacer("=A;", "="+texts[i]+";", "=R;", "="+texts[i]+";", "=N;", "="+age+";").Replace(line))
					}
					if got := r.header.Values("Set-Cookie"); !slices.Equal(got, want) {
						t.Errorf("the cookies are\n%s, want\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
					}
				}
				values := func(r reply) (texts []string) {
					for _, cookie := range (&http.Response{Header: r.header}).Cookies() {
						texts = append(texts, cookie.Value)
					}
					return texts
				}
				r := s.send("POST", "/login?user=admin")
				r.cookieAnswer(t)
				texts := values(r)
				sets(r, "1209600", texts...)
				verify(t, auth, texts[0])

				wait(day) // Max-Age ends with the session, which began a day ago
				refreshed := (&http.Response{Header: r.header}).Cookies()[len(row.want)-1]
				r = s.send("POST", "/refresh", header("Cookie", refreshed.Name+"="+refreshed.Value))
				r.cookieAnswer(t)
				texts = values(r)
				sets(r, "1123200", texts...)
				verify(t, auth, texts[0])

				r = s.send("POST", "/logout", header("Cookie", refreshed.Name+"="+texts[len(texts)-1]))
				r.accepted(t, "/logout")
				sets(r, "0")
				verifies(t, "R11", auth, texts[0], middleware.CodeTokenRevoked)
			})
		})
	}
}

// A real jar over TLS: the whole life of a session, by cookies alone.
func TestCookieStory(t *testing.T) {
	for mode, row := range cookieModes {
		t.Run(mode, func(t *testing.T) {
			auth := newAuth(t, row.change, cookies(middleware.Cookie{}))
			b := browse(t, auth, mode)
			b.send("GET", "/required").refused(t, middleware.CodeTokenMissing)
			b.send("POST", "/login?user=admin").cookieAnswer(t)
			for _, path := range []string{"/required", "/optional", "/fresh"} {
				b.send("GET", path).passed(t, "admin")
				b.send("POST", path).passed(t, "admin")
			}

			// An expired token still reaches the refresh.
			b.alter("/", "__Host-access_token", func(text string) string { return backdated(t, text, 2*time.Hour) })
			expired := b.cookie("/", "__Host-access_token")
			r := b.send("GET", "/required")
			r.refused(t, middleware.CodeTokenExpired)
			if r.header.Get("Set-Cookie") != "" || b.cookie("/", "__Host-access_token") != expired {
				t.Error("an expired token clears the cookie that is to be refreshed")
			}
			b.send("POST", "/refresh").cookieAnswer(t)
			b.send("GET", "/required").passed(t, "admin")

			text := b.cookie("/", "__Host-access_token")
			b.send("POST", "/logout").accepted(t, "/logout")
			if left := b.cookie("/", "__Host-access_token") + b.cookie("/", row.name); left != "" {
				t.Errorf("after the logout the browser has %s", left)
			}
			b.send("GET", "/required").refused(t, middleware.CodeTokenMissing)
			b.send("POST", "/refresh").refused(t, middleware.CodeTokenMissing)
			verifies(t, "R11", auth, text, middleware.CodeTokenRevoked)

			// A login of another kind ends in a redirect.
			b.send("GET", "/callback?user=alice").passed(t, "alice")
			b.send("POST", "/refresh").cookieAnswer(t)
			b.send("POST", "/logout/all").accepted(t, "/logout/all")
			b.send("GET", "/required").refused(t, middleware.CodeTokenMissing)
		})
	}
}

func TestSetCookies(t *testing.T) {
	auth := newAuth(t, cookies(middleware.Cookie{}))
	r := direct(t, cookieRoutes(auth, "one token")).send("GET", "/callback?user=admin")
	r.notStored(t)
	if r.status != http.StatusSeeOther || r.cookies()["access_token"].Value == "" {
		t.Errorf("answer %d %v", r.status, r.header)
	}
	c, _ := gin.CreateTestContext(httptest.NewRecorder())
	mustPanic(t, "SetCookies without cookies", func() { _ = newAuth(t).SetCookies(c, middleware.Tokens{}) }, "SetCookies", "Config.Cookie")
}

// In pair mode the access token's cookie refreshes nothing, though it is sent everywhere.
func TestCookiesOfAPairAreApart(t *testing.T) {
	auth := newAuth(t, pair, cookies(middleware.Cookie{}))
	s := listen(t, sharedRoutes(auth))
	tokens := begin(t, auth, middleware.Identity{})
	s.send("POST", "/refresh", header("Cookie", "__Host-access_token="+tokens.AccessToken)).refused(t, middleware.CodeTokenMissing)
	s.send("GET", "/required", header("Cookie", "__Host-refresh_token="+tokens.RefreshToken)).refused(t, middleware.CodeTokenExpired)
	s.send("GET", "/required", header("Cookie", "__Host-access_token="+tokens.RefreshToken)).refused(t, middleware.CodeTokenInvalid)
	s.send("POST", "/refresh", header("Cookie", "__Host-refresh_token="+tokens.AccessToken)).refused(t, middleware.CodeTokenInvalid)
	s.send("POST", "/refresh", header("Cookie", "__Host-access_token=x; __Host-refresh_token="+tokens.RefreshToken)).cookieAnswer(t)
}

// origins are what browsers say about where a request comes from.
var origins = map[string]struct {
	headers  map[string]string
	refused  bool
	trusting bool // refused, but for TrustedOrigins
}{
	"another site":        {headers: map[string]string{"Sec-Fetch-Site": "cross-site"}, refused: true},
	"a sibling":           {headers: map[string]string{"Sec-Fetch-Site": "same-site", "Origin": "https://www.example.com"}, refused: true},
	"an older browser":    {headers: map[string]string{"Origin": "https://evil.example"}, refused: true},
	"a sandbox":           {headers: map[string]string{"Origin": "null"}, refused: true},
	"another port":        {headers: map[string]string{"Origin": "https://example.com:8443"}, refused: true},
	"a trusted origin":    {headers: map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://app.example.org"}, refused: true, trusting: true},
	"trusted, older":      {headers: map[string]string{"Origin": "https://app.example.org"}, refused: true, trusting: true},
	"trusted but http":    {headers: map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "http://app.example.org"}, refused: true},
	"trusted but a port":  {headers: map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://app.example.org:8443"}, refused: true},
	"the site":            {headers: map[string]string{"Sec-Fetch-Site": "same-origin", "Origin": "https://example.com"}},
	"the user":            {headers: map[string]string{"Sec-Fetch-Site": "none"}},
	"the site, older":     {headers: map[string]string{"Origin": "https://example.com"}},
	"no browser":          {},
	"a misleading header": {headers: map[string]string{"Referer": "https://evil.example/", "X-Forwarded-Host": "evil.example"}},
}

// A request that changes something and that another site made the browser send is refused, and does nothing.
func TestCrossOrigin(t *testing.T) {
	for mode, row := range cookieModes {
		for _, trusting := range []bool{false, true} {
			auth := newAuth(t, row.change, cookies(middleware.Cookie{}), func(c *middleware.Config) {
				if trusting {
					c.TrustedOrigins = []string{"https://app.example.org"}
				}
			})
			b := browse(t, auth, mode)
			b.send("POST", "/login?user=admin").cookieAnswer(t)
			unsafe := []string{"/login?user=mallory", "/refresh", "/logout", "/logout/all", "/required", "/optional", "/fresh"}
			if mode == "one token" {
				unsafe = append(unsafe, "/autorefresh")
			}
			for name, origin := range origins {
				t.Run(fmt.Sprintf("%s, trusting %v, %s", mode, trusting, name), func(t *testing.T) {
					b.t = t
					from := func(r *http.Request) {
						for name, value := range origin.headers {
							r.Header.Set(name, value)
						}
					}
					refused := origin.refused && !(trusting && origin.trusting)
					if refused {
						for _, path := range unsafe {
							r := b.send("POST", path, from)
							if r.refused(t, middleware.CodeCrossOrigin); r.header.Get("Set-Cookie") != "" || t.Failed() {
								t.Fatalf("POST %s answers %d %s %v", path, r.status, r.body, r.header)
							}
						}
						for _, method := range []string{"PUT", "PATCH", "DELETE"} {
							b.send(method, "/required", from).refused(t, middleware.CodeCrossOrigin)
						}
						// Where the browser cannot have put the token there, a guard does not care; refresh and logout do.
						text := renewable(begin(t, auth, middleware.Identity{}))
						for _, path := range []string{"/refresh", "/logout", "/logout/all"} {
							b.send("POST", path, from, bearer(text)).refused(t, middleware.CodeCrossOrigin)
							b.send("POST", path, from, body(form, "refresh_token="+text)).refused(t, middleware.CodeCrossOrigin)
						}
					} else {
						b.send("POST", "/login?user=admin", from).cookieAnswer(t)
						b.send("POST", "/refresh", from).cookieAnswer(t)
						for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
							b.send(method, "/required", from).passed(t, "admin")
						}
						b.send("POST", "/logout", from).accepted(t, "/logout")
						b.send("POST", "/login?user=admin", from).cookieAnswer(t)
					}
					for _, path := range []string{"/required", "/optional", "/fresh"} {
						b.send("GET", path, from).passed(t, "admin")
						if r := b.send("HEAD", path, from); r.status != http.StatusOK {
							t.Errorf("HEAD %s: %d", path, r.status)
						}
						b.send("POST", path, from, bearer(begin(t, auth, middleware.Identity{Subject: "alice"}).AccessToken)).passed(t, "alice")
					}
				})
			}
		}
	}
}

// A cookie that another server sets is a cookie all the same.
func TestCrossOriginOfOtherCookies(t *testing.T) {
	for _, trusting := range []bool{false, true} {
		auth := newAuth(t, sources(spots), func(c *middleware.Config) {
			if trusting {
				c.TrustedOrigins = []string{"https://app.example.org"}
			}
		})
		s := direct(t, routes(auth))
		text := login(t, auth)
		for name, origin := range origins {
			for _, path := range []string{"/required", "/optional", "/autorefresh", "/fresh", "/allow"} {
				for _, method := range []string{"GET", "POST", "DELETE"} {
					edits := []edit{func(r *http.Request) { r.Host = "example.com" }}
					for name, value := range origin.headers {
						edits = append(edits, header(name, value))
					}
					r := s.send(method, path, append(edits, header("Cookie", "jwt="+text))...)
					if origin.refused && !(trusting && origin.trusting) && method != "GET" {
						r.refused(t, middleware.CodeCrossOrigin)
					} else {
						r.passed(t, "admin")
					}
					s.send(method, path, append(edits, bearer(text))...).passed(t, "admin")
					if t.Failed() {
						t.Fatalf("%s %s from %s, trusting %v", method, path, name, trusting)
					}
				}
			}
			// without Config.Cookie these take no cookie, so no other site can make a browser do anything
			for name, value := range origin.headers {
				s.send("POST", "/login?user=admin", header(name, value)).token(t)
			}
		}
	}
}

// Who answers what must say whether the session is over: then its cookies go, and not before.
func TestWhichAnswersClearCookies(t *testing.T) {
	type scene struct {
		auth   *middleware.Auth
		store  *faulty
		tokens middleware.Tokens
	}
	logout := func(sc *scene) { _ = sc.auth.Logout(t.Context(), sc.tokens.AccessToken) }
	everywhere := func(sc *scene) { _ = sc.auth.RevokeSubject(t.Context(), "admin") }
	replace := func(sc *scene) { _, _ = sc.auth.Refresh(t.Context(), renewable(sc.tokens)) }
	down := func(sc *scene) { sc.store.fault.Store(&fault{get: failing, swap: failingSwap}) }
	late := func(age time.Duration) func(sc *scene) {
		return func(sc *scene) {
			sc.tokens.AccessToken = backdated(t, sc.tokens.AccessToken, age)
			if sc.tokens.RefreshToken != "" {
				sc.tokens.RefreshToken = backdated(t, sc.tokens.RefreshToken, age)
			}
		}
	}
	keep := func(c *middleware.Config) { c.KeepSessionOnReuse = true }
	refusing := func(err error) change {
		r := &reloader{}
		r.answer.Store(&reloaded{nil, err})
		return reloading(r)
	}
	const all = "one token, pair"
	for name, row := range map[string]struct {
		modes  string
		change change
		before func(sc *scene)
		path   string
		edit   edit
		code   middleware.Code
		clears bool
	}{
		"logged out":                  {all, nil, logout, "/required", nil, middleware.CodeTokenRevoked, true},
		"logged out, optional":        {all, nil, logout, "/optional", nil, middleware.CodeTokenRevoked, true},
		"logged out, refresh":         {all, nil, logout, "/refresh", nil, middleware.CodeTokenRevoked, true},
		"logged out, AutoRefresh":     {"one token", nil, logout, "/autorefresh", nil, middleware.CodeTokenRevoked, true},
		"logged out everywhere":       {all, nil, everywhere, "/required", nil, middleware.CodeTokenRevoked, true},
		"everywhere, refresh":         {all, nil, everywhere, "/refresh", nil, middleware.CodeTokenRevoked, true},
		"reused":                      {all, noGrace, replace, "/refresh", nil, middleware.CodeTokenReused, true},
		"reused, AutoRefresh":         {"one token", noGrace, replace, "/autorefresh", nil, middleware.CodeTokenReused, true},
		"reused, but kept":            {all, func(c *middleware.Config) { noGrace(c); keep(c) }, replace, "/refresh", nil, middleware.CodeTokenReused, false},
		"lost race":                   {"one token", noGrace, replace, "/required", nil, middleware.CodeTokenRevoked, false},
		"lost race, optional":         {"one token", noGrace, replace, "/optional", nil, middleware.CodeTokenRevoked, false},
		"lost race, fresh":            {"one token", noGrace, replace, "/fresh", nil, middleware.CodeTokenRevoked, false},
		"expired":                     {all, nil, late(2 * time.Hour), "/required", nil, middleware.CodeTokenExpired, false},
		"the window is over":          {all, nil, late(15 * day), "/refresh", nil, middleware.CodeRefreshExpired, false},
		"store down":                  {all, nil, down, "/required", nil, middleware.CodeStoreUnavailable, false},
		"store down, refresh":         {all, nil, down, "/refresh", nil, middleware.CodeStoreUnavailable, false},
		"store down, logout":          {all, nil, down, "/logout", nil, middleware.CodeStoreUnavailable, false},
		"store down, logout all":      {all, nil, down, "/logout/all", nil, middleware.CodeStoreUnavailable, false},
		"store down, login":           {all, nil, down, "/login?user=admin", nil, middleware.CodeStoreUnavailable, false},
		"Reload is down":              {all, refusing(errors.New("down")), nil, "/refresh", nil, middleware.CodeStoreUnavailable, false},
		"not genuine":                 {all, nil, func(sc *scene) { sc.tokens.AccessToken = "a.b.c" }, "/required", nil, middleware.CodeTokenInvalid, false},
		"too old":                     {all, nil, late(30 * time.Minute), "/fresh", nil, middleware.CodeLoginTooOld, false},
		"not allowed":                 {all, nil, nil, "/allow", nil, middleware.CodeForbidden, false},
		"cross origin":                {all, nil, logout, "/required", header("Sec-Fetch-Site", "cross-site"), middleware.CodeCrossOrigin, false},
		"twice":                       {all, nil, logout, "/required", header("Cookie", "__Host-access_token=x"), middleware.CodeBadRequest, false},
		"logged out, by header":       {all, nil, logout, "/required", header("Authorization", "Bearer TOKEN"), middleware.CodeTokenRevoked, false},
		"logout, cross origin":        {all, nil, nil, "/logout", header("Sec-Fetch-Site", "cross-site"), middleware.CodeCrossOrigin, false},
		"logout":                      {all, nil, nil, "/logout", nil, "", true},
		"logout all":                  {all, nil, nil, "/logout/all", nil, "", true},
		"logout twice":                {all, nil, logout, "/logout", nil, "", true},
		"logout all, after a logout":  {all, nil, logout, "/logout/all", nil, middleware.CodeTokenRevoked, true},
		"logout, the window is over":  {all, nil, late(15 * day), "/logout", nil, middleware.CodeRefreshExpired, true},
		"logout, not genuine":         {all, nil, func(sc *scene) { sc.tokens = middleware.Tokens{AccessToken: "a.b.c"} }, "/logout", nil, middleware.CodeTokenInvalid, true},
		"logout without a cookie":     {all, nil, nil, "/logout", func(r *http.Request) { r.Header.Del("Cookie") }, middleware.CodeTokenMissing, true},
		"logout with an empty cookie": {all, nil, func(sc *scene) { sc.tokens = middleware.Tokens{} }, "/logout", nil, middleware.CodeTokenMissing, true},
	} {
		for mode := range cookieModes {
			if !strings.Contains(row.modes, mode) {
				continue
			}
			t.Run(name+", "+mode, func(t *testing.T) {
				sc := &scene{store: &faulty{Store: newMemory(t)}}
				change := func(c *middleware.Config) {
					c.Store = sc.store
					if row.change != nil {
						row.change(c)
					}
				}
				sc.auth = newAuth(t, modes[mode], cookies(middleware.Cookie{}), change)
				s := direct(t, cookieRoutes(sc.auth, mode))
				sc.tokens = begin(t, sc.auth, middleware.Identity{})
				if row.before != nil {
					row.before(sc)
				}
				edits := []edit{header("Cookie", "__Host-access_token="+sc.tokens.AccessToken)}
				if sc.tokens.RefreshToken != "" {
					edits = append(edits, header("Cookie", "__Host-refresh_token="+sc.tokens.RefreshToken))
				}
				if row.edit != nil {
					edits = append(edits, row.edit)
				}
				r := s.send("POST", row.path, append(edits, insert(sc.tokens.AccessToken))...)
				if row.code == "" {
					r.accepted(t, row.path)
				} else if row.code == middleware.CodeLoginTooOld {
					r.refused(t, row.code, `, max_age="600"`)
				} else {
					r.refused(t, row.code)
				}
				var want []string
				if row.clears {
					want = []string{"__Host-access_token=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Lax"}
					if mode == "pair" {
						want = append(want, "__Host-refresh_token=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Lax")
					}
				}
				if got := r.header.Values("Set-Cookie"); !slices.Equal(got, want) {
					t.Errorf("the cookies are %q, want %q", got, want)
				}
			})
		}
	}
}

// Two cookies of one name: one of them was planted, perhaps by a sibling of the site.
func TestTwoCookiesOfOneName(t *testing.T) {
	for mode, row := range cookieModes {
		auth := newAuth(t, row.change, cookies(middleware.Cookie{}))
		s := direct(t, cookieRoutes(auth, mode))
		tokens := begin(t, auth, middleware.Identity{})
		for _, other := range []string{tokens.AccessToken, "a.b.c", ""} {
			for _, path := range []string{"/required", "/optional", "/fresh", "/logout", "/logout/all"} {
				for _, line := range []string{tokens.AccessToken + "; __Host-access_token=" + other, other + "; __Host-access_token=" + tokens.AccessToken} {
					s.send("POST", path, header("Cookie", "__Host-access_token="+line)).refused(t, middleware.CodeBadRequest)
				}
			}
			twice := header("Cookie", row.name+"="+renewable(tokens)+"; "+row.name+"="+other)
			s.send("POST", "/refresh", twice).refused(t, middleware.CodeBadRequest)
		}
		renew(t, auth, tokens)
	}
}

// A header goes before the cookie, and where no source is listed only the cookie counts.
func TestCookieComesLast(t *testing.T) {
	auth := newAuth(t, cookies(middleware.Cookie{}))
	alice := issue(t, auth, middleware.Identity{Subject: "alice"})
	inCookie := header("Cookie", "__Host-access_token="+alice)
	s := direct(t, cookieRoutes(auth, "one token"))
	s.send("GET", "/required", inCookie, bearer(login(t, auth))).passed(t, "admin")
	s.send("GET", "/required", inCookie, bearer("a.b.c")).refused(t, middleware.CodeTokenInvalid)
	s.send("GET", "/required", inCookie, header("Authorization", "Basic x")).passed(t, "alice")

	alone := newAuth(t, cookies(middleware.Cookie{}), func(c *middleware.Config) { c.Sources = []middleware.Source{} })
	alice = issue(t, alone, middleware.Identity{Subject: "alice"})
	s = direct(t, cookieRoutes(alone, "one token"))
	s.send("GET", "/required", bearer(alice)).refused(t, middleware.CodeTokenMissing)
	s.send("POST", "/refresh", bearer(alice)).refused(t, middleware.CodeTokenMissing)
	s.send("GET", "/required", header("Cookie", "__Host-access_token="+alice)).passed(t, "alice")
}

func TestAutoRefreshSetsTheCookie(t *testing.T) {
	for name, age := range map[string]time.Duration{"expired": 2 * time.Hour, "almost expired": almostExpired} {
		t.Run(name, func(t *testing.T) {
			auth := newAuth(t, cookies(middleware.Cookie{}))
			b := browse(t, auth, "one token")
			b.send("POST", "/login?user=admin").cookieAnswer(t)
			b.alter("/", "__Host-access_token", func(text string) string { return aged(t, text, age) })
			old := b.cookie("/", "__Host-access_token")
			b.send("POST", "/autorefresh", header("Sec-Fetch-Site", "cross-site")).refused(t, middleware.CodeCrossOrigin)

			r := b.send("POST", "/autorefresh", header("Sec-Fetch-Site", "same-origin"))
			r.passed(t, "admin")
			r.notStored(t)
			text := b.cookie("/", "__Host-access_token")
			if _, seen, _ := strings.Cut(r.body, " "); text == old || seen != verify(t, auth, text).ID {
				t.Errorf("the handler sees %s, the browser has %v", r.body, membersOf(t, text))
			}
			if r.header.Get("Authorization") != "" || r.header.Get("Access-Control-Expose-Headers") != "" {
				t.Errorf("a token that came as a cookie goes back as a header: %v", r.header)
			}
			if r := b.send("GET", "/autorefresh"); r.header.Get("Set-Cookie") != "" {
				t.Error("a new token is renewed")
			}

			// What came in a header goes back in a header.
			s := direct(t, cookieRoutes(auth, "one token"))
			r = s.send("GET", "/autorefresh", bearer(aged(t, login(t, auth), age)))
			if r.passed(t, "admin"); r.header.Get("Set-Cookie") != "" || !strings.HasPrefix(r.header.Get("Authorization"), "Bearer ") {
				t.Errorf("a token that came as a header goes back as %v", r.header)
			}
		})
	}
}

// Plain http is for development, and by that name alone.
func TestInsecureCookies(t *testing.T) {
	for insecure, want := range map[bool]string{true: "admin", false: "guest"} {
		auth := newAuth(t, pair, cookies(middleware.Cookie{Insecure: insecure}))
		server := httptest.NewServer(sharedRoutes(auth))
		defer server.Close()
		s := openBrowser(t, server, "http://example.com") // no loopback address: there a jar trusts plain http
		s.send("POST", "/login?user=admin").cookieAnswer(t)
		s.send("GET", "/optional").passed(t, want)
		if insecure {
			s.send("POST", "/refresh").cookieAnswer(t)
		} else {
			s.send("POST", "/refresh").refused(t, middleware.CodeTokenMissing)
		}
	}
}

// A Domain is for subdomains; without one the cookies stay where they were made.
func TestCookieDomain(t *testing.T) {
	for domain, want := range map[string]string{"example.com": "admin", "": "guest"} {
		auth := newAuth(t, cookies(middleware.Cookie{Domain: domain}))
		b := browse(t, auth, "one token")
		b.send("POST", "/login?user=admin").cookieAnswer(t)
		b.send("GET", "/required").passed(t, "admin")
		sub := b.site
		sub.url = "https://api.example.com"
		sub.send("GET", "/optional").passed(t, want)
		b.send("POST", "/logout").accepted(t, "/logout")
		b.send("GET", "/optional").passed(t, "guest")
		sub.send("GET", "/optional").passed(t, "guest")
	}
}

// A browser drops a cookie of more than 4096 bytes without a word, so no such token is made (R10).
func TestR10TokensThatFitNoCookie(t *testing.T) {
	const most = 4096
	padded := func(n int) gin.H { return gin.H{"pad": strings.Repeat("x", n)} }
	for mode, row := range cookieModes {
		t.Run(mode, func(t *testing.T) {
			var r reloader
			pad, largest := 2700, 0
			auth := newAuth(t, row.change, noGrace, cookies(middleware.Cookie{}), reloading(&r), authenticating(func(*gin.Context) (middleware.Identity, error) {
				return middleware.Identity{Subject: "admin", Claims: padded(pad)}, nil
			}))
			s := direct(t, cookieRoutes(auth, mode))
			var answer reply
			for ; ; pad++ {
				if answer = s.send("POST", "/login"); answer.status != http.StatusOK {
					break
				}
				for _, cookie := range (&http.Response{Header: answer.header}).Cookies() {
					largest = max(largest, len(cookie.Name)+len(cookie.Value))
				}
			}
			if answer.refused(t, middleware.CodeServerError); answer.header.Get("Set-Cookie") != "" {
				t.Errorf("cookies that are too large: %v", answer.header)
			}
			if largest > most || largest < most-3 {
				t.Errorf("the largest cookie has %d bytes, want nearly %d", largest, most)
			}
			if _, err := auth.Issue(t.Context(), middleware.Identity{Subject: "admin", Claims: padded(pad)}); err == nil || !strings.Contains(err.Error(), "4096") {
				t.Errorf("Issue says %v, want how long it may be", err)
			}

			tokens := begin(t, auth, middleware.Identity{})
			inCookie := header("Cookie", row.name+"="+renewable(tokens))
			r.answer.Store(&reloaded{claims: padded(pad)})
			answer = s.send("POST", "/refresh", inCookie)
			if answer.refused(t, middleware.CodeServerError); answer.header.Get("Set-Cookie") != "" {
				t.Errorf("cookies that are too large: %v", answer.header)
			}
			r.answer.Store(&reloaded{claims: padded(pad - 1)})
			s.send("POST", "/refresh", inCookie).cookieAnswer(t) // it was not used up
		})
	}
}

func TestR15CookieMistakes(t *testing.T) {
	type Cookie = middleware.Cookie
	for name, row := range map[string]struct {
		cookie Cookie
		modes  string
		words  []string // none: it is allowed
	}{
		"zero":                            {Cookie{}, "one token, pair", nil},
		"insecure":                        {Cookie{Insecure: true}, "one token, pair", nil},
		"insecure, strict":                {Cookie{Insecure: true, SameSite: http.SameSiteStrictMode}, "one token, pair", nil},
		"none":                            {Cookie{SameSite: http.SameSiteNoneMode}, "one token, pair", nil},
		"__Secure- with Domain":           {Cookie{Name: "__Secure-a", Domain: "example.com"}, "one token", nil},
		"one name in one-token mode":      {Cookie{Name: "__Host-refresh_token"}, "one token", nil},
		"insecure with SameSite=None":     {Cookie{Insecure: true, SameSite: http.SameSiteNoneMode}, "one token, pair", []string{"Insecure", "SameSite=None"}},
		"insecure with __Host-":           {Cookie{Insecure: true, Name: "__Host-a"}, "one token, pair", []string{`"__Host-a"`, "Insecure"}},
		"insecure with __Secure-":         {Cookie{Insecure: true, Name: "__Secure-a"}, "one token, pair", []string{`"__Secure-a"`, "Insecure"}},
		"insecure with __secure-":         {Cookie{Insecure: true, Name: "__secure-a"}, "one token, pair", []string{`"__secure-a"`, "Insecure"}},
		"insecure with __Secure- refresh": {Cookie{Insecure: true, RefreshName: "__Secure-r"}, "pair", []string{`"__Secure-r"`, "Insecure"}},
		"__Host- with Domain":             {Cookie{Name: "__Host-a", Domain: "example.com"}, "one token, pair", []string{`"__Host-a"`, "Domain"}},
		"__HOST- with Domain":             {Cookie{Name: "__HOST-a", Domain: "example.com"}, "one token, pair", []string{`"__HOST-a"`, "Domain"}},
		"__Host- refresh with Domain":     {Cookie{RefreshName: "__Host-r", Domain: "example.com"}, "pair", []string{`"__Host-r"`, "Domain"}},
		"one name for both":               {Cookie{Name: "__Host-refresh_token"}, "pair", []string{"both", `"__Host-refresh_token"`}},
		"a name with a space":             {Cookie{Name: "a b"}, "one token, pair", []string{`"a b"`}},
		"a name with a semicolon":         {Cookie{RefreshName: "a;b"}, "pair", []string{`"a;b"`}},
		"a name with a newline":           {Cookie{Name: "a\r\nX-Evil: 1"}, "one token, pair", []string{"name"}},
		"a Domain with a path":            {Cookie{Domain: "example.com/a"}, "one token, pair", []string{`"example.com/a"`}},
		"a Domain as URL":                 {Cookie{Domain: "https://example.com"}, "one token, pair", []string{"domain"}},
	} {
		for mode, inMode := range modes {
			if !strings.Contains(row.modes, mode) {
				continue
			}
			_, err := middleware.New(newConfig(t, inMode, cookies(row.cookie)))
			if (err == nil) != (row.words == nil) {
				t.Errorf("R15: %s, %s: %v", name, mode, err)
			}
			for _, word := range row.words {
				if err != nil && !strings.Contains(err.Error(), word) {
					t.Errorf("R15: %s: %q, want %q in it", name, err, word)
				}
			}
		}
	}
	for _, origin := range []string{"", "*", "app.example.org", "https://", "https://app.example.org/", "https://app.example.org/path", "//app.example.org", "https://app.example.org?a"} {
		_, err := middleware.New(newConfig(t, cookies(middleware.Cookie{}), func(c *middleware.Config) { c.TrustedOrigins = []string{"https://a.example", origin} }))
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", origin)) {
			t.Errorf("R15: the trusted origin %q: %v", origin, err)
		}
	}
	_, err := middleware.New(newConfig(t, pair, cookies(middleware.Cookie{Insecure: true, SameSite: http.SameSiteNoneMode, Name: "__Host-a"}), func(c *middleware.Config) {
		c.TrustedOrigins = []string{"x"}
		c.Store = nil
	}))
	if lines := strings.Count(fmt.Sprint(err), "\n") + 1; lines < 4 {
		t.Errorf("R15: the error lists %d mistakes, want all: %v", lines, err)
	}
}
