package middleware_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// R1: three canonical base64url segments of at most 8 KiB.

// Only the characters of base64url and dots are accepted, in every position.
func TestR1Bytes(t *testing.T) {
	f := newForger(t)
	parts := strings.Split(f.genuine, ".")
	forgeries := map[string]string{}
	for _, stranger := range []string{
		"\n", "\r", "\r\n", "\t", " ", "=", "==", "+", "/", "\x00", "\x7f", "\x80", "\xff", ",", "~", "%3D", "é", "\u200b", "．", "\ufeff",
	} {
		for i, part := range parts {
			for where, at := range map[string]int{"before": 0, "inside": len(part) / 2, "after": len(part)} {
				changed := append([]string(nil), parts...)
				changed[i] = part[:at] + stranger + part[at:]
				name := fmt.Sprintf("%q %s segment %d", stranger, where, i+1)
				if i < 2 { // with a valid signature, so that only the byte is wrong
					forgeries[name+", signed"] = signHMAC(sha256.New, secret, changed[0], changed[1])
				}
				if where == "inside" || !strings.Contains(" \t\r\n", stranger) { // an HTTP header may have spaces around the token
					forgeries[name] = strings.Join(changed, ".")
				}
			}
		}
	}
	f.rejects("R1 bytes", forgeries)
}

// Several last characters decode to the same bytes. Only the canonical one is accepted, so a token has one encoding.
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
	for stray, more := range []string{"", " ", "  "} { // 0, 2 and 4 unused bits in some order: 1, 4 and 16 encodings
		head, payload := segment(ourHeader+more), segment(f.members.object()+more)
		offer(fmt.Sprint("header ", stray), head, func(s string) string { return signHMAC(sha256.New, secret, s, payload) })
		offer(fmt.Sprint("payload ", stray), payload, func(s string) string { return signHMAC(sha256.New, secret, head, s) })
	}
	signed, signature := f.genuine[:strings.LastIndex(f.genuine, ".")+1], f.genuine[strings.LastIndex(f.genuine, ".")+1:]
	offer("signature", signature, func(s string) string { return signed + s })
	if want := 2*(15+3) + 3; len(forgeries) != want {
		t.Fatalf("%d forgeries, want %d", len(forgeries), want)
	}
	f.rejects("R1 canonical base64url", forgeries)
}

func TestR1Segments(t *testing.T) {
	f := newForger(t)
	parts := strings.Split(f.genuine, ".")
	head, payload, signature := parts[0], parts[1], parts[2]
	signed := func(header, payload string) string { return signHMAC(sha256.New, secret, header, payload) }
	flipped := []byte(signature)
	flipped[0] ^= 1
	f.rejects("R1 segments", map[string]string{
		"one dot":                   ".",
		"two dots":                  "..",
		"three dots":                "...",
		"a word":                    "null",
		"one":                       head,
		"two":                       head + "." + payload,
		"four":                      f.genuine + "." + signature,
		"five":                      f.genuine + "." + payload + "." + signature,
		"trailing dot":              f.genuine + ".",
		"leading dot":               "." + f.genuine,
		"no header":                 "." + payload + "." + signature,
		"no payload":                head + ".." + signature,
		"no signature":              head + "." + payload + ".",
		"no header, signed":         signed("", payload),
		"no payload, signed":        signed(head, ""),
		"neither, signed":           signed("", ""),
		"signature truncated":       f.genuine[:len(f.genuine)-1],
		"signature halved":          f.genuine[:len(f.genuine)-len(signature)/2],
		"signature stretched":       f.genuine + "AAAA",
		"signature twice":           f.genuine + signature,
		"signature changed":         head + "." + payload + "." + string(flipped),
		"another token's signature": head + "." + payload + "." + strings.Split(login(t, f.auth), ".")[2],
		"segments swapped":          signed(payload, head),
		"one letter, signed":        signed("A", payload),
		"one letter, signed 2":      signed(head, "A"),
		"the token twice":           f.genuine + f.genuine,
		"scheme in the token":       "Bearer." + payload + "." + signature,
	})
	for step, call := range steps(f.auth) {
		if err := call(t.Context(), ""); !hasCode(err, middleware.CodeTokenInvalid) {
			t.Errorf("R1: %s of the empty text: %v", step, err)
		}
	}
}

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
	f.rejects("R1: over 8 KiB", map[string]string{
		"8193 bytes":  larger,
		"100 KiB":     sized(100 << 10),
		"1 MiB":       sized(1 << 20),
		"1 MiB of x":  strings.Repeat("x", 1<<20),
		"1 MiB of .":  strings.Repeat(".", 1<<20),
		"1 MiB added": f.genuine + strings.Repeat("A", 1<<20),
	})
}

// Verify and Refresh accept the longest token that Issue returns.
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
				t.Errorf("R1: a token that is too long: %q, error %v, want an error that states the limit", tokens.AccessToken, err)
			}
			break
		}
		if n++; len(tokens.AccessToken) > maxToken {
			t.Fatalf("R1: Issue returns a token of %d bytes", len(tokens.AccessToken))
		}
	}
	text := issue(t, auth, padded(n-1))
	if len(text) <= maxToken-4 {
		t.Errorf("R1: the longest token has %d bytes, want almost %d", len(text), maxToken)
	}
	verify(t, auth, refresh(t, auth, text))
}
