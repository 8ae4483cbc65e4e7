package middleware

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

// This file reads and writes JSON objects member by member, as a token needs it and encoding/json does not
// do it: names compared exactly, a name twice refused, values kept as they were written (R1). The grammar
// itself stays encoding/json's business.

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
	if !utf8.Valid(object) || !json.Valid(object) {
		return malformed("a segment is not JSON")
	}
	pos := skipSpace(object, 0)
	if object[pos] != '{' {
		return malformed("a segment is not a JSON object")
	}
	var seen nameSet
	for pos = skipSpace(object, pos+1); object[pos] != '}'; {
		start, end := pos, skipValue(object, pos)
		name, err := nameValue(object[start:end])
		if err != nil {
			return err
		}
		if !seen.add(name) {
			return malformed("a member appears twice")
		}
		pos = skipSpace(object, skipSpace(object, end)+1) // past the colon
		end = skipValue(object, pos)
		if err := visit(name, object[pos:end], object[start:end]); err != nil {
			return err
		}
		if pos = skipSpace(object, end); object[pos] == ',' {
			pos = skipSpace(object, pos+1)
		}
	}
	return nil
}

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

func skipSpace(b []byte, pos int) int {
	for pos < len(b) && (b[pos] == ' ' || b[pos] == '\t' || b[pos] == '\n' || b[pos] == '\r') {
		pos++
	}
	return pos
}

// skipValue returns the end of the value at pos. It relies on the JSON being valid.
func skipValue(b []byte, pos int) int {
	switch b[pos] {
	case '"':
		return skipString(b, pos)
	case '{', '[':
		return skipNested(b, pos)
	}
	for pos < len(b) && !endsLiteral(b[pos]) {
		pos++
	}
	return pos
}

func skipString(b []byte, pos int) int {
	for pos++; b[pos] != '"'; pos++ {
		if b[pos] == '\\' {
			pos++
		}
	}
	return pos + 1
}

func skipNested(b []byte, pos int) int {
	for depth := 0; ; {
		switch b[pos] {
		case '"':
			pos = skipString(b, pos)
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		pos++
		if depth == 0 {
			return pos
		}
	}
}

func endsLiteral(c byte) bool {
	switch c {
	case ',', '}', ' ', '\t', '\n', '\r':
		return true
	}
	return false
}

// stringValue reads a JSON string.
func stringValue(value []byte) (string, error) {
	if len(value) < 2 || value[0] != '"' {
		return "", malformed("a member is not a string")
	}
	for _, c := range value {
		if c == '\\' {
			var s string
			if json.Unmarshal(value, &s) != nil {
				return "", malformed("a member is not a string")
			}
			return s, nil
		}
	}
	return string(value[1 : len(value)-1]), nil
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
