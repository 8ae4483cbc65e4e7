package middleware_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// ParsePEM reads every common format of keys.
func TestParsePEM(t *testing.T) {
	pkcs8 := func(key any) []byte { return pemOf("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(key))) }
	spki := func(key any) []byte { return pemOf("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(key))) }
	sec1 := pemOf("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(p256())))
	parameters := []byte("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n")
	for name, row := range map[string]struct {
		text []byte
		alg  middleware.Algorithm
		key  any
	}{
		"PKCS #1":                  {pemOf("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey())), middleware.RS256, rsaKey()},
		"PKCS #1, public":          {pemOf("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&rsaKey().PublicKey)), middleware.RS256, rsaKey().Public()},
		"PKCS #8 of RSA":           {pkcs8(rsaKey()), middleware.PS384, rsaKey()},
		"PKCS #8 of P-256":         {pkcs8(p256()), middleware.ES256, p256()},
		"PKCS #8 of P-521":         {pkcs8(p521()), middleware.ES512, p521()},
		"PKCS #8 of Ed25519":       {pkcs8(edKey()), middleware.EdDSA, edKey()},
		"SEC 1":                    {sec1, middleware.ES256, p256()},
		"SEC 1 with EC PARAMETERS": {slices.Concat(parameters, sec1), middleware.ES256, p256()},
		"SEC 1, parameters last":   {slices.Concat(sec1, parameters), middleware.ES256, p256()},
		"SPKI of RSA":              {spki(rsaKey().Public()), middleware.RS512, rsaKey().Public()},
		"SPKI of P-384":            {spki(p384().Public()), middleware.ES384, p384().Public()},
		"SPKI of Ed25519":          {spki(edKey().Public()), middleware.EdDSA, edKey().Public()},
		"CRLF":                     {bytes.ReplaceAll(sec1, []byte("\n"), []byte("\r\n")), middleware.ES256, p256()},
		"spaces around":            {slices.Concat([]byte("\n  \n"), sec1, []byte("\n\n \t")), middleware.ES256, p256()},
		"spaces on the first line": {slices.Concat([]byte("  "), sec1), middleware.ES256, p256()},
		"a comment before":         {slices.Concat([]byte("# our key\n"), sec1), middleware.ES256, p256()},
	} {
		t.Run(name, func(t *testing.T) {
			key, err := middleware.ParsePEM(row.text)
			if err != nil {
				t.Fatal(err)
			}
			if !equalKeys(row.key, key) {
				t.Fatalf("ParsePEM returns another %T", key)
			}
			auth := newAuth(t, authenticating(nil), keys(middleware.Key{Algorithm: row.alg, Key: key}))
			signer := signers()[row.alg]
			verify(t, auth, login(t, newAuth(t, keys(signer))))
		})
	}
}

func equalKeys(a, b any) bool {
	switch a := a.(type) {
	case interface{ Equal(crypto.PrivateKey) bool }:
		return a.Equal(b)
	case interface{ Equal(crypto.PublicKey) bool }:
		return a.Equal(b)
	}
	return false
}

// ParsePEM rejects every other file. The error says why, and does not show the content.
func TestParsePEMRefuses(t *testing.T) {
	sec1 := pemOf("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(p256())))
	ed := pemOf("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(edKey())))
	der := must(x509.MarshalPKCS8PrivateKey(p256()))
	legacy := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der, Headers: map[string]string{
		"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-128-CBC,00112233445566778899AABBCCDDEEFF",
	}})
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	certificate := pemOf("CERTIFICATE", must(x509.CreateCertificate(rand.Reader, template, template, p256().Public(), p256())))
	for name, row := range map[string]struct {
		text []byte
		word string
	}{
		"encrypted PKCS #8":       {encryptedPKCS8, "encrypted"},
		"encrypted, legacy":       {legacy, "encrypted"},
		"certificate":             {certificate, "CERTIFICATE"},
		"key and certificate":     {slices.Concat(sec1, certificate), "more than one"},
		"two keys":                {slices.Concat(sec1, ed), "more than one"},
		"one key twice":           {slices.Concat(sec1, sec1), "more than one"},
		"parameters alone":        {[]byte("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"), "no PEM"},
		"PKCS #8 named PKCS #1":   {pemOf("RSA PRIVATE KEY", der), "does not contain a valid key"},
		"PKCS #8 named SPKI":      {pemOf("PUBLIC KEY", der), "does not contain a valid key"},
		"SEC 1 named PKCS #8":     {pemOf("PRIVATE KEY", must(x509.MarshalECPrivateKey(p256()))), "does not contain a valid key"},
		"OpenSSH":                 {pemOf("OPENSSH PRIVATE KEY", der), "OPENSSH"},
		"empty block":             {pemOf("PRIVATE KEY", nil), "does not contain a valid key"},
		"garbage in a block":      {pemOf("PRIVATE KEY", []byte("a secret that nobody must see")), "does not contain a valid key"},
		"cut in half":             {sec1[:len(sec1)/2], "no PEM"},
		"truncated":               {sec1[:len(sec1)-10], "no PEM"},
		"garbage":                 {[]byte("a secret that nobody must see"), "no PEM"},
		"DER":                     {der, "no PEM"},
		"JWK":                     {[]byte(`{"kty":"oct","k":"a secret that nobody must see"}`), "no PEM"},
		"empty":                   {nil, "no PEM"},
		"base64 without an armor": {[]byte(base64.StdEncoding.EncodeToString(der)), "no PEM"},
	} {
		key, err := middleware.ParsePEM(row.text)
		if err == nil || key != nil {
			t.Errorf("%s: ParsePEM returns a %T, %v, want an error", name, key, err)
			continue
		}
		if !strings.HasPrefix(err.Error(), "middleware: ") || !strings.Contains(err.Error(), row.word) {
			t.Errorf("%s: %q, want %q in it", name, err, row.word)
		}
		told := fmt.Sprint(errorTexts(err))
		for line := range strings.Lines(string(row.text)) {
			if line = strings.TrimSpace(line); len(line) > 10 && !strings.HasPrefix(line, "-----") && strings.Contains(told, line) {
				t.Errorf("%s: the error shows the content: %s", name, told)
			}
		}
		for block, rest := pem.Decode(row.text); block != nil; block, rest = pem.Decode(rest) {
			if digits := hex.EncodeToString(block.Bytes); digits != "" && strings.Contains(strings.ToLower(told), digits) {
				t.Errorf("%s: the error shows the content: %s", name, told)
			}
		}
		if strings.Contains(told, "nobody must see") || strings.Contains(told, "AABBCC") {
			t.Errorf("%s: the error shows the content: %s", name, told)
		}
	}
}

// encryptedPKCS8 is from `openssl genpkey -algorithm ed25519 -aes256`. Its passphrase is "test".
var encryptedPKCS8 = []byte(`-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAhEwkI8FcDx7gICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEELwqHkf40Ug1whcKUIBSY+AEQP4R
W9ko/gGA1d1GTJavXufaLsvmUnvJDarhwQ5fA9rIF2NMwe1Ef3NoTHKxBmjXKX9+
MwePpdetKcK5D/6+lO0=
-----END ENCRYPTED PRIVATE KEY-----
`)
