package jose_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"math/big"
	"strings"
	"sync"
	"testing"

	"github.com/ginrefresh/ginrefresh/middleware/internal/jose"
)

const typ = "JWT"

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// jwksKeys are the private keys of the tests, generated once.
var jwksKeys = sync.OnceValue(func() map[string]crypto.Signer {
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	return map[string]crypto.Signer{
		"RS256": must(rsa.GenerateKey(rand.Reader, 2048)),
		"ES256": must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)),
		"ES384": must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)),
		"ES512": must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)),
		"EdDSA": must(edwards, err),
	}
})

// newSet returns a set with one key.
func newSet(t *testing.T, id, algorithm string, material any) *jose.KeySet {
	t.Helper()
	set, mistakes := jose.NewKeySet([]jose.Key{{ID: id, Algorithm: algorithm, Material: material}}, typ)
	if mistakes != nil {
		t.Fatal(mistakes)
	}
	return set
}

// published returns the JWK of a key.
func published(t *testing.T, id, algorithm string, key crypto.Signer) string {
	t.Helper()
	document := string(newSet(t, id, algorithm, key).JWKS())
	return strings.TrimSuffix(strings.TrimPrefix(document, `{"keys":[`), `]}`)
}

// Every key that cannot be used is skipped, and the keys beside it are not affected.
func TestParseJWKSSkips(t *testing.T) {
	all := jwksKeys()
	ec, ed, rs := published(t, "a", "ES256", all["ES256"]), published(t, "a", "EdDSA", all["EdDSA"]), published(t, "a", "RS256", all["RS256"])
	with := func(key, old, new string) string {
		if !strings.Contains(key, old) {
			t.Fatalf("%s does not contain %s", key, old)
		}
		return strings.Replace(key, old, new, 1)
	}
	number := func(i *big.Int) string { return base64.RawURLEncoding.EncodeToString(i.Bytes()) }
	rsaJWK := func(n *big.Int, e string) string {
		return `{"kty":"RSA","alg":"RS256","kid":"a","n":"` + number(n) + `","e":"` + e + `"}`
	}
	n := all["RS256"].(*rsa.PrivateKey).N
	good := published(t, "good", "EdDSA", all["EdDSA"])
	other := newSet(t, "good", "EdDSA", all["EdDSA"])
	for name, row := range map[string]struct {
		key string
		why string // "" if it can be used
	}{
		"EC":                       {ec, ""},
		"Ed25519":                  {ed, ""},
		"RSA":                      {rs, ""},
		"without use":              {with(ec, `"use":"sig",`, ""), ""},
		"an unknown member":        {with(ec, `{`, `{"x5t":"AAAA","exp":1,`), ""},
		"key_ops verify":           {with(ec, `{`, `{"key_ops":["sign","verify"],`), ""},
		"RS512 with a long key":    {with(rs, "RS256", "RS512"), ""},
		"Ed25519 by its new name":  {with(ed, "EdDSA", "Ed25519"), ""},
		"key_ops encrypt":          {with(ec, `{`, `{"key_ops":["encrypt"],`), "key_ops"},
		"key_ops malformed":        {with(ec, `{`, `{"key_ops":"verify",`), "key_ops"},
		"for encryption":           {with(ec, `"sig"`, `"enc"`), "use is not sig"},
		"without alg":              {with(ec, `"alg":"ES256",`, ""), "alg is missing"},
		"alg none":                 {with(ec, `"ES256"`, `"none"`), "none"},
		"alg HS256":                {with(ec, `"ES256"`, `"HS256"`), "HS256"},
		"RSA with alg HS256":       {with(rs, `"RS256"`, `"HS256"`), "HS256"},
		"alg of another curve":     {with(ec, `"ES256"`, `"ES384"`), "P-384"},
		"alg of another type":      {with(ec, `"ES256"`, `"RS256"`), "RS256"},
		"RSA-OAEP":                 {with(rs, `"RS256"`, `"RSA-OAEP"`), "RSA-OAEP"},
		"a secret":                 {`{"kty":"oct","alg":"HS256","kid":"a","k":"` + strings.Repeat("A", 43) + `"}`, "secret"},
		"a secret without k":       {`{"kty":"oct","alg":"HS256","kid":"a"}`, "oct"},
		"a private EC key":         {with(ec, `{`, `{"d":"AAAA",`), "secret"},
		"a private RSA key":        {with(rs, `{`, `{"d":"AAAA",`), "secret"},
		"an unknown type":          {`{"kty":"AKP","alg":"ML-DSA-44","kid":"a","pub":"AAAA"}`, "AKP"},
		"an unknown curve":         {with(ec, `"P-256"`, `"secp256k1"`), "secp256k1"},
		"P-256 as P-384":           {with(ec, `"P-256"`, `"P-384"`), "encoding"},
		"Ed448":                    {with(ed, `"crv":"Ed25519"`, `"crv":"Ed448"`), "Ed448"},
		"X25519":                   {with(ed, `"crv":"Ed25519"`, `"crv":"X25519"`), "X25519"},
		"a short Ed25519 key":      {`{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","kid":"a","x":"AAAA"}`, "ed25519"},
		"EC without y":             {`{"kty":"EC","crv":"P-256","alg":"ES256","kid":"a","x":"AAAA"}`, "not supported"},
		"EC off the curve":         {`{"kty":"EC","crv":"P-256","alg":"ES256","kid":"a","x":"` + strings.Repeat("A", 43) + `","y":"` + strings.Repeat("A", 43) + `"}`, "curve"},
		"EC at infinity":           {`{"kty":"EC","crv":"P-256","alg":"ES256","kid":"a","x":"","y":""}`, "encoding"},
		"RSA of 2047 bits":         {rsaJWK(new(big.Int).Rsh(n, 1), "AQAB"), "2048"},
		"RSA with a zero in front": {`{"kty":"RSA","alg":"RS256","kid":"a","n":"` + base64.RawURLEncoding.EncodeToString(append([]byte{0}, new(big.Int).Rsh(n, 1).Bytes()...)) + `","e":"AQAB"}`, "2048"},
		"RSA without n":            {`{"kty":"RSA","alg":"RS256","kid":"a","e":"AQAB"}`, "2048"},
		"RSA with e 1":             {rsaJWK(n, "AQ"), "inconsistent"},
		"RSA with an even e":       {rsaJWK(n, "AQAA"), "inconsistent"},
		"RSA without e":            {rsaJWK(n, ""), "inconsistent"},
		"RSA with a huge e":        {rsaJWK(n, strings.Repeat("A", 342)), "not supported"},
		"padding":                  {with(rs, `"AQAB"`, `"AQAB=="`), "base64url"},
		"a member twice":           {with(ec, `{`, `{"alg":"ES256",`), "twice"},
		"kid of another type":      {with(ec, `"kid":"a"`, `"kid":7`), "not a string"},
		"alg of another JSON type": {with(ec, `"alg":"ES256"`, `"alg":["ES256"]`), "not a string"},
		"upper case":               {with(ec, `"alg"`, `"ALG"`), "alg is missing"},
		"a long kid":               {with(ec, `"kid":"a"`, `"kid":"`+strings.Repeat("x", 400)+`"`), "too long"},
		"not an object":            {`"a"`, "not a JSON object"},
		"null":                     {`null`, "not a JSON object"},
	} {
		usable := row.why == ""
		set, err := jose.ParseJWKS([]byte(`{"keys":[`+row.key+`]}`), typ)
		if usable != (err == nil) || usable != (set != nil) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && !strings.Contains(err.Error(), row.why) {
			t.Errorf("%s: %v, want %q in it", name, err, row.why)
		}
		for _, document := range []string{`{"keys":[` + row.key + `,` + good + `]}`, `{"other":[1],"keys":[` + good + `,` + row.key + `]}`} {
			set, err := jose.ParseJWKS([]byte(document), typ)
			if err != nil {
				t.Errorf("beside %s, another key: %v", name, err)
				continue
			}
			if _, _, err := set.Verify(must(other.Sign(typ, []byte(`{}`)))); err != nil || set.CanSign() {
				t.Errorf("beside %s, a token of another key: %v", name, err)
			}
			if set.SamePublicKeys(other) == usable {
				t.Errorf("%s: the set is the same as one without it: %v", name, usable)
			}
		}
	}
}

// A key that was published is read as the same key.
func TestParseJWKSReadsJWKS(t *testing.T) {
	for algorithm, private := range jwksKeys() {
		for _, id := range []string{"", "a", `"\漢`} {
			signs := newSet(t, id, algorithm, private)
			set, err := jose.ParseJWKS(signs.JWKS(), typ)
			if err != nil || !set.SamePublicKeys(signs) || string(set.JWKS()) != string(signs.JWKS()) {
				t.Errorf("%s with the id %q is read as %s, %v", algorithm, id, set.JWKS(), err)
				continue
			}
			text := must(signs.Sign(typ, []byte(`{"sub":"a"}`)))
			if _, payload, err := set.Verify(text); err != nil || string(payload) != `{"sub":"a"}` {
				t.Errorf("%s: a token is read as %s, %v", algorithm, payload, err)
			}
			if _, _, err := set.Verify(strings.Replace(text, ".", ".A", 1)); err == nil {
				t.Errorf("%s: a changed token is accepted", algorithm)
			}
		}
	}
}

// Two keys with one kid make the document useless: it does not say which of them verifies.
func TestParseJWKSRejects(t *testing.T) {
	all := jwksKeys()
	ec, ed := published(t, "a", "ES256", all["ES256"]), published(t, "a", "EdDSA", all["EdDSA"])
	for document, why := range map[string]string{
		`{"keys":[` + ec + `,` + ed + `]}`:          `"a" is already taken`,
		`{"keys":[` + ec + `,` + ec + `]}`:          `"a" is already taken`,
		`{"keys":[` + ec + `],"keys":[` + ec + `]}`: "twice",
		`{"keys":[` + ec + `]}{}`:                   "malformed",
		`{"keys":` + ec + `}`:                       "not a list",
		`{"keys":null}`:                             "no key",
		`{"keys":[]}`:                               "no key",
		`{"Keys":[` + ec + `]}`:                     "no key",
		`{}`:                                        "no key",
		`[` + ec + `]`:                              "malformed",
		``:                                          "malformed",
		"{\"keys\":[" + ec + "],\"a\":\"\xff\"}":    "malformed",
	} {
		if set, err := jose.ParseJWKS([]byte(document), typ); set != nil || err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%.80s: %v, want %q", document, err, why)
		}
	}
}

// Sets differ by any key, kid or algorithm, and not by their order. A set with a secret is never the same.
func TestSamePublicKeys(t *testing.T) {
	all := jwksKeys()
	parse := func(keys ...string) *jose.KeySet {
		return must(jose.ParseJWKS([]byte(`{"keys":[`+strings.Join(keys, ",")+`]}`), typ))
	}
	ec, ed := published(t, "a", "ES256", all["ES256"]), published(t, "b", "EdDSA", all["EdDSA"])
	one := parse(ec, ed)
	if !one.SamePublicKeys(parse(ed, ec)) {
		t.Error("the order makes a difference")
	}
	for name, other := range map[string]*jose.KeySet{
		"one key less":       parse(ec),
		"another kid":        parse(ec, strings.Replace(ed, `"b"`, `"c"`, 1)),
		"another algorithm":  parse(ec, strings.Replace(ed, `"EdDSA"`, `"Ed25519"`, 1)),
		"another key":        parse(published(t, "a", "ES384", all["ES384"]), ed),
		"no key":             jose.EmptyKeySet(),
		"a secret, same kid": newSet(t, "a", "HS256", []byte(strings.Repeat("s", 32))),
	} {
		if one.SamePublicKeys(other) || other.SamePublicKeys(one) {
			t.Errorf("%s makes no difference", name)
		}
	}
}
