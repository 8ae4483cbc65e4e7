package middleware

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

// This file reads and writes JSON objects member by member, as a token needs it and encoding/json does not
// do it: names compared exactly, a name twice refused, values kept as they were written (R1). It is one pass
// over the text, as each request with a new token waits for it; a fuzz test holds it against encoding/json.

// malformed says what is wrong with a token or an object.
type malformed string

func (m malformed) Error() string { return string(m) }

// strictBase64 accepts one spelling of each value: no padding, no stray bits.
var strictBase64 = base64.RawURLEncoding.Strict()

// decodeObject reads a segment of a JWT and calls visit for each member of the object in it.
func decodeObject(segment string, visit func(name string, value, member []byte) error) error {
	object, err := strictBase64.DecodeString(segment)
	if err != nil {
		return malformed("a segment is not canonical base64url")
	}
	return scanObject(object, visit)
}

// scanObject calls visit with the name, the value and the whole text of each member at the top level of a
// JSON object, which must be all there is, valid UTF-8 and without a name twice (RFC 7519 §4). Values and
// texts are slices of object.
func scanObject(object []byte, visit func(name string, value, member []byte) error) error {
	if !utf8.Valid(object) {
		return errNotJSON
	}
	pos := skipSpace(object, 0)
	if at(object, pos) != '{' {
		return malformed("a segment is not a JSON object")
	}
	var seen nameSet
	end, err := scanMembers(object, pos+1, func(start, nameEnd, valueStart, end int) error {
		name, err := nameValue(object[start:nameEnd])
		if err != nil {
			return err
		}
		if !seen.add(name) {
			return malformed("a member appears twice")
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

const errNotJSON = malformed("a segment is not JSON")

// nameValue reads a member's name. Ours are the same few in each token and need no memory of their own.
func nameValue(value []byte) (string, error) {
	for _, name := range reserved {
		if string(value[1:len(value)-1]) == name {
			return name, nil
		}
	}
	return stringValue(value)
}

// nameSet is a set of names that costs nothing while there are few.
type nameSet struct {
	few  [16]string
	n    int
	many map[string]struct{}
}

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

// at returns the byte at pos, 0 past the end: no JSON has one.
func at(b []byte, pos int) byte {
	if pos < len(b) {
		return b[pos]
	}
	return 0
}

func skipSpace(b []byte, pos int) int {
	for pos < len(b) && (b[pos] == ' ' || b[pos] == '\t' || b[pos] == '\n' || b[pos] == '\r') {
		pos++
	}
	return pos
}

// scanMembers reads what follows the brace of an object, calls visit with the bounds of each member's name and
// value, and returns the end of the object.
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

// deepest is how deep values may be nested, as in encoding/json.
const deepest = 10_000

// scanValue returns the end of the value at pos, -1 if there is none. It and those below know the grammar of
// RFC 8259; that the text is UTF-8 was seen to before.
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
	closing := b[pos] + 2 // in ASCII, of braces and of brackets
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

// scanDigits passes over one digit or more.
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

// stringValue reads a JSON string.
func stringValue(value []byte) (string, error) {
	text, err := textValue(value)
	return string(text), err
}

// textValue is stringValue without a copy, where what is written and what it means are the same.
func textValue(value []byte) ([]byte, error) {
	if len(value) < 2 || value[0] != '"' {
		return nil, malformed("a member is not a string")
	}
	if bytes.IndexByte(value, '\\') < 0 {
		return value[1 : len(value)-1], nil
	}
	var s string
	if json.Unmarshal(value, &s) != nil {
		return nil, malformed("a member is not a string")
	}
	return []byte(s), nil
}

// maxSecond is the last that can be counted in microseconds. No date is later, so that none overflows.
const maxSecond = maxInstant / microsPerSecond

// secondsValue reads a NumericDate (RFC 7519 §2): seconds since 1970, which may have a fraction; that is cut.
func secondsValue(value []byte) (int64, error) {
	n, ok := parseDigits(value)
	if !ok {
		f, err := strconv.ParseFloat(string(value), 64)
		if err != nil || f < 0 || f > float64(maxSecond) {
			return 0, malformed("a date is not a number of seconds")
		}
		n = int64(f)
	}
	if n > maxSecond {
		return 0, malformed("a date is too far in the future")
	}
	return n, nil
}

// parseDigits reads a whole number that is certain to fit.
func parseDigits(value []byte) (n int64, ok bool) {
	const certain = 18
	if len(value) > certain {
		return 0, false
	}
	for _, c := range value {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// appendString appends s as a JSON string.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(s) // a string always has a spelling
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}
