package jose

import (
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"math/big"
)

// jwk is a public key as a JSON Web Key (RFC 7517 §4, RFC 7518 §6, RFC 8037 §2).
type jwk struct {
	KTY string `json:"kty"`
	Use string `json:"use"`
	Alg string `json:"alg"`
	KID string `json:"kid"`
	CRV string `json:"crv,omitempty"`
	N   string `json:"n,omitempty"`
	E   string `json:"e,omitempty"`
	X   string `json:"x,omitempty"`
	Y   string `json:"y,omitempty"`
}

func encodeBytes(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// rsaJWK writes the modulus and exponent without leading zeros (RFC 7518 §6.3.1).
func rsaJWK(public *rsa.PublicKey) *jwk {
	return &jwk{KTY: "RSA", N: encodeBytes(public.N.Bytes()), E: encodeBytes(big.NewInt(int64(public.E)).Bytes())}
}

// ecJWK takes a point on a NIST curve. Both coordinates have the full length of the field (RFC 7518 §6.2.1.2), as in
// the uncompressed form of the point.
func ecJWK(curve string, point *ecdh.PublicKey) *jwk {
	coordinates := point.Bytes()[1:]
	half := len(coordinates) / 2
	return &jwk{KTY: "EC", CRV: curve, X: encodeBytes(coordinates[:half]), Y: encodeBytes(coordinates[half:])}
}

// ed25519JWK writes an octet key pair (RFC 8037 §2).
func ed25519JWK(public ed25519.PublicKey) *jwk {
	return &jwk{KTY: "OKP", CRV: "Ed25519", X: encodeBytes(public)}
}

// describe fills in what the key is for. Without an id the key gets its thumbprint.
func (k *jwk) describe(algorithm, id string) {
	if id == "" {
		id = k.thumbprint()
	}
	k.Use, k.Alg, k.KID = "sig", algorithm, id
}

// thumbprint is the SHA-256 of the required members in alphabetical order, without white space (RFC 7638 §3). Their
// values are base64url or registered names, so they need no escapes.
func (k *jwk) thumbprint() string {
	var members string
	switch k.KTY {
	case "RSA":
		members = `{"e":"` + k.E + `","kty":"RSA","n":"` + k.N + `"}`
	case "EC":
		members = `{"crv":"` + k.CRV + `","kty":"EC","x":"` + k.X + `","y":"` + k.Y + `"}`
	case "OKP":
		members = `{"crv":"` + k.CRV + `","kty":"OKP","x":"` + k.X + `"}`
	}
	sum := sha256.Sum256([]byte(members))
	return encodeBytes(sum[:])
}
