package middleware

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
)

// Algorithm is the registered name of a JWS algorithm (RFC 7518 §3.1, RFC 8037 §3.1).
//
// All of them but PS* sign deterministically, so the parallel refreshes of one token return identical texts. PSS
// takes a fresh salt for each signature: with PS* the claims are identical and the signatures differ.
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

	EdDSA Algorithm = "EdDSA" // Ed25519
)

// Key signs and verifies tokens with one algorithm. The algorithm is the key's and never a token's choice (R1).
// Printing or logging a Key shows its ID and Algorithm only.
type Key struct {
	_ [0]func() // no unkeyed literals

	// ID is the kid in the header of tokens. It selects the key that verifies them, so keys in use at the same
	// time need different IDs. It adds to the size of every token; [New] refuses one that makes the header
	// longer than 512 bytes. Default: none for a secret, the RFC 7638 thumbprint for any other key.
	ID string

	// Algorithm is the only one that the key signs and verifies with. It is required.
	Algorithm Algorithm

	// Key is the key itself: a random []byte for HS*, an *rsa.PrivateKey for RS* and PS*, an *ecdsa.PrivateKey
	// for ES*, an ed25519.PrivateKey for EdDSA. The public key of one of these can only verify. [ParsePEM]
	// reads a key from a file.
	Key any
}

// key is a validated Key.
type key struct {
	id      string
	method  jwt.SigningMethod
	signing any             // nil for a public key
	opening any             // the key to verify with
	jwk     json.RawMessage // the public key for others, nil for a secret
	headers [kinds]string   // the header segment of each kind of token
}

// keySet is immutable, so requests share it without a lock.
type keySet struct {
	signer *key // nil if the keys only verify
	byID   map[string]*key
	// headers maps the header segments that we write to what they mean.
	headers map[string]header
	jwks    []byte
}

// header is the decoded form of an acceptable JOSE header.
type header struct {
	key  *key
	kind kind
}

// newKeySet returns either a set or every mistake in the keys.
func newKeySet(keys []Key) (*keySet, []error) {
	if len(keys) == 0 {
		return nil, []error{errors.New("there are no Keys: give at least one; the first one signs")}
	}
	set := &keySet{byID: map[string]*key{}, headers: map[string]header{}}
	public := []json.RawMessage{}
	var wrong []error
	for i, k := range keys {
		compiled, err := compileKey(k)
		switch {
		case err != nil:
		case set.byID[compiled.id] != nil:
			err = fmt.Errorf("ID %q is already taken by another key: give each key its own", compiled.id)
		case i > 0 && set.signer == nil && compiled.signing != nil && wrong == nil:
			err = errors.New("this key can sign, but Keys[0] is public: put the key that signs first")
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("in Keys[%d]: %w", i, err))
			continue
		}
		if i == 0 && compiled.signing != nil {
			set.signer = compiled
		}
		set.byID[compiled.id] = compiled
		for kind, segment := range compiled.headers {
			set.headers[segment] = header{key: compiled, kind: kindOf(kind)}
		}
		if compiled.jwk != nil {
			public = append(public, compiled.jwk)
		}
	}
	if wrong != nil {
		return nil, wrong
	}
	set.jwks = encodeJWKS(public)
	return set, nil
}

func compileKey(k Key) (*key, error) {
	if !utf8.ValidString(k.ID) {
		return nil, errors.New("the ID is not valid UTF-8")
	}
	compiled, err := k.material()
	if err != nil {
		return nil, err
	}
	compiled.id = k.ID
	if err := compiled.publish(k.Algorithm); err != nil {
		return nil, err
	}
	for kind := range compiled.headers {
		segment := base64.RawURLEncoding.EncodeToString(headerJSON(k.Algorithm, compiled.id, kindOf(kind)))
		if len(segment) > maxHeaderBytes {
			return nil, fmt.Errorf("the ID is too long: it would make the token's header %d bytes long, more than %d", len(segment), maxHeaderBytes)
		}
		compiled.headers[kind] = segment
	}
	return compiled, nil
}

// material checks that the key fits its algorithm. Each algorithm accepts keys of one type only, so a public key
// can never serve as a secret.
func (k Key) material() (*key, error) {
	switch method := methods[k.Algorithm].(type) {
	case *jwt.SigningMethodHMAC:
		return k.secret(method)
	case *jwt.SigningMethodRSA:
		return k.rsa(method)
	case *jwt.SigningMethodRSAPSS:
		return k.rsa(method)
	case *jwt.SigningMethodECDSA:
		return k.ecdsa(method)
	case *jwt.SigningMethodEd25519:
		return k.ed25519(method)
	}
	if k.Algorithm == "" {
		return nil, errors.New("Algorithm is missing: set it, for example to HS256")
	}
	return nil, fmt.Errorf("Algorithm %q is not supported: use one of the constants, such as HS256", k.Algorithm)
}

var methods = map[Algorithm]jwt.SigningMethod{
	HS256: jwt.SigningMethodHS256, HS384: jwt.SigningMethodHS384, HS512: jwt.SigningMethodHS512,
	RS256: jwt.SigningMethodRS256, RS384: jwt.SigningMethodRS384, RS512: jwt.SigningMethodRS512,
	PS256: strictPSS(jwt.SigningMethodPS256), PS384: strictPSS(jwt.SigningMethodPS384), PS512: strictPSS(jwt.SigningMethodPS512),
	ES256: jwt.SigningMethodES256, ES384: jwt.SigningMethodES384, ES512: jwt.SigningMethodES512,
	EdDSA: jwt.SigningMethodEdDSA,
}

// strictPSS accepts only salts as long as the hash (RFC 7518 §3.5). golang-jwt's own methods accept any length.
func strictPSS(method *jwt.SigningMethodRSAPSS) *jwt.SigningMethodRSAPSS {
	return &jwt.SigningMethodRSAPSS{
		SigningMethodRSA: method.SigningMethodRSA,
		Options:          &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash},
	}
}

func (k Key) mistyped(wanted string) error {
	hint := ""
	if _, content := k.Key.([]byte); content {
		hint = ": ParsePEM reads one from a file's content"
	}
	return fmt.Errorf("%s needs %s as Key, not %T%s", k.Algorithm, wanted, k.Key, hint)
}

func (k Key) secret(method *jwt.SigningMethodHMAC) (*key, error) {
	secret, ok := k.Key.([]byte)
	if !ok {
		return nil, k.mistyped("a []byte")
	}
	if least := method.Hash.Size(); len(secret) < least {
		return nil, fmt.Errorf("%s needs a secret of %d bytes or more, this one has %d: generate one with openssl rand -hex %d (RFC 7518 §3.2)", k.Algorithm, least, len(secret), least)
	}
	if bytes.HasPrefix(bytes.TrimSpace(secret), []byte("-----BEGIN ")) {
		return nil, fmt.Errorf("%s was given a PEM file as its secret, and a PEM file may be public: read the key with ParsePEM and set the algorithm that fits it", k.Algorithm)
	}
	secret = slices.Clone(secret)
	return &key{method: newPooledHMAC(method, secret), signing: secret, opening: secret}, nil
}

const leastRSABits = 2048 // RFC 7518 §3.3

func (k Key) rsa(method jwt.SigningMethod) (*key, error) {
	compiled := &key{method: method}
	var public *rsa.PublicKey
	switch given := k.Key.(type) {
	case *rsa.PrivateKey:
		if given == nil {
			return nil, k.mistyped("a key that is not nil")
		}
		if err := given.Validate(); err != nil {
			return nil, errors.New("the RSA key is inconsistent")
		}
		public, compiled.signing = &given.PublicKey, given
	case *rsa.PublicKey:
		public = given
	default:
		return nil, k.mistyped("an *rsa.PrivateKey or *rsa.PublicKey")
	}
	if public == nil || public.N == nil {
		return nil, k.mistyped("a key that is not empty")
	}
	if bits := public.N.BitLen(); bits < leastRSABits {
		return nil, fmt.Errorf("%s needs an RSA key of %d bits or more, this one has %d", k.Algorithm, leastRSABits, bits)
	}
	if public.E < 3 || public.E%2 == 0 {
		return nil, errors.New("the RSA key is inconsistent")
	}
	compiled.opening = public
	return compiled, nil
}

func (k Key) ecdsa(method *jwt.SigningMethodECDSA) (*key, error) {
	compiled := &key{method: deterministicECDSA{method}}
	var public *ecdsa.PublicKey
	switch given := k.Key.(type) {
	case *ecdsa.PrivateKey:
		if given == nil || given.D == nil {
			return nil, k.mistyped("a key that is not empty")
		}
		public, compiled.signing = &given.PublicKey, given
	case *ecdsa.PublicKey:
		public = given
	default:
		return nil, k.mistyped("an *ecdsa.PrivateKey or *ecdsa.PublicKey")
	}
	if public == nil || public.Curve == nil || public.X == nil || public.Y == nil {
		return nil, k.mistyped("a key that is not empty")
	}
	if bits := public.Curve.Params().BitSize; bits != method.CurveBits {
		return nil, fmt.Errorf("%s needs a key on P-%d, this one is on %s", k.Algorithm, method.CurveBits, public.Curve.Params().Name)
	}
	point, err := public.ECDH()
	if err != nil {
		return nil, errors.New("the point is not on the curve")
	}
	if private, ok := compiled.signing.(*ecdsa.PrivateKey); ok {
		if scalar, err := private.ECDH(); err != nil || !scalar.PublicKey().Equal(point) {
			return nil, errors.New("the EC key is inconsistent")
		}
	}
	compiled.opening = public
	return compiled, nil
}

func (k Key) ed25519(method *jwt.SigningMethodEd25519) (*key, error) {
	switch given := k.Key.(type) {
	case ed25519.PrivateKey:
		if len(given) == ed25519.PrivateKeySize {
			given = slices.Clone(given)
			if !given.Equal(ed25519.NewKeyFromSeed(given.Seed())) {
				return nil, errors.New("the Ed25519 key is inconsistent")
			}
			return &key{method: method, signing: given, opening: given.Public()}, nil
		}
	case ed25519.PublicKey:
		if len(given) == ed25519.PublicKeySize {
			return &key{method: method, opening: slices.Clone(given)}, nil
		}
	}
	return nil, k.mistyped("a whole ed25519.PrivateKey or ed25519.PublicKey")
}

func headerJSON(alg Algorithm, id string, kind kind) []byte {
	b := append([]byte(`{"alg":"`), alg...)
	if b = append(b, '"'); id != "" {
		b = appendString(append(b, `,"kid":`...), id)
	}
	return append(append(append(b, `,"typ":"`...), kind.typ()...), `"}`...)
}

// maxHeaderBytes is the longest header segment that we read or write. The header is parsed before the signature is
// checked, so its length limits the work that a forger can cause.
const maxHeaderBytes = 512

// open returns the key and the kind of token that a header segment names. The headers that we write ourselves are
// not parsed.
func (s *keySet) open(segment string) (header, error) {
	if h, ok := s.headers[segment]; ok {
		return h, nil
	}
	if len(segment) > maxHeaderBytes {
		return header{}, malformed("the header is too long")
	}
	return s.parseHeader(segment)
}

// parseHeader reads a header that another program wrote with one of our keys. It ignores unknown members, among
// them jwk, jku and x5u. It refuses crit, because we implement none of the extensions that crit can require
// (RFC 7515 §4.1.11).
func (s *keySet) parseHeader(segment string) (header, error) {
	var alg, typ, kid string
	err := decodeObject(segment, func(name string, value, _ []byte) (err error) {
		switch name {
		case "alg":
			alg, err = stringValue(value)
		case "typ":
			typ, err = stringValue(value)
		case "kid":
			kid, err = stringValue(value)
		case "crit":
			err = malformed("the header has a crit member")
		}
		return err
	})
	if err != nil {
		return header{}, err
	}
	key := s.byID[kid]
	if key == nil {
		return header{}, malformed("the header's kid is none of our keys")
	}
	if alg != key.method.Alg() {
		return header{}, malformed("the header's alg is not the key's")
	}
	for kind := range kinds {
		if typ == kindOf(kind).typ() {
			return header{key: key, kind: kindOf(kind)}, nil
		}
	}
	return header{key: key, kind: foreignKind}, nil
}
