package middleware_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"io"
	"math/big"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/golang-jwt/jwt/v5"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// A crypto.Signer as Key.Key, and the algorithm name Ed25519.

// kms is a crypto.Signer whose private key cannot be reached. It is not one of the types that the package knows.
type kms struct {
	key    crypto.Signer
	public crypto.PublicKey
	signs  atomic.Int32
	spoil  atomic.Pointer[func(signature []byte) ([]byte, error)] // nil: nothing
}

func newKMS(key crypto.Signer) *kms { return &kms{key: key, public: key.Public()} }

func (k *kms) Public() crypto.PublicKey { return k.public }

func (k *kms) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	k.signs.Add(1)
	signature, err := k.key.Sign(random, digest, opts)
	if spoil := k.spoil.Load(); spoil != nil && err == nil {
		return (*spoil)(signature)
	}
	return signature, err
}

// inKMS moves a key into a kms.
func inKMS(k middleware.Key) (middleware.Key, *kms) {
	remote := newKMS(k.Key.(crypto.Signer))
	k.Key = remote
	return k, remote
}

// A signer signs with every algorithm. The public key tells its type and its default ID.
func TestSigner(t *testing.T) {
	t.Parallel()
	for alg, local := range signers() {
		if _, isSecret := local.Key.([]byte); isSecret {
			continue
		}
		for mode, inMode := range modes {
			t.Run(string(alg)+", "+mode, func(t *testing.T) {
				store := sharing(t)
				key, remote := inKMS(local)
				auth, here := newAuth(t, store, inMode, keys(key)), newAuth(t, store, inMode, keys(local))
				tokens := issueTokens(t, auth, middleware.Identity{})
				next := refreshTokens(t, auth, tokens)
				for _, text := range []string{tokens.AccessToken, refreshable(tokens), next.AccessToken, refreshable(next)} {
					verifiedByGolangJWT(t, text, local)
				}
				verify(t, here, next.AccessToken)
				verify(t, auth, login(t, here))
				if want := int32(2 * (1 + strings.Count(mode, "pair"))); remote.signs.Load() != want {
					t.Errorf("the signer has signed %d times, want %d", remote.signs.Load(), want)
				}
				if len(publishedKeys(t, auth)) != 1 {
					t.Error("its public key is not published")
				}
			})
		}
	}
}

// R7: a signer may sign the same claims differently. Parallel refreshes then return one token in two texts, and both are
// accepted.
func TestR7SignerThatIsNotDeterministic(t *testing.T) {
	key, _ := inKMS(signers()[middleware.ES256])
	auth := newAuth(t, pair, keys(key))
	tokens := issueTokens(t, auth, middleware.Identity{})
	a, b := refreshTokens(t, auth, tokens), refreshTokens(t, auth, tokens)
	if a.Claims.ID != b.Claims.ID || a.AccessToken == b.AccessToken {
		t.Errorf("R7: jti %s and %s, same text: %v", a.Claims.ID, b.Claims.ID, a.AccessToken == b.AccessToken)
	}
	verify(t, auth, a.AccessToken)
	verify(t, auth, b.AccessToken)
	refreshTokens(t, auth, b)
}

// R10: if a signer fails, or returns anything but a good signature, the response is a 503 without its words, and the
// presented token is not used up.
func TestR10SignerThatFails(t *testing.T) {
	asn1Of := func(r, s *big.Int) []byte { return must(asn1.Marshal(struct{ R, S *big.Int }{r, s})) }
	huge := new(big.Int).Lsh(big.NewInt(1), 256)
	other := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	for name, spoil := range map[string]func([]byte) ([]byte, error){
		"error":          func([]byte) ([]byte, error) { return nil, errors.New("kms-7.internal: throttled") },
		"empty":          func([]byte) ([]byte, error) { return nil, nil },
		"cut":            func(b []byte) ([]byte, error) { return b[:len(b)-1], nil },
		"more":           func(b []byte) ([]byte, error) { return append(slices.Clone(b), 0), nil },
		"raw":            func([]byte) ([]byte, error) { return bytes.Repeat([]byte{1}, 64), nil },
		"zero":           func([]byte) ([]byte, error) { return asn1Of(new(big.Int), new(big.Int)), nil },
		"negative":       func([]byte) ([]byte, error) { return asn1Of(big.NewInt(-1), big.NewInt(-1)), nil },
		"too large":      func([]byte) ([]byte, error) { return asn1Of(huge, huge), nil },
		"of another key": func(b []byte) ([]byte, error) { return other.Sign(rand.Reader, b[:32], crypto.SHA256) },
	} {
		t.Run(name, func(t *testing.T) {
			key, remote := inKMS(signers()[middleware.ES256])
			log := new(eventLog)
			auth := newAuth(t, pair, noGrace, keys(key), func(c *middleware.Config) { c.OnEvent = log.record })
			s := listen(t, routes(auth))
			tokens := issueTokens(t, auth, middleware.Identity{})
			log.take()
			remote.spoil.Store(&spoil)
			for _, path := range []string{"/login?user=admin", "/refresh"} {
				r := s.send("POST", path, bearer(refreshable(tokens)))
				r.rejected(t, middleware.CodeStoreUnavailable)
				if strings.Contains(r.body, "kms") {
					t.Errorf("R14: the response shows the cause: %s", r.body)
				}
			}
			for _, e := range log.take() {
				if told := strings.Join(errorTexts(e.Err), " "); !strings.Contains(told, "signing failed") || name == "error" && !strings.Contains(told, "throttled") {
					t.Errorf("the event does not tell the cause: %s", told)
				}
			}
			if _, err := auth.Issue(t.Context(), middleware.Identity{Subject: "admin"}); !hasCode(err, middleware.CodeStoreUnavailable) {
				t.Errorf("Issue: %v, want store_unavailable", err)
			}
			remote.spoil.Store(nil)
			refreshTokens(t, auth, tokens)
		})
	}
}

// A signer that fails under AutoRefresh costs nothing while the token is alive.
func TestSignerThatFailsUnderAutoRefresh(t *testing.T) {
	key, remote := inKMS(signers()[middleware.EdDSA])
	auth := newAuth(t, keys(key))
	r := gin.New()
	r.GET("/", auth.AutoRefresh(2*time.Hour), whoami) // longer than TTL, so that every request refreshes
	text := login(t, auth)
	spoil := func([]byte) ([]byte, error) { return nil, errors.New("throttled") }
	remote.spoil.Store(&spoil)
	answer := listen(t, r).send("GET", "/", bearer(text))
	if answer.passed(t, "admin"); answer.header.Get("Authorization") != "" {
		t.Errorf("a token that could not be signed is sent: %v", answer.header)
	}
}

// noPointer is a crypto.Signer by value.
type noPointer struct{ crypto.Signer }

// New rejects a signer whose public key does not fit the algorithm.
func TestR15SignerMistakes(t *testing.T) {
	for name, row := range map[string]struct {
		alg   middleware.Algorithm
		key   any
		words []string
	}{
		"for another algorithm": {middleware.RS256, newKMS(p256()), []string{"RS256", "*ecdsa.PublicKey"}},
		"for a secret":          {middleware.HS256, newKMS(p256()), []string{"HS256", "[]byte"}},
		"on another curve":      {middleware.ES384, newKMS(p256()), []string{"ES384", "P-256"}},
		"RSA of 1024 bits":      {middleware.PS256, newKMS(shortRSA()), []string{"PS256", "1024"}},
		"nil":                   {middleware.ES256, (*kms)(nil), []string{"ES256", "nil"}},
		"without a public key":  {middleware.ES256, &kms{key: p256()}, []string{"public key", "kms"}},
		"public by value":       {middleware.ES256, &kms{key: p256(), public: p256().PublicKey}, []string{"public key", "ecdsa.PublicKey"}},
		"a nil public key":      {middleware.ES256, &kms{key: p256(), public: (*ecdsa.PublicKey)(nil)}, []string{"ES256"}},
		"a secret as public":    {middleware.HS256, &kms{key: p256(), public: secret}, []string{"public key", "[]uint8"}},
		"a signer as public":    {middleware.ES256, &kms{key: p256(), public: p256()}, []string{"public key"}},
		"a short Ed25519 key":   {middleware.EdDSA, &kms{key: edKey(), public: ed25519.PublicKey{1}}, []string{"ed25519"}},
	} {
		_, err := middleware.New(newConfig(t, keys(middleware.Key{Algorithm: row.alg, Key: row.key})))
		for _, word := range row.words {
			if err == nil || !strings.Contains(err.Error(), word) || strings.Contains(err.Error(), string(secret)) {
				t.Errorf("R15: %s: %v, want %q in it", name, err, word)
			}
		}
	}
	auth := newAuth(t, keys(middleware.Key{Algorithm: middleware.ES512, Key: noPointer{p521()}}))
	verify(t, auth, login(t, auth))
}

// A key with the algorithm Ed25519 writes and accepts that name only, and one with EdDSA only the other (R1).
func TestEd25519IsANameOfItsOwn(t *testing.T) {
	store := sharing(t)
	both := map[middleware.Algorithm]*middleware.Auth{}
	for _, alg := range []middleware.Algorithm{middleware.EdDSA, middleware.Ed25519} {
		both[alg] = newAuth(t, store, keys(middleware.Key{ID: "same", Algorithm: alg, Key: edKey()}))
		if listed := publishedKeys(t, both[alg]); listed[0]["alg"] != string(alg) || listed[0]["crv"] != "Ed25519" || listed[0]["kty"] != "OKP" {
			t.Errorf("%s is published as %v", alg, listed)
		}
	}
	for alg, auth := range both {
		text := login(t, auth)
		signed, signature, _ := cutLast(text, ".")
		head := headerOf(t, text)
		if head["alg"] != string(alg) || jwt.SigningMethodEdDSA.Verify(signed, must(base64.RawURLEncoding.DecodeString(signature)), edKey().Public()) != nil {
			t.Errorf("the header of a token of %s is %v", alg, head)
		}
		for other, verifier := range both {
			want := middleware.CodeTokenInvalid
			if other == alg {
				want = ""
			}
			wantVerify(t, "R1: "+string(alg)+" at a key with "+string(other), verifier, text, want)
		}
	}
	// A rotation from one name to the other, with the same key.
	renamed := newAuth(t, store, keys(middleware.Key{ID: "new", Algorithm: middleware.Ed25519, Key: edKey()}, middleware.Key{ID: "same", Algorithm: middleware.EdDSA, Key: edKey()}))
	next := refresh(t, renamed, login(t, both[middleware.EdDSA]))
	if head := headerOf(t, next); head["alg"] != "Ed25519" {
		t.Errorf("after the rotation the header is %v", head)
	}
}
