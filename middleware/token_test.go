package middleware_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"math"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// A forger offers changed tokens to an Auth.
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
	for range 3 { // a token that was seen before may be remembered: that must not open the door to its likes
		verify(t, auth, genuine)
	}
	return forger{t, auth, direct(t, routes(auth)), genuine, membersOf(t, genuine)}
}

// refuses offers forgeries by name. None may be accepted anywhere, and the genuine token must be none the worse.
func (f forger) refuses(rule string, forgeries map[string]string) {
	f.Helper()
	for name, text := range forgeries {
		f.Run(name, func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("%s: %q", rule, text)
				}
			}()
			refusedEverywhere(t, f.auth, f.site, text, middleware.CodeTokenInvalid)
		})
	}
	verify(f, f.auth, refresh(f, f.auth, f.genuine))
}

// accepts is the other side: without it a table of refusals could refuse for a reason of its own.
func (f forger) accepts(rule string, tokens map[string]string) {
	f.Helper()
	for name, text := range tokens {
		claims, err := f.auth.Verify(f.Context(), text)
		if err != nil || claims.Subject != "admin" {
			f.Errorf("%s: %s: %v, subject %q, want it to be accepted", rule, name, err, claims.Subject)
		}
	}
}

// forgeAll signs each payload, or each header where the payload is the same.
func forgeAll(texts map[string]string, forge func(text string) string) map[string]string {
	forged := map[string]string{}
	for name, text := range texts {
		forged[name] = forge(text)
	}
	return forged
}

func asPayload(payload string) string { return forge(ourHeader, payload) }

func TestR1Header(t *testing.T) {
	f := newForger(t)
	withHeader := func(header string) string { return forge(header, f.members.object()) }
	f.accepts("R1 header", forgeAll(map[string]string{
		"ours":               ourHeader,
		"spaces and order":   " {\"typ\" : \"JWT\",\n\"alg\" : \"HS256\"} ",
		"names with escapes": `{"\u0061lg":"HS\u003256","t\u0079p":"JWT"}`,
		"a key of the token": `{"alg":"HS256","typ":"JWT","jwk":{"kty":"oct","k":"AA"},"jku":"https://evil.example","x5c":[]}`,
		"other case":         `{"alg":"HS256","typ":"JWT","ALG":"none","Typ":"x","KID":"x","Crit":["exp"]}`,
	}, withHeader))

	f.refuses("R1 header", forgeAll(map[string]string{
		"alg none":              `{"alg":"none","typ":"JWT"}`,
		"alg None":              `{"alg":"None","typ":"JWT"}`,
		"alg NONE":              `{"alg":"NONE","typ":"JWT"}`,
		"alg nOnE":              `{"alg":"nOnE","typ":"JWT"}`,
		"alg empty":             `{"alg":"","typ":"JWT"}`,
		"alg missing":           `{"typ":"JWT"}`,
		"alg null":              `{"alg":null,"typ":"JWT"}`,
		"alg a number":          `{"alg":256,"typ":"JWT"}`,
		"alg a list":            `{"alg":["HS256"],"typ":"JWT"}`,
		"alg in lower case":     `{"alg":"hs256","typ":"JWT"}`,
		"alg by another name":   `{"Alg":"HS256","typ":"JWT"}`,
		"alg with a space":      `{"alg":"HS256 ","typ":"JWT"}`,
		"alg RS256":             `{"alg":"RS256","typ":"JWT"}`,
		"alg HS512":             `{"alg":"HS512","typ":"JWT"}`,
		"alg twice":             `{"alg":"HS256","alg":"HS256","typ":"JWT"}`,
		"alg twice, escaped":    `{"alg":"HS256","\u0061lg":"none","typ":"JWT"}`,
		"unknown kid":           `{"alg":"HS256","kid":"a","typ":"JWT"}`,
		"kid a path":            `{"alg":"HS256","kid":"../../dev/null","typ":"JWT"}`,
		"kid a number":          `{"alg":"HS256","kid":1,"typ":"JWT"}`,
		"kid null":              `{"alg":"HS256","kid":null,"typ":"JWT"}`,
		"crit":                  `{"alg":"HS256","crit":["exp"],"typ":"JWT"}`,
		"crit empty":            `{"alg":"HS256","crit":[],"typ":"JWT"}`,
		"crit null":             `{"alg":"HS256","crit":null,"typ":"JWT"}`,
		"crit escaped":          `{"alg":"HS256","\u0063rit":["b64"],"b64":true,"typ":"JWT"}`,
		"typ missing":           `{"alg":"HS256"}`,
		"typ empty":             `{"alg":"HS256","typ":""}`,
		"typ null":              `{"alg":"HS256","typ":null}`,
		"typ a number":          `{"alg":"HS256","typ":1}`,
		"typ of somebody else":  `{"alg":"HS256","typ":"at+jwt"}`,
		"typ in lower case":     `{"alg":"HS256","typ":"jwt"}`,
		"typ with application/": `{"alg":"HS256","typ":"application/jwt"}`,
		"typ twice":             `{"alg":"HS256","typ":"JWT","typ":"JWT"}`,
		"unknown member twice":  `{"alg":"HS256","typ":"JWT","x":1,"x":1}`,
		"empty object":          `{}`,
		"a list":                `[{"alg":"HS256","typ":"JWT"}]`,
		"null":                  `null`,
		"a string":              `"HS256"`,
		"cut":                   `{"alg":"HS256","typ":"JWT"`,
		"something behind":      `{"alg":"HS256","typ":"JWT"}{}`,
		"a NUL behind":          "{\"alg\":\"HS256\",\"typ\":\"JWT\"}\x00",
		"something before":      `x{"alg":"HS256","typ":"JWT"}`,
		"byte order mark":       "\ufeff" + ourHeader,
		"invalid UTF-8":         "{\"alg\":\"HS256\",\"typ\":\"JWT\",\"x\":\"\xff\"}",
		"trailing comma":        `{"alg":"HS256","typ":"JWT",}`,
		"only spaces":           "  ",
	}, withHeader))
}

// A signature that fits the header's alg must not help where the key has another one.
func TestR1AlgorithmIsTheKeys(t *testing.T) {
	f := newForger(t)
	payload := segment(f.members.object())
	forgeries := map[string]string{}
	for _, alg := range []string{"none", "None", "NONE"} {
		head := segment(`{"alg":"` + alg + `","typ":"JWT"}`)
		forgeries[alg+", not signed"] = head + "." + payload + "."
		forgeries[alg+", no third segment"] = head + "." + payload
	}
	for alg, newHash := range map[string]func() hash.Hash{"HS384": sha512.New384, "HS512": sha512.New} {
		forgeries[alg+", well signed"] = seal(newHash, secret, segment(`{"alg":"`+alg+`","typ":"JWT"}`), payload)
		forgeries[alg+", our header"] = seal(newHash, secret, segment(ourHeader), payload)
	}
	forgeries["another secret"] = seal(sha256.New, bytes.Repeat([]byte("x"), 32), segment(ourHeader), payload)
	forgeries["an empty secret"] = seal(sha256.New, nil, segment(ourHeader), payload)
	f.refuses("R1 algorithm", forgeries)
}

func TestR1KidChoosesTheKey(t *testing.T) {
	other := []byte("another secret, of 32 bytes also")
	f := newForger(t, func(c *middleware.Config) {
		c.Keys = []middleware.Key{hs256("new", secret), hs256("old", other)}
	})
	signed := func(kid string, key []byte) string {
		return seal(sha256.New, key, segment(`{"alg":"HS256",`+kid+`"typ":"JWT"}`), segment(f.members.object()))
	}
	f.accepts("R1 kid", map[string]string{
		"the first key signs": f.genuine,
		"its kid":             signed(`"kid":"new",`, secret),
		"the other's kid":     signed(`"kid":"old",`, other),
	})
	if head, _, _ := strings.Cut(f.genuine, "."); head != segment(`{"alg":"HS256","kid":"new","typ":"JWT"}`) {
		t.Errorf("R1: Keys[0] does not sign: header %s", head)
	}
	f.refuses("R1 kid", map[string]string{
		"the other key's kid":        signed(`"kid":"old",`, secret),
		"the first key's kid":        signed(`"kid":"new",`, other),
		"no kid where keys have one": signed(``, secret),
		"empty kid":                  signed(`"kid":"",`, secret),
		"unknown kid":                signed(`"kid":"newer",`, secret),
		"kid in another case":        signed(`"kid":"NEW",`, secret),
		"kid twice":                  signed(`"kid":"new","kid":"new",`, secret),
	})
}

// A refresh token is good for no request; and one-token mode has none.
func TestR1TypOnRequests(t *testing.T) {
	f := newForger(t)
	text := forge(`{"alg":"HS256","typ":"refresh+jwt"}`, f.members.with("access_ttl", "60").object())
	if _, err := f.auth.Verify(t.Context(), text); !hasCode(err, middleware.CodeTokenInvalid) {
		t.Errorf("R1: Verify of a refresh token: %v, want %s", err, middleware.CodeTokenInvalid)
	}
	for _, door := range doors {
		if strings.HasPrefix(door.path, "/logout") {
			continue // a logout takes any genuine token (R11)
		}
		f.site.send(door.method, door.path, bearer(text)).refused(t, middleware.CodeTokenInvalid)
	}
	refresh(t, f.auth, f.genuine)
}

func TestR1Bytes(t *testing.T) {
	f := newForger(t)
	parts := strings.Split(f.genuine, ".")
	forgeries := map[string]string{}
	for _, stranger := range []string{
		"\n", "\r", "\r\n", "\t", " ", "=", "==", "+", "/", "\x00", "\x7f", "\x80", "\xff", ",", "~", "%3D", "é", "\u200b", "．", "\ufeff",
	} {
		for i, part := range parts {
			for where, at := range map[string]int{"before": 0, "inside": len(part) / 2, "behind": len(part)} {
				changed := append([]string(nil), parts...)
				changed[i] = part[:at] + stranger + part[at:]
				name := fmt.Sprintf("%q %s segment %d", stranger, where, i+1)
				if i < 2 { // with a signature that fits, so that it is the byte that is refused
					forgeries[name+", signed"] = seal(sha256.New, secret, changed[0], changed[1])
				}
				if where == "inside" || !strings.Contains(" \t\r\n", stranger) { // around a token, space is the header's
					forgeries[name] = strings.Join(changed, ".")
				}
			}
		}
	}
	f.refuses("R1 bytes", forgeries)
}

// Of the characters that base64 decoders take for the same bytes only one is right, so a token has one spelling.
func TestR1LastCharacter(t *testing.T) {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	f := newForger(t)
	forgeries := map[string]string{}
	offer := func(name, text string, sealed func(segment string) string) {
		want, _ := base64.RawURLEncoding.DecodeString(text)
		for _, last := range alphabet {
			changed := text[:len(text)-1] + string(last)
			got, _ := base64.RawURLEncoding.DecodeString(changed)
			if changed != text && bytes.Equal(got, want) {
				forgeries[fmt.Sprintf("%s ending in %c", name, last)] = sealed(changed)
			}
		}
	}
	for stray, more := range []string{"", " ", "  "} { // 0, 2 and 4 stray bits in some order: 1, 4 and 16 spellings
		head, payload := segment(ourHeader+more), segment(f.members.object()+more)
		offer(fmt.Sprint("header ", stray), head, func(s string) string { return seal(sha256.New, secret, s, payload) })
		offer(fmt.Sprint("payload ", stray), payload, func(s string) string { return seal(sha256.New, secret, head, s) })
	}
	signed, signature := f.genuine[:strings.LastIndex(f.genuine, ".")+1], f.genuine[strings.LastIndex(f.genuine, ".")+1:]
	offer("signature", signature, func(s string) string { return signed + s })
	if want := 2*(15+3) + 3; len(forgeries) != want {
		t.Fatalf("%d forgeries, want %d", len(forgeries), want)
	}
	f.refuses("R1 canonical base64url", forgeries)
}

func TestR1Segments(t *testing.T) {
	f := newForger(t)
	parts := strings.Split(f.genuine, ".")
	head, payload, signature := parts[0], parts[1], parts[2]
	signed := func(header, payload string) string { return seal(sha256.New, secret, header, payload) }
	flipped := []byte(signature)
	flipped[0] ^= 1
	f.refuses("R1 segments", map[string]string{
		"one dot":              ".",
		"two dots":             "..",
		"three dots":           "...",
		"a word":               "null",
		"one":                  head,
		"two":                  head + "." + payload,
		"four":                 f.genuine + "." + signature,
		"five":                 f.genuine + "." + payload + "." + signature,
		"a dot behind":         f.genuine + ".",
		"a dot before":         "." + f.genuine,
		"no header":            "." + payload + "." + signature,
		"no payload":           head + ".." + signature,
		"no signature":         head + "." + payload + ".",
		"no header, signed":    signed("", payload),
		"no payload, signed":   signed(head, ""),
		"neither, signed":      signed("", ""),
		"signature cut":        f.genuine[:len(f.genuine)-1],
		"signature halved":     f.genuine[:len(f.genuine)-len(signature)/2],
		"signature stretched":  f.genuine + "AAAA",
		"signature twice":      f.genuine + signature,
		"signature changed":    head + "." + payload + "." + string(flipped),
		"another's signature":  head + "." + payload + "." + strings.Split(login(t, f.auth), ".")[2],
		"segments exchanged":   signed(payload, head),
		"one letter, signed":   signed("A", payload),
		"one letter, signed 2": signed(head, "A"),
		"the token twice":      f.genuine + f.genuine,
		"scheme within":        "Bearer." + payload + "." + signature,
	})
	for step, call := range steps(f.auth) {
		if err := call(t.Context(), ""); !hasCode(err, middleware.CodeTokenInvalid) {
			t.Errorf("R1: %s of an empty token: %v", step, err)
		}
	}
}

const maxToken = 8 << 10

func TestR1Size(t *testing.T) {
	f := newForger(t)
	sized := func(n int) string {
		payload := f.members.with("pad", `""`).object()
		rest := n - len(forge(ourHeader, payload))
		for pad := rest * 3 / 4; ; pad++ {
			text := forge(ourHeader, f.members.with("pad", strconv.Quote(strings.Repeat("x", pad))).object())
			if len(text) >= n {
				return text
			}
		}
	}
	largest, larger := sized(maxToken), sized(maxToken+1)
	if len(largest) != maxToken || len(larger) != maxToken+1 {
		t.Fatalf("the tokens have %d and %d bytes", len(largest), len(larger))
	}
	f.accepts("R1: 8 KiB", map[string]string{"8192 bytes": largest})
	f.refuses("R1: over 8 KiB", map[string]string{
		"8193 bytes":  larger,
		"100 KiB":     sized(100 << 10),
		"1 MiB":       sized(1 << 20),
		"1 MiB of x":  strings.Repeat("x", 1<<20),
		"1 MiB of .":  strings.Repeat(".", 1<<20),
		"1 MiB added": f.genuine + strings.Repeat("A", 1<<20),
	})
}

// notDates are no NumericDate that could be meant (RFC 7519 §2).
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

// zeros are read as "no exp" by some libraries.
var zeros = map[string]string{"zero": `0`, "minus zero": `-0`, "0.0": `0.0`, "half a second": `0.5`, "zero e": `0e9`}

// notStrings cannot be a name or an id.
var notStrings = map[string]string{"null": `null`, "a number": `1`, "a list": `["admin"]`, "an object": `{"a":"admin"}`, "false": `false`, "empty": `""`}

func TestR1Members(t *testing.T) {
	f := newForger(t)
	m := f.members
	payloads := map[string]string{}
	change := func(name string, tables ...map[string]string) {
		for _, table := range tables {
			for what, value := range table {
				payloads[name+" "+what] = m.with(name, value).object()
			}
		}
	}
	for _, required := range []string{"exp", "iat", "sub", "jti", "sid"} {
		payloads[required+" missing"] = m.without(required).object()
		payloads[required+" in another case"] = m.without(required).with(strings.ToUpper(required), m[required]).object()
	}
	change("exp", notDates, zeros)
	change("iat", notDates, zeros)
	change("nbf", notDates)
	change("auth_time", notDates, zeros)
	change("refresh_exp", notDates, zeros)
	change("sub", notStrings)
	change("jti", notStrings)
	change("sid", notStrings)
	change("iss", map[string]string{"null": `null`, "a number": `1`, "a list": `["x"]`})
	change("aud", map[string]string{"a number": `1`, "an object": `{}`, "true": `true`, "a list of numbers": `[1]`})
	payloads["exp before iat"] = m.with("exp", strconv.FormatInt(m.integer("iat")-1, 10)).object()

	sid := m.sid()
	change("jti", map[string]string{
		"of another session":    `"AAAAAAAAAAAAAAAAAAAAAA.` + strings.Split(m["jti"], ".")[1],
		"without an instant":    `"` + sid + `"`,
		"with a dot only":       `"` + sid + `."`,
		"without a dot":         `"` + sid + `1"`,
		"with the instant only": `".1"`,
		"just an instant":       `"` + strings.Split(strings.Trim(m["jti"], `"`), ".")[1] + `"`,
		"with a plus":           `"` + sid + `.+1"`,
		"with a minus":          `"` + sid + `.-1"`,
		"with leading zeros":    `"` + sid + `.01"`,
		"with zero":             `"` + sid + `.0"`,
		"in upper case":         `"` + sid + `.ABC"`,
		"with an underscore":    `"` + sid + `.1_0"`,
		"with a space":          `"` + sid + `. 1"`,
		"with a newline":        `"` + sid + `.1\n"`,
		"with other digits":     `"` + sid + `.١"`,
		"with a second dot":     `"` + sid + `.1.1"`,
		"with 12 digits":        `"` + sid + `.zzzzzzzzzzzz"`,
		"with 13 digits":        `"` + sid + `.1y2p0ij32e8e7"`,
		"that wraps":            `"` + sid + `.` + strings.Repeat("z", 40) + `"`,
	})
	payloads["sid of another session"] = m.with("sid", `"AAAAAAAAAAAAAAAAAAAAAA"`).object()
	f.refuses("R1 members", forgeAll(payloads, asPayload))

	f.accepts("R1 members", forgeAll(map[string]string{
		"as they are":         m.object(),
		"a date with an e":    m.with("exp", "4.1024448e9").object(),
		"nbf 0":               m.with("nbf", "0").object(),
		"iss and aud unasked": m.with("iss", `"x"`).with("aud", `["x"]`).object(),
		"escapes":             m.without("sub").object(`"\u0073ub":"adm\u0069n"`),
		"spaces":              " " + strings.ReplaceAll(m.object(), ",", " ,\r\n\t") + "\n",
		"64 own members":      m.object(numbered(64)...),
	}, asPayload))
}

func numbered(n int) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(`"own%d":%d`, i, i))
	}
	return all
}

// A fraction of a second is allowed (RFC 7519 §2) and gives no token a longer life.
func TestR1FractionsAreCut(t *testing.T) {
	f := newForger(t)
	for name, read := range map[string]func(middleware.Claims) time.Time{
		"exp": func(c middleware.Claims) time.Time { return c.ExpiresAt },
		"iat": func(c middleware.Claims) time.Time { return c.IssuedAt },
	} {
		claims := verify(t, f.auth, asPayload(f.members.with(name, f.members[name]+".999").object()))
		if got, want := read(claims), time.Unix(f.members.integer(name), 0); !got.Equal(want) {
			t.Errorf("R1: %s with a fraction is %v, want %v", name, got, want)
		}
	}
}

// A genuine token that never ends must not wrap into the past, or into a successor that is dead.
func TestR1LargestExp(t *testing.T) {
	f := newForger(t)
	for exp, mayBeRefused := range map[int64]bool{
		1 << 40: false, math.MaxInt64 / 4_000_000: true, math.MaxInt64/1_000_000 + 1: true, 999_999_999_999_999_999: true, math.MaxInt64: true,
	} {
		text := asPayload(f.members.with("exp", strconv.FormatInt(exp, 10)).object())
		claims, err := f.auth.Verify(t.Context(), text)
		if mayBeRefused && hasCode(err, middleware.CodeTokenInvalid) {
			continue
		}
		if err != nil || !claims.ExpiresAt.After(time.Now()) {
			t.Errorf("R1: exp %d: %v, in the future: %v", exp, err, claims.ExpiresAt.After(time.Now()))
			continue
		}
		verify(t, f.auth, refresh(t, f.auth, text))
	}
}

func TestR1MemberTwice(t *testing.T) {
	f := newForger(t)
	m := f.members.with("iss", `"x"`).with("aud", `"x"`).with("nbf", "1").with("own", "1")
	payloads := map[string]string{}
	for name, value := range m {
		escaped := fmt.Sprintf(`"\u%04x%s":`, name[0], name[1:])
		payloads[name+" twice"] = m.object(strconv.Quote(name) + ":" + value)
		payloads[name+" twice, escaped"] = m.object(escaped + value)
		payloads[name+" twice, another value"] = m.object(escaped + `"other"`)
		payloads[name+" twice, first null"] = strings.Replace(m.object(), "{", "{"+escaped+"null,", 1)
		payloads[name+" twice, far apart"] = m.object(append(numbered(40), escaped+value)...)
	}
	many := numbered(40)
	payloads["the 40th own member twice"] = m.object(append(many, many[39])...)
	f.refuses("R1 member twice", forgeAll(payloads, asPayload))
}

// Names are compared exactly: what encoding/json would take for sub is somebody's own member.
func TestR1NamesAreExact(t *testing.T) {
	f := newForger(t)
	for _, more := range []string{`"SUB":"root"`, `"Sub":"root"`, `"ſub":"root"`, `"sub ":"root"`, `"sub\u0000":"root"`} {
		for name, payload := range map[string]string{
			"behind": f.members.object(more),
			"before": strings.Replace(f.members.object(), "{", "{"+more+",", 1),
		} {
			f.accepts("R1 exact names", map[string]string{more + " " + name: asPayload(payload)})
		}
	}
	late := f.members.object(`"EXP":9999999999`, `"Jti":"x"`, `"SID":"x"`, `"Aud":1`, `"Iss":1`)
	claims := verify(t, f.auth, asPayload(late))
	if want := time.Unix(f.members.integer("exp"), 0); !claims.ExpiresAt.Equal(want) {
		t.Errorf("R1: EXP moved exp to %v, want %v", claims.ExpiresAt, want)
	}
	if got := membersOf(t, refresh(t, f.auth, asPayload(late))); got["sub"] != `"admin"` || got["EXP"] != "9999999999" {
		t.Errorf("R1: after a refresh the members are %v", got)
	}
}

func TestR1Payload(t *testing.T) {
	f := newForger(t)
	good := f.members.object()
	bad := map[string]string{
		"empty object":       `{}`,
		"a list":             `[` + good + `]`,
		"null":               `null`,
		"a string":           strconv.Quote(good),
		"a number":           `1`,
		"true":               `true`,
		"a space":            ` `,
		"something behind":   good + `x`,
		"a brace behind":     good + `}`,
		"two objects":        good + good,
		"a comma behind":     good + `,`,
		"NUL behind":         good + "\x00",
		"something before":   `x` + good,
		"a bracket before":   `]` + good,
		"byte order mark":    "\ufeff" + good,
		"vertical tab":       "\v" + good,
		"no-break space":     "\u00a0" + good,
		"cut":                good[:len(good)-1],
		"half":               good[:len(good)/2],
		"trailing comma":     good[:len(good)-1] + ",}",
		"leading comma":      "{," + good[1:],
		"two commas":         strings.Replace(good, ",", ",,", 1),
		"no colon":           strings.Replace(good, ":", " ", 1),
		"two colons":         strings.Replace(good, ":", "::", 1),
		"single quotes":      strings.ReplaceAll(good, `"`, `'`),
		"a comment":          good + "/**/",
		"name without quote": f.members.object(`own:1`),
		"name a number":      f.members.object(`1:1`),
		"name null":          f.members.object(`null:1`),
		"raw newline":        f.members.object("\"own\":\"a\nb\""),
		"bad escape":         f.members.object(`"own":"\x41"`),
		"cut escape":         f.members.object(`"own":"\u00"`),
		"open string":        f.members.object(`"own":"`),
		"open list":          f.members.object(`"own":[1`),
		"wrong bracket":      f.members.object(`"own":[1}`),
		"NaN":                f.members.object(`"own":NaN`),
		"leading zero":       f.members.object(`"own":01`),
		"hexadecimal":        f.members.object(`"own":0x1`),
		"plus":               f.members.object(`"own":+1`),
		"half a number":      f.members.object(`"own":1.`),
		"True":               f.members.object(`"own":True`),
	}
	for name, text := range map[string]string{
		"lone byte": "\xff", "overlong": "\xc0\xaf", "cut rune": "\xe2\x82", "surrogate": "\xed\xa0\x80", "too large": "\xf5\x80\x80\x80",
	} {
		bad["invalid UTF-8 in a value: "+name] = f.members.object(`"own":"` + text + `"`)
		bad["invalid UTF-8 in a name: "+name] = f.members.object(`"o` + text + `":1`)
		bad["invalid UTF-8 in sub: "+name] = f.members.with("sub", `"admin`+text+`"`).object()
		bad["invalid UTF-8 nested: "+name] = f.members.object(`"own":{"a":["` + text + `"]}`)
	}
	f.refuses("R1 payload", forgeAll(bad, asPayload))
}

func TestR1IssuerAndAudience(t *testing.T) {
	f := newForger(t, func(c *middleware.Config) { c.Issuer, c.Audience = "https://we.example", "api" })
	if f.members["iss"] != `"https://we.example"` || f.members["aud"] != `"api"` {
		t.Fatalf("iss is %s and aud %s", f.members["iss"], f.members["aud"])
	}
	payloads := func(name string, values map[string]string) map[string]string {
		all := map[string]string{}
		for what, value := range values {
			all[name+" "+what] = f.members.with(name, value).object()
		}
		return forgeAll(all, asPayload)
	}
	f.accepts("R1 aud", payloads("aud", map[string]string{
		"alone": `"api"`, "escaped": `"\u0061pi"`, "in a list": `["api"]`, "among others": `["web", "api" ,"x"]`,
	}))
	f.accepts("R1 iss", payloads("iss", map[string]string{"escaped": `"https:\/\/we.example"`}))

	f.refuses("R1 aud", payloads("aud", map[string]string{
		"wrong": `"web"`, "empty": `""`, "in another case": `"API"`, "with a space": `"api "`, "longer": `"apis"`,
		"an empty list": `[]`, "a list of others": `["web","app"]`, "a list in a list": `[["api"]]`,
		"null": `null`, "a number": `1`, "true": `true`, "an object": `{"api":"api"}`,
		"a list with a number": `["api",1]`, "a list with null": `["api",null]`,
	}))
	f.genuine = login(t, f.auth)
	f.refuses("R1 iss", payloads("iss", map[string]string{
		"wrong": `"https://they.example"`, "empty": `""`, "in another case": `"https://WE.example"`, "with a slash": `"https://we.example/"`,
		"null": `null`, "a number": `1`, "a list": `["https://we.example"]`, "an object": `{}`,
	}))
	f.genuine = login(t, f.auth)
	f.refuses("R1 iss, aud", forgeAll(map[string]string{
		"iss missing": f.members.without("iss").object(),
		"aud missing": f.members.without("aud").object(),
		"exchanged":   f.members.with("iss", f.members["aud"]).with("aud", f.members["iss"]).object(),
	}, asPayload))
}

// own is a set of claims that is hard to carry.
type own struct {
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

var hard = own{
	Large: math.MaxInt64, Larger: math.MaxUint64, Negative: math.MinInt64, Fraction: 0.1,
	Text:   "<script>&amp;</script> \"quoted\" \\ / \u2028\u2029 \x00\x1f\x7f äöü 漢字 🙂 \ufffd",
	Nested: map[string]any{"sub": "root", "exp": json.Number("9007199254740993"), "a": []any{nil, true, "}]{[", json.Number("1e400")}},
	List:   []string{}, Raw: json.RawMessage(`{"b":1,"a":2.50}`), Odd: 1,
}

func TestOwnClaimsSurvive(t *testing.T) {
	auth := newAuth(t, func(c *middleware.Config) { c.Grace = -1 })
	for name, claims := range map[string]any{
		"struct":             hard,
		"pointer":            &hard,
		"map":                map[string]any{"large": int64(math.MaxInt64), "role": "admin", "": "no name", "list": []int{1, 2}},
		"map of numbers":     map[string]json.Number{"n": "9007199254740993"},
		"RawMessage":         json.RawMessage(" {\"b\" : 1.50,\n \"a\" : {\"c\":[ ]} } "),
		"empty struct":       struct{}{},
		"empty map":          map[string]int{},
		"nil":                nil,
		"nil map":            map[string]int(nil),
		"nil pointer":        (*own)(nil),
		"embedded":           struct{ role }{role{"admin"}},
		"integers as names":  map[int]string{1: "a", 2: "b"},
		"names like ours":    map[string]any{"subject": 1, "s": 1, "expires": 1, "su": 1, "refresh": 1},
		"40 members":         json.RawMessage("{" + strings.Join(numbered(40), ",") + "}"),
		"nested twice":       json.RawMessage(`{"a":{"sub":1,"sub":2}}`),
		"escapes in a name":  json.RawMessage(`{"\u0061\"\\\n":1}`),
		"escaped characters": json.RawMessage(`{"a":"\u003c\/\ud83d\ude42"}`),
	} {
		t.Run(name, func(t *testing.T) {
			want := decoded(t, ownJSON(t, claims))
			text := issue(t, auth, middleware.Identity{Subject: "admin", Claims: claims})
			for round := range 3 {
				got := verify(t, auth, text)
				if own := decodedClaims(t, got); !reflect.DeepEqual(own, want) {
					t.Fatalf("after %d refreshes the claims are\n%v, want\n%v", round, own, want)
				}
				payload, _ := base64.RawURLEncoding.DecodeString(strings.Split(text, ".")[1])
				if written, err := got.MarshalJSON(); err != nil || string(written) != string(payload) {
					t.Errorf("MarshalJSON gives %s, %v, want the payload %s", written, err, payload)
				}
				text = refresh(t, auth, text)
			}
		})
	}
}

// ownJSON is what encoding/json makes of claims, an empty object of nothing.
func ownJSON(t testing.TB, claims any) []byte {
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

func TestDecode(t *testing.T) {
	auth := newAuth(t)
	claims := verify(t, auth, issue(t, auth, middleware.Identity{Subject: "admin", Claims: hard}))

	var mine own
	if err := claims.Decode(&mine); err != nil || !reflect.DeepEqual(mine, hard) {
		t.Errorf("Decode gives %+v, %v, want %+v", mine, err, hard)
	}
	members := decodedClaims(t, claims).(map[string]any)
	if members["large"] != json.Number("9223372036854775807") || members["larger"] != json.Number("18446744073709551615") {
		t.Errorf("Decode into any gives %v and %v, want exact numbers", members["large"], members["larger"])
	}
	for _, reserved := range reservedNames {
		if value, ok := members[reserved]; ok {
			t.Errorf("Decode gives %s: %v, which is not the application's", reserved, value)
		}
	}
	var wrong struct {
		Text int `json:"text"`
	}
	if err := claims.Decode(&wrong); err == nil || !strings.HasPrefix(err.Error(), "middleware: ") {
		t.Errorf("Decode of a string into an int: %v", err)
	}
	if err := claims.Decode(own{}); err == nil {
		t.Error("Decode into no pointer gives no error")
	}
	if err := (middleware.Claims{}).Decode(&mine); err != nil {
		t.Errorf("Decode of no claims: %v", err)
	}
	if b, err := json.Marshal(middleware.Claims{}); err != nil || string(b) != "null" {
		t.Errorf("no claims are written as %s, %v", b, err)
	}
}

// Claims are a copy: what a handler does to its own must not reach another request.
func TestClaimsAreACopy(t *testing.T) {
	auth := newAuth(t)
	claims := verify(t, auth, issue(t, auth, middleware.Identity{Subject: "admin", Claims: hard}))
	written, _ := claims.MarshalJSON()
	want := string(written)
	for i := range written {
		written[i] = 'x'
	}
	var mine own
	if err := claims.Decode(&mine); err != nil {
		t.Fatal(err)
	}
	for i := range mine.Raw {
		mine.Raw[i] = 'x'
	}
	if got, err := claims.MarshalJSON(); err != nil || string(got) != want {
		t.Errorf("the claims changed to %s, %v", got, err)
	}
	if got := decodedClaims(t, claims); !reflect.DeepEqual(got, decoded(t, ownJSON(t, hard))) {
		t.Errorf("the application's claims changed to %v", got)
	}
}

var reservedNames = []string{"iss", "aud", "sub", "iat", "nbf", "exp", "jti", "sid", "auth_time", "refresh_exp"}

func TestIssueRefusesUnusableClaims(t *testing.T) {
	auth := newAuth(t)
	refused := map[string]any{
		"a string":             "role",
		"a number":             1,
		"a list":               []string{"role"},
		"true":                 true,
		"a channel":            make(chan int),
		"NaN":                  map[string]float64{"a": math.NaN()},
		"a function":           func() {},
		"a string as JSON":     json.RawMessage(`"role"`),
		"not JSON":             json.RawMessage(`{`),
		"a name twice":         json.RawMessage(`{"role":1,"role":2}`),
		"a name twice escaped": json.RawMessage(`{"role":1,"r\u006fle":2}`),
		"long s":               map[string]any{"ſub": "root"},
	}
	for _, name := range reservedNames {
		for _, spelling := range []string{name, strings.ToUpper(name), strings.ToUpper(name[:1]) + name[1:]} {
			refused["the name "+spelling] = map[string]any{"role": "admin", spelling: 1}
		}
		refused["the name "+name+" escaped"] = json.RawMessage(fmt.Sprintf(`{"\u%04x%s":1}`, name[0], name[1:]))
	}
	refused["a reserved field"] = struct{ Sub string }{"root"}
	for name, claims := range refused {
		tokens, err := auth.Issue(t.Context(), middleware.Identity{Subject: "admin", Claims: claims})
		if err == nil || !strings.HasPrefix(err.Error(), "middleware: ") || tokens.AccessToken != "" {
			t.Errorf("Issue with %s: %q, %v, want an error", name, tokens.AccessToken, err)
		}
		var e *middleware.Error
		if reflect.TypeOf(err) == reflect.TypeOf(e) {
			t.Errorf("Issue with %s: %v, want no error of the client's", name, err)
		}
	}
}

func TestSubjects(t *testing.T) {
	auth := newAuth(t)
	for _, subject := range []string{"", "\xff", "admin\xc0\xaf", "a\xed\xa0\x80"} {
		if tokens, err := auth.Issue(t.Context(), middleware.Identity{Subject: subject}); err == nil || tokens.AccessToken != "" {
			t.Errorf("Issue with the subject %q gives no error", subject)
		}
	}
	seen := map[string]bool{}
	for _, subject := range []string{
		"a", "A", " ", "a ", "a.b", "u:a", `"`, `\`, `a","sub":"root`, "<b>&", "\x00", "\n", "\x7f", "\u2028", "é", "e\u0301", "漢字", "🙂", "\ufffd", strings.Repeat("x", 1000),
	} {
		text := issue(t, auth, middleware.Identity{Subject: subject})
		for range 2 {
			claims := verify(t, auth, text)
			if claims.Subject != subject || seen[claims.ID] {
				t.Errorf("the subject %q reads %q with jti %s", subject, claims.Subject, claims.ID)
			}
			seen[claims.ID] = true
			text = refresh(t, auth, text)
		}
	}
}

// The longest token that Issue gives is one that Verify takes, and it can be refreshed.
func TestR1LongestToken(t *testing.T) {
	auth := newAuth(t)
	padded := func(n int) middleware.Identity {
		return middleware.Identity{Subject: "admin", Claims: map[string]string{"pad": strings.Repeat("x", n)}}
	}
	n := 5000
	for {
		tokens, err := auth.Issue(t.Context(), padded(n))
		if err != nil {
			if !strings.Contains(err.Error(), strconv.Itoa(maxToken)) || len(tokens.AccessToken) > 0 {
				t.Errorf("R1: a token that is too long: %q, %v, want an error that says how long it may be", tokens.AccessToken, err)
			}
			break
		}
		if n++; len(tokens.AccessToken) > maxToken {
			t.Fatalf("R1: Issue gives a token of %d bytes", len(tokens.AccessToken))
		}
	}
	text := issue(t, auth, padded(n-1))
	if len(text) <= maxToken-4 {
		t.Errorf("R1: a token of %d bytes is the longest, want nearly %d", len(text), maxToken)
	}
	verify(t, auth, refresh(t, auth, text))
}

// strict is golang-jwt as careful as it can be told to be, but that clocks may differ (R2).
var strict = jwt.NewParser(jwt.WithValidMethods([]string{"HS256"}), jwt.WithStrictDecoding(), jwt.WithExpirationRequired(),
	jwt.WithIssuedAt(), jwt.WithLeeway(30*time.Second), jwt.WithJSONNumber())

func ourKey(*jwt.Token) (any, error) { return secret, nil }

func TestInterop(t *testing.T) {
	auth := newAuth(t, func(c *middleware.Config) { c.Issuer, c.Audience = "https://we.example", "api" })
	text := issue(t, auth, middleware.Identity{Subject: "admin", Claims: hard})
	for range 2 {
		theirs, err := jwt.Parse(text, ourKey, jwt.WithValidMethods([]string{"HS256"}), jwt.WithStrictDecoding(), jwt.WithExpirationRequired(),
			jwt.WithIssuedAt(), jwt.WithIssuer("https://we.example"), jwt.WithAudience("api"), jwt.WithSubject("admin"), jwt.WithJSONNumber())
		if err != nil {
			t.Fatal("golang-jwt refuses our token:", err)
		}
		if theirs.Header["typ"] != "JWT" || theirs.Header["kid"] != nil {
			t.Errorf("the header is %v", theirs.Header)
		}
		text = refresh(t, auth, text)
	}

	m := jwt.MapClaims{}
	for name, value := range membersOf(t, text) {
		m[name] = json.RawMessage(value)
	}
	made, err := jwt.NewWithClaims(jwt.SigningMethodHS256, m).SignedString(secret)
	if err != nil {
		t.Fatal(err)
	}
	if claims := verify(t, auth, made); !reflect.DeepEqual(decodedClaims(t, claims), decoded(t, ownJSON(t, hard))) {
		t.Errorf("a token that golang-jwt made reads %v", decodedClaims(t, claims))
	}
}

// agreesWithGolangJWT checks a token that we accept against the strictest settings of golang-jwt.
func agreesWithGolangJWT(t *testing.T, text string, claims middleware.Claims) {
	t.Helper()
	theirs, err := strict.Parse(text, ourKey)
	if err != nil {
		t.Fatalf("R1: accepted %q, but golang-jwt says: %v", text, err)
	}
	subject, _ := theirs.Claims.GetSubject()
	exp, err := theirs.Claims.GetExpirationTime()
	if subject != claims.Subject || err != nil || exp == nil || !exp.Equal(claims.ExpiresAt) {
		t.Fatalf("R1: we read %q until %v, golang-jwt %q until %v", claims.Subject, claims.ExpiresAt, subject, exp)
	}
}

// No text makes a step panic, and none is accepted that we did not sign.
func FuzzDecode(f *testing.F) {
	auth := newAuth(f)
	genuine := login(f, auth)
	m := membersOf(f, genuine)
	parts := strings.Split(genuine, ".")
	for _, text := range []string{
		genuine, "", ".", "..", genuine + ".", genuine + "=", genuine[:len(genuine)-1], parts[0] + "." + parts[1] + ".",
		segment(`{"alg":"none","typ":"JWT"}`) + "." + parts[1] + ".", genuine + "\n", parts[1] + "." + parts[0] + "." + parts[2],
		forge(ourHeader, m.object(`"SUB":"root"`)), forge(ourHeader, m.object(`"sub":"root"`)), forge(`{"alg":"HS256","typ":"JWT","crit":[]}`, m.object()),
		forge(`{"typ":"JWT","alg":"HS256"}`, m.with("exp", "4102444800.5").object()), forge(`null`, `null`), strings.Repeat("A", maxToken+1),
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		claims, err := auth.Verify(t.Context(), text)
		if err != nil {
			if !hasCode(err, middleware.CodeTokenInvalid) && !hasCode(err, middleware.CodeTokenExpired) {
				t.Fatalf("Verify: %v", err)
			}
			return
		}
		signed, signature, _ := cutLast(text, ".")
		mac := hmac.New(sha256.New, secret)
		_, _ = io.WriteString(mac, signed)
		if got, err := base64.RawURLEncoding.Strict().DecodeString(signature); err != nil || !hmac.Equal(got, mac.Sum(nil)) {
			t.Fatalf("R1: accepted %q, which we did not sign", text)
		}
		agreesWithGolangJWT(t, text, claims)
	})
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// With a genuine signature on any header and payload: no panic, and what is accepted reads as golang-jwt
// reads it; its successor too.
func FuzzDecodeSigned(f *testing.F) {
	m := membersOf(f, login(f, newAuth(f))).with("exp", "4102444800").with("refresh_exp", "4102444800")
	for _, header := range []string{ourHeader, `{"typ":"JWT","alg":"HS256","x":[{"a":"}"}]}`, `{"alg":"none","typ":"JWT"}`, `{"alg":"HS256","typ":"refresh+jwt"}`} {
		for _, payload := range []string{
			m.object(), m.object(`"SUB":"root"`), m.object(`"sub":"root"`), m.object(`"\u0073ub":"root"`), m.with("aud", `["a",null]`).object(),
			m.with("exp", "4.1024448e9").object(), m.with("exp", "4102444800.999").object(), m.with("exp", "0").object(), m.with("nbf", "1.5").object(),
			m.with("sub", `"a\ud800"`).object(), m.object(`"own":{"a":[1e400,"\u2028"]}`), m.object("\"own\":\"\xff\""), m.object() + " x", `[]`, `null`, ``,
			m.with("exp", "9223372036854775807").object(),
		} {
			f.Add(header, payload)
		}
	}
	f.Fuzz(func(t *testing.T, header, payload string) {
		auth := newAuth(t) // a new blacklist: what one input used up must not shield the next
		text := forge(header, payload)
		claims, err := auth.Verify(t.Context(), text)
		if err != nil {
			return
		}
		agreesWithGolangJWT(t, text, claims)
		if written, err := claims.MarshalJSON(); err != nil || string(written) != payload {
			t.Fatalf("MarshalJSON gives %q, %v, want %q", written, err, payload)
		}
		if tokens, err := auth.Refresh(t.Context(), text); err == nil {
			agreesWithGolangJWT(t, tokens.AccessToken, tokens.Claims)
		}
	})
}

// The scanner and encoding/json agree on what is an object and what is in it; a name twice is for us alone to refuse.
func FuzzScanObject(f *testing.F) {
	for _, text := range []string{
		`{}`, ` { } `, `{"a":1}`, `{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, `{"a":[{"b":"}"}],"c":{"d":"]"}}`, `{"a" : "\"\\" , "b" : null}`, `{"a":1}x`,
		`[]`, `null`, `"a"`, ``, ` `, `{`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, "{\"\xff\":1}", `{"\ud800":1,"\ud801":2}`, `{"":0}`,
		`{"a":-0.0e+1,"b":true,"c":false}`, "{\"a\":\r\n\t1}", `{"A":1,"a":2}`, `{"a":"\\"}`, `{"a":"\\\""}`, "{" + strings.Join(numbered(40), ",") + "}",
		`{"a":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, object []byte) {
		want, valid := objectMembers(object)
		var got []member
		err := middleware.ScanObject(object, func(name string, value []byte) error {
			got = append(got, member{name, string(value)})
			return nil
		})
		if valid != (err == nil) {
			t.Fatalf("R1: %q: error %v, but it is valid: %v", object, err, valid)
		}
		if valid && !reflect.DeepEqual(got, want) {
			t.Fatalf("R1: %q has members %q, want %q", object, got, want)
		}
	})
}

type member struct{ name, value string }

// objectMembers is the scanner by way of encoding/json alone.
func objectMembers(object []byte) (members []member, valid bool) {
	d := json.NewDecoder(bytes.NewReader(object))
	if start, err := d.Token(); err != nil || start != json.Delim('{') || !utf8.Valid(object) || !json.Valid(object) {
		return nil, false
	}
	seen := map[string]bool{}
	for d.More() {
		name, err := d.Token()
		text, isText := name.(string)
		var value json.RawMessage
		if err != nil || !isText || d.Decode(&value) != nil || seen[text] {
			return nil, false
		}
		seen[text] = true
		members = append(members, member{text, string(value)})
	}
	return members, true
}

// What a callback says ends the scan.
func TestScanObjectStops(t *testing.T) {
	calls := 0
	err := middleware.ScanObject([]byte(`{"a":1,"b":2}`), func(string, []byte) error { calls++; return io.EOF })
	if err != io.EOF || calls != 1 {
		t.Errorf("%d calls and %v, want one and EOF", calls, err)
	}
}
