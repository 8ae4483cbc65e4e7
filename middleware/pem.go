package middleware

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// ParsePEM reads the one key of a PEM file, for [Key].Key: PKCS #8 ("PRIVATE KEY"), PKCS #1 ("RSA PRIVATE
// KEY", "RSA PUBLIC KEY"), SEC 1 ("EC PRIVATE KEY") or SPKI ("PUBLIC KEY"). The error never shows the content.
func ParsePEM(data []byte) (any, error) {
	block, rest := nextKey(data)
	if block == nil {
		return nil, errors.New("middleware: no PEM block found: the file must have a line like -----BEGIN PRIVATE KEY-----")
	}
	if another, _ := nextKey(rest); another != nil {
		return nil, errors.New("middleware: the file has more than one PEM block: give each key its own")
	}
	if block.Headers["Proc-Type"] != "" || block.Type == "ENCRYPTED PRIVATE KEY" {
		return nil, errors.New("middleware: the key is encrypted: decrypt it first, for example with openssl pkey")
	}
	parse := map[string]func([]byte) (any, error){
		"PRIVATE KEY":     x509.ParsePKCS8PrivateKey,
		"PUBLIC KEY":      x509.ParsePKIXPublicKey,
		"RSA PRIVATE KEY": func(der []byte) (any, error) { return x509.ParsePKCS1PrivateKey(der) },
		"RSA PUBLIC KEY":  func(der []byte) (any, error) { return x509.ParsePKCS1PublicKey(der) },
		"EC PRIVATE KEY":  func(der []byte) (any, error) { return x509.ParseECPrivateKey(der) },
	}[block.Type]
	if parse == nil {
		return nil, fmt.Errorf("middleware: a PEM block of type %q is no key", block.Type)
	}
	key, err := parse(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("middleware: the PEM block %q cannot be read as such a key", block.Type)
	}
	return key, nil
}

// nextKey passes over the curve parameters that openssl writes before an EC key.
func nextKey(data []byte) (block *pem.Block, rest []byte) {
	for {
		block, rest = pem.Decode(bytes.TrimSpace(data))
		if block == nil || block.Type != "EC PARAMETERS" {
			return block, rest
		}
		data = rest
	}
}
