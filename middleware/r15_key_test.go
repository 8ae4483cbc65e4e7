package middleware_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// R15: mistakes in Config.Keys, and in the keys of SetKeys.

// New and SetKeys reject every mistake in a key. The error says what to do, and does not contain the key.
func TestR15KeyMistakes(t *testing.T) {
	type algorithm = middleware.Algorithm
	key := func(alg algorithm, key any) []middleware.Key { return []middleware.Key{{Algorithm: alg, Key: key}} }
	offCurve := &ecdsa.PublicKey{Curve: elliptic.P256(), X: big.NewInt(1), Y: big.NewInt(1)}
	table := map[string]struct {
		keys  []middleware.Key
		words []string
	}{
		"RSA of 1024 bits":                  {key(middleware.RS256, shortRSA()), []string{"RS256", "2048", "1024"}},
		"RSA of 1024 bits, PS":              {key(middleware.PS512, shortRSA()), []string{"PS512", "2048", "1024"}},
		"RSA of 1024 bits, public":          {key(middleware.RS512, shortRSA().Public()), []string{"RS512", "2048", "1024"}},
		"RSA by value":                      {key(middleware.RS256, *rsaKey()), []string{"RS256", "*rsa.PrivateKey"}},
		"RSA nil":                           {key(middleware.RS256, (*rsa.PrivateKey)(nil)), []string{"RS256"}},
		"RSA public nil":                    {key(middleware.PS256, (*rsa.PublicKey)(nil)), []string{"PS256"}},
		"RSA zero":                          {key(middleware.RS256, &rsa.PrivateKey{}), []string{"RSA"}},
		"RSA public zero":                   {key(middleware.RS256, &rsa.PublicKey{}), []string{"RS256"}},
		"RSA public with e 1":               {key(middleware.RS256, &rsa.PublicKey{N: rsaKey().N, E: 1}), []string{"RSA"}},
		"RSA public with an even e":         {key(middleware.RS256, &rsa.PublicKey{N: rsaKey().N, E: 65536}), []string{"RSA"}},
		"RSA with another exponent":         {key(middleware.RS256, brokenRSA()), []string{"RSA"}},
		"an RSA key for ES256":              {key(middleware.ES256, rsaKey()), []string{"ES256", "*ecdsa.PrivateKey", "*rsa.PrivateKey"}},
		"an RSA key for HS256":              {key(middleware.HS256, rsaKey()), []string{"HS256", "[]byte"}},
		"an RSA public key for HS256":       {key(middleware.HS256, rsaKey().Public()), []string{"HS256", "[]byte"}},
		"PEM for RS256":                     {key(middleware.RS256, pemOf("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(rsaKey().Public())))), []string{"RS256", "*rsa"}},
		"a secret for RS256":                {key(middleware.RS256, secret), []string{"RS256", "*rsa", "[]uint8"}},
		"a secret for EdDSA":                {key(middleware.EdDSA, secret), []string{"EdDSA", "ed25519"}},
		"an Ed25519 key for HS256":          {key(middleware.HS256, edKey()), []string{"HS256", "[]byte"}},
		"P-384 for ES256":                   {key(middleware.ES256, p384()), []string{"ES256", "P-256", "P-384"}},
		"P-256 for ES384":                   {key(middleware.ES384, p256()), []string{"ES384", "P-384", "P-256"}},
		"P-521 for ES384, public":           {key(middleware.ES384, p521().Public()), []string{"ES384", "P-384", "P-521"}},
		"P-256 for ES512":                   {key(middleware.ES512, p256()), []string{"ES512", "P-521", "P-256"}},
		"P-224 for ES256":                   {key(middleware.ES256, must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader))), []string{"ES256", "P-256", "P-224"}},
		"EC nil":                            {key(middleware.ES256, (*ecdsa.PrivateKey)(nil)), []string{"ES256"}},
		"EC zero":                           {key(middleware.ES256, &ecdsa.PrivateKey{}), []string{"ES256"}},
		"EC without a scalar":               {key(middleware.ES256, &ecdsa.PrivateKey{PublicKey: p256().PublicKey}), []string{"ES256"}},
		"EC public nil":                     {key(middleware.ES256, (*ecdsa.PublicKey)(nil)), []string{"ES256"}},
		"EC public zero":                    {key(middleware.ES256, &ecdsa.PublicKey{}), []string{"ES256"}},
		"EC public without a point":         {key(middleware.ES256, &ecdsa.PublicKey{Curve: elliptic.P256()}), []string{"ES256"}},
		"EC off the curve":                  {key(middleware.ES256, offCurve), []string{"curve"}},
		"EC with another's public key":      {key(middleware.ES256, &ecdsa.PrivateKey{PublicKey: must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)).PublicKey, D: p256().D}), []string{"consistent"}},
		"Ed25519 nil":                       {key(middleware.EdDSA, ed25519.PrivateKey(nil)), []string{"EdDSA", "ed25519"}},
		"Ed25519 public nil":                {key(middleware.EdDSA, ed25519.PublicKey(nil)), []string{"EdDSA", "ed25519"}},
		"Ed25519 cut":                       {key(middleware.EdDSA, edKey()[:32]), []string{"EdDSA", "ed25519"}},
		"Ed25519 with another's public key": {key(middleware.EdDSA, slices.Concat(edKey()[:32:32], ed25519.PrivateKey(bytes.Repeat([]byte{1}, 32)))), []string{"consistent"}},
		"EC with a scalar of zero":          {key(middleware.ES256, &ecdsa.PrivateKey{PublicKey: p256().PublicKey, D: new(big.Int)}), []string{"consistent"}},
		"Ed25519 by pointer":                {key(middleware.EdDSA, new(ed25519.PrivateKey)), []string{"EdDSA", "ed25519"}},
		"an X25519 key":                     {key(middleware.EdDSA, must(ecdh.X25519().GenerateKey(rand.Reader))), []string{"EdDSA", "ed25519"}},
		"nil":                               {key(middleware.RS256, nil), []string{"RS256"}},
		"unknown algorithm":                 {key("RS128", rsaKey()), []string{`"RS128"`}},
		"ES256K":                            {key("ES256K", p256()), []string{`"ES256K"`}},
		"two with one ID":                   {[]middleware.Key{{ID: "a", Algorithm: middleware.RS256, Key: rsaKey()}, {ID: "a", Algorithm: middleware.ES256, Key: p256()}}, []string{"Keys[1]", `"a"`, "own"}},
		"one key twice":                     {[]middleware.Key{{Algorithm: middleware.RS256, Key: rsaKey()}, {Algorithm: middleware.PS256, Key: rsaKey()}}, []string{"Keys[1]", "own"}},
		"public first, then private":        {[]middleware.Key{public(signers()[middleware.ES256]), signers()[middleware.EdDSA]}, []string{"Keys[1]", "signs first"}},
		"public first, then a secret":       {[]middleware.Key{public(signers()[middleware.ES256]), hs256("", secret)}, []string{"Keys[1]", "signs first"}},
		"a second key that is too short":    {[]middleware.Key{hs256("a", secret), {ID: "b", Algorithm: middleware.HS512, Key: secret}}, []string{"Keys[1]", "HS512", "64", "33"}},
	}
	for alg, size := range minSecretSizes {
		short := bytes.Repeat([]byte("s"), size-1)
		table[fmt.Sprint(alg, " a byte short")] = struct {
			keys  []middleware.Key
			words []string
		}{key(alg, short), []string{string(alg), strconv.Itoa(size), strconv.Itoa(size - 1)}}
	}
	auth := newAuth(t)
	text := login(t, auth)
	for name, row := range table {
		t.Run(name, func(t *testing.T) {
			_, err := middleware.New(newConfig(t, authenticating(nil), keys(row.keys...)))
			for what, err := range map[string]error{"New": err, "SetKeys": auth.SetKeys(row.keys)} {
				if err == nil {
					t.Errorf("R15: %s accepts it", what)
					continue
				}
				told := fmt.Sprint(errorTexts(err))
				for _, word := range append(row.words, "middleware: ", "Keys[") {
					if !strings.Contains(err.Error(), word) {
						t.Errorf("R15: %s returns the error %q, want %q in it", what, err, word)
					}
				}
				if strings.Contains(told, "sssss") || strings.Contains(told, string(secret)) || strings.Contains(told, "BEGIN") {
					t.Errorf("R15: %s shows the key: %s", what, told)
				}
			}
			verify(t, auth, text)
		})
	}
	verify(t, auth, login(t, auth)) // after a mistake the old keys are still in use
	if head := headerOf(t, login(t, auth)); head["alg"] != "HS256" {
		t.Errorf("after rejected keys the header is %v", head)
	}
}

// brokenRSA returns a private key whose exponents do not belong together.
func brokenRSA() *rsa.PrivateKey {
	k := *rsaKey()
	k.D = new(big.Int).Add(k.D, big.NewInt(2))
	k.Precomputed = rsa.PrecomputedValues{}
	return &k
}

// A key id must fit into a token's header of 512 bytes.
func TestKeyIDsThatAreTooLong(t *testing.T) {
	for name, row := range map[string]struct {
		id string
		ok bool
	}{
		"340 characters":         {strings.Repeat("x", 340), true},
		"341 characters":         {strings.Repeat("x", 341), false},
		"56 control characters":  {strings.Repeat("\x01", 56), true}, // 6 bytes each
		"57 control characters":  {strings.Repeat("\x01", 57), false},
		"170 escaped quotes":     {strings.Repeat(`"`, 170), true}, // 2 bytes each
		"171 escaped quotes":     {strings.Repeat(`"`, 171), false},
		"113 characters of UTF8": {strings.Repeat("漢", 113), true}, // 3 bytes each
		"114 characters of UTF8": {strings.Repeat("漢", 114), false},
	} {
		for mode, inMode := range modes {
			key := hs256(row.id, secret)
			auth, err := middleware.New(newConfig(t, inMode, keys(key)))
			if !row.ok {
				swapped := newAuth(t, inMode).SetKeys([]middleware.Key{key})
				for what, err := range map[string]error{"New": err, "SetKeys": swapped} {
					if err == nil || !strings.Contains(err.Error(), "Keys[0]") || !strings.Contains(err.Error(), "ID is too long") || !strings.Contains(err.Error(), "512") {
						t.Errorf("R15: %s, %s: %s returns the error %v", name, mode, what, err)
					}
				}
				continue
			}
			if err != nil {
				t.Errorf("%s, %s: %v", name, mode, err)
				continue
			}
			tokens := issueTokens(t, auth, middleware.Identity{})
			verify(t, auth, tokens.AccessToken)
			if head := headerOf(t, refreshable(refreshTokens(t, auth, tokens))); head["kid"] != row.id {
				t.Errorf("%s, %s: the header is %v", name, mode, head)
			}
		}
	}
}
