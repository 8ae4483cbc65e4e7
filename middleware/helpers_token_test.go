package middleware_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// ourHeader is the header of a token that secret signs.
const ourHeader = `{"alg":"HS256","typ":"JWT"}`

// segment encodes a part of a token.
func segment(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// signHMAC appends the signature to two segments, which it does not encode.
func signHMAC(newHash func() hash.Hash, key []byte, header, payload string) string {
	mac := hmac.New(newHash, key)
	_, _ = io.WriteString(mac, header+"."+payload)
	return header + "." + payload + "." + segment(string(mac.Sum(nil)))
}

// forge signs any header and payload with secret.
func forge(header, payload string) string {
	return signHMAC(sha256.New, secret, segment(header), segment(payload))
}

// members maps the names of a payload's members to their values in JSON.
type members map[string]string

func membersOf(t testing.TB, text string) members {
	t.Helper()
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(text, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(payload, &raw); err != nil {
		t.Fatal(err)
	}
	m := members{}
	for name, value := range raw {
		m[name] = string(value)
	}
	return m
}

func (m members) with(name, value string) members {
	m = maps.Clone(m)
	m[name] = value
	return m
}

func (m members) without(name string) members {
	m = maps.Clone(m)
	delete(m, name)
	return m
}

// object returns the payload: the members sorted by name, then more, which it does not escape.
func (m members) object(more ...string) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		all = append(all, strconv.Quote(name)+":"+m[name])
	}
	return "{" + strings.Join(append(all, more...), ",") + "}"
}

// integer returns the value of a date.
func (m members) integer(name string) int64 {
	n, _ := strconv.ParseInt(m[name], 10, 64)
	return n
}

// sid returns the session id without quotes.
func (m members) sid() string { return strings.Trim(m["sid"], `"`) }

// headerOf decodes a token's header.
func headerOf(t testing.TB, text string) map[string]any {
	t.Helper()
	head, _, _ := strings.Cut(text, ".")
	var fields map[string]any
	if object, err := base64.RawURLEncoding.DecodeString(head); err != nil || json.Unmarshal(object, &fields) != nil {
		t.Fatalf("the header is %q, %v", head, err)
	}
	return fields
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// aged returns the token as it would be if its session had begun that much earlier.
func aged(t testing.TB, text string, age time.Duration) string {
	t.Helper()
	m := membersOf(t, text)
	sid := m.sid()
	for _, date := range []string{"iat", "exp", "auth_time", "refresh_exp"} {
		if _, ok := m[date]; ok {
			m[date] = strconv.FormatInt(m.integer(date)-int64(age/time.Second), 10)
		}
	}
	issued, err := strconv.ParseInt(strings.TrimPrefix(strings.Trim(m["jti"], `"`), sid+"."), 36, 64)
	if err != nil {
		t.Fatal(err)
	}
	m["jti"] = strconv.Quote(sid + "." + strconv.FormatInt(issued-age.Microseconds(), 36))
	return forgeLike(text, m)
}

// forgeLike signs a token with the header of text and other members.
func forgeLike(text string, m members) string {
	head, _, _ := strings.Cut(text, ".")
	return signHMAC(sha256.New, secret, head, segment(m.object()))
}

// almostExpired is the age at which a token with a TTL of one hour has 30 seconds left. /autorefresh refreshes in the
// last minute.
const almostExpired = time.Hour - 30*time.Second

// A forger presents forged tokens to an Auth.
type forger struct {
	*testing.T
	auth    *middleware.Auth
	site    site
	genuine string
	members members
}

func newForger(t *testing.T, changes ...change) forger {
	t.Helper()
	auth := newAuth(t, changes...)
	genuine := login(t, auth)
	for range 3 { // so that the token is in the token cache, which must not let a similar token in
		verify(t, auth, genuine)
	}
	return forger{t, auth, direct(t, oneTokenRoutes(auth)), genuine, membersOf(t, genuine)}
}

// rejects checks that every step and route rejects the forgeries, and that the genuine token is still usable. The map's
// keys are their names.
func (f forger) rejects(rule string, forgeries map[string]string) {
	f.Helper()
	for name, text := range forgeries {
		f.Run(name, func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("%s: %q", rule, text)
				}
			}()
			rejectedEverywhere(t, f.auth, f.site, text, middleware.CodeTokenInvalid)
		})
	}
	verify(f, f.auth, refresh(f, f.auth, f.genuine))
}

// accepts checks that Verify accepts the tokens. It shows that the forgeries of rejects are rejected for their defect,
// not because every forged token is.
func (f forger) accepts(rule string, tokens map[string]string) {
	f.Helper()
	for name, text := range tokens {
		claims, err := f.auth.Verify(f.Context(), text)
		if err != nil || claims.Subject != "admin" {
			f.Errorf("%s: %s: error %v and subject %q, want success for admin", rule, name, err, claims.Subject)
		}
	}
}

// forgeAll forges a token from each of the texts.
func forgeAll(texts map[string]string, forge func(text string) string) map[string]string {
	forged := map[string]string{}
	for name, text := range texts {
		forged[name] = forge(text)
	}
	return forged
}

func forgePayload(payload string) string { return forge(ourHeader, payload) }

// numbered returns n members of the application.
func numbered(n int) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(`"own%d":%d`, i, i))
	}
	return all
}

// maxToken is the largest size of a token (R1).
const maxToken = 8 << 10

// notDates are not usable as NumericDate (RFC 7519 §2).
var notDates = map[string]string{
	"null":         `null`,
	"true":         `true`,
	"a string":     `"4102444800"`,
	"a list":       `[4102444800]`,
	"an object":    `{}`,
	"negative":     `-1`,
	"very small":   `-9223372036854775808`,
	"beyond int64": `9223372036854775808`,
	"wraps":        `18446744073709551617`,
	"huge":         `1e30`,
	"beyond float": `1e400`,
}

// zeros mean "no exp" to some libraries.
var zeros = map[string]string{"zero": `0`, "minus zero": `-0`, "0.0": `0.0`, "half a second": `0.5`, "zero e": `0e9`}

// notStrings are not usable as a subject or an id.
var notStrings = map[string]string{"null": `null`, "a number": `1`, "a list": `["admin"]`, "an object": `{"a":"admin"}`, "false": `false`, "empty": `""`}

// appClaims are claims of an application with every kind of value that JSON libraries get wrong.
type appClaims struct {
	Large    int64           `json:"large"`
	Larger   uint64          `json:"larger"`
	Negative int64           `json:"negative"`
	Fraction float64         `json:"fraction"`
	Text     string          `json:"text"`
	Nested   map[string]any  `json:"nested"`
	List     []string        `json:"list"`
	Empty    struct{}        `json:"empty"`
	Nil      *int            `json:"nil"`
	Raw      json.RawMessage `json:"raw"`
	Odd      int             `json:"ключ <a&b> ключ"`
}

type role struct{ Role string }

var trickyClaims = appClaims{
	Large: math.MaxInt64, Larger: math.MaxUint64, Negative: math.MinInt64, Fraction: 0.1,
	Text:   "<script>&amp;</script> \"quoted\" \\ / \u2028\u2029 \x00\x1f\x7f äöü 漢字 🙂 \ufffd",
	Nested: map[string]any{"sub": "root", "exp": json.Number("9007199254740993"), "a": []any{nil, true, "}]{[", json.Number("1e400")}},
	List:   []string{}, Raw: json.RawMessage(`{"b":1,"a":2.50}`), Odd: 1,
}

// jsonOf returns the claims as encoding/json writes them, and {} for nil.
func jsonOf(t testing.TB, claims any) []byte {
	t.Helper()
	object, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	if string(object) == "null" {
		return []byte("{}")
	}
	return object
}

func decoded(t testing.TB, object []byte) (v any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(object))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func decodedClaims(t testing.TB, claims middleware.Claims) (v any) {
	t.Helper()
	if err := claims.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// reservedNames are the claims that only this package may set.
var reservedNames = []string{"iss", "aud", "sub", "iat", "nbf", "exp", "jti", "sid", "auth_time", "refresh_exp"}
