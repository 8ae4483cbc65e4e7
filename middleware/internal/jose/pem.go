package jose

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// ParsePEM decodes the only key in a PEM file: PKCS #8 ("PRIVATE KEY"), PKCS #1 ("RSA PRIVATE KEY", "RSA PUBLIC KEY"),
// SEC 1 ("EC PRIVATE KEY") or SPKI ("PUBLIC KEY"). The error never contains the file's content.
func ParsePEM(data []byte) (any, error) {
	block, rest := nextKey(data)
	if block == nil {
		return nil, errors.New("no PEM block found: the file must contain a line like -----BEGIN PRIVATE KEY-----")
	}
	if another, _ := nextKey(rest); another != nil {
		return nil, errors.New("the file has more than one PEM block: use one file per key")
	}
	if block.Headers["Proc-Type"] != "" || block.Type == "ENCRYPTED PRIVATE KEY" {
		return nil, errors.New("the key is encrypted: decrypt it first, for example with openssl pkey")
	}
	parse := map[string]func([]byte) (any, error){
		"PRIVATE KEY":     x509.ParsePKCS8PrivateKey,
		"PUBLIC KEY":      x509.ParsePKIXPublicKey,
		"RSA PRIVATE KEY": func(der []byte) (any, error) { return x509.ParsePKCS1PrivateKey(der) },
		"RSA PUBLIC KEY":  func(der []byte) (any, error) { return x509.ParsePKCS1PublicKey(der) },
		"EC PRIVATE KEY":  func(der []byte) (any, error) { return x509.ParseECPrivateKey(der) },
	}[block.Type]
	if parse == nil {
		return nil, fmt.Errorf("a PEM block of type %q is not a supported key", block.Type)
	}
	key, err := parse(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the PEM block %q does not contain a valid key of that type", block.Type)
	}
	return key, nil
}

// nextKey skips the curve parameters that openssl writes before an EC key.
func nextKey(data []byte) (block *pem.Block, rest []byte) {
	for {
		block, rest = pem.Decode(bytes.TrimSpace(data))
		if block == nil || block.Type != "EC PARAMETERS" {
			return block, rest
		}
		data = rest
	}
}
