package middleware_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// The Set-Cookie headers, compared byte for byte. A is the access token, R the refresh token, N the Max-Age.
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
				auth := newAuth(t, withoutSweeper, modes[row.mode], withCookie(row.cookie))
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
							age = "3600" // in pair mode the access token's cookie lasts for TTL
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

				wait(day) // Max-Age lasts until the deadline of the session, which began a day ago
				refreshed := (&http.Response{Header: r.header}).Cookies()[len(row.want)-1]
				r = s.send("POST", "/refresh", header("Cookie", refreshed.Name+"="+refreshed.Value))
				r.cookieAnswer(t)
				texts = values(r)
				sets(r, "1123200", texts...)
				verify(t, auth, texts[0])

				r = s.send("POST", "/logout", header("Cookie", refreshed.Name+"="+texts[len(texts)-1]))
				r.accepted(t, "/logout")
				sets(r, "0")
				wantVerify(t, "R11: after the logout", auth, texts[0], middleware.CodeTokenRevoked)
			})
		})
	}
}

// The life of a session over TLS, with cookies only.
func TestCookieStory(t *testing.T) {
	for mode, row := range cookieModes {
		t.Run(mode, func(t *testing.T) {
			auth := newAuth(t, row.change, withCookie(middleware.Cookie{}))
			b := browse(t, auth, mode)
			b.send("GET", "/required").rejected(t, middleware.CodeTokenMissing)
			b.send("POST", "/login?user=admin").cookieAnswer(t)
			for _, path := range []string{"/required", "/optional", "/fresh"} {
				b.send("GET", path).passed(t, "admin")
				b.send("POST", path).passed(t, "admin")
			}

			// An expired token can still be refreshed.
			b.alter("/", "__Host-access_token", func(text string) string { return aged(t, text, 2*time.Hour) })
			expired := b.cookie("/", "__Host-access_token")
			r := b.send("GET", "/required")
			r.rejected(t, middleware.CodeTokenExpired)
			if r.header.Get("Set-Cookie") != "" || b.cookie("/", "__Host-access_token") != expired {
				t.Error("the cookie of an expired token is cleared, although it can be refreshed")
			}
			b.send("POST", "/refresh").cookieAnswer(t)
			b.send("GET", "/required").passed(t, "admin")

			text := b.cookie("/", "__Host-access_token")
			b.send("POST", "/logout").accepted(t, "/logout")
			if left := b.cookie("/", "__Host-access_token") + b.cookie("/", row.name); left != "" {
				t.Errorf("after the logout the browser still has the cookie %s", left)
			}
			b.send("GET", "/required").rejected(t, middleware.CodeTokenMissing)
			b.send("POST", "/refresh").rejected(t, middleware.CodeTokenMissing)
			wantVerify(t, "R11: after the logout", auth, text, middleware.CodeTokenRevoked)

			// A login with SetCookies and a redirect.
			b.send("GET", "/callback?user=alice").passed(t, "alice")
			b.send("POST", "/refresh").cookieAnswer(t)
			b.send("POST", "/logout/all").accepted(t, "/logout/all")
			b.send("GET", "/required").rejected(t, middleware.CodeTokenMissing)
		})
	}
}

func TestSetCookies(t *testing.T) {
	auth := newAuth(t, withCookie(middleware.Cookie{}))
	r := direct(t, cookieRoutes(auth, "one token")).send("GET", "/callback?user=admin")
	r.notStored(t)
	if r.status != http.StatusSeeOther || r.cookies()["access_token"].Value == "" {
		t.Errorf("response %d %v, want a redirect with cookies", r.status, r.header)
	}
	c, _ := gin.CreateTestContext(httptest.NewRecorder())
	mustPanic(t, "SetCookies without cookies", func() { _ = newAuth(t).SetCookies(c, middleware.Tokens{}) }, "SetCookies", "Config.Cookie")
}

// In pair mode neither cookie can be used in place of the other.
func TestCookiesOfAPairAreApart(t *testing.T) {
	auth := newAuth(t, pair, withCookie(middleware.Cookie{}))
	s := listen(t, routes(auth))
	tokens := issueTokens(t, auth, middleware.Identity{})
	s.send("POST", "/refresh", header("Cookie", "__Host-access_token="+tokens.AccessToken)).rejected(t, middleware.CodeTokenMissing)
	s.send("GET", "/required", header("Cookie", "__Host-refresh_token="+tokens.RefreshToken)).rejected(t, middleware.CodeTokenExpired)
	s.send("GET", "/required", header("Cookie", "__Host-access_token="+tokens.RefreshToken)).rejected(t, middleware.CodeTokenInvalid)
	s.send("POST", "/refresh", header("Cookie", "__Host-refresh_token="+tokens.AccessToken)).rejected(t, middleware.CodeTokenInvalid)
	s.send("POST", "/refresh", header("Cookie", "__Host-access_token=x; __Host-refresh_token="+tokens.RefreshToken)).cookieAnswer(t)
}

// A response clears the cookies if the session is known to have ended, and only then.
func TestWhichAnswersClearCookies(t *testing.T) {
	type scene struct {
		auth   *middleware.Auth
		store  *faulty
		tokens middleware.Tokens
	}
	logout := func(sc *scene) { _ = sc.auth.Logout(t.Context(), sc.tokens.AccessToken) }
	everywhere := func(sc *scene) { _ = sc.auth.RevokeSubject(t.Context(), "admin") }
	replace := func(sc *scene) { _, _ = sc.auth.Refresh(t.Context(), refreshable(sc.tokens)) }
	down := func(sc *scene) { sc.store.fault.Store(&fault{get: failing, swap: failingSwap}) }
	late := func(age time.Duration) func(sc *scene) {
		return func(sc *scene) {
			sc.tokens.AccessToken = aged(t, sc.tokens.AccessToken, age)
			if sc.tokens.RefreshToken != "" {
				sc.tokens.RefreshToken = aged(t, sc.tokens.RefreshToken, age)
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
		"replaced":                    {"one token", noGrace, replace, "/required", nil, middleware.CodeTokenRevoked, false},
		"replaced, optional":          {"one token", noGrace, replace, "/optional", nil, middleware.CodeTokenRevoked, false},
		"replaced, fresh":             {"one token", noGrace, replace, "/fresh", nil, middleware.CodeTokenRevoked, false},
		"expired":                     {all, nil, late(2 * time.Hour), "/required", nil, middleware.CodeTokenExpired, false},
		"after the deadline":          {all, nil, late(15 * day), "/refresh", nil, middleware.CodeRefreshExpired, false},
		"store down":                  {all, nil, down, "/required", nil, middleware.CodeStoreUnavailable, false},
		"store down, refresh":         {all, nil, down, "/refresh", nil, middleware.CodeStoreUnavailable, false},
		"store down, logout":          {all, nil, down, "/logout", nil, middleware.CodeStoreUnavailable, false},
		"store down, logout all":      {all, nil, down, "/logout/all", nil, middleware.CodeStoreUnavailable, false},
		"store down, login":           {all, nil, down, "/login?user=admin", nil, middleware.CodeStoreUnavailable, false},
		"Reload is down":              {all, refusing(errors.New("down")), nil, "/refresh", nil, middleware.CodeStoreUnavailable, false},
		"not genuine":                 {all, nil, func(sc *scene) { sc.tokens.AccessToken = "a.b.c" }, "/required", nil, middleware.CodeTokenInvalid, false},
		"too old":                     {all, nil, late(30 * time.Minute), "/fresh", nil, middleware.CodeLoginTooOld, false},
		"not allowed":                 {all, nil, nil, "/never", nil, middleware.CodeForbidden, false},
		"cross origin":                {all, nil, logout, "/required", header("Sec-Fetch-Site", "cross-site"), middleware.CodeCrossOrigin, false},
		"twice":                       {all, nil, logout, "/required", header("Cookie", "__Host-access_token=x"), middleware.CodeBadRequest, false},
		"logged out, by header":       {all, nil, logout, "/required", header("Authorization", "Bearer TOKEN"), middleware.CodeTokenRevoked, false},
		"logout, cross origin":        {all, nil, nil, "/logout", header("Sec-Fetch-Site", "cross-site"), middleware.CodeCrossOrigin, false},
		"logout":                      {all, nil, nil, "/logout", nil, "", true},
		"logout all":                  {all, nil, nil, "/logout/all", nil, "", true},
		"logout twice":                {all, nil, logout, "/logout", nil, "", true},
		"logout all, after a logout":  {all, nil, logout, "/logout/all", nil, middleware.CodeTokenRevoked, true},
		"logout after the deadline":   {all, nil, late(15 * day), "/logout", nil, middleware.CodeRefreshExpired, true},
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
				sc.auth = newAuth(t, modes[mode], withCookie(middleware.Cookie{}), change)
				s := direct(t, cookieRoutes(sc.auth, mode))
				sc.tokens = issueTokens(t, sc.auth, middleware.Identity{})
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
				r := s.send("POST", row.path, append(edits, insertToken(sc.tokens.AccessToken))...)
				if row.code == "" {
					r.accepted(t, row.path)
				} else if row.code == middleware.CodeLoginTooOld {
					r.rejected(t, row.code, `, max_age="600"`)
				} else {
					r.rejected(t, row.code)
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

// Two cookies of the same name are rejected: one may have been planted, for example by a sibling domain.
func TestTwoCookiesOfOneName(t *testing.T) {
	for mode, row := range cookieModes {
		auth := newAuth(t, row.change, withCookie(middleware.Cookie{}))
		s := direct(t, cookieRoutes(auth, mode))
		tokens := issueTokens(t, auth, middleware.Identity{})
		for _, other := range []string{tokens.AccessToken, "a.b.c", ""} {
			for _, path := range []string{"/required", "/optional", "/fresh", "/logout", "/logout/all"} {
				for _, line := range []string{tokens.AccessToken + "; __Host-access_token=" + other, other + "; __Host-access_token=" + tokens.AccessToken} {
					s.send("POST", path, header("Cookie", "__Host-access_token="+line)).rejected(t, middleware.CodeBadRequest)
				}
			}
			twice := header("Cookie", row.name+"="+refreshable(tokens)+"; "+row.name+"="+other)
			s.send("POST", "/refresh", twice).rejected(t, middleware.CodeBadRequest)
		}
		refreshTokens(t, auth, tokens)
	}
}

// A header takes precedence over the cookie. With an empty list of sources only the cookie is read.
func TestCookieComesLast(t *testing.T) {
	auth := newAuth(t, withCookie(middleware.Cookie{}))
	alice := issue(t, auth, middleware.Identity{Subject: "alice"})
	inCookie := header("Cookie", "__Host-access_token="+alice)
	s := direct(t, cookieRoutes(auth, "one token"))
	s.send("GET", "/required", inCookie, bearer(login(t, auth))).passed(t, "admin")
	s.send("GET", "/required", inCookie, bearer("a.b.c")).rejected(t, middleware.CodeTokenInvalid)
	s.send("GET", "/required", inCookie, header("Authorization", "Basic x")).passed(t, "alice")

	alone := newAuth(t, withCookie(middleware.Cookie{}), func(c *middleware.Config) { c.Sources = []middleware.Source{} })
	alice = issue(t, alone, middleware.Identity{Subject: "alice"})
	s = direct(t, cookieRoutes(alone, "one token"))
	s.send("GET", "/required", bearer(alice)).rejected(t, middleware.CodeTokenMissing)
	s.send("POST", "/refresh", bearer(alice)).rejected(t, middleware.CodeTokenMissing)
	s.send("GET", "/required", header("Cookie", "__Host-access_token="+alice)).passed(t, "alice")
}

// Over plain http cookies work only with Insecure.
func TestInsecureCookies(t *testing.T) {
	for insecure, want := range map[bool]string{true: "admin", false: "guest"} {
		auth := newAuth(t, pair, withCookie(middleware.Cookie{Insecure: insecure}))
		server := httptest.NewServer(routes(auth))
		defer server.Close()
		s := openBrowser(t, server, "http://example.com") // not a loopback address, where a jar accepts Secure cookies over plain http
		s.send("POST", "/login?user=admin").cookieAnswer(t)
		s.send("GET", "/optional").passed(t, want)
		if insecure {
			s.send("POST", "/refresh").cookieAnswer(t)
		} else {
			s.send("POST", "/refresh").rejected(t, middleware.CodeTokenMissing)
		}
	}
}

// With a Domain the cookies are sent to subdomains, without one they are not.
func TestCookieDomain(t *testing.T) {
	for domain, want := range map[string]string{"example.com": "admin", "": "guest"} {
		auth := newAuth(t, withCookie(middleware.Cookie{Domain: domain}))
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

// If the request has a refresh token's cookie but no access token's, the client should refresh: the code is token_expired.
func TestPairCookiesWithoutAnAccessTokenAreExpired(t *testing.T) {
	auth := newAuth(t, pair, withCookie(middleware.Cookie{}))
	s := direct(t, routes(auth))
	tokens := issueTokens(t, auth, middleware.Identity{})
	withRefresh := header("Cookie", "__Host-refresh_token="+tokens.RefreshToken)
	for _, path := range []string{"/required", "/optional", "/fresh"} {
		s.send("GET", path, withRefresh).rejected(t, middleware.CodeTokenExpired)
		s.send("GET", path, withRefresh, bearer(tokens.AccessToken)).passed(t, "admin")
	}
	s.send("GET", "/required", header("Cookie", "__Host-refresh_token=")).rejected(t, middleware.CodeTokenMissing)
	s.send("POST", "/logout", withRefresh).accepted(t, "/logout")
	wantDead(t, "R11: after the logout", auth, tokens)
}

// The cookie of an access token lasts for TTL. Neither cookie can be set by a subdomain.
func TestPairCookiesAreOfThisHost(t *testing.T) {
	auth := newAuth(t, pair, withCookie(middleware.Cookie{}))
	r := direct(t, routes(auth)).send("POST", "/login?user=admin")
	for i, want := range []string{"__Host-access_token 3600", "__Host-refresh_token 1209600"} {
		cookie := (&http.Response{Header: r.header}).Cookies()[i]
		if got := fmt.Sprint(cookie.Name, " ", cookie.MaxAge); got != want || cookie.Path != "/" || cookie.Domain != "" {
			t.Errorf("cookie %d is %s, want %s", i, cookie, want)
		}
	}
}
