package jose

import (
	"crypto/ecdsa"
	"encoding/asn1"
	"fmt"
	"math/big"

	"github.com/golang-jwt/jwt/v5"
)

// deterministicECDSA verifies like golang-jwt's ECDSA but signs deterministically (RFC 6979). Parallel refreshes
// must return the same token (R7), and a random nonce would make every signature different.
type deterministicECDSA struct {
	*jwt.SigningMethodECDSA
}

// Sign implements jwt.SigningMethod. The signature is r and s, each padded to the size of the curve's order
// (RFC 7518 §3.4).
func (m deterministicECDSA) Sign(text string, key any) ([]byte, error) {
	private, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s signs with an *ecdsa.PrivateKey, not %T", m.Name, key)
	}
	digest := m.Hash.New()
	_, _ = digest.Write([]byte(text)) // a hash never fails
	// Without a source of randomness the nonce is derived from the key and the digest.
	der, err := private.Sign(nil, digest.Sum(nil), m.Hash)
	if err != nil {
		return nil, err
	}
	var pair struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &pair); err != nil {
		return nil, err
	}
	signature := make([]byte, 2*m.KeySize)
	pair.R.FillBytes(signature[:m.KeySize])
	pair.S.FillBytes(signature[m.KeySize:])
	return signature, nil
}
