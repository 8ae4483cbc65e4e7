package middleware_test

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// R1: the payload is a strict JSON object with the required claims.

// Every claim that R1 requires is present, of its type, and consistent with the others.
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
		"of another session": `"AAAAAAAAAAAAAAAAAAAAAA.` + strings.Split(m["jti"], ".")[1],
		"without an instant": `"` + sid + `"`,
		"with a dot only":    `"` + sid + `."`,
		"without a dot":      `"` + sid + `1"`,
		"without a session":  `".1"`,
		"just an instant":    `"` + strings.Split(strings.Trim(m["jti"], `"`), ".")[1] + `"`,
		"with a plus":        `"` + sid + `.+1"`,
		"with a minus":       `"` + sid + `.-1"`,
		"with leading zeros": `"` + sid + `.01"`,
		"with zero":          `"` + sid + `.0"`,
		"in upper case":      `"` + sid + `.ABC"`,
		"with an underscore": `"` + sid + `.1_0"`,
		"with a space":       `"` + sid + `. 1"`,
		"with a newline":     `"` + sid + `.1\n"`,
		"with other digits":  `"` + sid + `.١"`,
		"with a second dot":  `"` + sid + `.1.1"`,
		"with 12 digits":     `"` + sid + `.zzzzzzzzzzzz"`,
		"with 13 digits":     `"` + sid + `.1y2p0ij32e8e7"`,
		"that wraps":         `"` + sid + `.` + strings.Repeat("z", 40) + `"`,
	})
	payloads["sid of another session"] = m.with("sid", `"AAAAAAAAAAAAAAAAAAAAAA"`).object()
	f.rejects("R1 members", forgeAll(payloads, forgePayload))

	f.accepts("R1 members", forgeAll(map[string]string{
		"unchanged":                   m.object(),
		"a date in exponent notation": m.with("exp", "4.1024448e9").object(),
		"nbf 0":                       m.with("nbf", "0").object(),
		"iss and aud not configured":  m.with("iss", `"x"`).with("aud", `["x"]`).object(),
		"escapes":                     m.without("sub").object(`"\u0073ub":"adm\u0069n"`),
		"spaces":                      " " + strings.ReplaceAll(m.object(), ",", " ,\r\n\t") + "\n",
		"64 own members":              m.object(numbered(64)...),
	}, forgePayload))
}

// A date may have a fraction (RFC 7519 §2). It is cut off, so it does not extend the token's life.
func TestR1FractionsAreCut(t *testing.T) {
	f := newForger(t)
	for name, read := range map[string]func(middleware.Claims) time.Time{
		"exp": func(c middleware.Claims) time.Time { return c.ExpiresAt },
		"iat": func(c middleware.Claims) time.Time { return c.IssuedAt },
	} {
		claims := verify(t, f.auth, forgePayload(f.members.with(name, f.members[name]+".999").object()))
		if got, want := read(claims), time.Unix(f.members.integer(name), 0); !got.Equal(want) {
			t.Errorf("R1: %s with a fraction is %v, want %v", name, got, want)
		}
	}
}

// An exp in the distant future must not overflow, neither for the token nor for its successor.
func TestR1LargestExp(t *testing.T) {
	f := newForger(t)
	for exp, mayBeRefused := range map[int64]bool{
		1 << 40: false, math.MaxInt64 / 4_000_000: true, math.MaxInt64/1_000_000 + 1: true, 999_999_999_999_999_999: true, math.MaxInt64: true,
	} {
		text := forgePayload(f.members.with("exp", strconv.FormatInt(exp, 10)).object())
		claims, err := f.auth.Verify(t.Context(), text)
		if mayBeRefused && hasCode(err, middleware.CodeTokenInvalid) {
			continue
		}
		if err != nil || !claims.ExpiresAt.After(time.Now()) {
			t.Errorf("R1: exp %d: error %v, in the future: %v", exp, err, claims.ExpiresAt.After(time.Now()))
			continue
		}
		verify(t, f.auth, refresh(t, f.auth, text))
	}
}

// The last date that is accepted leaves room for arithmetic in microseconds. The notation does not matter.
func TestR1LastDate(t *testing.T) {
	auth := newAuth(t)
	m := membersOf(t, login(t, auth))
	const last int64 = math.MaxInt64 / 4 / 1_000_000
	for exp, code := range map[string]middleware.Code{
		fmt.Sprint(last):            "",
		fmt.Sprint(last) + ".0":     "",
		fmt.Sprint(last + 1):        middleware.CodeTokenInvalid,
		fmt.Sprint(last+1) + ".0":   middleware.CodeTokenInvalid,
		fmt.Sprint(last+1) + "e0":   middleware.CodeTokenInvalid,
		fmt.Sprint(2 * last):        middleware.CodeTokenInvalid,
		"999999999999999999":        middleware.CodeTokenInvalid,
		"9999999999999999999":       middleware.CodeTokenInvalid,
		"18446744073709551617":      middleware.CodeTokenInvalid,
		"1e400":                     middleware.CodeTokenInvalid,
		"-1":                        middleware.CodeTokenInvalid,
		"-1.5":                      middleware.CodeTokenInvalid,
		"-" + fmt.Sprint(last):      middleware.CodeTokenInvalid,
		"-9223372036854775809":      middleware.CodeTokenInvalid,
		"-18446744071000000000.123": middleware.CodeTokenInvalid,
	} {
		wantVerify(t, "R1: exp "+exp, auth, forge(ourHeader, m.with("exp", exp).object()), code)
	}
	wantVerify(t, "R1: a negative nbf", auth, forge(ourHeader, m.with("nbf", "-1").object()), middleware.CodeTokenInvalid)
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
	f.rejects("R1 member twice", forgeAll(payloads, forgePayload))
}

// Names are compared exactly. SUB, which encoding/json would take for sub, is a claim of the application.
func TestR1NamesAreExact(t *testing.T) {
	f := newForger(t)
	for _, more := range []string{`"SUB":"root"`, `"Sub":"root"`, `"ſub":"root"`, `"sub ":"root"`, `"sub\u0000":"root"`} {
		for name, payload := range map[string]string{
			"after":  f.members.object(more),
			"before": strings.Replace(f.members.object(), "{", "{"+more+",", 1),
		} {
			f.accepts("R1 exact names", map[string]string{more + " " + name: forgePayload(payload)})
		}
	}
	late := f.members.object(`"EXP":9999999999`, `"Jti":"x"`, `"SID":"x"`, `"Aud":1`, `"Iss":1`)
	claims := verify(t, f.auth, forgePayload(late))
	if want := time.Unix(f.members.integer("exp"), 0); !claims.ExpiresAt.Equal(want) {
		t.Errorf("R1: with EXP the token expires at %v, want %v", claims.ExpiresAt, want)
	}
	if got := membersOf(t, refresh(t, f.auth, forgePayload(late))); got["sub"] != `"admin"` || got["EXP"] != "9999999999" {
		t.Errorf("R1: after a refresh the payload is %v", got)
	}
}

func TestR1Payload(t *testing.T) {
	f := newForger(t)
	good := f.members.object()
	bad := map[string]string{
		"empty object":           `{}`,
		"a list":                 `[` + good + `]`,
		"null":                   `null`,
		"a string":               strconv.Quote(good),
		"a number":               `1`,
		"true":                   `true`,
		"a space":                ` `,
		"trailing bytes":         good + `x`,
		"trailing brace":         good + `}`,
		"two objects":            good + good,
		"comma after the object": good + `,`,
		"trailing NUL":           good + "\x00",
		"leading bytes":          `x` + good,
		"leading bracket":        `]` + good,
		"byte order mark":        "\ufeff" + good,
		"vertical tab":           "\v" + good,
		"no-break space":         "\u00a0" + good,
		"truncated":              good[:len(good)-1],
		"half":                   good[:len(good)/2],
		"trailing comma":         good[:len(good)-1] + ",}",
		"leading comma":          "{," + good[1:],
		"two commas":             strings.Replace(good, ",", ",,", 1),
		"no colon":               strings.Replace(good, ":", " ", 1),
		"two colons":             strings.Replace(good, ":", "::", 1),
		"single quotes":          strings.ReplaceAll(good, `"`, `'`),
		"a comment":              good + "/**/",
		"name without quote":     f.members.object(`own:1`),
		"name a number":          f.members.object(`1:1`),
		"name null":              f.members.object(`null:1`),
		"raw newline":            f.members.object("\"own\":\"a\nb\""),
		"bad escape":             f.members.object(`"own":"\x41"`),
		"truncated escape":       f.members.object(`"own":"\u00"`),
		"open string":            f.members.object(`"own":"`),
		"open list":              f.members.object(`"own":[1`),
		"wrong bracket":          f.members.object(`"own":[1}`),
		"NaN":                    f.members.object(`"own":NaN`),
		"leading zero":           f.members.object(`"own":01`),
		"hexadecimal":            f.members.object(`"own":0x1`),
		"plus":                   f.members.object(`"own":+1`),
		"half a number":          f.members.object(`"own":1.`),
		"True":                   f.members.object(`"own":True`),
	}
	for name, text := range map[string]string{
		"lone byte": "\xff", "overlong": "\xc0\xaf", "truncated rune": "\xe2\x82", "surrogate": "\xed\xa0\x80", "too large": "\xf5\x80\x80\x80",
	} {
		bad["invalid UTF-8 in a value: "+name] = f.members.object(`"own":"` + text + `"`)
		bad["invalid UTF-8 in a name: "+name] = f.members.object(`"o` + text + `":1`)
		bad["invalid UTF-8 in sub: "+name] = f.members.with("sub", `"admin`+text+`"`).object()
		bad["invalid UTF-8 nested: "+name] = f.members.object(`"own":{"a":["` + text + `"]}`)
	}
	f.rejects("R1 payload", forgeAll(bad, forgePayload))
}

// The application's claims must be well-formed too, because Decode and other parsers read them.
func TestR1OwnMembersAreWellFormed(t *testing.T) {
	auth := newAuth(t)
	m := membersOf(t, login(t, auth))
	for value, code := range map[string]middleware.Code{
		`"\u00e4\u00E4\ud83d\ude42"`: "",
		"\"\\u\x10\x11\x12\x13\"":    middleware.CodeTokenInvalid, // digits with one bit changed
		"\"\\u001\"":                 middleware.CodeTokenInvalid,
		"\"\\u001g\"":                middleware.CodeTokenInvalid,
		"\"\\u001@\"":                middleware.CodeTokenInvalid,
		"\"\\U0010\"":                middleware.CodeTokenInvalid,
		"\"\\x10\"":                  middleware.CodeTokenInvalid,
		"\"\x7f\"":                   "",
		"\"\x1f\"":                   middleware.CodeTokenInvalid,
	} {
		for _, own := range []string{value, "[" + value + "]", `{"a":` + value + "}", "{" + value + ":1}"} {
			wantVerify(t, fmt.Sprintf("R1: %q", own), auth, forge(ourHeader, m.with("own", own).object()), code)
		}
	}
}
