// Package jose signs and verifies compact JWTs with one set of keys, and is strict about everything that it reads.
//
// [NewKeySet] validates the keys. [KeySet.Sign] and [KeySet.Verify] work on payloads: what the claims mean is the
// caller's business. [ScanObject] reads a JSON object member by member. The package imports nothing of this module.
package jose

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// MaxBytes is the length of the longest token that is issued or read (R1).
const MaxBytes = 8 << 10

// Malformed says what is wrong with a token or a JSON object. The text is for the server's log: don't tell a forger
// what to fix.
type Malformed string

// Error implements error.
func (m Malformed) Error() string { return string(m) }

const (
	errNotBase64 = Malformed("a segment is not canonical base64url")
	errNotJSON   = Malformed("a segment is not valid JSON")
)

// strictBase64 accepts exactly one spelling of each value: no padding, no stray bits.
var strictBase64 = base64.RawURLEncoding.Strict()

// ErrSigning means that the key failed to sign. It is temporary: a key that cannot sign is rejected by NewKeySet.
var ErrSigning = errors.New("signing failed")

// Sign returns the compact JWT (RFC 7515 §3.1) of a payload, signed by the first key. typ must be one of the types
// that were passed to NewKeySet. It fails if the token would be longer than MaxBytes.
func (s *KeySet) Sign(typ string, payload []byte) (string, error) {
	header := s.signer.segments[typ]
	text := make([]byte, 0, len(header)+1+strictBase64.EncodedLen(len(payload))+1+strictBase64.EncodedLen(64))
	text = append(append(text, header...), '.')
	text = strictBase64.AppendEncode(text, payload)
	signature, err := s.signer.method.Sign(string(text), s.signer.private)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrSigning, err)
	}
	text = strictBase64.AppendEncode(append(text, '.'), signature)
	if len(text) > MaxBytes {
		return "", fmt.Errorf("the token would be %d bytes long, the limit is %d: put less into the claims", len(text), MaxBytes)
	}
	return string(text), nil
}

// Verify checks the form and the signature of a compact JWT (R1) and returns its typ and its payload. The JSON in
// the payload is not parsed. Before the signature is checked, only the header is. Every error is a
// [Malformed].
func (s *KeySet) Verify(text string) (typ string, payload []byte, err error) {
	head, body, signature, err := split(text)
	if err != nil {
		return "", nil, err
	}
	h, err := s.header(head)
	if err != nil {
		return "", nil, err
	}
	mac, err := strictBase64.DecodeString(signature)
	if err != nil {
		return "", nil, errNotBase64
	}
	if h.key.method.Verify(text[:len(head)+1+len(body)], mac, h.key.public) != nil {
		return "", nil, Malformed("the signature does not match")
	}
	if payload, err = strictBase64.DecodeString(body); err != nil {
		return "", nil, errNotBase64
	}
	return h.typ, payload, nil
}

// split cuts a token into its three segments and rejects what cannot be one. Line ends are the only foreign bytes it
// has to look for, because the base64 decoder skips them and rejects all others.
func split(text string) (header, payload, signature string, err error) {
	if len(text) > MaxBytes {
		return "", "", "", Malformed("the token is too long")
	}
	if strings.IndexByte(text, '\n') >= 0 || strings.IndexByte(text, '\r') >= 0 {
		return "", "", "", Malformed("the token contains a line end")
	}
	header, rest, two := strings.Cut(text, ".")
	payload, signature, three := strings.Cut(rest, ".")
	if !two || !three {
		return "", "", "", Malformed("the token does not have three segments")
	}
	return header, payload, signature, nil
}
