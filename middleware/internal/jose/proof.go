package jose

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"

	"github.com/golang-jwt/jwt/v5"
)

// ClientKey is a public key on P-256 that belongs to a client: both coordinates, as in the uncompressed form of the
// point. It is comparable.
type ClientKey [64]byte

// AppendJWK appends the key as a JSON Web Key.
func (k ClientKey) AppendJWK(b []byte) []byte {
	b = append(append(b, `{"kty":"EC","crv":"P-256","x":"`...), encodeBytes(k[:32])...)
	return append(append(append(b, `","y":"`...), encodeBytes(k[32:])...), `"}`...)
}

// ParseClientKey reads a public key on P-256 from a JSON Web Key. A private one is rejected (RFC 9449 §4.3).
func ParseClientKey(object []byte) (key ClientKey, err error) {
	var kty, crv string
	var x, y []byte
	err = ScanObject(object, func(name string, value, _ []byte) (err error) {
		switch name {
		case "kty":
			kty, err = String(value)
		case "crv":
			crv, err = String(value)
		case "x":
			x, err = coordinate(value)
		case "y":
			y, err = coordinate(value)
		case "d", "k":
			err = Malformed("the jwk contains a secret")
		}
		return err
	})
	switch {
	case err != nil:
		return ClientKey{}, err
	case kty != "EC" || crv != "P-256" || len(x) != 32 || len(y) != 32:
		return ClientKey{}, Malformed("the jwk is not a public key on P-256")
	}
	copy(key[:32], x)
	copy(key[32:], y)
	if _, err := key.public(); err != nil {
		return ClientKey{}, Malformed("the jwk is not a point on P-256")
	}
	return key, nil
}

func coordinate(value []byte) ([]byte, error) {
	text, err := Text(value)
	if err != nil {
		return nil, err
	}
	b, err := strictBase64.DecodeString(string(text))
	if err != nil {
		return nil, errNotBase64
	}
	return b, nil
}

func (k ClientKey) public() (*ecdsa.PublicKey, error) {
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append([]byte{4}, k[:]...))
}

// verify checks an ES256 signature: r and s, 32 bytes each (RFC 7518 §3.4).
func (k ClientKey) verify(text string, signature []byte) error {
	public, err := k.public()
	if err != nil {
		return err
	}
	return jwt.SigningMethodES256.Verify(text, signature, public)
}

// Proof is a JWT that a client has signed with its own key.
type Proof struct {
	Type    string // typ
	Key     ClientKey
	OwnKey  bool   // the key came in the proof's header
	Payload []byte // a JSON object, not parsed yet
}

// maxProofHeaderBytes is the length of the longest header segment of a proof. It contains a key.
const maxProofHeaderBytes = 1024

// ReadProof verifies a JWT that a client has signed with ES256: with the key in its header (jwk), or, if there is none,
// with known. A nil known means that the header must contain the key. Every error is a [Malformed].
func ReadProof(text string, known *ClientKey) (p Proof, err error) {
	head, body, signature, err := split(text)
	if err != nil {
		return Proof{}, err
	}
	if len(head) > maxProofHeaderBytes {
		return Proof{}, Malformed("the header is too long")
	}
	if err := p.readHeader(head); err != nil {
		return Proof{}, err
	}
	if !p.OwnKey {
		if known == nil {
			return Proof{}, Malformed("the header has no jwk")
		}
		p.Key = *known
	}
	mac, err := strictBase64.DecodeString(signature)
	if err != nil {
		return Proof{}, errNotBase64
	}
	if p.Key.verify(text[:len(head)+1+len(body)], mac) != nil {
		return Proof{}, Malformed("the signature does not match")
	}
	if p.Payload, err = strictBase64.DecodeString(body); err != nil {
		return Proof{}, errNotBase64
	}
	return p, nil
}

// readHeader reads alg, typ and jwk. Unlike a token's, the header of a proof chooses its key: the proof shows that the
// sender has the private part, and nothing else.
func (p *Proof) readHeader(segment string) error {
	object, err := strictBase64.DecodeString(segment)
	if err != nil {
		return errNotBase64
	}
	var alg string
	err = ScanObject(object, func(name string, value, _ []byte) (err error) {
		switch name {
		case "alg":
			alg, err = String(value)
		case "typ":
			p.Type, err = String(value)
		case "jwk":
			p.OwnKey = true
			p.Key, err = ParseClientKey(value)
		case "crit":
			err = Malformed("the header has a crit member")
		}
		return err
	})
	if err == nil && alg != "ES256" {
		err = Malformed("the header's alg is not ES256")
	}
	return err
}

// ID returns the claim jti, or "".
func (p Proof) ID() (id string, err error) {
	err = ScanObject(p.Payload, func(name string, value, _ []byte) (err error) {
		if name == "jti" {
			id, err = String(value)
		}
		return err
	})
	return id, err
}

// Digest returns the first half of the SHA-256 of the key, to recognize it by.
func (k ClientKey) Digest() string {
	sum := sha256.Sum256(k[:])
	return encodeBytes(sum[:16])
}
