package jose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"reflect"

	"github.com/golang-jwt/jwt/v5"
)

// signerOrMaterial also accepts a crypto.Signer whose private key is elsewhere, for example in a KMS or an HSM. Its
// public key must fit the algorithm like any other.
func (k Key) signerOrMaterial() (*key, error) {
	signer, ok := k.Material.(crypto.Signer)
	switch k.Material.(type) {
	case *rsa.PrivateKey, *ecdsa.PrivateKey, ed25519.PrivateKey, *ed25519.PrivateKey:
		ok = false // they sign without help
	}
	if !ok {
		return k.material()
	}
	if v := reflect.ValueOf(signer); v.Kind() == reflect.Pointer && v.IsNil() {
		return nil, k.mistyped("a key that is not nil")
	}
	public := k
	switch public.Material = signer.Public(); public.Material.(type) {
	case *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey:
	default: // a secret in particular
		return nil, fmt.Errorf("the public key of the %T is a %T, which is not supported", signer, public.Material)
	}
	compiled, err := public.material()
	if err != nil {
		return nil, err
	}
	compiled.method, compiled.private = remote{compiled.method, compiled.public}, signer
	return compiled, nil
}

// remote signs with a crypto.Signer.
type remote struct {
	jwt.SigningMethod
	public any
}

// Sign implements jwt.SigningMethod. It verifies the signature, because a signer that uses another version of its key
// would log users out: their tokens would be replaced by tokens that no server accepts.
func (m remote) Sign(text string, key any) ([]byte, error) {
	var options crypto.SignerOpts = crypto.Hash(0)
	size := 0 // of r and s
	switch method := m.SigningMethod.(type) {
	case *jwt.SigningMethodRSA:
		options = method.Hash
	case *jwt.SigningMethodRSAPSS:
		options = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: method.Hash}
	case deterministicECDSA:
		options, size = method.Hash, method.KeySize
	}
	signature, err := crypto.SignMessage(key.(crypto.Signer), rand.Reader, []byte(text), options)
	if err == nil && size > 0 {
		signature, err = fixedWidth(signature, size)
	}
	if err == nil {
		err = m.Verify(text, signature, m.public)
	}
	return signature, err
}
