package middleware

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/MicahParks/jwkset"
)

// vectorGroup is a group of json_web_signature vectors: one key, which is secret for HMAC, and JWSs.
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

// vectorExceptions are the vectors whose verdict is not ours, with the reason.
var vectorExceptions = map[int]string{
	346: "RFC 7520 figure 20: the JWK says PS256 and the header PS384, and the algorithm is the key's (R1)",
	350: "the same, with key_ops",
	367: "invalid for a padding that the text no longer has: it is vector 357, which is valid, to the letter",
	370: "the same for the payload",
	372: "valid, though the header has a question mark in it: base64url has none (RFC 7515 §2)",
	373: "the same in the payload",
}

// TestWycheproof runs the vectors for JWS through our signature check. They are no tokens, as their payloads
// are no claims and their headers have no typ, so it is the check below these. The module interop has the
// vectors and runs this test.
func TestWycheproof(t *testing.T) {
	dir := os.Getenv("WYCHEPROOF")
	if dir == "" {
		t.Skip("WYCHEPROOF does not say where the vectors are")
	}
	text, err := os.ReadFile(filepath.Join(dir, "testvectors_v1", "json_web_signature_test.json"))
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		NumberOfTests int
		TestGroups    []vectorGroup
	}
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	ran, algorithms := 0, map[Algorithm]int{}
	for _, group := range vectors.TestGroups {
		keys, alg := group.keySet(t)
		for _, test := range group.Tests {
			ran++
			accepted := false
			if keys != nil {
				_, _, err := keys.verify(test.JWS)
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
	for _, alg := range []Algorithm{HS256, RS256, ES256, PS256} {
		if algorithms[alg] == 0 {
			t.Errorf("no vector of %s was accepted", alg)
		}
	}
	t.Logf("%d vectors, accepted %v", ran, algorithms)
}

// keySet reads the group's key as somebody would who configures it by hand. It is nil where New refuses the key.
func (g vectorGroup) keySet(t *testing.T) (*keySet, Algorithm) {
	t.Helper()
	raw := g.Public
	if raw == nil {
		raw = g.Private
	}
	var fields struct {
		Kid string
		Alg Algorithm
	}
	var marshal jwkset.JWKMarshal
	if err := json.Unmarshal(raw, &fields); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &marshal); err != nil {
		t.Fatal(err)
	}
	jwk, err := jwkset.NewJWKFromMarshal(marshal, jwkset.JWKMarshalOptions{Private: g.Public == nil}, jwkset.JWKValidateOptions{SkipAll: true})
	if err != nil {
		t.Fatalf("%s: %v", g.Comment, err)
	}
	if fields.Alg == "ES521" { // RFC 7520 has no such algorithm, nor has any other
		fields.Alg = ES512
	}
	set, wrong := newKeySet([]Key{{ID: fields.Kid, Algorithm: fields.Alg, Key: jwk.Key()}})
	if wrong != nil {
		t.Logf("%s: %v", g.Comment, joinMistakes(wrong))
	}
	return set, fields.Alg
}
