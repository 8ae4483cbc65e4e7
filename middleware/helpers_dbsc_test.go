package middleware_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
)

func offered(c *middleware.Config)  { c.Pair, c.Bind = true, middleware.BindOffered }
func required(c *middleware.Config) { c.Pair, c.Bind = true, middleware.BindRequired }

func withSecureCookie(c *middleware.Config) { c.Cookie = &middleware.Cookie{} }

func bindRoutes(auth *middleware.Auth) *gin.Engine {
	r := cookieRoutes(auth, "pair")
	r.POST("/session/bind", auth.BindHandler)
	return r
}

// A bindingBrowser does what a browser with DBSC does, and more when a test wants it to: it has cookies, which expire, a
// key, and the id and the challenge of a session.
type bindingBrowser struct {
	site
	auth               *middleware.Auth
	jar                map[string]http.Cookie
	key                *ecdsa.PrivateKey
	session, challenge string
}

func newBindingBrowser(t testing.TB, auth *middleware.Auth) *bindingBrowser {
	t.Helper()
	return &bindingBrowser{site: direct(t, bindRoutes(auth)), auth: auth, jar: map[string]http.Cookie{}, key: newClientKey()}
}

func newClientKey() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }

const refreshCookie, accessCookie = "__Host-refresh_token", "__Host-access_token"

// send adds the cookies that have not expired, and remembers those of the response.
func (b *bindingBrowser) send(method, path string, edits ...edit) reply {
	b.t.Helper()
	maps.DeleteFunc(b.jar, func(_ string, cookie http.Cookie) bool { return !time.Now().Before(cookie.Expires) })
	withCookies := func(r *http.Request) {
		r.Host = "example.com"
		for _, name := range slices.Sorted(maps.Keys(b.jar)) {
			r.AddCookie(&http.Cookie{Name: name, Value: b.jar[name].Value})
		}
	}
	r := b.site.send(method, path, append([]edit{withCookies}, edits...)...)
	for _, cookie := range (&http.Response{Header: r.header}).Cookies() {
		cookie.Expires = time.Now().Add(time.Duration(cookie.MaxAge) * time.Second)
		b.jar[cookie.Name] = *cookie
	}
	if value := r.header.Get("Secure-Session-Challenge"); value != "" {
		challenge, id, found := strings.Cut(value, ";id=")
		if !found || b.session != "" && id != `"`+b.session+`"` {
			b.t.Errorf("Secure-Session-Challenge: %s, want the id of the session", value)
		}
		b.challenge = strings.Trim(challenge, `"`)
	}
	return r
}

// login logs in and returns the challenge of the registration that is offered, or "".
func (b *bindingBrowser) login(user string) string {
	b.t.Helper()
	r := b.send("POST", "/login?user="+user)
	if r.status != http.StatusOK {
		b.t.Fatalf("login: %d %s", r.status, r.body)
	}
	return b.registration(r)
}

// registration returns the challenge of the registration that a response offers, or "".
func (b *bindingBrowser) registration(r reply) string {
	b.t.Helper()
	value := r.header.Get("Secure-Session-Registration")
	if value == "" {
		return ""
	}
	challenge, ok := strings.CutPrefix(value, `(ES256);path="/session/bind";challenge="`)
	if challenge = strings.TrimSuffix(challenge, `"`); !ok || challenge != idOfToken(b.t, b.jar[refreshCookie].Value) {
		b.t.Errorf("Secure-Session-Registration: %s, want the id of the refresh token as the challenge", value)
	}
	return challenge
}

func idOfToken(t testing.TB, text string) string {
	t.Helper()
	return strings.Trim(membersOf(t, text)["jti"], `"`)
}

// A dbscProof is a proof to be signed. The zero fields are replaced by those that a browser uses.
type dbscProof struct {
	header, payload string
	key             *ecdsa.PrivateKey
}

const refreshProof = `{"alg":"ES256","typ":"dbsc+jwt"}`

func registrationProof(key *ecdsa.PrivateKey) string {
	return `{"alg":"ES256","jwk":` + jwkOf(key) + `,"typ":"dbsc+jwt"}`
}

func jwkOf(key *ecdsa.PrivateKey) string {
	point := must(key.PublicKey.Bytes())
	return `{"crv":"P-256","kty":"EC","x":"` + segment(string(point[1:33])) + `","y":"` + segment(string(point[33:])) + `"}`
}

func jtiClaim(challenge string) string {
	return string(must(json.Marshal(map[string]string{"jti": challenge})))
}

func (p dbscProof) sign() string {
	text := segment(p.header) + "." + segment(p.payload)
	hash := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, p.key, hash[:])
	if err != nil {
		panic(err)
	}
	mac := make([]byte, 64)
	r.FillBytes(mac[:32])
	s.FillBytes(mac[32:])
	return text + "." + segment(string(mac))
}

// register sends a registration, and remembers the session if it succeeds.
func (b *bindingBrowser) register(challenge string) reply {
	b.t.Helper()
	return b.registerWith(dbscProof{registrationProof(b.key), jtiClaim(challenge), b.key})
}

func (b *bindingBrowser) registerWith(proof dbscProof, edits ...edit) reply {
	b.t.Helper()
	r := b.send("POST", "/session/bind", append([]edit{header("Secure-Session-Response", proof.sign())}, edits...)...)
	if r.status == http.StatusOK {
		b.session, _ = r.fields(b.t)["session_identifier"].(string)
	}
	return r
}

// refresh sends a refresh with a proof over the challenge that the browser knows, or without one if it knows none.
func (b *bindingBrowser) refresh(edits ...edit) reply {
	b.t.Helper()
	edits = append([]edit{header("Sec-Secure-Session-Id", b.session)}, edits...)
	if b.challenge != "" {
		proof := dbscProof{refreshProof, jtiClaim(b.challenge), b.key}
		edits = append(edits, header("Secure-Session-Response", proof.sign()))
	}
	return b.send("POST", "/session/bind", edits...)
}

// bound logs in and binds the session.
func (b *bindingBrowser) bound() {
	b.t.Helper()
	if r := b.register(b.login("admin")); r.status != http.StatusOK {
		b.t.Fatalf("registration: %d %s", r.status, r.body)
	}
}

// lives checks that the session can be refreshed after the grace period.
func (b *bindingBrowser) lives(what string) {
	b.t.Helper()
	wait(time.Minute)
	old := b.jar[refreshCookie].Value
	if r := b.refresh(); r.status != http.StatusOK || b.jar[refreshCookie].Value == old {
		b.t.Errorf("%s: the refresh is answered %d %s", what, r.status, r.body)
	}
	b.send("GET", "/required").passed(b.t, "admin")
}

// challenged checks for 403 with a challenge.
func (r reply) challenged(t testing.TB, what, challenge, session string) {
	t.Helper()
	if got := r.header.Get("Secure-Session-Challenge"); got != `"`+challenge+`";id="`+session+`"` || r.status != http.StatusForbidden || r.header.Get("Set-Cookie") != "" {
		t.Errorf("%s: %d %s %v, want 403 with the challenge %s", what, r.status, r.body, r.header, challenge)
	}
	if code := r.fields(t)["code"]; code != string(middleware.CodeProofRequired) {
		t.Errorf("%s: code %v", what, code)
	}
}
