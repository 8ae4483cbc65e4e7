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

var clientKeys = map[keyName]clientKey{ownKey: newClientKey(), otherKey: newClientKey()}

// clientKey is a key with its coordinates as in a JWK. Nearly every schedule compares them.
type clientKey struct {
	private *ecdsa.PrivateKey
	x, y    string
}

func newClientKey() clientKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		panic(err)
	}
	return clientKey{key, encode(point[1:33]), encode(point[33:])}
}

// proofs returns the proof of a client that refreshes a token, or none.
func proofs(key keyName, refreshToken string) []middleware.Proof {
	if key == noKey {
		return nil
	}
	const url = "https://example.com/refresh"
	client := clientKeys[key]
	text := segment(map[string]any{
		"typ": "dpop+jwt", "alg": "ES256",
		"jwk": map[string]string{"kty": "EC", "crv": "P-256", "x": client.x, "y": client.y},
	}) + "." + segment(map[string]any{
		"jti": rand.Text(), "htm": "POST", "htu": url, "iat": time.Now().Unix(), "nonce": contents(refreshToken).ID,
	})
	digest := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, client.private, digest[:])
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
func keyOf(refreshToken claims) keyName {
	for name, client := range clientKeys {
		if refreshToken.Confirmation.Key.X == client.x {
			return name
		}
	}
	return noKey
}
