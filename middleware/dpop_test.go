package middleware_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// Tests of the DPoP header. What a proof is good for (R18, R19) is in bind_rules_test.go.

const api = "http://api.example.org"

// offering returns a server that offers binding.
func offering(t testing.TB, changes ...change) (*middleware.Auth, site) {
	auth := newAuth(t, append([]change{bind(middleware.BindOffered)}, changes...)...)
	return auth, direct(t, routes(auth)).at(api)
}

// badMembers are values of one member that make a proof wrong (RFC 9449 §4.2, §4.3). nil removes the member.
var badMembers = []struct {
	what, member string
	value        any
}{
	{"typ missing", "header.typ", nil},
	{"typ JWT", "header.typ", "JWT"},
	{"typ of DBSC", "header.typ", "dbsc+jwt"},
	{"typ a list", "header.typ", []string{"dpop+jwt"}},
	{"alg missing", "header.alg", nil},
	{"alg none", "header.alg", "none"},
	{"alg HS256", "header.alg", "HS256"},
	{"alg RS256", "header.alg", "RS256"},
	{"alg ES384", "header.alg", "ES384"},
	{"alg in lower case", "header.alg", "es256"},
	{"crit", "header.crit", []string{"exp"}},
	{"header too long", "header.x5c", strings.Repeat("a", 2000)},
	{"jwk missing", "header.jwk", nil},
	{"jwk null", "header.jwk", json.RawMessage("null")},
	{"jwk a string", "header.jwk", "key"},
	{"jwk private", "jwk.d", "AAAA"},
	{"jwk secret", "jwk.k", "AAAA"},
	{"jwk kty oct", "jwk.kty", "oct"},
	{"jwk kty RSA", "jwk.kty", "RSA"},
	{"jwk P-384", "jwk.crv", "P-384"},
	{"jwk without x", "jwk.x", nil},
	{"jwk without y", "jwk.y", nil},
	{"jwk off the curve", "jwk.y", strings.Repeat("A", 43)},
	{"jwk x too short", "jwk.x", "AAAA"},
	{"jwk x too long", "jwk.x", strings.Repeat("A", 64)},
	{"jti missing", "claims.jti", nil},
	{"jti empty", "claims.jti", ""},
	{"jti a number", "claims.jti", 1},
	{"htm missing", "claims.htm", nil},
	{"htm empty", "claims.htm", ""},
	{"htm another", "claims.htm", "GET"},
	{"htm in lower case", "claims.htm", "post"},
	{"htm a list", "claims.htm", []string{"POST"}},
	{"htu missing", "claims.htu", nil},
	{"htu empty", "claims.htu", ""},
	{"htu a number", "claims.htu", 1},
	{"htu a path", "claims.htu", "/PATH"},
	{"htu without a scheme", "claims.htu", "//api.example.org/PATH"},
	{"htu opaque", "claims.htu", "http:api.example.org/PATH"},
	{"htu another scheme", "claims.htu", "https://api.example.org/PATH"},
	{"htu unknown scheme", "claims.htu", "gopher://api.example.org/PATH"},
	{"htu another host", "claims.htu", "http://www.example.org/PATH"},
	{"htu longer host", "claims.htu", "http://api.example.org.evil.example/PATH"},
	{"htu another port", "claims.htu", "http://api.example.org:443/PATH"},
	{"htu with a user", "claims.htu", "http://api@api.example.org/PATH"},
	{"htu another path", "claims.htu", "http://api.example.org/other"},
	{"htu without a path", "claims.htu", "http://api.example.org"},
	{"htu longer path", "claims.htu", "http://api.example.org/PATH/"},
	{"htu two slashes", "claims.htu", "http://api.example.org//PATH"},
	{"htu not a URL", "claims.htu", "http://api.example.org/PATH%"},
	{"iat missing", "claims.iat", nil},
	{"nonce a number", "claims.nonce", 1},
}

// badProofs are proofs by p in which one thing is wrong.
func badProofs(p prover, good proofParts) map[string]string {
	signed := p.sign(good)
	text, signature, _ := cutLast(signed, ".")
	header, claims := string(must(json.Marshal(good.header))), string(must(json.Marshal(good.claims)))
	bad := map[string]string{
		"empty":                        "",
		"no JWT":                       "nonsense",
		"two segments":                 text,
		"four segments":                signed + ".e30",
		"two proofs in one header":     signed + ", " + signed,
		"no signature":                 text + ".",
		"signature too short":          text + "." + signature[:84],
		"signature padded":             signed + "==",
		"signed by another key":        newProver().sign(good),
		"claims changed afterwards":    segment(header) + "." + segment(claims+" ") + "." + signature,
		"claims a list":                p.signText(header, "[]"),
		"a claim twice":                p.signText(header, strings.Replace(claims, "{", `{"htm":"POST",`, 1)),
		"a member of the header twice": p.signText(strings.Replace(header, "{", `{"alg":"ES256",`, 1), claims),
	}
	for _, name := range []string{"x", "y"} {
		coordinate := must(base64.RawURLEncoding.DecodeString(p.jwk()[name].(string)))
		jwk := merged(p.jwk(), map[string]any{name: b64(append(coordinate, 0))})
		bad["jwk with a longer "+name] = p.sign(good.with(map[string]any{"jwk": jwk}, nil))
	}
	path := strings.TrimPrefix(good.claims["htu"].(string), api+"/")
	for _, m := range badMembers {
		part, name, _ := strings.Cut(m.member, ".")
		value := m.value
		if text, ok := value.(string); ok {
			value = strings.Replace(text, "PATH", path, 1)
		}
		changed := map[string]any{name: value}
		switch part {
		case "header":
			bad[m.what] = p.sign(good.with(changed, nil))
		case "jwk":
			bad[m.what] = p.sign(good.with(map[string]any{"jwk": merged(p.jwk(), changed)}, nil))
		case "claims":
			bad[m.what] = p.sign(good.with(nil, changed))
		}
	}
	for name, date := range notDates {
		if json.Valid([]byte(date)) {
			bad["iat "+name] = p.sign(good.with(nil, map[string]any{"iat": json.RawMessage(date)}))
		}
	}
	return bad
}

// Each check of RFC 9449 §4.3 fails once, at the login and at a refresh. A refresh that fails uses nothing up.
func TestDPoPChecks(t *testing.T) {
	_, s := offering(t)
	p := newProver()
	for name, text := range badProofs(p, p.parts("POST", api+"/login", "")) {
		t.Run("login, "+name, func(t *testing.T) {
			s.send("POST", "/login?user=admin", dpop(text)).rejected(t, middleware.CodeProofInvalid)
		})
	}
	c := newDPoPClient(t, s)
	for name, text := range badProofs(c.prover, c.parts()) {
		t.Run("refresh, "+name, func(t *testing.T) {
			r := c.present(text)
			r.rejected(t, middleware.CodeProofInvalid)
			r.nonce(t, "")
			r.notStored(t)
		})
	}
	good := c.sign(c.parts())
	c.present(good, good).rejected(t, middleware.CodeProofInvalid)
	s.send("POST", "/login?user=admin", dpop(""), dpop("")).rejected(t, middleware.CodeProofInvalid)
	c.refresh()
}

// What RFC 9449 allows is accepted: other members, and another form of the URL (RFC 3986 §6.2.2, §6.2.3).
func TestDPoPAccepts(t *testing.T) {
	_, s := offering(t)
	for name, edit := range map[string]proofParts{
		"as it is":                   {},
		"other members":              {map[string]any{"kid": "a", "x": 1}, map[string]any{"ath": "x", "exp": 1, "more": []int{1}}},
		"more in the jwk":            {map[string]any{"jwk": nil}, nil},
		"a fraction of a second":     {nil, map[string]any{"iat": float64(time.Now().Unix()) + 0.5}},
		"a nonce of an earlier time": {nil, map[string]any{"nonce": "remembered"}},
		"a port":                     {nil, map[string]any{"htu": "http://api.example.org:80/login"}},
		"an empty port":              {nil, map[string]any{"htu": "http://api.example.org:/login"}},
		"upper case":                 {nil, map[string]any{"htu": "HTTP://API.Example.ORG/login"}},
		"the query":                  {nil, map[string]any{"htu": api + "/login?user=admin"}},
		"another query":              {nil, map[string]any{"htu": api + "/login?x#y"}},
		"escaped letters":            {nil, map[string]any{"htu": api + "/%6c%6Fgin"}},
		"dots":                       {nil, map[string]any{"htu": api + "/a/.././login"}},
		"escaped dots":               {nil, map[string]any{"htu": api + "/a/%2e%2E/login"}},
	} {
		p := newProver()
		if name == "more in the jwk" {
			edit.header["jwk"] = merged(p.jwk(), map[string]any{"use": "sig", "alg": "ES256", "kid": "a", "key_ops": []string{"verify"}})
		}
		r := s.send("POST", "/login?user=admin", dpop(p.sign(p.parts("POST", api+"/login", "").with(edit.header, edit.claims))))
		if r.status != http.StatusOK || r.header.Get("DPoP-Nonce") == "" {
			t.Errorf("%s: %d %s %v", name, r.status, r.body, r.header)
		}
	}
}

// A client may write the URL of the root with or without a slash.
func TestDPoPRoot(t *testing.T) {
	auth, _ := offering(t)
	for _, htu := range []string{api, api + "/"} {
		proof := middleware.Proof{DPoP: newProver().proof("POST", htu, ""), Method: "POST", URL: api}
		tokens, err := auth.Issue(t.Context(), middleware.Identity{Subject: "admin"}, proof)
		if err != nil || tokens.ProofChallenge == "" {
			t.Errorf("%s: %v", htu, err)
		}
	}
}

func TestDPoPLoginAndRefresh(t *testing.T) {
	inPairMode(t, func(t *testing.T, auth, other *middleware.Auth) {
		s := direct(t, routes(auth)).at(api)
		r := s.send("POST", "/login?user=admin")
		r.nonce(t, "") // not bound
		unbound := r.tokens(t)
		wantRefresh(t, "without a key", auth, unbound.RefreshToken, "")

		c := newDPoPClient(t, s)
		if claims := membersOf(t, c.tokens.AccessToken); claims["cnf"] != "" {
			t.Errorf("the access token is bound: %v", claims)
		}
		c.present().challenge(t, c.nonce)
		c.present(c.sign(c.parts().with(nil, map[string]any{"nonce": nil}))).challenge(t, c.nonce)
		c.present(c.sign(c.parts().with(nil, map[string]any{"nonce": "another"}))).challenge(t, c.nonce)
		c.present(newProver().proof("POST", api+"/refresh", c.nonce)).challenge(t, c.nonce)
		for range 3 {
			c.refresh()
			wait(20 * time.Second)
		}
		fields := c.present(c.sign(c.parts())).fields(t)
		if fields["token_type"] != "Bearer" {
			t.Errorf("token_type is %v, but the access token is not bound", fields["token_type"])
		}
		verify(t, other, c.tokens.AccessToken)
	}, bind(middleware.BindOffered))
}

// A login that fails says nothing about a nonce, and its proof does not help.
func TestDPoPFailedLogin(t *testing.T) {
	_, s := offering(t, authenticating(func(*gin.Context) (middleware.Identity, error) { return middleware.Identity{}, middleware.ErrRefused }))
	p := newProver()
	r := s.send("POST", "/login", dpop(p.proof("POST", api+"/login", "")))
	r.rejected(t, middleware.CodeInvalidCredentials)
	r.nonce(t, "")
}

// At login iat must be recent, because there is no challenge yet. At a refresh the client's clock does not matter.
func TestDPoPClocks(t *testing.T) {
	for name, leeway := range map[string]time.Duration{"without Leeway": 0, "with Leeway": 10 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, s := offering(t, withoutSweeper, func(c *middleware.Config) { c.Leeway = leeway })
				p := newProver()
				for _, skew := range []time.Duration{0, -max(time.Minute, leeway), max(30*time.Second, leeway)} {
					for beyond := range 2 {
						if skew < 0 {
							skew -= time.Duration(beyond) * time.Second
						} else if skew > 0 {
							skew += time.Duration(beyond) * time.Second
						}
						iat := map[string]any{"iat": time.Now().Add(skew).Unix()}
						r := s.send("POST", "/login?user=admin", dpop(p.sign(p.parts("POST", api+"/login", "").with(nil, iat))))
						if bad := beyond == 1 && skew != 0; bad != (r.status != http.StatusOK) {
							t.Errorf("a proof %v from now: %d %s", skew, r.status, r.body)
						}
					}
				}
				c := newDPoPClient(t, s)
				for _, iat := range []int64{1, time.Now().Add(-day).Unix(), time.Now().Add(365 * day).Unix()} {
					c.keep(c.present(c.sign(c.parts().with(nil, map[string]any{"iat": iat}))))
					wait(time.Minute)
				}
			})
		})
	}
}

// A session can be bound after its login, by a client that does not know the challenge yet (R19).
func TestDPoPBindsAtRefresh(t *testing.T) {
	inPairMode(t, func(t *testing.T, auth, _ *middleware.Auth) {
		s := direct(t, routes(auth)).at(api)
		first := s.send("POST", "/login?user=admin").tokens(t)
		c := &dpopClient{prover: newProver(), site: s, tokens: first}
		r := c.present(c.sign(c.parts()))
		r.challenge(t, idOf(t, first.RefreshToken))
		c.nonce = r.header.Get("DPoP-Nonce")
		c.refresh()
		wait(time.Minute)
		c.present().challenge(t, c.nonce)

		// The answer was lost. The old token has no key in it: only the record knows that the session is bound.
		lost := *c
		lost.tokens, lost.nonce = first, idOf(t, first.RefreshToken)
		r = lost.present(lost.sign(lost.parts()))
		r.challenge(t, c.nonce)
		lost.nonce = c.nonce
		lost.refresh()
	}, bind(middleware.BindOffered))
}

func TestDPoPRequired(t *testing.T) {
	inPairMode(t, func(t *testing.T, auth, _ *middleware.Auth) {
		s := direct(t, routes(auth)).at(api)
		c := &dpopClient{prover: newProver(), site: s, tokens: s.send("POST", "/login?user=admin").tokens(t)}
		r := c.present()
		r.challenge(t, idOf(t, c.tokens.RefreshToken))
		c.nonce = r.header.Get("DPoP-Nonce")
		c.refresh()
		c.refresh()
	}, bind(middleware.BindRequired))
}

// Without Bind the header is ignored, whatever is in it. Sessions that were bound earlier stay bound.
func TestDPoPBindOff(t *testing.T) {
	inPairMode(t, func(t *testing.T, auth, _ *middleware.Auth) {
		s := direct(t, routes(auth)).at(api)
		c := &dpopClient{prover: newProver(), site: s}
		for _, proofs := range [][]string{{"nonsense"}, {"a", "b"}, {c.proof("POST", api+"/login", "")}} {
			var edits []edit
			for _, proof := range proofs {
				edits = append(edits, dpop(proof))
			}
			r := s.send("POST", "/login?user=admin", edits...)
			r.nonce(t, "")
			c.tokens = r.tokens(t)
			c.nonce = idOf(t, c.tokens.RefreshToken)
			r = c.present(append(proofs, c.sign(c.parts()))...)
			r.nonce(t, "")
			if claims := membersOf(t, r.tokens(t).RefreshToken); claims["cnf"] != "" {
				t.Errorf("%q: the session was bound: %v", proofs, claims)
			}
		}
		memory := newMemory(t)
		shared := func(c *middleware.Config) { c.Store = memory }
		c = newDPoPClient(t, direct(t, routes(newAuth(t, bind(middleware.BindOffered), shared))).at(api))
		c.site = direct(t, routes(newAuth(t, pair, shared))).at(api)
		c.present().challenge(t, c.nonce)
		c.present("nonsense").rejected(t, middleware.CodeProofInvalid)
		c.refresh()
	})
}

// A thief has every token of the session, and every proof that the client has sent, but not the key.
func TestDPoPStolenTokens(t *testing.T) {
	inPairMode(t, func(t *testing.T, auth, _ *middleware.Auth) {
		c := newDPoPClient(t, direct(t, routes(auth)).at(api))
		var stolen []middleware.Tokens
		var captured []string
		for range 5 {
			stolen, captured = append(stolen, c.tokens), append(captured, c.sign(c.parts()))
			c.keep(c.present(captured[len(captured)-1]))
			wait(time.Minute)
		}
		stolen = append(stolen, c.tokens)
		thief := newProver()
		tries, refreshed := 0, 0
		for tries < 1000 {
			for _, tokens := range stolen {
				d := &dpopClient{prover: thief, site: c.site, tokens: tokens, nonce: c.nonce}
				proofs := append([]string{d.sign(d.parts()), d.sign(d.parts().with(map[string]any{"jwk": c.jwk()}, nil)), d.sign(d.parts().with(nil, map[string]any{"nonce": idOf(t, tokens.RefreshToken)}))}, captured...)
				for _, proof := range proofs {
					tries++
					if r := d.present(proof); r.status != http.StatusBadRequest {
						refreshed++
						t.Errorf("R18: %d %s", r.status, r.body)
					}
				}
				if r := d.present(); r.status != http.StatusBadRequest {
					t.Errorf("R18: without a proof: %d %s", r.status, r.body)
				}
			}
		}
		t.Logf("%d tries, %d refreshed", tries, refreshed)
		c.refresh()
		wantVerify(t, "the owner", auth, c.tokens.AccessToken, "")
	}, bind(middleware.BindOffered))
}

// RFC 9449 §4.3 compares htu with the URL that the client sees.
func TestDPoPBehindProxies(t *testing.T) {
	forwarded := func(r *http.Request) {
		for name, value := range map[string]string{"X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example", "X-Forwarded-Prefix": "/evil", "Forwarded": "host=evil.example;proto=https"} {
			r.Header.Set(name, value)
		}
	}
	for name, c := range map[string]struct{ public, request, good, bad string }{
		"configured":              {"https://api.example.org", "http://10.0.0.7:8080", "https://api.example.org/login", "http://10.0.0.7:8080/login"},
		"configured with a slash": {"https://api.example.org/", "http://10.0.0.7:8080", "https://api.example.org/login", "https://api.example.org//login"},
		"configured with a path":  {"https://example.org/api/v1", "http://10.0.0.7:8080", "https://example.org:443/api/v1/login", "https://example.org/login"},
		"configured with a port":  {"https://api.example.org:8443", "http://10.0.0.7", "https://api.example.org:8443/login", "https://api.example.org/login"},
		"from the request":        {"", "http://127.0.0.1:8080", "http://127.0.0.1:8080/login", "https://evil.example/login"},
		"IPv6":                    {"", "http://[::1]:8080", "http://[::1]:8080/login", "http://[::1]/login"},
	} {
		_, s := offering(t, publicURL(c.public))
		for htu, code := range map[string]middleware.Code{c.good: "", c.bad: middleware.CodeProofInvalid} {
			r := s.at(c.request).send("POST", "/login?user=admin", forwarded, dpop(newProver().proof("POST", htu, "")))
			if code != "" {
				r.rejected(t, code)
			} else if r.status != http.StatusOK || r.header.Get("DPoP-Nonce") == "" {
				t.Errorf("%s: %s: %d %s", name, htu, r.status, r.body)
			}
		}
	}
}

func TestDPoPOverRealListeners(t *testing.T) {
	auth, _ := offering(t)
	servers := map[string]*httptest.Server{"http": httptest.NewServer(routes(auth)), "https": httptest.NewTLSServer(routes(auth))}
	for scheme, server := range servers {
		defer server.Close()
		if !strings.HasPrefix(server.URL, scheme+"://") {
			t.Fatal(server.URL)
		}
		c := newDPoPClient(t, site{t: t, url: server.URL, do: server.Client().Do})
		c.refresh()
		c.refresh()
		c.send("GET", "/required", bearer(c.tokens.AccessToken)).passed(t, "admin")
		c.present().challenge(t, c.nonce)
		c.send("POST", "/logout", bearer(c.tokens.RefreshToken)).accepted(t, "/logout")
		c.present(c.sign(c.parts())).rejected(t, middleware.CodeTokenRevoked)
	}
}

func TestDPoPWithCookies(t *testing.T) {
	auth, _ := offering(t, func(c *middleware.Config) { c.Cookie = &middleware.Cookie{} })
	s := direct(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.TLS = new(tls.ConnectionState)
		routes(auth).ServeHTTP(w, r)
	})).at("https://app.example.org")
	c := newDPoPClient(t, s)
	c.cookie = true
	r := c.present()
	r.challenge(t, c.nonce)
	if len(r.cookies()) > 0 {
		t.Errorf("a missing proof changes the cookies: %v", r.cookies())
	}
	r = c.present("nonsense")
	r.rejected(t, middleware.CodeProofInvalid)
	if len(r.cookies()) > 0 {
		t.Errorf("a bad proof changes the cookies: %v", r.cookies())
	}
	c.refresh()
	crossSite := func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }
	c.send("POST", "/refresh", dpop(c.sign(c.parts())), crossSite).rejected(t, middleware.CodeCrossOrigin)
}

// The steps bind without HTTP.
func TestDPoPSteps(t *testing.T) {
	inPairMode(t, func(t *testing.T, auth, _ *middleware.Auth) {
		const url = "rpc://sessions.example/refresh"
		p, id := newProver(), middleware.Identity{Subject: "admin"}
		proof := func(nonce string) middleware.Proof {
			return middleware.Proof{DPoP: p.proof("CALL", url, nonce), Method: "CALL", URL: url + "?x#y"}
		}
		unbound, err := auth.Issue(t.Context(), id, middleware.Proof{Method: "CALL", URL: url})
		if err != nil || unbound.ProofChallenge != "" {
			t.Fatalf("without a proof: %q, %v", unbound.ProofChallenge, err)
		}
		tokens, err := auth.Issue(t.Context(), id, proof(""))
		if err != nil || tokens.ProofChallenge != idOf(t, tokens.RefreshToken) {
			t.Fatalf("with a proof: the challenge is %q, %v", tokens.ProofChallenge, err)
		}
		for what, proofs := range map[string][]middleware.Proof{"none": nil, "empty": {{}}, "another nonce": {proof("another")}} {
			_, err := auth.Refresh(t.Context(), tokens.RefreshToken, proofs...)
			wantCode(t, what, err, middleware.CodeProofRequired)
			var e *middleware.Error
			if !errors.As(err, &e) || e.ProofChallenge != tokens.ProofChallenge {
				t.Errorf("%s: %v does not have the challenge", what, err)
			}
		}
		good := proof(tokens.ProofChallenge)
		for what, bad := range map[string][]middleware.Proof{
			"two": {good, good}, "of another method": {{DPoP: good.DPoP, Method: "GET", URL: url}}, "of another URL": {{DPoP: good.DPoP, Method: "CALL", URL: url + "/x"}},
			"without method": {{DPoP: good.DPoP, URL: url}}, "without URL": {{DPoP: good.DPoP, Method: "CALL"}},
			"htm and method empty": {{DPoP: p.proof("", url, tokens.ProofChallenge), URL: url}},
			"both without host":    {{DPoP: p.proof("CALL", "https:/session", tokens.ProofChallenge), Method: "CALL", URL: "https:/session"}},
			"both empty":           {{DPoP: p.proof("CALL", "", tokens.ProofChallenge), Method: "CALL"}},
		} {
			_, err := auth.Refresh(t.Context(), tokens.RefreshToken, bad...)
			wantCode(t, what, err, middleware.CodeProofInvalid)
			_, err = auth.Issue(t.Context(), id, bad...)
			wantCode(t, what, err, middleware.CodeProofInvalid)
		}
		for range 3 {
			if tokens, err = auth.Refresh(t.Context(), tokens.RefreshToken, proof(tokens.ProofChallenge)); err != nil || tokens.ProofChallenge != idOf(t, tokens.RefreshToken) {
				t.Fatal(tokens.ProofChallenge, err)
			}
			wait(time.Minute)
		}
	}, bind(middleware.BindOffered))
}

// Errors and events name what is wrong with a proof, and contain neither the proof nor the token.
func TestDPoPErrorsAreSilent(t *testing.T) {
	var events eventLog
	auth, s := offering(t, func(c *middleware.Config) { c.OnEvent = events.record })
	c := newDPoPClient(t, s)
	for name, text := range badProofs(c.prover, c.parts()) {
		if text == "" {
			continue
		}
		_, err := auth.Refresh(context.Background(), c.tokens.RefreshToken, middleware.Proof{DPoP: text, Method: "POST", URL: api + "/refresh"})
		shown := c.present(text).body
		for _, event := range events.take() {
			shown += strings.Join(errorTexts(event.Err), "\n")
		}
		shown += strings.Join(errorTexts(err), "\n")
		if strings.Contains(shown, strings.TrimRight(text, ".")) {
			t.Errorf("%s: the proof is shown: %s", name, shown)
		}
		wantNoSecret(t, shown, c.sign(c.parts()), c.tokens.RefreshToken)
	}
}
