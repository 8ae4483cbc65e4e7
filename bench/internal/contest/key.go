package contest

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/golang-jwt/jwt/v5"
)

// Algorithms are those that are measured: one secret, and the three kinds of key pairs.
var Algorithms = []middleware.Algorithm{middleware.HS256, middleware.RS256, middleware.ES256, middleware.EdDSA}

// Key is what all contestants sign and verify with.
type Key struct {
	Algorithm middleware.Algorithm
	Signing   any
	Verifying any
}

// NewKey returns a random key of the length that is usual: 256 bits for HMAC, 2048 for RSA.
func NewKey(algorithm middleware.Algorithm) Key {
	switch algorithm {
	case middleware.HS256:
		secret := make([]byte, 32)
		_, _ = rand.Read(secret) // never fails: it ends the program instead
		return Key{algorithm, secret, secret}
	case middleware.RS256:
		return pair(algorithm, must(rsa.GenerateKey(rand.Reader, 2048)))
	case middleware.ES256:
		return pair(algorithm, must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)))
	case middleware.EdDSA:
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return pair(algorithm, must(private, err))
	}
	panic(fmt.Sprintf("contest: no key for %q", algorithm))
}

func pair(algorithm middleware.Algorithm, private any) Key {
	switch private := private.(type) {
	case *rsa.PrivateKey:
		return Key{algorithm, private, &private.PublicKey}
	case *ecdsa.PrivateKey:
		return Key{algorithm, private, &private.PublicKey}
	case ed25519.PrivateKey:
		return Key{algorithm, private, private.Public()}
	}
	panic(fmt.Sprintf("contest: %T is no private key", private))
}

// Marshal returns the signing key as bytes, for another process.
func (k Key) Marshal() []byte {
	if secret, ok := k.Signing.([]byte); ok {
		return secret
	}
	return must(x509.MarshalPKCS8PrivateKey(k.Signing))
}

// UnmarshalKey reads what Marshal wrote.
func UnmarshalKey(algorithm middleware.Algorithm, data []byte) Key {
	if algorithm == middleware.HS256 {
		return Key{algorithm, data, data}
	}
	return pair(algorithm, must(x509.ParsePKCS8PrivateKey(data)))
}

// pems returns both halves of an RSA key in the form that gin-jwt wants.
func (k Key) pems() (private, public []byte) {
	private = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: k.Marshal()})
	public = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(k.Verifying))})
	return private, public
}

// sign makes a token of any claims, in the way that most libraries do.
func (k Key) sign(claims jwt.MapClaims) string {
	return must(jwt.NewWithClaims(jwt.GetSigningMethod(string(k.Algorithm)), claims).SignedString(k.Signing))
}

// must is for what cannot fail with the inputs of this package; if it does, there is nothing to measure.
func must[T any](value T, err error) T {
	if err != nil {
		panic("contest: " + err.Error())
	}
	return value
}
