package jose

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
)

// A KeySet signs with its first key and verifies with all of them. It is immutable, so goroutines share it without a
// lock.
type KeySet struct {
	signer     *key // nil if the keys can only verify
	verifyOnly bool // the first key is public
	byID       map[string]*key
	headers    map[string]header // the header segments that this set writes, decoded
	public     []jwk
}

// header is the decoded form of an acceptable JOSE header.
type header struct {
	key *key
	typ string
}

// NewKeySet validates the keys and prepares headers for tokens of the given types. It returns either a set or every
// mistake it found.
func NewKeySet(keys []Key, types ...string) (*KeySet, []error) {
	if len(keys) == 0 {
		return nil, []error{errors.New("there are no Keys: pass at least one; the first one signs")}
	}
	set := EmptyKeySet()
	var mistakes []error
	for i, k := range keys {
		compiled, err := k.compile(types)
		if err == nil {
			err = set.add(compiled, i == 0)
		}
		if err != nil {
			mistakes = append(mistakes, fmt.Errorf("in Keys[%d]: %w", i, err))
		}
	}
	if mistakes != nil {
		return nil, mistakes
	}
	return set, nil
}

// add puts a key into the set. The first one decides whether the set can sign.
func (s *KeySet) add(k *key, first bool) error {
	switch {
	case s.byID[k.id] != nil:
		return fmt.Errorf("ID %q is already taken by another key: give each key its own", k.id)
	case first:
		s.verifyOnly = k.private == nil
	case s.verifyOnly && k.private != nil:
		return errors.New("this key can sign, but Keys[0] is public: put the key that signs first")
	}
	if first && k.private != nil {
		s.signer = k
	}
	s.byID[k.id] = k
	for typ, segment := range k.segments {
		s.headers[segment] = header{key: k, typ: typ}
	}
	if k.jwk != nil {
		s.public = append(s.public, *k.jwk)
	}
	return nil
}

// CanSign reports whether the first key is a private one or a secret.
func (s *KeySet) CanSign() bool { return s.signer != nil }

// JWKS returns the public keys as a JWK Set (RFC 7517 §5). It never contains a secret.
func (s *KeySet) JWKS() []byte {
	set, _ := json.Marshal(struct { // structs of strings always marshal
		Keys []jwk `json:"keys"`
	}{append([]jwk{}, s.public...)})
	return set
}

// maxHeaderBytes is the length of the longest header segment that is written or read. The header is parsed before the
// signature is checked, so this limits the work that a forged token can cause.
const maxHeaderBytes = 512

// header returns the key and the typ that a header segment names. Headers written by this set are looked up and not
// parsed.
func (s *KeySet) header(segment string) (header, error) {
	if h, ok := s.headers[segment]; ok {
		return h, nil
	}
	if len(segment) > maxHeaderBytes {
		return header{}, Malformed("the header is too long")
	}
	return s.parseHeader(segment)
}

// ErrUnknownKey means that no key of the set has the kid in the token's header.
const ErrUnknownKey = Malformed("the header's kid matches no key")

// parseHeader reads a header that another program wrote with one of our keys. It ignores unknown members, including
// jwk, jku and x5u. It rejects crit, because none of the extensions that crit can require are implemented
// (RFC 7515 §4.1.11). The algorithm is the key's, never the token's choice (R1).
func (s *KeySet) parseHeader(segment string) (header, error) {
	object, err := strictBase64.DecodeString(segment)
	if err != nil {
		return header{}, errNotBase64
	}
	var alg, typ, kid string
	err = ScanObject(object, func(name string, value, _ []byte) (err error) {
		switch name {
		case "alg":
			alg, err = String(value)
		case "typ":
			typ, err = String(value)
		case "kid":
			kid, err = String(value)
		case "crit":
			err = Malformed("the header has a crit member")
		}
		return err
	})
	if err != nil {
		return header{}, err
	}
	key := s.byID[kid]
	if key == nil {
		return header{}, ErrUnknownKey
	}
	if alg != key.algorithm {
		return header{}, Malformed("the header's alg is not the key's algorithm")
	}
	return header{key: key, typ: typ}, nil
}

// headerSegment returns the encoded header of tokens of one type.
func headerSegment(algorithm, id, typ string) (string, error) {
	b := append([]byte(`{"alg":"`), algorithm...)
	if b = append(b, '"'); id != "" {
		b = AppendString(append(b, `,"kid":`...), id)
	}
	b = append(AppendString(append(b, `,"typ":`...), typ), '}')
	segment := base64.RawURLEncoding.EncodeToString(b)
	if len(segment) > maxHeaderBytes {
		return "", fmt.Errorf("the ID is too long: the token's header would be %d bytes long, the limit is %d", len(segment), maxHeaderBytes)
	}
	return segment, nil
}
