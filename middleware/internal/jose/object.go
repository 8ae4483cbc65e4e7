package jose

import (
	"bytes"
	"unicode/utf8"
)

// This file scans JSON objects member by member. encoding/json cannot do what a token needs: compare names exactly,
// reject a name that appears twice, keep values as they were written (R1). It is one pass over the text, because every
// request with a new token waits for it. A fuzz test compares it with encoding/json.

// ScanObject calls visit with the name, the value and the whole text of each member at the top level of a JSON object.
// It rejects anything after the object, invalid UTF-8 and a name that appears twice at the top level (RFC 7519 §4). The values and texts
// are slices of object.
func ScanObject(object []byte, visit func(name string, value, member []byte) error) error {
	if !utf8.Valid(object) {
		return errNotJSON
	}
	pos := skipSpace(object, 0)
	if at(object, pos) != '{' {
		return Malformed("a segment is not a JSON object")
	}
	var seen nameSet
	end, err := scanMembers(object, pos+1, func(start, nameEnd, valueStart, end int) error {
		name, err := nameValue(object[start:nameEnd])
		if err != nil {
			return err
		}
		if !seen.add(name) {
			return Malformed("a member appears twice")
		}
		return visit(name, object[valueStart:end], object[start:end])
	})
	if err != nil {
		return err
	}
	if skipSpace(object, end) != len(object) {
		return errNotJSON
	}
	return nil
}

// registered are the member names in our tokens and in JOSE headers. Reading one of them does not allocate.
var registered = [...]string{"iss", "aud", "sub", "iat", "nbf", "exp", "jti", "sid", "auth_time", "refresh_exp", "access_ttl", "alg", "kid", "typ"}

// nameValue reads a member's name.
func nameValue(value []byte) (string, error) {
	for _, name := range registered {
		if string(value[1:len(value)-1]) == name {
			return name, nil
		}
	}
	return String(value)
}

// nameSet is a set of names. It does not allocate for the first 16.
type nameSet struct {
	few  [16]string
	n    int
	many map[string]struct{}
}

// add reports whether the name is new.
func (s *nameSet) add(name string) bool {
	for _, known := range s.few[:s.n] {
		if known == name {
			return false
		}
	}
	if s.n < len(s.few) {
		s.few[s.n] = name
		s.n++
		return true
	}
	if _, known := s.many[name]; known {
		return false
	}
	if s.many == nil {
		s.many = map[string]struct{}{}
	}
	s.many[name] = struct{}{}
	return true
}

// at returns the byte at pos, or 0 past the end: JSON never contains a zero byte.
func at(b []byte, pos int) byte {
	if pos < len(b) {
		return b[pos]
	}
	return 0
}

// skipSpace returns the position of the first byte at or after pos that is not white space.
func skipSpace(b []byte, pos int) int {
	for pos < len(b) && (b[pos] == ' ' || b[pos] == '\t' || b[pos] == '\n' || b[pos] == '\r') {
		pos++
	}
	return pos
}

// scanMembers scans an object from the byte after its opening brace. It calls visit with the bounds of each member's
// name and value, and returns the end of the object.
func scanMembers(b []byte, pos int, visit func(start, nameEnd, valueStart, end int) error) (int, error) {
	if pos = skipSpace(b, pos); at(b, pos) == '}' {
		return pos + 1, nil
	}
	for {
		start, nameEnd := pos, scanString(b, pos)
		if nameEnd < 0 {
			return 0, errNotJSON
		}
		colon := skipSpace(b, nameEnd)
		if at(b, colon) != ':' {
			return 0, errNotJSON
		}
		valueStart := skipSpace(b, colon+1)
		end := scanValue(b, valueStart, 1)
		if end < 0 {
			return 0, errNotJSON
		}
		if err := visit(start, nameEnd, valueStart, end); err != nil {
			return 0, err
		}
		pos = skipSpace(b, end)
		switch at(b, pos) {
		case '}':
			return pos + 1, nil
		case ',':
			pos = skipSpace(b, pos+1)
		default:
			return 0, errNotJSON
		}
	}
}

// deepest limits how deep values may be nested, as encoding/json does.
const deepest = 10_000

// scanValue returns the end of the value at pos, or -1 if there is none. This function and the ones below implement the
// grammar of RFC 8259. The text is known to be valid UTF-8.
func scanValue(b []byte, pos, depth int) int {
	switch c := at(b, pos); {
	case c == '"':
		return scanString(b, pos)
	case c == '-' || '0' <= c && c <= '9':
		return scanNumber(b, pos)
	case c == '{' || c == '[':
		return scanNested(b, pos, depth)
	}
	for _, literal := range []string{"true", "false", "null"} {
		if bytes.HasPrefix(b[min(pos, len(b)):], []byte(literal)) {
			return pos + len(literal)
		}
	}
	return -1
}

// scanNested returns the end of the object or array at pos.
func scanNested(b []byte, pos, depth int) int {
	if depth >= deepest {
		return -1
	}
	isObject := b[pos] == '{'
	closing := b[pos] + 2 // in ASCII, for braces and for brackets
	if pos = skipSpace(b, pos+1); at(b, pos) == closing {
		return pos + 1
	}
	for {
		if isObject {
			if pos = scanString(b, pos); pos < 0 {
				return -1
			}
			if pos = skipSpace(b, pos); at(b, pos) != ':' {
				return -1
			}
			pos = skipSpace(b, pos+1)
		}
		if pos = scanValue(b, pos, depth+1); pos < 0 {
			return -1
		}
		switch pos = skipSpace(b, pos); at(b, pos) {
		case closing:
			return pos + 1
		case ',':
			pos = skipSpace(b, pos+1)
		default:
			return -1
		}
	}
}

// scanString returns the end of the string at pos.
func scanString(b []byte, pos int) int {
	if at(b, pos) != '"' {
		return -1
	}
	for pos++; ; pos++ {
		switch c := at(b, pos); {
		case c == '"':
			return pos + 1
		case c < ' ':
			return -1 // a control character, or the end of the text
		case c == '\\':
			if pos = scanEscape(b, pos); pos < 0 {
				return -1
			}
		}
	}
}

// scanEscape returns the last byte of the escape at pos.
func scanEscape(b []byte, pos int) int {
	switch at(b, pos+1) {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return pos + 1
	case 'u':
		for i := pos + 2; i < pos+6; i++ {
			c := at(b, i) | 0x20 // lower case; digits have that bit
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') || at(b, i) < '0' {
				return -1
			}
		}
		return pos + 5
	}
	return -1
}

// scanNumber returns the end of the number at pos.
func scanNumber(b []byte, pos int) int {
	if b[pos] == '-' {
		pos++
	}
	if at(b, pos) == '0' {
		pos++
	} else if pos = scanDigits(b, pos); pos < 0 {
		return -1
	}
	if at(b, pos) == '.' {
		if pos = scanDigits(b, pos+1); pos < 0 {
			return -1
		}
	}
	if c := at(b, pos); c == 'e' || c == 'E' {
		if pos++; at(b, pos) == '+' || at(b, pos) == '-' {
			pos++
		}
		return scanDigits(b, pos)
	}
	return pos
}

// scanDigits returns the end of the digits at pos, or -1 if there are none.
func scanDigits(b []byte, pos int) int {
	start := pos
	for c := at(b, pos); '0' <= c && c <= '9'; c = at(b, pos) {
		pos++
	}
	if pos == start {
		return -1
	}
	return pos
}
