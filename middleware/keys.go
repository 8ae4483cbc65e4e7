package middleware

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware/internal/jose"
	"github.com/ginrefresh/ginrefresh/middleware/internal/session"
	"github.com/ginrefresh/ginrefresh/middleware/internal/tokencache"
)

// Algorithm is the registered name of a JWS algorithm (RFC 7518 §3.1, RFC 8037 §3.1, RFC 9864 §2.2).
//
// All of them except PS* sign deterministically, so the parallel refreshes of one token return identical texts. PSS
// uses a fresh salt for each signature: with PS* the claims are identical and the signatures differ. The same goes for
// ES* with a crypto.Signer of your own.
//
// For a new key prefer ES256 or EdDSA. An RSA key of 2048 bits is accepted (RFC 7518 §3.3), but has only 112 bits of security;
// 3072 bits have 128 (NIST SP 800-57 Part 1). RS* is allowed by RFC 7518 and disallowed by OWASP ASVS 5.0, appendix C.
type Algorithm string

const (
	HS256 Algorithm = "HS256" // HMAC with SHA-256; the secret has 32 bytes or more
	HS384 Algorithm = "HS384" // HMAC with SHA-384; 48 bytes or more
	HS512 Algorithm = "HS512" // HMAC with SHA-512; 64 bytes or more

	RS256 Algorithm = "RS256" // RSA PKCS #1 v1.5 with SHA-256; 2048 bits or more
	RS384 Algorithm = "RS384"
	RS512 Algorithm = "RS512"

	PS256 Algorithm = "PS256" // RSA PSS with SHA-256, a random salt as long as the hash; 2048 bits or more
	PS384 Algorithm = "PS384"
	PS512 Algorithm = "PS512"

	ES256 Algorithm = "ES256" // ECDSA on P-256, deterministic (RFC 6979)
	ES384 Algorithm = "ES384" // ECDSA on P-384, deterministic
	ES512 Algorithm = "ES512" // ECDSA on P-521, deterministic

	EdDSA   Algorithm = "EdDSA"   // Ed25519, by the name that most libraries know
	Ed25519 Algorithm = "Ed25519" // the same signatures by the name of RFC 9864; a key accepts only its own name
)

// Key signs and verifies tokens with one algorithm. The algorithm belongs to the key and is never the token's choice
// (R1). Printing or logging a Key shows only its ID and Algorithm.
type Key struct {
	_ [0]func() // no unkeyed literals

	// ID is the kid in the header of tokens. It selects the key that verifies them, so keys in use at the same time
	// need different IDs. It adds to the size of every token; [New] rejects one that makes the header longer than 512
	// bytes. Default: none for a secret, the RFC 7638 thumbprint for any other key.
	ID string

	// Algorithm is the only algorithm that the key signs and verifies with. It is required.
	Algorithm Algorithm

	// Key is the key itself: a random []byte for HS*, an *rsa.PrivateKey for RS* and PS*, an *ecdsa.PrivateKey for ES*,
	// an ed25519.PrivateKey for EdDSA and Ed25519. The public key of one of these can only verify. [ParsePEM] decodes a
	// key from a file.
	//
	// Any other [crypto.Signer] with a public key of one of these types signs as well, for example a key in a KMS or an
	// HSM. It signs each token once, during a login or refresh, and should give up within a second or two. If it fails,
	// the response is 503 store_unavailable, and the presented token is not used up (R10).
	Key any
}

// ParsePEM decodes the only key in a PEM file, for [Key].Key: PKCS #8 ("PRIVATE KEY"), PKCS #1 ("RSA PRIVATE KEY", "RSA
// PUBLIC KEY"), SEC 1 ("EC PRIVATE KEY") or SPKI ("PUBLIC KEY"). The error never contains the file's content.
func ParsePEM(data []byte) (any, error) {
	key, err := jose.ParsePEM(data)
	if err != nil {
		return nil, fmt.Errorf("middleware: %w", err)
	}
	return key, nil
}

// newKeySet validates the keys and returns a set or every mistake.
func newKeySet(keys []Key) (*jose.KeySet, []error) {
	list := make([]jose.Key, len(keys))
	for i, k := range keys {
		list[i] = jose.Key{ID: k.ID, Algorithm: string(k.Algorithm), Material: k.Key}
	}
	return jose.NewKeySet(list, session.Types()...)
}

// DefaultTokenCache is the default of [Config].TokenCache.
const DefaultTokenCache = 10_000

// verifier is a key set and the tokens that were verified with it. SetKeys and KeysFrom replace both at once, so that no
// cached token outlives its key.
type verifier struct {
	keys  *jose.KeySet
	cache *tokencache.Table[cachedToken] // nil: off

	due    bool                           // the keys of KeysFrom have to be fetched before they are used
	parked *tokencache.Table[cachedToken] // if due: the cache for the case that the keys are still the same
}

// cachedToken is a verified token. Its expiry and the blacklist are still checked on every request.
type cachedToken struct {
	memo  session.Memo
	token session.Token
}

func newVerifier(keys *jose.KeySet, cacheSize int) *verifier {
	return &verifier{keys: keys, cache: tokencache.New[cachedToken](cacheSize)}
}

// decode returns a genuine token, and its memo if the token was cached. It verifies the signature only if the token is
// not in the cache.
func (a *Auth) decode(v *verifier, text string) (*session.Token, *session.Memo, error) {
	hash := v.cache.Hash(text)
	if cached := v.cache.Get(hash, text); cached != nil {
		return &cached.token, &cached.memo, nil
	}
	var t *session.Token
	var err error
	if a.fetcher != nil {
		t, err = a.fetcher.decode(text)
	} else {
		t, err = a.decodeWith(v, hash, text)
	}
	return t, nil, fromVerdict(err)
}

// decodeWith verifies a token that is not in v's cache.
func (a *Auth) decodeWith(v *verifier, hash uint64, text string) (*session.Token, error) {
	t, err := a.codec.Decode(v.keys, text)
	if err != nil {
		return nil, err
	}
	t.Owner = a
	if t.Kind == session.AccessToken && v.cache.Admit(hash) {
		v.cache.Put(hash, text, func(cached *cachedToken) {
			cached.token = *t
			a.rules.Watch(&cached.memo, t)
		})
	}
	return t, nil
}

// SetKeys replaces the keys while requests are served. The first key signs from now on, and all of them verify. A token
// whose key is gone is rejected at once, so keep the old key for as long as its sessions should live. An Auth that
// signs cannot be switched to public keys, and an Auth without a Store cannot be switched to keys that sign. If SetKeys fails, nothing has
// changed.
func (a *Auth) SetKeys(keys []Key) error {
	set, mistakes := newKeySet(keys)
	switch {
	case mistakes != nil:
	case a.fetcher != nil:
		mistakes = []error{errors.New("SetKeys is called, but the keys of this Auth come from KeysFrom")}
	case !set.CanSign() && a.verifier.Load().keys.CanSign():
		mistakes = []error{errors.New("Keys[0] is a public key, but this Auth issues tokens")}
	case set.CanSign() && a.rules.Store == nil:
		mistakes = []error{errors.New("Keys[0] can sign, but this Auth ignores revocations: DangerouslyIgnoreRevocation is for public keys")}
	}
	if mistakes != nil {
		return joinMistakes(mistakes)
	}
	a.verifier.Store(newVerifier(set, a.cacheSize))
	return nil
}

// JWKSHandler publishes the public keys as a JWK Set (RFC 7517 §5), so that other services can verify the tokens. It
// never publishes a secret. Mount it as GET /.well-known/jwks.json. Clients may cache the response for five minutes, so
// let a new key verify for that long before it signs. With [Config].KeysFrom it answers 500: the keys are not its own.
func (a *Auth) JWKSHandler(c *gin.Context) {
	if a.fetcher != nil {
		a.answerError(c, errors.New("middleware: JWKSHandler belongs to the server whose keys KeysFrom fetches"))
		return
	}
	c.Header("Cache-Control", "public, max-age=300")
	c.Data(http.StatusOK, jwksMediaType, a.verifier.Load().keys.JWKS())
}

// CacheStats returns how many genuine tokens for requests were found in the token cache and how many were not, since New
// or the last change of the keys. Refresh tokens are not cached. It is for metrics.
func (a *Auth) CacheStats() (hits, misses uint64) {
	v := a.verifier.Load()
	return cmp.Or(v.cache, v.parked).Stats()
}
