package middleware_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// A prover is a client with a key of its own. It makes DPoP proofs without the package under test.
type prover struct{ *ecdsa.PrivateKey }

func newProver() prover { return prover{must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))} }

// proofParts are the header and the claims of a proof before it is signed.
type proofParts struct{ header, claims map[string]any }

func (p prover) jwk() map[string]any {
	point := must(p.PublicKey.Bytes())
	return map[string]any{"kty": "EC", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:])}
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// parts returns a proof that is right (RFC 9449 §4.2). An empty nonce is left out.
func (p prover) parts(method, url, nonce string) proofParts {
	parts := proofParts{
		header: map[string]any{"typ": "dpop+jwt", "alg": "ES256", "jwk": p.jwk()},
		claims: map[string]any{"jti": rand.Text(), "htm": method, "htu": url, "iat": time.Now().Unix()},
	}
	if nonce != "" {
		parts.claims["nonce"] = nonce
	}
	return parts
}

// with returns the parts with other members. A nil value removes the member.
func (p proofParts) with(header, claims map[string]any) proofParts {
	return proofParts{merged(p.header, header), merged(p.claims, claims)}
}

func merged(object, changes map[string]any) map[string]any {
	object = maps.Clone(object)
	maps.Copy(object, changes)
	maps.DeleteFunc(object, func(_ string, value any) bool { return value == nil })
	return object
}

func (p prover) sign(parts proofParts) string {
	return p.signText(string(must(json.Marshal(parts.header))), string(must(json.Marshal(parts.claims))))
}

func (p prover) signText(header, claims string) string {
	text := segment(header) + "." + segment(claims)
	digest := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, p.PrivateKey, digest[:])
	if err != nil {
		panic(err)
	}
	var signature [64]byte
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return text + "." + b64(signature[:])
}

// proof returns a proof that is right.
func (p prover) proof(method, url, nonce string) string { return p.sign(p.parts(method, url, nonce)) }

func dpop(text string) edit { return header("Dpop", text) }

func bind(b middleware.Binding) change {
	return func(c *middleware.Config) { c.Bind, c.Pair = b, true }
}

func publicURL(url string) change { return func(c *middleware.Config) { c.PublicURL = url } }

// idOf returns the jti of a token without quotes.
func idOf(t testing.TB, text string) string { return strings.Trim(membersOf(t, text)["jti"], `"`) }

// challenge checks that a refresh wants a proof over this challenge.
func (r reply) challenge(t testing.TB, want string) {
	t.Helper()
	r.rejected(t, middleware.CodeProofRequired)
	r.nonce(t, want)
}

// nonce checks the nonce that the response gives for the next proof. "" means that there is none.
func (r reply) nonce(t testing.TB, want string) {
	t.Helper()
	exposed := r.header.Get("Access-Control-Expose-Headers") == "DPoP-Nonce"
	if got := r.header.Get("DPoP-Nonce"); got != want || exposed != (want != "") {
		t.Errorf("the response %d has the nonce %q, want %q; exposed to scripts: %v", r.status, got, want, exposed)
	}
}

// at sends requests to a site as if it had this URL.
func (s site) at(url string) site {
	s.url = url
	return s
}

// A dpopClient refreshes the session of its login with proofs by its key.
type dpopClient struct {
	prover
	site
	tokens middleware.Tokens
	nonce  string // of the last response
	cookie bool   // the tokens are in cookies
}

// newDPoPClient logs in with a proof.
func newDPoPClient(t testing.TB, s site) *dpopClient {
	t.Helper()
	c := &dpopClient{prover: newProver(), site: s}
	c.t = t
	r := c.send("POST", "/login?user=admin", dpop(c.proof("POST", s.url+"/login", "")))
	c.keep(r)
	return c
}

func (c *dpopClient) keep(r reply) {
	c.t.Helper()
	c.tokens, c.nonce = r.tokens(c.t), r.header.Get("DPoP-Nonce")
	r.nonce(c.t, idOf(c.t, c.tokens.RefreshToken))
}

// present refreshes with the client's newest token and any proofs.
func (c *dpopClient) present(proofs ...string) reply {
	c.t.Helper()
	edits := []edit{bearer(c.tokens.RefreshToken)}
	if c.cookie {
		edits = []edit{func(r *http.Request) {
			r.AddCookie(&http.Cookie{Name: "__Host-refresh_token", Value: c.tokens.RefreshToken})
			r.Header.Set("Sec-Fetch-Site", "same-origin")
		}}
	}
	for _, proof := range proofs {
		edits = append(edits, dpop(proof))
	}
	return c.send("POST", "/refresh", edits...)
}

// parts returns the parts of the right proof for the next refresh.
func (c *dpopClient) parts() proofParts { return c.prover.parts("POST", c.url+"/refresh", c.nonce) }

// refresh refreshes in one round trip.
func (c *dpopClient) refresh() {
	c.t.Helper()
	c.keep(c.present(c.sign(c.parts())))
}
