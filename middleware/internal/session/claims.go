package session

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ginrefresh/ginrefresh/middleware/internal/jose"
)

func malformed(reason string) error { return jose.Malformed(reason) }

// The typ of our tokens' headers (RFC 8725 §3.11). A token of any other type was made by somebody else.
const (
	accessType  = "JWT"
	refreshType = "refresh+jwt"
)

// Types returns the typ of every kind of token, for jose.NewKeySet.
func Types() []string { return []string{accessType, refreshType} }

// reserved are the names of the claims that this package writes. It reads nbf as well.
var reserved = []string{"iss", "aud", "sub", "iat", "nbf", "exp", "jti", "sid", "auth_time", "refresh_exp", "access_ttl", "cnf"}

// EncodeClaims turns the application's claims into JSON members. It rejects reserved names in upper or lower case, because other
// JSON parsers take SUB for sub.
func EncodeClaims(claims any) ([]byte, error) {
	if claims == nil {
		return nil, nil
	}
	object, err := json.Marshal(claims)
	if err != nil {
		return nil, fmt.Errorf("the claims cannot be encoded as JSON: %w", err)
	}
	if string(object) == "null" {
		return nil, nil
	}
	if object[0] != '{' {
		return nil, fmt.Errorf("the claims are a %T, which is not a JSON object: use a struct or a map", claims)
	}
	err = jose.ScanObject(object, func(name string, _, _ []byte) error {
		for _, r := range reserved {
			if strings.EqualFold(name, r) {
				return fmt.Errorf("%q is reserved: choose another name", name)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("the claims cannot be used: %w", err)
	}
	return object[1 : len(object)-1], nil
}

// Codec turns tokens into compact JWTs and back.
type Codec struct {
	Issuer   string // iss; empty: neither written nor checked
	Audience string // aud; likewise
}

// Encode signs t and fills in its ID and Payload.
func (c *Codec) Encode(keys *jose.KeySet, t *Token) (string, error) {
	t.ID = tokenID(t.Session, t.Instant)
	t.Payload = c.appendPayload(make([]byte, 0, 256+len(t.AppClaims)), t)
	typ := accessType
	if t.Kind == RefreshToken {
		typ = refreshType
	}
	return keys.Sign(typ, t.Payload)
}

// appendPayload writes the claims in a fixed order, so that parallel refreshes return identical texts (R7).
func (c *Codec) appendPayload(b []byte, t *Token) []byte {
	b = append(b, '{')
	if c.Issuer != "" {
		b = append(jose.AppendString(append(b, `"iss":`...), c.Issuer), ',')
	}
	if c.Audience != "" {
		b = append(jose.AppendString(append(b, `"aud":`...), c.Audience), ',')
	}
	b = jose.AppendString(append(b, `"sub":`...), t.Subject)
	b = strconv.AppendInt(append(b, `,"iat":`...), t.IssuedAt, 10)
	b = strconv.AppendInt(append(b, `,"exp":`...), t.ExpiresAt, 10)
	b = jose.AppendString(append(b, `,"jti":`...), t.ID)
	b = jose.AppendString(append(b, `,"sid":`...), t.Session)
	b = strconv.AppendInt(append(b, `,"auth_time":`...), t.AuthTime, 10)
	if t.Kind == AccessToken {
		b = strconv.AppendInt(append(b, `,"refresh_exp":`...), t.Deadline, 10)
	}
	if t.paired {
		b = strconv.AppendInt(append(b, `,"access_ttl":`...), t.ttl, 10)
	}
	if t.Kind == RefreshToken && t.key != nil {
		b = append(t.key.AppendJWK(append(b, `,"cnf":{"jwk":`...)), '}')
	}
	if len(t.AppClaims) > 0 {
		b = append(append(b, ','), t.AppClaims...)
	}
	return append(b, '}')
}

// Decode verifies the signature of a compact JWT and reads its claims. It checks everything that needs neither the time
// nor the store: R1, issuer, audience. Every error is a [jose.Malformed].
func (c *Codec) Decode(keys *jose.KeySet, text string) (*Token, error) {
	typ, payload, err := keys.Verify(text)
	if err != nil {
		return nil, err
	}
	t := &Token{Payload: payload}
	switch typ {
	case accessType:
	case refreshType:
		t.Kind = RefreshToken
	default:
		return nil, malformed("the header's typ is unknown")
	}
	return t, c.readPayload(t)
}

// readPayload fills in t from its payload, whose signature is known to be good.
func (c *Codec) readPayload(t *Token) error {
	var issuer, subject, jti, session []byte
	var refreshExp int64
	var audienceOK bool
	err := jose.ScanObject(t.Payload, func(name string, value, member []byte) (err error) {
		switch name {
		case "iss":
			issuer, err = jose.Text(value)
		case "aud":
			audienceOK, err = c.inAudience(value)
		case "sub":
			subject, err = jose.Text(value)
		case "jti":
			jti, err = jose.Text(value)
		case "sid":
			session, err = jose.Text(value)
		case "iat":
			t.IssuedAt, err = nonzeroSeconds(value)
		case "exp":
			t.ExpiresAt, err = nonzeroSeconds(value)
		case "nbf":
			t.nbf, err = jose.Seconds(value)
		case "auth_time":
			t.AuthTime, err = nonzeroSeconds(value)
		case "refresh_exp":
			refreshExp, err = nonzeroSeconds(value)
		case "access_ttl":
			t.ttl, err = nonzeroSeconds(value)
		case "cnf":
			t.key, err = confirmationKey(value)
		default:
			t.AppClaims = t.appendAppClaim(member)
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case c.Issuer != "" && string(issuer) != c.Issuer:
		return malformed("iss is not the configured Issuer")
	case c.Audience != "" && !audienceOK:
		return malformed("aud does not contain the configured Audience")
	}
	if err := t.setNames(subject, session, jti); err != nil {
		return err
	}
	return t.setDates(refreshExp)
}

// setNames checks and sets the subject, the session and the token's id, and the instants that are part of the ids.
func (t *Token) setNames(subject, session, jti []byte) error {
	instant, found := bytes.CutPrefix(jti, session)
	instant, dot := bytes.CutPrefix(instant, []byte("."))
	issued, ok := parseInstant(string(instant))
	birthText, _, marked := bytes.Cut(session, []byte(birthMark))
	birth, born := parseInstant(string(birthText))
	switch {
	case len(subject) == 0:
		return malformed("sub is missing")
	case len(session) == 0:
		return malformed("sid is missing")
	case !found || !dot || !ok:
		return malformed("jti is missing or does not belong to the session")
	case !marked || !born:
		return malformed("sid does not contain the session's birth")
	}
	t.Instant, t.birth = issued, birth
	// One string for the names and the keys: the fewer allocations a cached token has, the less the collector has to do.
	all := sessionPrefix + string(jti) + subjectPrefix + string(subject)
	t.ID, t.subjectKey = all[len(sessionPrefix):len(sessionPrefix)+len(jti)], all[len(sessionPrefix)+len(jti):]
	t.Session, t.sessionKey = t.ID[:len(session)], all[:len(sessionPrefix)+len(session)]
	t.Subject = t.subjectKey[len(subjectPrefix):]
	return nil
}

// setDates checks that the dates fit together, and derives the deadline and the ttl.
func (t *Token) setDates(refreshExp int64) error {
	switch {
	case t.IssuedAt == 0 || t.ExpiresAt == 0 || t.AuthTime == 0:
		return malformed("iat, exp or auth_time is missing")
	case t.Kind == AccessToken && t.ExpiresAt <= t.IssuedAt: // a refresh token issued in the leeway may have exp before iat
		return malformed("exp is not after iat")
	}
	t.begins = max(t.IssuedAt, t.nbf, t.AuthTime, t.birth/microsPerSecond)
	t.paired = t.ttl != 0
	if t.Kind == RefreshToken {
		if t.Deadline = t.ExpiresAt; !t.paired {
			return malformed("access_ttl is missing")
		}
		return nil
	}
	if t.ttl, t.Deadline = t.ExpiresAt-t.IssuedAt, refreshExp; t.Deadline == 0 {
		return malformed("refresh_exp is missing")
	}
	return nil
}

// confirmationKey reads the key from cnf (RFC 7800 §3.2).
func confirmationKey(value []byte) (key *jose.ClientKey, err error) {
	err = jose.ScanObject(value, func(name string, value, _ []byte) error {
		if name != "jwk" {
			return nil
		}
		k, err := jose.ParseClientKey(value)
		key = &k
		return err
	})
	if err == nil && key == nil {
		err = malformed("cnf has no jwk")
	}
	return key, err
}

// nonzeroSeconds decodes a date that cannot be 0: some libraries take exp 0 for a missing exp.
func nonzeroSeconds(value []byte) (int64, error) {
	n, err := jose.Seconds(value)
	if err == nil && n == 0 {
		err = malformed("a date is 0")
	}
	return n, err
}

// inAudience reports whether aud, a string or a list of strings (RFC 7519 §4.1.3), contains the configured Audience.
func (c *Codec) inAudience(value []byte) (bool, error) {
	if value[0] != '[' {
		one, err := jose.Text(value)
		return string(one) == c.Audience, err
	}
	var list []*string
	if json.Unmarshal(value, &list) != nil || slices.Contains(list, nil) {
		return false, malformed("aud is neither a string nor a list of strings")
	}
	return slices.ContainsFunc(list, func(one *string) bool { return *one == c.Audience }), nil
}

// appendAppClaim adds a member to the application's claims. If it directly follows the last one, as in every token that this
// package writes, nothing is copied: the payload already holds both with the comma between them.
func (t *Token) appendAppClaim(member []byte) []byte {
	if len(t.AppClaims) == 0 {
		return member
	}
	joined := len(t.AppClaims) + len(",") + len(member)
	if joined <= cap(t.AppClaims) && &t.AppClaims[:joined][joined-1] == &member[len(member)-1] {
		return t.AppClaims[:joined]
	}
	return append(append(append(make([]byte, 0, joined), t.AppClaims...), ','), member...)
}

// Claims returns all claims as JSON members by name.
func (t *Token) Claims() map[string]json.RawMessage {
	claims := map[string]json.RawMessage{}
	_ = jose.ScanObject(t.Payload, func(name string, value, _ []byte) error { // it was scanned when it was decoded
		claims[name] = value
		return nil
	})
	return claims
}
