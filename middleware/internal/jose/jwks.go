package jose

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
)

// ParseJWKS reads the keys that another server publishes as a JWK Set (RFC 7517 §5), to verify tokens of the given
// types. It skips every key that cannot be used: one that is symmetric or private, lacks alg (R1), or is not for
// signatures. It returns an error, which says why each key was skipped, if no key is left, and if two of them have the
// same kid.
func ParseJWKS(document []byte, types ...string) (*KeySet, error) {
	var list []json.RawMessage
	err := ScanObject(document, func(name string, value, _ []byte) error {
		if name == "keys" && json.Unmarshal(value, &list) != nil {
			return Malformed("keys is not a list")
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("the JWK Set is malformed: %w", err)
	}
	set := EmptyKeySet()
	var skipped []error
	for i, object := range list {
		compiled, err := parseJWK(object, types)
		if err != nil {
			skipped = append(skipped, fmt.Errorf("keys[%d] is skipped: %w", i, err))
			continue
		}
		if err := set.add(compiled, len(set.byID) == 0); err != nil {
			return nil, fmt.Errorf("keys[%d] of the JWK Set: %w", i, err)
		}
	}
	if len(set.byID) == 0 {
		return nil, errors.Join(append([]error{errors.New("the JWK Set has no key to verify with")}, skipped...)...)
	}
	return set, nil
}

// EmptyKeySet returns a set without keys, which verifies nothing.
func EmptyKeySet() *KeySet {
	return &KeySet{byID: map[string]*key{}, headers: map[string]header{}}
}

// SamePublicKeys reports whether both sets have the same public keys with the same ids, and no secrets.
func (s *KeySet) SamePublicKeys(other *KeySet) bool {
	return maps.EqualFunc(s.byID, other.byID, func(a, b *key) bool { return a.jwk != nil && b.jwk != nil && *a.jwk == *b.jwk })
}

// parseJWK reads and compiles one public key. ScanObject reads a member that is not a string as an error, and so a kid
// of another type.
func parseJWK(object []byte, types []string) (*key, error) {
	var k jwk
	members := map[string]*string{"kty": &k.KTY, "use": &k.Use, "alg": &k.Alg, "kid": &k.KID, "crv": &k.CRV, "n": &k.N, "e": &k.E, "x": &k.X, "y": &k.Y}
	err := ScanObject(object, func(name string, value, _ []byte) (err error) {
		switch field := members[name]; {
		case field != nil:
			*field, err = String(value)
		case name == "d" || name == "k":
			err = Malformed("it contains a secret")
		case name == "key_ops" && !canVerify(value):
			err = Malformed("key_ops does not contain verify")
		}
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case k.Use != "" && k.Use != "sig":
		return nil, Malformed("use is not sig")
	case k.Alg == "":
		return nil, Malformed("alg is missing, and the algorithm belongs to the key")
	}
	material, err := k.publicKey()
	if err != nil {
		return nil, err
	}
	return Key{ID: k.KID, Algorithm: k.Alg, Material: material}.compile(types)
}

func canVerify(operations []byte) bool {
	var list []string
	return json.Unmarshal(operations, &list) == nil && slices.Contains(list, "verify")
}

// publicKey decodes the key (RFC 7518 §6, RFC 8037 §2). Key.compile checks its strength, and whether alg fits it.
func (k *jwk) publicKey() (any, error) {
	var b [4][]byte
	for i, text := range []string{k.N, k.E, k.X, k.Y} {
		var err error
		if b[i], err = strictBase64.DecodeString(text); err != nil {
			return nil, errNotBase64
		}
	}
	n, e, x, y := b[0], b[1], b[2], b[3]
	curve := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[k.CRV]
	switch {
	case k.KTY == "RSA" && len(e) < 4: // larger exponents are not in use, and would not fit into an int everywhere
		return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}, nil
	case k.KTY == "EC" && curve != nil && len(x) == len(y):
		return ecdsa.ParseUncompressedPublicKey(curve, bytes.Join([][]byte{{4}, x, y}, nil))
	case k.KTY == "OKP" && k.CRV == "Ed25519":
		return ed25519.PublicKey(x), nil
	}
	return nil, fmt.Errorf("kty %q with crv %q is not supported", k.KTY, k.CRV)
}
