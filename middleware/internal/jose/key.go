package jose

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
)

// Key is a key as the application passes it. The algorithm belongs to the key and is never the token's choice (R1).
type Key struct {
	ID        string // kid; empty: none for a secret, the RFC 7638 thumbprint for any other key
	Algorithm string // a registered JWS algorithm (RFC 7518 §3.1, RFC 8037 §3.1, RFC 9864 §2.2)
	Material  any    // []byte, *rsa.PrivateKey, *ecdsa.PrivateKey, ed25519.PrivateKey, one of their public keys, or a crypto.Signer
}

// key is a validated Key.
type key struct {
	id        string
	algorithm string
	method    jwt.SigningMethod
	private   any               // the key to sign with, nil for a public key
	public    any               // the key to verify with
	jwk       *jwk              // nil for a secret
	segments  map[string]string // the header segment for each type of token
}

// methods maps the supported algorithms to golang-jwt's implementations.
var methods = map[string]jwt.SigningMethod{
	"HS256": jwt.SigningMethodHS256, "HS384": jwt.SigningMethodHS384, "HS512": jwt.SigningMethodHS512,
	"RS256": jwt.SigningMethodRS256, "RS384": jwt.SigningMethodRS384, "RS512": jwt.SigningMethodRS512,
	"PS256": strictPSS(jwt.SigningMethodPS256), "PS384": strictPSS(jwt.SigningMethodPS384), "PS512": strictPSS(jwt.SigningMethodPS512),
	"ES256": jwt.SigningMethodES256, "ES384": jwt.SigningMethodES384, "ES512": jwt.SigningMethodES512,
	"EdDSA": jwt.SigningMethodEdDSA, "Ed25519": jwt.SigningMethodEdDSA,
}

// strictPSS accepts only salts as long as the hash (RFC 7518 §3.5). golang-jwt's own methods accept any length.
func strictPSS(method *jwt.SigningMethodRSAPSS) *jwt.SigningMethodRSAPSS {
	return &jwt.SigningMethodRSAPSS{
		SigningMethodRSA: method.SigningMethodRSA,
		Options:          &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash},
	}
}

// compile validates the key and prepares the headers of its tokens.
func (k Key) compile(types []string) (*key, error) {
	if !utf8.ValidString(k.ID) {
		return nil, errors.New("the ID is not valid UTF-8")
	}
	compiled, err := k.signerOrMaterial()
	if err != nil {
		return nil, err
	}
	compiled.id, compiled.algorithm = k.ID, k.Algorithm
	if compiled.jwk != nil {
		compiled.jwk.describe(k.Algorithm, k.ID)
		compiled.id = compiled.jwk.KID
	}
	compiled.segments = map[string]string{}
	for _, typ := range types {
		if compiled.segments[typ], err = headerSegment(k.Algorithm, compiled.id, typ); err != nil {
			return nil, err
		}
	}
	return compiled, nil
}

// material checks that the key fits its algorithm. Each algorithm accepts keys of one type only, so a
// parsed public key can never serve as a secret.
func (k Key) material() (*key, error) {
	switch method := methods[k.Algorithm].(type) {
	case *jwt.SigningMethodHMAC:
		return k.secret(method)
	case *jwt.SigningMethodRSA, *jwt.SigningMethodRSAPSS:
		return k.rsa(method)
	case *jwt.SigningMethodECDSA:
		return k.ecdsa(method)
	case *jwt.SigningMethodEd25519:
		return k.ed25519(method)
	}
	if k.Algorithm == "" {
		return nil, errors.New("the Algorithm is missing: set it, for example to HS256")
	}
	return nil, fmt.Errorf("the Algorithm %q is not supported: use one of the constants, such as HS256", k.Algorithm)
}

// mistyped says which type of key the algorithm needs. It never prints the key.
func (k Key) mistyped(wanted string) error {
	hint := ""
	if _, content := k.Material.([]byte); content {
		hint = ": ParsePEM reads one from a file's content"
	}
	return fmt.Errorf("%s needs %s as Key, not %T%s", k.Algorithm, wanted, k.Material, hint)
}

// secret accepts a secret that is at least as long as the hash (RFC 7518 §3.2). A PEM block is refused, because it may
// contain a public key, and then everybody could sign (RFC 8725 §2.1). Other encodings are not recognized.
func (k Key) secret(method *jwt.SigningMethodHMAC) (*key, error) {
	secret, ok := k.Material.([]byte)
	if !ok {
		return nil, k.mistyped("a []byte")
	}
	if least := method.Hash.Size(); len(secret) < least {
		return nil, fmt.Errorf("%s needs a secret of %d bytes or more, this one has %d: generate one with openssl rand -hex %d (RFC 7518 §3.2)", k.Algorithm, least, len(secret), least)
	}
	if bytes.HasPrefix(bytes.TrimSpace(secret), []byte("-----BEGIN ")) {
		return nil, fmt.Errorf("the secret for %s is a PEM file, and a PEM file may be public: read the key with ParsePEM and set the algorithm that fits it", k.Algorithm)
	}
	secret = slices.Clone(secret)
	return &key{method: newPooledHMAC(method, secret), private: secret, public: secret}, nil
}

const leastRSABits = 2048 // RFC 7518 §3.3

// rsa accepts a consistent key of sufficient length, for RS* and PS*.
func (k Key) rsa(method jwt.SigningMethod) (*key, error) {
	compiled := &key{method: method}
	var public *rsa.PublicKey
	switch given := k.Material.(type) {
	case *rsa.PrivateKey:
		if given == nil {
			return nil, k.mistyped("a key that is not nil")
		}
		if err := given.Validate(); err != nil {
			return nil, errors.New("the RSA key is inconsistent")
		}
		public, compiled.private = &given.PublicKey, given
	case *rsa.PublicKey:
		public = given
	default:
		return nil, k.mistyped("an *rsa.PrivateKey or *rsa.PublicKey")
	}
	if public == nil || public.N == nil {
		return nil, k.mistyped("a key that is not empty")
	}
	if bits := public.N.BitLen(); bits < leastRSABits {
		return nil, fmt.Errorf("%s needs an RSA key of %d bits or more, this one has %d", k.Algorithm, leastRSABits, bits)
	}
	if public.E < 3 || public.E%2 == 0 {
		return nil, errors.New("the RSA key is inconsistent")
	}
	compiled.public, compiled.jwk = public, rsaJWK(public)
	return compiled, nil
}

// ecdsa accepts a key on the curve that belongs to the algorithm (RFC 7518 §3.4).
func (k Key) ecdsa(method *jwt.SigningMethodECDSA) (*key, error) {
	compiled := &key{method: deterministicECDSA{method}}
	var public *ecdsa.PublicKey
	switch given := k.Material.(type) {
	case *ecdsa.PrivateKey:
		if given == nil || given.D == nil {
			return nil, k.mistyped("a key that is not empty")
		}
		public, compiled.private = &given.PublicKey, given
	case *ecdsa.PublicKey:
		public = given
	default:
		return nil, k.mistyped("an *ecdsa.PrivateKey or *ecdsa.PublicKey")
	}
	if public == nil || public.Curve == nil || public.X == nil || public.Y == nil {
		return nil, k.mistyped("a key that is not empty")
	}
	if bits := public.Curve.Params().BitSize; bits != method.CurveBits {
		return nil, fmt.Errorf("%s needs a key on P-%d, this one is on %s", k.Algorithm, method.CurveBits, public.Curve.Params().Name)
	}
	point, err := checkPoint(public, compiled.private)
	if err != nil {
		return nil, err
	}
	compiled.public, compiled.jwk = public, ecJWK(public.Curve.Params().Name, point)
	return compiled, nil
}

// checkPoint returns the public key as a point that is on its curve. private is its *ecdsa.PrivateKey or nil.
func checkPoint(public *ecdsa.PublicKey, private any) (*ecdh.PublicKey, error) {
	point, err := public.ECDH()
	if err != nil {
		return nil, errors.New("the point is not on the curve")
	}
	if private, ok := private.(*ecdsa.PrivateKey); ok {
		if scalar, err := private.ECDH(); err != nil || !scalar.PublicKey().Equal(point) {
			return nil, errors.New("the EC key is inconsistent")
		}
	}
	return point, nil
}

// ed25519 accepts a key of the right length whose public half belongs to its seed.
func (k Key) ed25519(method *jwt.SigningMethodEd25519) (*key, error) {
	switch given := k.Material.(type) {
	case ed25519.PrivateKey:
		if len(given) == ed25519.PrivateKeySize {
			given = slices.Clone(given)
			public := given.Public().(ed25519.PublicKey)
			if !given.Equal(ed25519.NewKeyFromSeed(given.Seed())) {
				return nil, errors.New("the Ed25519 key is inconsistent")
			}
			return &key{method: method, private: given, public: public, jwk: ed25519JWK(public)}, nil
		}
	case ed25519.PublicKey:
		if len(given) == ed25519.PublicKeySize {
			given = slices.Clone(given)
			return &key{method: method, public: given, jwk: ed25519JWK(given)}, nil
		}
	}
	return nil, k.mistyped("a complete ed25519.PrivateKey or ed25519.PublicKey")
}
