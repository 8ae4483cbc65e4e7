package jose

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"slices"
	"strings"
	"testing"
)

// TestWycheproofES256 runs the vectors of ES256 signatures through the code that verifies proofs. Their messages are not
// JWTs, so they enter after the header is read.
func TestWycheproofES256(t *testing.T) {
	for file, least := range map[string]int{"ecdsa_secp256r1_sha256_p1363_test.json": 250, "ecdsa_secp256r1_webcrypto_test.json": 250} {
		var vectors struct {
			NumberOfTests int
			TestGroups    []struct {
				PublicKeyJwk json.RawMessage
				Tests        []struct {
					ID               int `json:"tcId"`
					Comment          string
					Msg, Sig, Result string
				}
			}
		}
		readVectors(t, file, &vectors)
		ran, accepted := 0, 0
		for _, group := range vectors.TestGroups {
			key, err := ParseClientKey(group.PublicKeyJwk)
			if err != nil {
				t.Errorf("%s: the key %s: %v", file, group.PublicKeyJwk, err)
			}
			for _, test := range group.Tests {
				ran++
				message, _ := hex.DecodeString(test.Msg)
				signature, _ := hex.DecodeString(test.Sig)
				verified := key.verify(string(message), signature) == nil
				if verified != (test.Result == "valid") {
					t.Errorf("%s %d %s: %s, and we accept it: %v", file, test.ID, test.Comment, test.Result, verified)
				}
				if verified {
					accepted++
				}
			}
		}
		if ran != vectors.NumberOfTests || ran < least || accepted == 0 {
			t.Errorf("%s: %d of %d vectors ran", file, ran, vectors.NumberOfTests)
		}
		t.Logf("proof: %d vectors", ran)
		t.Logf("%s: %d accepted", file, accepted)
	}
}

// proofExceptions are the vectors on whose verdict ReadProof differs, with the reason.
var proofExceptions = map[int]string{
	32:  "signed with the key in its header: that is what a proof is",
	354: "the use of the key is enc: ReadProof gets the key alone",
	356: "the same, with key_ops",
}

// TestWycheproofProofs runs the JWS vectors through ReadProof with the group's key, as for a proof without a key in its
// header. Of all algorithms only ES256 is accepted.
func TestWycheproofProofs(t *testing.T) {
	var vectors struct{ TestGroups []vectorGroup }
	readVectors(t, "json_web_signature_test.json", &vectors)
	ran, accepted := 0, 0
	for _, group := range vectors.TestGroups {
		key, err := ParseClientKey(group.Public)
		foreign := err != nil // no proof has such a key
		for _, test := range group.Tests {
			ran++
			p, err := ReadProof(test.JWS, &key)
			want := test.Result == "valid" && !foreign
			reason, exception := proofExceptions[test.ID]
			if exception != ((err == nil) != want) {
				t.Errorf("%d %s %s: %s, and ReadProof says %v; exception: %q", test.ID, group.Comment, test.Comment, test.Result, err, reason)
			}
			if err == nil {
				accepted++
			}
			if _, err := ReadProof(test.JWS, nil); (err == nil) != p.OwnKey {
				t.Errorf("%d %s: without a known key: %v", test.ID, test.Comment, err)
			}
		}
	}
	if ran < 400 || accepted == 0 {
		t.Errorf("%d vectors ran, %d accepted", ran, accepted)
	}
	t.Logf("proof: %d vectors", ran)
	t.Logf("%d accepted", accepted)
}

// proofKey signs the seeds of FuzzReadProof.
var proofKey = func() *ecdsa.PrivateKey {
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{7}, 32))
	if err != nil {
		panic(err)
	}
	return key
}()

func signProof(text string) string {
	digest := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, proofKey, digest[:])
	if err != nil {
		panic(err)
	}
	signature := slices.Concat(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32)))
	return text + "." + encodeBytes(signature)
}

// FuzzReadProof checks that ReadProof accepts nothing that crypto/ecdsa rejects. The signature of some inputs is replaced
// by a right one, so that the fuzzer gets past it.
func FuzzReadProof(f *testing.F) {
	point, err := proofKey.PublicKey.Bytes()
	if err != nil {
		f.Fatal(err)
	}
	key := ClientKey(point[1:])
	jwk := string(key.AppendJWK(nil))
	for _, header := range []string{
		`{"typ":"dpop+jwt","alg":"ES256","jwk":` + jwk + `}`,
		`{"alg":"ES256","jwk":{"d":"AA",` + jwk[1:] + `}`,
		`{"alg":"none","jwk":` + jwk + `}`,
		`{"alg":"ES256","Alg":"none","ALG":"HS256","jwk":` + jwk + `,"JWK":{}}`,
		`{"alg":"ES256","jwk":` + jwk + `,"crit":["b64"],"b64":false}`,
		`{"alg":"ES256"}`,
	} {
		text := encodeBytes([]byte(header)) + "." + encodeBytes([]byte(`{"jti":"a"}`))
		f.Add(text, true)
		signed := signProof(text)
		f.Add(signed, false)
		for i := len(text) + 1; i < len(signed); i++ {
			f.Add(signed[:i]+"A"+signed[i+1:], false)
		}
	}
	f.Fuzz(func(t *testing.T, text string, sign bool) {
		if sign {
			parts := strings.SplitN(text, ".", 3)
			text = signProof(strings.Join(parts[:min(len(parts), 2)], "."))
		}
		proof, err := ReadProof(text, nil)
		if err == nil && !verifiedByECDSA(t, text, proof) {
			t.Errorf("accepted, but crypto/ecdsa rejects it: %s", text)
		}
		if other, err := ReadProof(text, &key); err == nil && !other.OwnKey && !verifiedByECDSA(t, text, other) {
			t.Errorf("accepted with a known key, but crypto/ecdsa rejects it: %s", text)
		}
	})
}

// verifiedByECDSA verifies a proof without this package's code.
func verifiedByECDSA(t *testing.T, text string, p Proof) bool {
	t.Helper()
	decode := func(s string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil {
			t.Fatalf("accepted, but it is not base64url: %s", text)
		}
		return b
	}
	segments := strings.Split(text, ".")
	if len(segments) != 3 {
		return false
	}
	var header, jwk map[string]json.RawMessage
	if json.Unmarshal(decode(segments[0]), &header) != nil || string(p.Payload) != string(decode(segments[1])) {
		return false
	}
	member := func(object map[string]json.RawMessage, name string) (s string) {
		_ = json.Unmarshal(object[name], &s)
		return s
	}
	point := slices.Concat([]byte{4}, p.Key[:])
	if p.OwnKey {
		if json.Unmarshal(header["jwk"], &jwk) != nil || jwk["d"] != nil || member(jwk, "kty") != "EC" || member(jwk, "crv") != "P-256" {
			return false
		}
		point = slices.Concat([]byte{4}, decode(member(jwk, "x")), decode(member(jwk, "y")))
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil || member(header, "alg") != "ES256" || header["crit"] != nil {
		return false
	}
	signature := decode(segments[2])
	if len(signature) != 64 {
		return false
	}
	digest := sha256.Sum256([]byte(segments[0] + "." + segments[1]))
	return ecdsa.Verify(public, digest[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
}
