package session

import (
	"encoding/base64"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

// The keys of a session and of a subject never collide: base64url has no colon.
const (
	sessionPrefix = "s:"
	subjectPrefix = "u:"
)

func sessionKey(id string) string      { return sessionPrefix + id }
func subjectKey(subject string) string { return subjectPrefix + subject }

// endOfTime is the cutoff of an ended session: every token was issued before it.
const endOfTime = math.MaxInt64

// endedMark starts the value of an ended session. The instant at which the record expires follows, except in records of
// version 0.1.
const endedMark = "ended"

// keyMark precedes the digest of a key. Neither base 36 nor base64url contains it.
const keyMark = "~"

// digestLength is the length of jose.ClientKey.Digest.
const digestLength = 22

// record is the blacklist's entry for a session. The zero record belongs to a session that was never refreshed.
type record struct {
	cutoff   int64 // the current token's instant; tokens issued before it were replaced
	previous int64 // the instant of the token that the current one replaced
	iat      int64 // of the current token, in seconds
	extended int64 // when AutoRefresh restarted the grace period; otherwise 0
	expires  int64 // when the record of an ended session expires; otherwise 0

	key string // digest of the key to which the session was bound after its login (R19); otherwise ""
}

// ended reports whether the session was logged out, or ended because of reuse.
func (r record) ended() bool { return r.cutoff == endOfTime }

// graceStart returns the instant from which the grace period counts: the swap, or the last restart by
// AutoRefresh.
func (r record) graceStart() int64 { return max(r.cutoff, r.extended) }

// encode omits iat if it equals the cutoff in whole seconds, as it nearly always does.
func (r record) encode() string {
	if r.ended() {
		return endedMark + "." + formatInstant(r.expires)
	}
	s := formatInstant(r.cutoff) + "." + formatInstant(r.previous)
	if r.extended != 0 || r.iat != r.cutoff/microsPerSecond {
		s += "." + formatInstant(r.iat)
	}
	if r.extended != 0 {
		s += "." + formatInstant(r.extended)
	}
	if r.key != "" {
		s += keyMark + r.key
	}
	return s
}

var errRecord = errors.New("a record of the blacklist is malformed")

// decodeRecord rejects what it does not know, because "not revoked" must never be a guess.
func decodeRecord(value string) (record, error) {
	if value == "" {
		return record{}, nil
	}
	if value == endedMark {
		return record{cutoff: endOfTime}, nil
	}
	if instant, ok := strings.CutPrefix(value, endedMark+"."); ok {
		expires, ok := parseInstant(instant)
		if !ok {
			return record{}, unavailable(errRecord)
		}
		return record{cutoff: endOfTime, expires: expires}, nil
	}
	var r record
	value, key, bound := strings.Cut(value, keyMark)
	if r.key = key; bound && len(key) != digestLength {
		return record{}, unavailable(errRecord)
	}
	fields := [...]*int64{&r.cutoff, &r.previous, &r.iat, &r.extended}
	n, more := 0, true
	for ; more && n < len(fields); n++ {
		var text string
		var ok bool
		text, value, more = strings.Cut(value, ".")
		if *fields[n], ok = parseInstant(text); !ok {
			return record{}, unavailable(errRecord)
		}
	}
	if more || n < 2 {
		return record{}, unavailable(errRecord)
	}
	if n == 2 {
		r.iat = r.cutoff / microsPerSecond
	}
	return r, nil
}

// cutoff is the blacklist's entry for a subject: a session born before instant is revoked (R3).
type cutoff struct {
	instant int64
	by      string // names the Auth that wrote it (R12)
}

// nameBytes is the number of random bytes, before base64url, in an Auth's name.
const nameBytes = 9

// encode appends the name of the Auth, which decides between R12's two cases.
func (c cutoff) encode() string { return formatInstant(c.instant) + "." + c.by }

// decodeCutoff rejects what it does not know, like decodeRecord.
func decodeCutoff(value string) (cutoff, error) {
	if value == "" {
		return cutoff{}, nil
	}
	instant, by, _ := strings.Cut(value, ".")
	c := cutoff{by: by}
	var ok bool
	if c.instant, ok = parseInstant(instant); !ok || len(by) != base64.RawURLEncoding.EncodedLen(nameBytes) {
		return cutoff{}, unavailable(errRecord)
	}
	return c, nil
}

const microsPerSecond = int64(time.Second / time.Microsecond)

// formatInstant writes an instant in base 36, as in a jti: short, and with exactly one spelling.
func formatInstant(instant int64) string { return strconv.FormatInt(instant, 36) }

// maxInstant is the latest instant. Sums of instants and durations stay inside an int64.
const maxInstant = math.MaxInt64 / 4

// parseInstant accepts exactly the spelling of formatInstant, so that a jti has one form.
func parseInstant(s string) (int64, bool) {
	if s == "" || len(s) > 12 || s[0] == '0' {
		return 0, false
	}
	var n int64
	for i := range len(s) {
		switch c := s[i]; {
		case '0' <= c && c <= '9':
			n = n*36 + int64(c-'0')
		case 'a' <= c && c <= 'z':
			n = n*36 + int64(c-'a') + 10
		default:
			return 0, false
		}
	}
	return n, n <= maxInstant
}
