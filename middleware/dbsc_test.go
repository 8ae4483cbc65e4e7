package middleware_test

import (
	"encoding/json"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// inBrowser runs a test in a bubble with a browser that has DBSC.
func inBrowser(t *testing.T, test func(b *bindingBrowser), changes ...change) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		test(newBindingBrowser(t, newAuth(t, append([]change{withoutSweeper, offered, withSecureCookie}, changes...)...)))
	})
}

// TestDBSCConversation replays a conversation that was recorded with Chromium 156: the login, the registration, a
// refresh, a refresh after the browser was restarted and no longer knew the challenge, the logout, and a refresh after
// it. Every response must be the recorded one, byte for byte. Only the login is not repeated, because a session's id is
// random.
func TestDBSCConversation(t *testing.T) {
	type exchange struct {
		Method, Path, Body string
		Header, Response   http.Header
		Status             int
	}
	var conversation []exchange
	if err := json.Unmarshal(must(os.ReadFile("testdata/dbsc-chromium-156.json")), &conversation); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		auth := newAuth(t, withoutSweeper, offered, withSecureCookie, keys(hs256("", []byte("0123456789abcdef0123456789abcdef"))), func(c *middleware.Config) {
			c.RefreshTTL, c.Grace = 2*time.Hour, time.Second
		})
		s := direct(t, bindRoutes(auth))
		statuses := ""
		for _, e := range conversation {
			statuses += " " + strconv.Itoa(e.Status)
			if instant := challengeInstant(t, e.Response); !instant.IsZero() { // the challenge says when the token was issued
				wait(max(0, time.Until(instant)))
			}
			if e.Path == "/login" {
				continue
			}
			r := s.send(e.Method, e.Path, func(r *http.Request) { r.Header = e.Header.Clone() })
			got, want := must(json.Marshal(r.header)), must(json.Marshal(e.Response))
			if r.status != e.Status || r.body != e.Body || string(got) != string(want) {
				t.Errorf("%s: the response is\n%d %s %s, want\n%d %s %s", e.Path, r.status, r.body, got, e.Status, e.Body, want)
			}
		}
		if statuses != " 200 200 200 403 200 204 401" {
			t.Errorf("the recorded statuses are%s", statuses)
		}
	})
}

// challengeInstant returns the issue instant of the token whose id is the challenge of a response.
func challengeInstant(t *testing.T, h http.Header) time.Time {
	value := h.Get("Secure-Session-Challenge") + h.Get("Secure-Session-Registration")
	_, instant, found := strings.Cut(value, ".")
	if !found {
		return time.Time{}
	}
	instant, _, _ = strings.Cut(instant, `"`)
	return time.UnixMicro(must(strconv.ParseInt(instant, 36, 64)))
}

// TestDBSCStory follows a browser from the login to the logout.
func TestDBSCStory(t *testing.T) {
	inBrowser(t, func(b *bindingBrowser) {
		challenge := b.login("admin")
		r := b.register(challenge)
		const want = `","refresh_url":"/session/bind","scope":{"include_site":false},"credentials":[{"type":"cookie","name":"__Host-access_token","attributes":"Path=/; HttpOnly; Secure; SameSite=Lax"}]}`
		if r.status != http.StatusOK || r.body != `{"session_identifier":"`+b.session+want || b.session != membersOf(b.t, b.jar[refreshCookie].Value).sid() {
			b.t.Fatalf("registration: %d %s", r.status, r.body)
		}
		r.notStored(b.t)
		if age := r.cookies()["access_token"].MaxAge; age != 3590 { // the browser must refresh before the token has expired
			b.t.Errorf("the cookie of the access token lives for %d s, the token for 3600 s", age)
		}
		if age := r.cookies()["refresh_token"].MaxAge; age != 1209600 {
			b.t.Errorf("the cookie of the refresh token lives for %d s", age)
		}
		if b.challenge != idOfToken(b.t, b.jar[refreshCookie].Value) || b.challenge == challenge {
			b.t.Errorf("after the registration the challenge is %s", b.challenge)
		}
		b.send("GET", "/required").passed(b.t, "admin")

		wait(3590 * time.Second) // the cookie has expired, the token has not
		b.send("GET", "/required").rejected(b.t, middleware.CodeTokenExpired)
		r = b.refresh() // one round trip
		if r.status != http.StatusOK || b.registration(r) != "" {
			b.t.Errorf("refresh: %d %s %v", r.status, r.body, r.header)
		}
		r.notStored(b.t)
		b.send("GET", "/required").passed(b.t, "admin")
		if set := b.refresh().cookies(); set["access_token"].Value == "" || set["refresh_token"].Value != "" { // R6a
			b.t.Errorf("another refresh within the grace period sets %v", set)
		}

		// Without the key, the refresh token in the cookie is worth nothing, and nothing is used up. A script of the page only
		// learns how long the access token is good for.
		wait(time.Minute)
		b.send("POST", "/refresh", header("Dpop", "x.y.z")).rejected(b.t, middleware.CodeProofInvalid)
		r = b.send("POST", "/refresh")
		r.cookieAnswer(b.t)
		if !strings.Contains(r.body, `"expires_in":3540,`) || !strings.Contains(r.body, `"refresh_expires_in":1205950}`) || r.header.Get("Set-Cookie") != "" {
			b.t.Errorf("POST /refresh by a script: %s %v", r.body, r.header)
		}
		access := b.jar[accessCookie]
		for _, other := range []string{"", "a.b.c", issue(b.t, b.auth, middleware.Identity{Subject: "admin"})} {
			b.jar[accessCookie] = http.Cookie{Value: other, Expires: access.Expires}
			b.send("POST", "/refresh").rejected(b.t, middleware.CodeProofRequired)
		}
		b.jar[accessCookie] = access

		// After a restart, the browser does not know the challenge.
		known := b.challenge
		b.challenge = ""
		b.refresh().challenged(b.t, "without a proof", known, b.session)
		b.lives("after the challenge")

		refreshToken := b.jar[refreshCookie].Value
		b.send("POST", "/logout").accepted(b.t, "/logout")
		b.refresh().rejected(b.t, middleware.CodeTokenMissing)
		b.jar[refreshCookie] = http.Cookie{Value: refreshToken, Expires: time.Now().Add(time.Hour)}
		r = b.refresh()
		r.rejected(b.t, middleware.CodeTokenRevoked)
		if r.header.Get("Set-Cookie") != "" {
			b.t.Errorf("a rejected refresh changes cookies, which may be those of another login: %v", r.header)
		}
	})
}

// What ends the browser's session, and what does not.
func TestDBSCEnd(t *testing.T) {
	for name, row := range map[string]struct {
		end  func(b *bindingBrowser, auth *middleware.Auth) error
		code middleware.Code
	}{
		"log out everywhere": {func(b *bindingBrowser, auth *middleware.Auth) error {
			return auth.RevokeSubject(b.t.Context(), "admin")
		}, middleware.CodeTokenRevoked},
		"the window is over": {func(*bindingBrowser, *middleware.Auth) error {
			wait(13*day + 23*time.Hour + 59*time.Minute)
			return nil
		}, middleware.CodeRefreshExpired},
		"a forged cookie": {func(b *bindingBrowser, _ *middleware.Auth) error {
			b.jar[refreshCookie] = http.Cookie{Value: "a.b.c", Expires: time.Now().Add(time.Hour)}
			return nil
		}, middleware.CodeTokenInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				auth := newAuth(t, withoutSweeper, offered, withSecureCookie)
				b := newBindingBrowser(t, auth)
				b.bound()
				b.lives("before")
				if err := row.end(b, auth); err != nil {
					t.Fatal(err)
				}
				if name == "the window is over" {
					b.jar[refreshCookie] = http.Cookie{Value: b.jar[refreshCookie].Value, Expires: time.Now().Add(time.Hour)}
				}
				b.refresh().rejected(t, row.code)
			})
		})
	}
}

func TestDBSCStoreFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &faulty{Store: newMemory(t)}
		b := newBindingBrowser(t, newAuth(t, offered, withSecureCookie, func(c *middleware.Config) { c.Store = store }))
		challenge := b.login("admin")
		for _, f := range []*fault{{get: failing}, {swap: failingSwap}} {
			store.fault.Store(f)
			b.register(challenge).rejected(t, middleware.CodeStoreUnavailable)
		}
		store.fault.Store(nil)
		if r := b.register(challenge); r.status != http.StatusOK {
			t.Fatalf("R14: the registration is answered %d %s after the store failed", r.status, r.body)
		}
		wait(time.Minute)
		for _, f := range []*fault{{get: failing}, {swap: failingSwap}} {
			store.fault.Store(f)
			if r := b.refresh(); r.header.Get("Set-Cookie") != "" {
				t.Errorf("R14: a refresh that fails sets cookies")
			} else {
				r.rejected(t, middleware.CodeStoreUnavailable)
			}
		}
		store.fault.Store(nil)
		b.lives("R14")
	})
}

// Proofs that do not fit the request.
func TestDBSCProofs(t *testing.T) {
	inBrowser(t, func(b *bindingBrowser) {
		challenge := b.login("admin")
		good, other := registrationProof(b.key), newClientKey()
		for name, proof := range map[string]dbscProof{
			"a refresh proof":     {refreshProof, jtiClaim(challenge), b.key},
			"signed by another":   {good, jtiClaim(challenge), other},
			"typ of DPoP":         {strings.Replace(good, "dbsc+jwt", "dpop+jwt", 1), jtiClaim(challenge), b.key},
			"no typ":              {strings.Replace(good, `,"typ":"dbsc+jwt"`, "", 1), jtiClaim(challenge), b.key},
			"alg none":            {strings.Replace(good, "ES256", "none", 1), jtiClaim(challenge), b.key},
			"alg RS256":           {strings.Replace(good, "ES256", "RS256", 1), jtiClaim(challenge), b.key},
			"jti is not a string": {good, `{"jti":1}`, b.key},
			"jti twice":           {good, `{"jti":"` + challenge + `","jti":"` + challenge + `"}`, b.key},
			"no object":           {good, `"` + challenge + `"`, b.key},
		} {
			r := b.registerWith(proof)
			r.rejected(b.t, middleware.CodeProofInvalid)
			if b.t.Failed() {
				b.t.Fatal(name)
			}
		}
		session := membersOf(b.t, b.jar[refreshCookie].Value).sid()
		for name, payload := range map[string]string{"another challenge": jtiClaim("another"), "no challenge": `{}`, "the empty challenge": jtiClaim("")} {
			b.registerWith(dbscProof{good, payload, b.key}).challenged(b.t, name, challenge, session)
		}
		b.send("POST", "/session/bind").rejected(b.t, middleware.CodeBadRequest)
		b.register("").challenged(b.t, "nothing was bound", challenge, session)
		proof := dbscProof{good, jtiClaim(challenge), b.key}
		b.registerWith(proof, header("Secure-Session-Response", "twice")).rejected(b.t, middleware.CodeBadRequest)

		// The draft says that the header is a string, in quotes. Chromium leaves the quotes out. The claim authorization is
		// not looked at.
		proof.payload = strings.Replace(proof.payload, "{", `{"authorization":"x",`, 1)
		r := b.send("POST", "/session/bind", header("Secure-Session-Response", `"`+proof.sign()+`";a=b`))
		if r.status != http.StatusOK {
			b.t.Fatalf("with quotes: %d %s", r.status, r.body)
		}
		b.session = session
		wait(time.Minute)

		current := b.challenge
		for name, proof := range map[string]dbscProof{
			"another key":        {refreshProof, jtiClaim(current), other},
			"a key in it":        {good, jtiClaim(current), b.key},
			"another key, in it": {registrationProof(other), jtiClaim(current), other},
		} {
			b.send("POST", "/session/bind", header("Sec-Secure-Session-Id", session), header("Secure-Session-Response", proof.sign())).rejected(b.t, middleware.CodeProofInvalid)
			if b.t.Failed() {
				b.t.Fatal(name)
			}
		}
		b.challenge = challenge
		b.refresh().challenged(b.t, "the challenge of the registration", current, session)
		if b.challenge != current {
			b.t.Errorf("the challenge is %s, want %s", b.challenge, current)
		}
		b.refresh(header("Sec-Secure-Session-Id", session)).rejected(b.t, middleware.CodeBadRequest)

		// Somebody else cannot bind the session again.
		b.registerWith(dbscProof{registrationProof(other), jtiClaim(current), other}).challenged(b.t, "another registration", current, session)
		b.lives("after all this")
	})
}

// A browser still has the DBSC session of a login that another login has replaced. Its refresh must change nothing.
func TestDBSCAnotherSession(t *testing.T) {
	inBrowser(t, func(b *bindingBrowser) {
		b.bound()
		oldSession, oldChallenge, oldKey := b.session, b.challenge, b.key
		b.session, b.challenge, b.key = "", "", newClientKey()
		first := b.login("admin")
		second := b.login("admin") // before the registration
		b.register(first).challenged(b.t, "the registration of the login before", second, membersOf(b.t, b.jar[refreshCookie].Value).sid())
		b.session = ""
		if r := b.register(second); r.status != http.StatusOK {
			b.t.Fatalf("registration: %d %s", r.status, r.body)
		}
		own := *b
		b.session, b.challenge, b.key = oldSession, oldChallenge, oldKey
		for range 2 {
			r := b.refresh()
			r.rejected(b.t, middleware.CodeTokenMissing)
			if r.header.Get("Set-Cookie")+r.header.Get("Secure-Session-Challenge") != "" {
				b.t.Errorf("the refresh of a replaced session is answered with %v", r.header)
			}
			b.challenge = ""
		}
		own.lives("the other session")
	})
}

// A thief has the cookies, and a proof that was captured together with them.
func TestDBSCStolen(t *testing.T) {
	inBrowser(t, func(b *bindingBrowser) {
		b.bound()
		wait(time.Minute)
		stolen := b.jar[refreshCookie].Value
		proof := dbscProof{refreshProof, jtiClaim(b.challenge), b.key}.sign()
		replay := []edit{header("Cookie", refreshCookie+"="+stolen), header("Sec-Secure-Session-Id", b.session), header("Secure-Session-Response", proof)}
		b.refresh()
		current := b.challenge
		r := b.site.send("POST", "/session/bind", replay...)
		if r.status != http.StatusOK || r.cookies()["refresh_token"].Value != b.jar[refreshCookie].Value {
			b.t.Errorf("R7: within the grace period: %d %s, want the same successor", r.status, r.body)
		}
		wait(11 * time.Second)
		b.site.send("POST", "/session/bind", replay...).challenged(b.t, "R18: after the grace period", current, b.session)
		b.site.send("POST", "/refresh", replay[0]).rejected(b.t, middleware.CodeProofRequired)
		b.lives("R18")
	})
}

// Bind is offered, and the browser does not have DBSC.
func TestDBSCWithoutIt(t *testing.T) {
	inBrowser(t, func(b *bindingBrowser) {
		challenge := b.login("admin")
		b.send("GET", "/required").passed(b.t, "admin")
		wait(time.Hour)
		b.send("GET", "/required").rejected(b.t, middleware.CodeTokenExpired)
		r := b.send("POST", "/refresh")
		r.cookieAnswer(b.t)
		again := b.registration(r)
		if again == "" || again == challenge {
			b.t.Errorf("a refresh offers a registration with the challenge %q", again)
		}
		if age := r.cookies()["access_token"].MaxAge; age != 3600 {
			b.t.Errorf("the cookie of the access token lives for %d s", age)
		}
		b.send("GET", "/required").passed(b.t, "admin")

		// Without a proof BindHandler refreshes nothing, bound or not.
		replaced := b.jar[refreshCookie]
		wait(time.Minute)
		b.send("POST", "/session/bind", header("Sec-Secure-Session-Id", membersOf(b.t, replaced.Value).sid())).
			challenged(b.t, "no proof", again, membersOf(b.t, replaced.Value).sid())

		// The registration of the login comes late. The token in the cookie is replaced, in its grace period.
		wait(time.Minute)
		b.send("POST", "/refresh").cookieAnswer(b.t) // if the request before had replaced the token, this would be reuse
		newest := b.jar[refreshCookie]
		b.jar[refreshCookie] = replaced
		b.register(again).challenged(b.t, "R7", idOfToken(b.t, newest.Value), membersOf(b.t, newest.Value).sid())
		b.jar[refreshCookie] = newest
		if r := b.register(idOfToken(b.t, newest.Value)); r.status != http.StatusOK {
			b.t.Errorf("a later registration is answered %d %s", r.status, r.body)
		}
		b.lives("bound after refreshes")
	})
}

// SetCookies and BindRequired.
func TestDBSCRequired(t *testing.T) {
	inBrowser(t, func(b *bindingBrowser) {
		challenge := b.registration(b.send("GET", "/callback?user=admin"))
		wait(time.Minute)
		b.send("POST", "/refresh").rejected(b.t, middleware.CodeProofRequired)
		if r := b.register(challenge); r.status != http.StatusOK {
			b.t.Fatalf("R19: the registration is answered %d %s", r.status, r.body)
		}
		delete(b.jar, accessCookie)
		b.send("POST", "/refresh").rejected(b.t, middleware.CodeProofRequired)
		b.lives("R19")
	}, required)
}

// With BindOff nothing is offered, but a session that is bound stays so, and its browser can refresh it.
func TestDBSCBindOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemory(t)
		shared := func(c *middleware.Config) { c.Store = store }
		b := newBindingBrowser(t, newAuth(t, offered, withSecureCookie, shared))
		b.bound()
		off := direct(t, bindRoutes(newAuth(t, pair, withSecureCookie, shared)))
		b.site = off
		delete(b.jar, accessCookie)
		b.send("POST", "/refresh").rejected(t, middleware.CodeProofRequired)
		b.lives("R18: after Bind was turned off")
		withoutCookies := direct(t, routes(newAuth(t, pair, shared)))
		withoutCookies.send("POST", "/refresh", bearer(b.jar[refreshCookie].Value)).rejected(t, middleware.CodeProofRequired)

		unbound := newBindingBrowser(t, newAuth(t, pair, withSecureCookie, shared))
		if challenge := unbound.login("admin"); challenge != "" {
			t.Errorf("with BindOff a registration is offered: %s", challenge)
		}
		unbound.register(idOfToken(t, unbound.jar[refreshCookie].Value)).rejected(t, middleware.CodeBadRequest)
	})
}

// Other sites cannot make a browser bind or refresh a session, and pages of trusted origins can.
func TestDBSCOrigins(t *testing.T) {
	const trusted = "https://app.example.org"
	inBrowser(t, func(b *bindingBrowser) {
		challenge := b.login("admin")
		proof := dbscProof{registrationProof(b.key), jtiClaim(challenge), b.key}
		for name, origin := range origins {
			if origin.refused && !origin.trusting {
				var edits []edit
				for field, value := range origin.headers {
					edits = append(edits, header(field, value))
				}
				b.registerWith(proof, edits...).rejected(b.t, middleware.CodeCrossOrigin)
				if b.t.Failed() {
					b.t.Fatal(name)
				}
			}
		}
		fromPage := []edit{header("Origin", trusted), header("Sec-Fetch-Site", "same-site")}
		r := b.registerWith(proof, fromPage...)
		if r.status != http.StatusOK || !strings.HasSuffix(r.body, `,"allowed_refresh_initiators":["app.example.org"]}`) {
			b.t.Errorf("registration for a trusted origin: %d %s", r.status, r.body)
		}
		wait(time.Minute)
		if r := b.refresh(fromPage...); r.status != http.StatusOK {
			b.t.Errorf("refresh for a trusted origin: %d %s", r.status, r.body)
		}
	}, func(c *middleware.Config) { c.TrustedOrigins = []string{trusted} })
}

// BindHandler needs a pair in cookies that no subdomain shares. Elsewhere nothing is offered.
func TestDBSCNeedsCookies(t *testing.T) {
	domain := func(c *middleware.Config) { c.Cookie = &middleware.Cookie{Domain: "example.com"} }
	for name, changes := range map[string][]change{
		"one-token mode": {withSecureCookie},
		"no cookies":     {offered},
		"a domain":       {offered, domain},
	} {
		t.Run(name, func(t *testing.T) {
			s := direct(t, bindRoutes(newAuth(t, changes...)))
			if r := s.send("POST", "/login?user=admin"); r.header.Get("Secure-Session-Registration") != "" {
				t.Error("a registration is offered")
			}
			s.send("POST", "/session/bind", header("Secure-Session-Response", "x")).rejected(t, middleware.CodeServerError)
		})
	}
}

func TestDBSCBindPath(t *testing.T) {
	path := func(path string) change {
		return func(c *middleware.Config) { c.Cookie = &middleware.Cookie{BindPath: path} }
	}
	inBrowser(t, func(b *bindingBrowser) {
		r := b.send("POST", "/login?user=admin")
		if got := r.header.Get("Secure-Session-Registration"); !strings.Contains(got, `;path="/api/bind";`) {
			b.t.Errorf("Secure-Session-Registration: %s", got)
		}
		r = b.register(idOfToken(b.t, b.jar[refreshCookie].Value))
		if got := r.fields(b.t)["refresh_url"]; got != "/api/bind" {
			b.t.Errorf("refresh_url: %v", got)
		}
	}, path("/api/bind"))
	for _, bad := range []string{"bind", "https://example.com/bind", `/bind";challenge="x`, "/bind\r\n", "/bänd"} {
		if _, err := middleware.New(newConfig(t, offered, path(bad))); err == nil || !strings.Contains(err.Error(), "BindPath") {
			t.Errorf("R15: BindPath %q: %v", bad, err)
		}
	}
}

func TestDBSCEvents(t *testing.T) {
	var events eventLog
	inBrowser(t, func(b *bindingBrowser) {
		b.bound()
		b.challenge = ""
		b.refresh()
		var kinds []string
		for _, e := range events.take() {
			kinds = append(kinds, string(e.Kind)+string(e.Code))
			if e.Subject != "admin" || e.SessionID != b.session {
				b.t.Errorf("event %+v", e)
			}
		}
		if got := strings.Join(kinds, " "); got != "login refresh rejectedproof_required" {
			b.t.Errorf("the events are %s", got)
		}
	}, func(c *middleware.Config) { c.OnEvent = events.record })
}
