package middleware

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
)

// Algorithm is a JWS algorithm by its registered name (RFC 7518 §3.1).
type Algorithm string

const (
	HS256 Algorithm = "HS256" // HMAC with SHA-256: a secret of 32 bytes or more
)

// Key signs and verifies tokens with one algorithm. The algorithm is the key's and never a token's choice (R1).
type Key struct {
	_ [0]func()

	// ID travels as kid in the tokens' header and chooses the key that verifies. Keys that are in use at the
	// same time need different IDs; one of them may be "" (no kid).
	ID string

	// Algorithm is what the key signs with. There is no default.
	Algorithm Algorithm

	// Key is the key itself: for HS256 a []byte of 32 bytes or more from a random source.
	Key any
}

// key is a Key that was found to be right.
type key struct {
	id      string
	method  jwt.SigningMethod
	signing any // nil for a key that only verifies
	opening any
	headers [kinds]string // the header segment of each kind of token
}

// keySet never changes once made, so that requests share it without a lock.
type keySet struct {
	signer *key
	byID   map[string]*key
	// headers finds the key and the kind for the headers that we write ourselves.
	headers map[string]header
}

// header is what a JOSE header says, once it is found to be acceptable.
type header struct {
	key  *key
	kind kind
}

// newKeySet returns all that is wrong with the keys, and a set only if nothing is.
func newKeySet(keys []Key) (*keySet, []error) {
	if len(keys) == 0 {
		return nil, []error{errors.New("Keys is empty: give at least one key, the first one signs")}
	}
	set := &keySet{byID: map[string]*key{}, headers: map[string]header{}}
	var wrong []error
	for i, k := range keys {
		compiled, err := compileKey(k)
		if err == nil && set.byID[k.ID] != nil {
			err = fmt.Errorf("ID %q is another key's as well: give every key its own", k.ID)
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("Keys[%d]: %w", i, err))
			continue
		}
		set.byID[k.ID] = compiled
		for kind, segment := range compiled.headers {
			set.headers[segment] = header{key: compiled, kind: kindOf(kind)}
		}
		if i == 0 {
			set.signer = compiled
		}
	}
	if wrong != nil {
		return nil, wrong
	}
	return set, nil
}

func compileKey(k Key) (*key, error) {
	if !utf8.ValidString(k.ID) {
		return nil, errors.New("ID is not valid UTF-8")
	}
	compiled := &key{id: k.ID}
	switch k.Algorithm {
	case HS256:
		secret, ok := k.Key.([]byte)
		if !ok {
			return nil, fmt.Errorf("%s needs a []byte as Key, not %T", k.Algorithm, k.Key)
		}
		if least := jwt.SigningMethodHS256.Hash.Size(); len(secret) < least {
			return nil, fmt.Errorf("%s needs a secret of %d bytes or more, this one has %d (RFC 7518 §3.2)", k.Algorithm, least, len(secret))
		}
		secret = slices.Clone(secret)
		compiled.method, compiled.signing, compiled.opening = jwt.SigningMethodHS256, secret, secret
	case "":
		return nil, errors.New("Algorithm is missing: say it, for example HS256")
	default:
		return nil, fmt.Errorf("Algorithm %q is not supported", k.Algorithm)
	}
	for kind := range compiled.headers {
		compiled.headers[kind] = base64.RawURLEncoding.EncodeToString(headerJSON(k.Algorithm, k.ID, kindOf(kind)))
	}
	return compiled, nil
}

func headerJSON(alg Algorithm, id string, kind kind) []byte {
	b := append([]byte(`{"alg":"`), alg...)
	if id != "" {
		b = append(b, `","kid":`...)
		b = appendString(b, id)
		b = append(b, `,"typ":"`...)
	} else {
		b = append(b, `","typ":"`...)
	}
	return append(append(b, kind.typ()...), `"}`...)
}

// open finds the key for a token's header segment and what kind of token it announces.
func (s *keySet) open(segment string) (header, error) {
	if h, ok := s.headers[segment]; ok {
		return h, nil
	}
	return s.parseHeader(segment)
}

// parseHeader reads a header that somebody else wrote with one of our keys. Members that it does not know
// (jwk, jku, x5u among them) have no say, but crit asks for what we do not do (RFC 7515 §4.1.11).
func (s *keySet) parseHeader(segment string) (header, error) {
	var alg, typ, kid string
	err := decodeObject(segment, func(name string, value []byte) (err error) {
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
		return header{}, malformed("the header names no key of ours")
	}
	if alg != key.method.Alg() {
		return header{}, malformed("the header's alg is not the key's")
	}
	for kind := range kinds {
		if typ == kindOf(kind).typ() {
			return header{key: key, kind: kindOf(kind)}, nil
		}
	}
	return header{}, malformed("the header's typ is not ours")
}
