package jose

import (
	"crypto/ecdsa"
	"encoding/asn1"
	"errors"
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
	return fixedWidth(der, m.KeySize)
}

// fixedWidth turns an ASN.1 signature into r and s, each padded to size bytes.
func fixedWidth(der []byte, size int) ([]byte, error) {
	var pair struct{ R, S *big.Int }
	rest, err := asn1.Unmarshal(der, &pair)
	if err != nil || len(rest) > 0 || max(pair.R.BitLen(), pair.S.BitLen()) > 8*size {
		return nil, errors.New("the signature is not in ASN.1")
	}
	signature := make([]byte, 2*size)
	pair.R.FillBytes(signature[:size])
	pair.S.FillBytes(signature[size:])
	return signature, nil
}
