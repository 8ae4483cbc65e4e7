package interop_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
)

const (
	issuer   = "https://we.example"
	audience = "api"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// The tests run scripts and go test. Go caches a result by the log of what the test read, which does not include those.
	// Without the log it caches nothing.
	if err := flag.Set("test.testlogfile", ""); err != nil {
		panic(err)
	}
	m.Run()
}

// job is the input of a script: tokens to verify with a secret or with keys from a JWKS URL, and claims to sign.
type job struct {
	Issuer   string      `json:"issuer"`
	Audience string      `json:"audience"`
	Verify   []toVerify  `json:"verify"`
	Sign     []signature `json:"sign"`
}

type toVerify struct {
	Alg    string `json:"alg"`
	Token  string `json:"token"`
	Secret string `json:"secret,omitempty"` // base64
	JWKS   string `json:"jwks,omitempty"`   // a URL
}

type signature struct {
	Alg    string         `json:"alg"`
	Secret string         `json:"secret,omitempty"`
	PEM    string         `json:"pem,omitempty"` // PKCS #8
	Header map[string]any `json:"header"`
	Claims map[string]any `json:"claims"`
}

// result is the output of a script: one entry for each row of the job, in the same order.
type result struct {
	Library string
	Verify  []verdict
	Sign    []string
}

type verdict struct {
	Claims map[string]any
	Error  string
}

// library is a third-party JWT library and the command that runs its script.
type library struct {
	command []string
	ready   func() error
}

var libraries = map[string]library{
	"PyJWT": {[]string{"/usr/bin/python3", "pyjwt.py"}, func() error {
		return exec.Command("/usr/bin/python3", "-c", "import jwt, cryptography").Run()
	}},
	"jose": {[]string{"node", "jose.mjs"}, func() error {
		return exec.Command("node", "-e", "import('jose').catch(() => process.exit(1))").Run()
	}},
}

// need skips the test if the library is not installed, or fails it in CI.
func (l library) need(t *testing.T) {
	t.Helper()
	if err := l.ready(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s cannot run: %v", l.command, err)
		}
		t.Skipf("%s cannot run: %v", l.command, err)
	}
}

// run runs a job with the library.
func (l library) run(t *testing.T, j job) result {
	t.Helper()
	l.need(t)
	input, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), l.command[0], l.command[1:]...)
	command.Stdin = bytes.NewReader(input)
	command.Env = append(os.Environ(), "no_proxy=127.0.0.1")
	var out, failure bytes.Buffer
	command.Stdout, command.Stderr = &out, &failure
	if err := command.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", l.command, err, failure.String())
	}
	var r result
	if err := json.Unmarshal(out.Bytes(), &r); err != nil || len(r.Verify) != len(j.Verify) || len(r.Sign) != len(j.Sign) {
		t.Fatalf("%s printed %s: %v", l.command, out.String(), err)
	}
	return r
}

// party is ginrefresh with one algorithm: the signing key, and the secret or the JWKS URL that others verify with.
type party struct {
	auth   *middleware.Auth
	key    middleware.Key
	url    string
	secret string
	pem    string
}

// must returns value, and panics if err is not nil.
func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func newAuth(t *testing.T, key middleware.Key) *middleware.Auth {
	t.Helper()
	memory := store.NewMemory()
	t.Cleanup(func() { _ = memory.Close() })
	auth, err := middleware.New(middleware.Config{Keys: []middleware.Key{key}, Store: memory, Issuer: issuer, Audience: audience})
	if err != nil {
		t.Fatal(err)
	}
	return auth
}

func parties(t *testing.T) []party {
	t.Helper()
	gin.SetMode(gin.TestMode)
	var all []party
	for _, key := range []middleware.Key{
		{ID: "secret", Algorithm: middleware.HS256, Key: []byte("this secret has 32 bytes or more.")},
		{Algorithm: middleware.RS256, Key: must(rsa.GenerateKey(rand.Reader, 2048))},
		{Algorithm: middleware.ES256, Key: must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))},
		{Algorithm: middleware.EdDSA, Key: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))},
	} {
		p := party{key: key}
		if secret, ok := key.Key.([]byte); ok {
			p.secret = base64.StdEncoding.EncodeToString(secret)
		} else {
			der := must(x509.MarshalPKCS8PrivateKey(key.Key))
			p.pem = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
		}
		p.auth = newAuth(t, key)
		r := gin.New()
		r.GET("/.well-known/jwks.json", p.auth.JWKSHandler)
		server := httptest.NewServer(r)
		t.Cleanup(server.Close)
		if p.secret == "" {
			p.url = server.URL + "/.well-known/jwks.json"
		}
		all = append(all, p)
	}
	return all
}

func segments(t *testing.T, token string) (header, claims map[string]any) {
	t.Helper()
	parts := strings.Split(token, ".")
	for i, into := range []*map[string]any{&header, &claims} {
		object, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil || json.Unmarshal(object, into) != nil {
			t.Fatalf("segment %d of %s: %v", i, token, err)
		}
	}
	return header, claims
}

// own are claims that are easy to corrupt in transit.
var own = map[string]any{"role": "admin", "text": "äöü 漢字 🙂 <&>\u2028", "n": 42, "nested": map[string]any{"list": []any{true, nil, 1.5}}}

func TestInterop(t *testing.T) {
	for name, library := range libraries {
		t.Run(name, func(t *testing.T) {
			all := parties(t)
			j := job{Issuer: issuer, Audience: audience}
			var genuine []string
			for _, p := range all {
				tokens, err := p.auth.Issue(t.Context(), middleware.Identity{Subject: "admin", Claims: own})
				if err != nil {
					t.Fatal(err)
				}
				if tokens, err = p.auth.Refresh(t.Context(), tokens.AccessToken); err != nil {
					t.Fatal(err)
				}
				text := tokens.AccessToken
				genuine = append(genuine, text)
				header, claims := segments(t, text)
				alg := string(p.key.Algorithm)
				i := strings.LastIndexByte(text, '.') + 10
				changed := text[:i] + string("AB"[map[bool]int{true: 1}[text[i] == 'A']]) + text[i+1:]
				j.Verify = append(j.Verify, toVerify{alg, text, p.secret, p.url}, toVerify{alg, changed, p.secret, p.url})
				j.Sign = append(j.Sign, signature{alg, p.secret, p.pem, header, claims})
			}
			r := library.run(t, j)
			t.Log("proof: with", r.Library)
			for i, p := range all {
				_, claims := segments(t, genuine[i])
				if got := r.Verify[2*i]; got.Error != "" || !reflect.DeepEqual(got.Claims, claims) {
					t.Errorf("%s: the library read our token as %v, %s, want %v", p.key.Algorithm, got.Claims, got.Error, claims)
				}
				if got := r.Verify[2*i+1]; got.Error == "" {
					t.Errorf("%s: the library accepted a modified token", p.key.Algorithm)
				}
				p.accepts(t, r.Sign[i], claims)
			}
		})
	}
}

// accepts checks that we accept a token that the library signed with our key and our claims.
func (p party) accepts(t *testing.T, text string, want map[string]any) {
	t.Helper()
	claims, err := p.auth.Verify(t.Context(), text)
	if err != nil {
		t.Errorf("%s: we rejected the library's token: %v, %s", p.key.Algorithm, err, text)
		return
	}
	var got map[string]any
	object, _ := claims.MarshalJSON()
	if err := json.Unmarshal(object, &got); err != nil || !reflect.DeepEqual(got, want) || claims.Subject != "admin" {
		t.Errorf("%s: we read the library's token as %v, want %v", p.key.Algorithm, got, want)
	}
	if tokens, err := p.auth.Refresh(t.Context(), text); err != nil || tokens.Claims.SessionID != claims.SessionID {
		t.Errorf("%s: refreshing the library's token: %v", p.key.Algorithm, err)
	}
	header, _ := segments(t, text)
	other := newAuth(t, middleware.Key{ID: fmt.Sprint(header["kid"]), Algorithm: p.key.Algorithm, Key: p.another()})
	if _, err := other.Verify(t.Context(), text); err == nil {
		t.Errorf("%s: another key with the same id accepted the library's token", p.key.Algorithm)
	}
}

// another returns another key for the same algorithm.
func (p party) another() any {
	switch p.key.Key.(type) {
	case *rsa.PrivateKey:
		return must(rsa.GenerateKey(rand.Reader, 2048))
	case *ecdsa.PrivateKey:
		return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	case ed25519.PrivateKey:
		return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{8}, ed25519.SeedSize))
	}
	return bytes.Repeat([]byte("x"), crypto.SHA256.Size())
}

// TestWycheproof runs the test vectors through the signature checks of tokens and of proofs. The tests themselves are in
// package jose, next to the code. This module only provides the vectors, so that they are not a dependency of the library.
func TestWycheproof(t *testing.T) {
	const module = "github.com/c2sp/wycheproof"
	if out, err := exec.CommandContext(t.Context(), "go", "mod", "download", module).CombinedOutput(); err != nil {
		t.Fatalf("downloading the vectors: %v %s", err, out)
	}
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-v", "-run=^TestWycheproof", "./middleware/internal/jose")
	command.Dir = ".."
	command.Env = append(os.Environ(), "WYCHEPROOF="+strings.TrimSpace(string(dir)))
	out, err := command.CombinedOutput()
	for _, test := range []string{"TestWycheproof ", "TestWycheproofES256 ", "TestWycheproofProofs "} {
		if err != nil || !bytes.Contains(out, []byte("--- PASS: "+test)) {
			t.Errorf("%s: %v\n%s", test, err, out)
		}
	}
	t.Logf("%s", out)
}
