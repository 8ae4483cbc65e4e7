package jose

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// vectorGroup is a group of json_web_signature vectors: a key, which is secret for HMAC, and JWSs.
type vectorGroup struct {
	Comment string
	Public  json.RawMessage
	Private json.RawMessage
	Tests   []struct {
		ID      int `json:"tcId"`
		Comment string
		JWS     string
		Result  string
	}
}

// vectorExceptions are the vectors on whose verdict this package differs, with the reason.
var vectorExceptions = map[int]string{
	346: "RFC 7520 figure 20: the JWK says PS256 and the header PS384, and the algorithm is the key's (R1)",
	350: "the same, with key_ops",
	367: "invalid because of a padding that the text does not have; it is identical to vector 357, which is valid",
	370: "the same for the payload",
	372: "valid although the header contains a question mark, which is not base64url (RFC 7515 §2)",
	373: "the same in the payload",
}

// TestWycheproof runs the JWS vectors. They are not tokens of this module, since their payloads are not claims, so they
// test the signature check alone. The module interop has the vectors and runs this test.
func TestWycheproof(t *testing.T) {
	var vectors struct {
		NumberOfTests int
		TestGroups    []vectorGroup
	}
	readVectors(t, "json_web_signature_test.json", &vectors)
	ran, algorithms := 0, map[string]int{}
	for _, group := range vectors.TestGroups {
		keys, alg := group.keySet(t)
		for _, test := range group.Tests {
			ran++
			accepted := false
			if keys != nil {
				_, _, err := keys.Verify(test.JWS)
				accepted = err == nil
			}
			want := test.Result == "valid"
			reason, exception := vectorExceptions[test.ID]
			if exception != (accepted != want) {
				t.Errorf("%d %s %s: %s, and we accept it: %v; exception: %q", test.ID, group.Comment, test.Comment, test.Result, accepted, reason)
			}
			if accepted {
				algorithms[alg]++
			}
		}
	}
	if ran != vectors.NumberOfTests || ran < 400 {
		t.Errorf("%d of %d vectors ran", ran, vectors.NumberOfTests)
	}
	for _, alg := range []string{"HS256", "RS256", "ES256", "PS256"} {
		if algorithms[alg] == 0 {
			t.Errorf("no vector of %s was accepted", alg)
		}
	}
	t.Logf("proof: %d vectors", ran)
	t.Logf("accepted: %v", algorithms)
}

// readVectors decodes a file of vectors, or skips the test if there are none.
func readVectors(t *testing.T, file string, into any) {
	t.Helper()
	dir := os.Getenv("WYCHEPROOF")
	if dir == "" {
		t.Skip("WYCHEPROOF does not say where the vectors are")
	}
	text, err := os.ReadFile(filepath.Join(dir, "testvectors_v1", file))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatal(err)
	}
}

// keySet decodes the group's key. It returns nil if NewKeySet rejects the key.
func (g vectorGroup) keySet(t *testing.T) (*KeySet, string) {
	t.Helper()
	raw := g.Public
	if raw == nil {
		raw = g.Private
	}
	var k struct{ Kty, Kid, Alg, Crv, K, N, E, X, Y string }
	if err := json.Unmarshal(raw, &k); err != nil {
		t.Fatal(err)
	}
	integer := func(text string) *big.Int {
		b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
		if err != nil {
			t.Fatalf("%s: %v", g.Comment, err)
		}
		return new(big.Int).SetBytes(b)
	}
	var material any
	switch k.Kty {
	case "oct":
		secret, err := base64.RawURLEncoding.DecodeString(k.K)
		if err != nil {
			t.Fatal(err)
		}
		material = secret
	case "RSA":
		material = &rsa.PublicKey{N: integer(k.N), E: int(integer(k.E).Int64())}
	case "EC":
		curve := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[k.Crv]
		material = &ecdsa.PublicKey{Curve: curve, X: integer(k.X), Y: integer(k.Y)}
	default:
		t.Fatalf("%s: kty %q", g.Comment, k.Kty)
	}
	if k.Alg == "ES521" { // RFC 7520 uses this name, but no such algorithm is registered
		k.Alg = "ES512"
	}
	set, mistakes := NewKeySet([]Key{{ID: k.Kid, Algorithm: k.Alg, Material: material}}, "JWT")
	if mistakes != nil {
		t.Logf("%s: %v", g.Comment, errors.Join(mistakes...))
	}
	return set, k.Alg
}
