package main

import (
	"crypto/rsa"
	"testing"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// A generated RSA key has 128 bits of security (OWASP ASVS 5.0, 11.2.3).
func TestGeneratedRSAKeys(t *testing.T) {
	t.Parallel()
	for _, alg := range []middleware.Algorithm{middleware.RS256, middleware.PS256} {
		key, err := generate(alg)
		if err != nil {
			t.Fatal(err)
		}
		if bits := key.(*rsa.PrivateKey).N.BitLen(); bits < 3072 {
			t.Errorf("%s: a key of %d bits, want 3072", alg, bits)
		}
	}
}
