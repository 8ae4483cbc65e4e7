package middleware_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"slices"
	"sync"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// Each key is generated once, because RSA is slow.
var (
	rsaKey   = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	shortRSA = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 1024)) })
	p256     = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	p384     = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)) })
	p521     = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)) })
	edKey    = sync.OnceValue(func() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32)) })
)

// minSecretSizes are the least sizes that RFC 7518 §3.2 allows.
var minSecretSizes = map[middleware.Algorithm]int{middleware.HS256: 32, middleware.HS384: 48, middleware.HS512: 64}

// signers has a key for each algorithm.
func signers() map[middleware.Algorithm]middleware.Key {
	all := map[middleware.Algorithm]middleware.Key{}
	for alg, key := range map[middleware.Algorithm]any{
		middleware.RS256: rsaKey(), middleware.RS384: rsaKey(), middleware.RS512: rsaKey(),
		middleware.PS256: rsaKey(), middleware.PS384: rsaKey(), middleware.PS512: rsaKey(),
		middleware.ES256: p256(), middleware.ES384: p384(), middleware.ES512: p521(), middleware.EdDSA: edKey(),
	} {
		all[alg] = middleware.Key{Algorithm: alg, Key: key}
	}
	for alg, size := range minSecretSizes {
		all[alg] = middleware.Key{Algorithm: alg, Key: bytes.Repeat([]byte("s"), size)}
	}
	return all
}

// public returns the public half of a key.
func public(k middleware.Key) middleware.Key {
	k.Key = k.Key.(crypto.Signer).Public()
	return k
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func verifiedByGolangJWT(t *testing.T, text string, key middleware.Key) {
	t.Helper()
	opening := key.Key
	if signer, ok := opening.(crypto.Signer); ok {
		opening = signer.Public()
	}
	_, err := jwt.Parse(text, func(*jwt.Token) (any, error) { return opening, nil }, jwt.WithJSONNumber(),
		jwt.WithValidMethods([]string{string(key.Algorithm)}), jwt.WithStrictDecoding(), jwt.WithExpirationRequired(), jwt.WithSubject("admin"))
	if err != nil {
		t.Errorf("golang-jwt rejects a %s token: %v", key.Algorithm, err)
	}
}

// jwk is one key of a JWK Set, as another party reads it.
type jwk map[string]string

// publishedKeys returns the keys that JWKSHandler publishes.
func publishedKeys(t *testing.T, auth *middleware.Auth) []jwk {
	t.Helper()
	r := listen(t, routes(auth)).send("GET", "/jwks.json")
	var set struct{ Keys []jwk }
	if err := json.Unmarshal([]byte(r.body), &set); err != nil || r.status != http.StatusOK || r.header.Get("Content-Type") != "application/jwk-set+json" ||
		r.header.Get("Cache-Control") != "public, max-age=300" {
		t.Fatalf("JWKS: %d %s %v %v", r.status, r.body, r.header, err)
	}
	if set.Keys == nil {
		t.Fatalf("JWKS without keys: %s", r.body)
	}
	return set.Keys
}

// rebuilt builds the public key from the JWK alone, as another party would (RFC 7518 §6, RFC 8037 §2).
func (k jwk) rebuilt(t *testing.T) any {
	t.Helper()
	octets := func(name string, size int) []byte {
		b, err := base64.RawURLEncoding.DecodeString(k[name])
		if err != nil || len(b) == 0 || size > 0 && len(b) != size {
			t.Fatalf("%s of the JWK is %q, %v", name, k[name], err)
		}
		return b
	}
	curves := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}
	switch k["kty"] {
	case "RSA":
		return &rsa.PublicKey{N: new(big.Int).SetBytes(octets("n", 256)), E: int(new(big.Int).SetBytes(octets("e", 3)).Int64())}
	case "EC":
		curve := curves[k["crv"]]
		size := (curve.Params().BitSize + 7) / 8 // RFC 7518 §6.2.1.2: with leading zeros
		return must(ecdsa.ParseUncompressedPublicKey(curve, slices.Concat([]byte{4}, octets("x", size), octets("y", size))))
	case "OKP":
		return ed25519.PublicKey(octets("x", ed25519.PublicKeySize))
	}
	t.Fatalf("unknown JWK type %q", k["kty"])
	return nil
}

// issuerAndVerifier returns an Auth with a private key, and a verify-only Auth with its public half and the same store.
func issuerAndVerifier(t *testing.T, changes ...change) (issuer, verifier *middleware.Auth) {
	t.Helper()
	memory := newMemory(t)
	shared := append([]change{func(c *middleware.Config) { c.Store = memory }}, changes...)
	key := signers()[middleware.ES256]
	issuer = newAuth(t, append(shared, keys(key))...)
	return issuer, newAuth(t, append(shared, authenticating(nil), keys(public(key)))...)
}
