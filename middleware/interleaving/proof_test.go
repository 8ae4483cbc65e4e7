package interleaving

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// keyName names the key with which a client proves its refreshes (R18, R19).
type keyName string

const (
	noKey    keyName = ""
	ownKey   keyName = "own"
	otherKey keyName = "other"
)

var keyNames = []keyName{noKey, ownKey, otherKey}

var clientKeys = map[keyName]*ecdsa.PrivateKey{ownKey: newClientKey(), otherKey: newClientKey()}

func newClientKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

// proofs returns the proof of a client that refreshes a token, or none.
func proofs(key keyName, refreshToken string) []middleware.Proof {
	if key == noKey {
		return nil
	}
	const url = "https://example.com/refresh"
	private := clientKeys[key]
	point, err := private.PublicKey.Bytes()
	if err != nil {
		panic(err)
	}
	text := segment(map[string]any{
		"typ": "dpop+jwt", "alg": "ES256",
		"jwk": map[string]string{"kty": "EC", "crv": "P-256", "x": encode(point[1:33]), "y": encode(point[33:])},
	}) + "." + segment(map[string]any{
		"jti": rand.Text(), "htm": "POST", "htu": url, "iat": time.Now().Unix(), "nonce": contents(refreshToken).ID,
	})
	digest := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, private, digest[:])
	if err != nil {
		panic(err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return []middleware.Proof{{DPoP: text + "." + encode(signature), Method: "POST", URL: url}}
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func segment(object map[string]any) string {
	b, _ := json.Marshal(object) // strings and numbers always marshal
	return encode(b)
}

// keyOf returns the name of the key in a refresh token.
func keyOf(refreshToken string) keyName {
	for name, private := range clientKeys {
		if point, err := private.PublicKey.Bytes(); err == nil && contents(refreshToken).Confirmation.Key.X == encode(point[1:33]) {
			return name
		}
	}
	return noKey
}
