package middleware_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// Another party can verify our tokens with only the JWKS, and the JWKS has nothing else. It has no secrets.
func TestJWKS(t *testing.T) {
	members := map[string][]string{"RSA": {"alg", "e", "kid", "kty", "n", "use"}, "EC": {"alg", "crv", "kid", "kty", "use", "x", "y"}, "OKP": {"alg", "crv", "kid", "kty", "use", "x"}}
	var all []middleware.Key
	for alg, key := range signers() {
		key.ID = "key of " + string(alg)
		all = append(all, key)
	}
	for i, key := range all {
		auth := newAuth(t, keys(append([]middleware.Key{key}, slices.Delete(slices.Clone(all), i, i+1)...)...))
		text := login(t, auth)
		listed := publishedKeys(t, auth)
		if len(listed) != 10 { // all but the three secrets
			t.Fatalf("%d keys are published", len(listed))
		}
		for _, k := range listed {
			if got := slices.Sorted(maps.Keys(k)); !slices.Equal(got, members[k["kty"]]) || k["use"] != "sig" {
				t.Errorf("the JWK %s has %v", k["kid"], got)
			}
		}
		_, err := jwt.Parse(text, func(token *jwt.Token) (any, error) {
			for _, k := range listed {
				if k["kid"] == token.Header["kid"] && k["alg"] == token.Header["alg"] {
					return k.rebuilt(t), nil
				}
			}
			return nil, fmt.Errorf("no key for %v", token.Header)
		}, jwt.WithValidMethods([]string{string(key.Algorithm)}), jwt.WithExpirationRequired())
		if _, isSecret := key.Key.([]byte); isSecret != (err != nil) {
			t.Errorf("verification with the JWKS, %s: %v", key.Algorithm, err)
		}
	}
	if listed := publishedKeys(t, newAuth(t)); len(listed) != 0 {
		t.Errorf("a secret is published: %v", listed)
	}
	body := listen(t, routes(newAuth(t, keys(all...)))).send("GET", "/jwks.json").body
	for name, private := range map[string][]byte{
		"RSA d": rsaKey().D.Bytes(), "RSA p": rsaKey().Primes[0].Bytes(), "RSA q": rsaKey().Primes[1].Bytes(),
		"P-256": must(p256().Bytes()), "Ed25519": edKey().Seed(), "secret": bytes.Repeat([]byte("s"), 32),
	} {
		if strings.Contains(body, segment(string(private))) {
			t.Errorf("%s is published: %s", name, body)
		}
	}
}

// A coordinate keeps its leading zero bytes, in the JWK and therefore in the thumbprint.
func TestJWKCoordinatesAreWhole(t *testing.T) {
	for range 5000 {
		key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
		if point := must(key.PublicKey.Bytes()); point[1] != 0 && point[33] != 0 {
			continue
		}
		k := publishedKeys(t, newAuth(t, keys(middleware.Key{Algorithm: middleware.ES256, Key: key})))[0]
		if !key.PublicKey.Equal(k.rebuilt(t)) {
			t.Errorf("the key is published as %v", k)
		}
		sum := sha256.Sum256([]byte(`{"crv":"P-256","kty":"EC","x":"` + k["x"] + `","y":"` + k["y"] + `"}`))
		if k["kid"] != segment(string(sum[:])) {
			t.Errorf("the thumbprint is %s, want %s", k["kid"], segment(string(sum[:])))
		}
		return
	}
	t.Fatal("none of 5000 keys has a coordinate with a leading zero byte")
}

// The kid is the RFC 7638 thumbprint, unless the key has an ID.
func TestThumbprints(t *testing.T) {
	number := func(s string) *big.Int { return new(big.Int).SetBytes(must(base64.RawURLEncoding.DecodeString(s))) }
	for name, row := range map[string]struct {
		key  middleware.Key
		want string
	}{
		"RFC 7638 §3.1": {middleware.Key{Algorithm: middleware.RS256, Key: &rsa.PublicKey{E: 65537, N: number(
			"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W" +
				"-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbIS" +
				"D08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw")}},
			"NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"},
		"RFC 8037 A.3": {middleware.Key{Algorithm: middleware.EdDSA, Key: ed25519.PublicKey(must(base64.RawURLEncoding.DecodeString("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")))},
			"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"},
	} {
		listed := publishedKeys(t, newAuth(t, authenticating(nil), keys(row.key)))
		if len(listed) != 1 || listed[0]["kid"] != row.want {
			t.Errorf("%s: %v, want the kid %s", name, listed, row.want)
		}
	}
	// A private key and its public half have the same kid. The key's ID takes precedence.
	for alg, key := range signers() {
		if _, isSecret := key.Key.([]byte); isSecret {
			continue
		}
		whole, half := publishedKeys(t, newAuth(t, keys(key)))[0], publishedKeys(t, newAuth(t, authenticating(nil), keys(public(key))))[0]
		if !maps.Equal(whole, half) {
			t.Errorf("%s: the private key is published as %v, the public one as %v", alg, whole, half)
		}
		key.ID = `my "key"`
		if got := publishedKeys(t, newAuth(t, keys(key)))[0]["kid"]; got != key.ID {
			t.Errorf("%s: the kid is %q", alg, got)
		}
	}
}
