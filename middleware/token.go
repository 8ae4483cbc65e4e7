package middleware

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxTokenBytes is the longest token that is read, and so the longest that is issued (R1).
const maxTokenBytes = 8 << 10

// kind is what a token is for. It is the typ of the header (RFC 8725 §3.11).
type kind uint8

const (
	accessKind  kind = iota // used on requests; in one-token mode refreshed as well
	refreshKind             // pair mode: swapped for a new pair, and good for nothing else
	foreignKind             // somebody else's, with a key of ours: good for nothing
	kinds       = 2         // that are ours
)

func kindOf(i int) kind { return kind(i) }

func (k kind) typ() string { return [kinds]string{"JWT", "refresh+jwt"}[k] }

// token is what a JWT of ours says. Once made it is never changed: requests share it.
type token struct {
	// What each request looks at comes first, and so lies together.
	kind   kind
	paired bool  // one of a pair: access tokens that refresh nothing, and refresh tokens
	owner  *Auth // whose it is: no other Auth takes this one's verdict for its own
	begins int64 // the latest of its dates but exp and deadline; seconds, as all of these but issued and birth
	exp    int64

	id       string // jti
	session  string
	birth    int64 // the issue instant of the session's first token, µs
	issued   int64 // the issue instant, µs
	subject  string
	iat      int64
	nbf      int64
	authTime int64
	deadline int64 // of the session
	ttl      int64 // the lifetime of the session's access tokens

	// own are the application's members as JSON, without the braces around them.
	own []byte
	// payload is the whole JSON object, as it was signed.
	payload []byte

	// The blacklist's keys, made once, as a cached token is looked up often.
	sessionKey, subjectKey string
}

// refreshable reports whether the token is the one of its session that a refresh swaps.
func (t *token) refreshable() bool { return t.kind == refreshKind || !t.paired }

// codec turns tokens into compact JWTs and back.
type codec struct {
	issuer   string
	audience string
}

// reserved are the members that are ours to write. nbf is among them because we read it.
var reserved = []string{"iss", "aud", "sub", "iat", "nbf", "exp", "jti", "sid", "auth_time", "refresh_exp", "access_ttl"}

// ownMembers makes JSON members of an application's claims. A name that is reserved, in whatever case, is
// refused: other parsers of JSON take SUB for sub.
func ownMembers(claims any) ([]byte, error) {
	if claims == nil {
		return nil, nil
	}
	object, err := json.Marshal(claims)
	if err != nil {
		return nil, fmt.Errorf("middleware: the claims cannot be written as JSON: %w", err)
	}
	if string(object) == "null" {
		return nil, nil
	}
	if object[0] != '{' {
		return nil, fmt.Errorf("middleware: the claims are a %T, which is no JSON object: use a struct or a map", claims)
	}
	err = scanObject(object, func(name string, _, _ []byte) error {
		for _, r := range reserved {
			if strings.EqualFold(name, r) {
				return fmt.Errorf("%q is reserved, choose another name", name)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("middleware: the claims are not usable: %w", err)
	}
	return object[1 : len(object)-1], nil
}

// encode signs t and fills in its payload.
func (c *codec) encode(k *key, t *token) (string, error) {
	t.id = t.session + "." + formatInstant(t.issued)
	t.payload = c.appendPayload(make([]byte, 0, 256+len(t.own)), t)
	header := k.headers[t.kind]
	text := make([]byte, 0, len(header)+1+strictBase64.EncodedLen(len(t.payload))+1+strictBase64.EncodedLen(64))
	text = append(append(text, header...), '.')
	text = strictBase64.AppendEncode(text, t.payload)
	signature, err := k.method.Sign(string(text), k.signing)
	if err != nil {
		return "", fmt.Errorf("middleware: signing: %w", err)
	}
	text = strictBase64.AppendEncode(append(text, '.'), signature)
	if len(text) > maxTokenBytes {
		return "", fmt.Errorf("middleware: the token would be %d bytes long, more than %d: put less into the claims", len(text), maxTokenBytes)
	}
	return string(text), nil
}

func (c *codec) appendPayload(b []byte, t *token) []byte {
	b = append(b, '{')
	if c.issuer != "" {
		b = append(appendString(append(b, `"iss":`...), c.issuer), ',')
	}
	if c.audience != "" {
		b = append(appendString(append(b, `"aud":`...), c.audience), ',')
	}
	b = appendString(append(b, `"sub":`...), t.subject)
	b = strconv.AppendInt(append(b, `,"iat":`...), t.iat, 10)
	b = strconv.AppendInt(append(b, `,"exp":`...), t.exp, 10)
	b = appendString(append(b, `,"jti":`...), t.id)
	b = appendString(append(b, `,"sid":`...), t.session)
	b = strconv.AppendInt(append(b, `,"auth_time":`...), t.authTime, 10)
	if t.kind == accessKind {
		b = strconv.AppendInt(append(b, `,"refresh_exp":`...), t.deadline, 10)
	}
	if t.paired {
		b = strconv.AppendInt(append(b, `,"access_ttl":`...), t.ttl, 10)
	}
	if len(t.own) > 0 {
		b = append(append(b, ','), t.own...)
	}
	return append(b, '}')
}

// decode reads a compact JWT and checks all that needs neither the time nor the store: R1, issuer, audience.
func (c *codec) decode(keys *keySet, text string) (*token, error) {
	t, err := c.parse(keys, text)
	if err != nil {
		return nil, failed(CodeTokenInvalid, err)
	}
	return t, nil
}

// parse looks at the signature first, so that nothing unauthenticated is decoded but the header.
func (c *codec) parse(keys *keySet, text string) (*token, error) {
	h, payload, err := keys.verify(text)
	if err != nil {
		return nil, err
	}
	if h.kind == foreignKind {
		return nil, malformed("the header's typ is not ours")
	}
	return c.parsePayload(payload, h.kind)
}

// verify checks the form and the signature of a JWS, whatever its payload may be.
func (s *keySet) verify(text string) (header, []byte, error) {
	head, body, signature, err := split(text)
	if err != nil {
		return header{}, nil, err
	}
	h, err := s.open(head)
	if err != nil {
		return header{}, nil, err
	}
	mac, err := strictBase64.DecodeString(signature)
	if err != nil {
		return header{}, nil, malformed("a segment is not canonical base64url")
	}
	if h.key.method.Verify(text[:len(head)+1+len(body)], mac, h.key.opening) != nil {
		return header{}, nil, malformed("the signature does not fit")
	}
	payload, err := strictBase64.DecodeString(body)
	if err != nil {
		return header{}, nil, malformed("a segment is not canonical base64url")
	}
	return h, payload, nil
}

// split takes a token apart and refuses what cannot be one before anything looks into it. Of the bytes that
// are not base64url it looks for line ends alone: the decoder passes over these, and refuses the others.
func split(text string) (header, payload, signature string, err error) {
	if len(text) > maxTokenBytes {
		return "", "", "", malformed("the token is too long")
	}
	if strings.IndexByte(text, '\n') >= 0 || strings.IndexByte(text, '\r') >= 0 {
		return "", "", "", malformed("the token has a line end in it")
	}
	header, rest, two := strings.Cut(text, ".")
	payload, signature, three := strings.Cut(rest, ".")
	if !two || !three {
		return "", "", "", malformed("the token has not three segments")
	}
	return header, payload, signature, nil
}

// parsePayload reads claims whose signature is known to be good.
func (c *codec) parsePayload(payload []byte, kind kind) (*token, error) {
	t := &token{kind: kind, payload: payload}
	var issuer, subject, jti, session []byte
	refreshExp, audienceFits := int64(0), c.audience == ""
	err := scanObject(payload, func(name string, value, member []byte) (err error) {
		switch name {
		case "iss":
			issuer, err = textValue(value)
		case "aud":
			var fits bool
			fits, err = c.inAudience(value)
			audienceFits = audienceFits || fits
		case "sub":
			subject, err = textValue(value)
		case "jti":
			jti, err = textValue(value)
		case "sid":
			session, err = textValue(value)
		case "iat":
			t.iat, err = requiredSeconds(value)
		case "exp":
			t.exp, err = requiredSeconds(value)
		case "nbf":
			t.nbf, err = secondsValue(value)
		case "auth_time":
			t.authTime, err = requiredSeconds(value)
		case "refresh_exp":
			refreshExp, err = requiredSeconds(value)
		case "access_ttl":
			t.ttl, err = requiredSeconds(value)
		default:
			t.own = t.appendOwn(member)
		}
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case c.issuer != "" && string(issuer) != c.issuer:
		return nil, malformed("iss is not ours")
	case !audienceFits:
		return nil, malformed("aud has no value of ours")
	}
	if err := t.identify(subject, session, jti); err != nil {
		return nil, err
	}
	return t, t.complete(refreshExp)
}

// identify checks and fills in who and which the token is.
func (t *token) identify(subject, session, jti []byte) error {
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
		return malformed("jti is missing or not a session's")
	case !marked || !born:
		return malformed("sid does not tell the session's birth")
	}
	t.issued, t.birth = issued, birth
	// One text for them and the keys: the fewer pieces of memory a kept token has, the less the collector has to do.
	all := sessionPrefix + string(jti) + subjectPrefix + string(subject)
	t.id, t.subjectKey = all[len(sessionPrefix):len(sessionPrefix)+len(jti)], all[len(sessionPrefix)+len(jti):]
	t.session, t.sessionKey = t.id[:len(session)], all[:len(sessionPrefix)+len(session)]
	t.subject = t.subjectKey[len(subjectPrefix):]
	return nil
}

// complete checks what the dates say together.
func (t *token) complete(refreshExp int64) error {
	switch {
	case t.iat == 0 || t.exp == 0 || t.authTime == 0:
		return malformed("iat, exp or auth_time is missing")
	case t.kind == accessKind && t.exp <= t.iat: // a refresh token of the last moment, in the leeway, may be so
		return malformed("exp is not after iat")
	}
	t.begins = max(t.iat, t.nbf, t.authTime, t.birth/microsPerSecond)
	t.paired = t.ttl != 0
	if t.kind == refreshKind {
		if t.deadline = t.exp; !t.paired {
			return malformed("access_ttl is missing")
		}
		return nil
	}
	if t.ttl, t.deadline = t.exp-t.iat, refreshExp; t.deadline == 0 {
		return malformed("refresh_exp is missing")
	}
	return nil
}

// requiredSeconds reads a date that 0 cannot be: some libraries take exp 0 for no exp at all.
func requiredSeconds(value []byte) (int64, error) {
	n, err := secondsValue(value)
	if err == nil && n == 0 {
		err = malformed("a date is 0")
	}
	return n, err
}

// inAudience reports whether aud, a string or a list of strings (RFC 7519 §4.1.3), has our value.
func (c *codec) inAudience(value []byte) (bool, error) {
	if value[0] != '[' {
		one, err := textValue(value)
		return string(one) == c.audience, err
	}
	var list []*string
	if json.Unmarshal(value, &list) != nil || slices.Contains(list, nil) {
		return false, malformed("aud is neither a string nor a list of strings")
	}
	return slices.ContainsFunc(list, func(one *string) bool { return *one == c.audience }), nil
}

// appendOwn adds a member to the application's. Where it follows the last one, as in the tokens that we
// write, that takes no copy: the payload has both already, with the comma.
func (t *token) appendOwn(member []byte) []byte {
	if len(t.own) == 0 {
		return member
	}
	joined := len(t.own) + len(",") + len(member)
	if joined <= cap(t.own) && &t.own[:joined][joined-1] == &member[len(member)-1] {
		return t.own[:joined]
	}
	return append(append(append(make([]byte, 0, joined), t.own...), ','), member...)
}

// checkText refuses what JSON could only write with replacement characters: two subjects must not become one.
func checkText(what, s string) error {
	if !utf8.ValidString(s) {
		return fmt.Errorf("middleware: %s is not valid UTF-8", what)
	}
	return nil
}
