package jose

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"unicode/utf8"
)

// String decodes a JSON string.
func String(value []byte) (string, error) {
	text, err := Text(value)
	return string(text), err
}

// Text is String without a copy, unless the string contains an escape.
func Text(value []byte) ([]byte, error) {
	if len(value) < 2 || value[0] != '"' {
		return nil, Malformed("a member is not a string")
	}
	if bytes.IndexByte(value, '\\') < 0 {
		return value[1 : len(value)-1], nil
	}
	var s string
	if json.Unmarshal(value, &s) != nil {
		return nil, Malformed("a member is not a string")
	}
	return []byte(s), nil
}

// maxSeconds is the latest date that is accepted. Sums of such dates and durations, counted in microseconds, do not
// overflow an int64. It is around the year 75000.
const maxSeconds = math.MaxInt64 / 4 / 1_000_000

// Seconds decodes a NumericDate (RFC 7519 §2): seconds since 1970. A fraction is cut off.
func Seconds(value []byte) (int64, error) {
	n, ok := parseDigits(value)
	if !ok {
		f, err := strconv.ParseFloat(string(value), 64)
		if err != nil || f < 0 || f > float64(maxSeconds) {
			return 0, Malformed("a date is not a number of seconds")
		}
		n = int64(f)
	}
	if n > maxSeconds {
		return 0, Malformed("a date is too far in the future")
	}
	return n, nil
}

// parseDigits decodes a whole number of at most 18 digits, which fits into an int64.
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

// AppendString appends s as a JSON string.
func AppendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(s) // a string always marshals
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}
