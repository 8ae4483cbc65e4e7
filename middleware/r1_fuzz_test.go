package middleware_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// R1: fuzzed, and compared with golang-jwt.

// blank is a store without records, as at the start of every input. The seeds are older than the worker of the fuzzer that runs
// them, so it must not say since when it has forgotten nothing (R20).
type blank struct{}

func (blank) Get(_ context.Context, keys ...string) ([]string, time.Time, error) {
	return make([]string, len(keys)), time.Time{}, nil
}

func (blank) CompareAndSwap(context.Context, string, string, string, time.Time) (bool, error) {
	return true, nil
}

func newBlankAuth(f *testing.F) *middleware.Auth {
	return newAuth(f, func(c *middleware.Config) { c.Store = blank{} })
}

// No text makes Verify panic, and every accepted text has a valid signature.
func FuzzDecode(f *testing.F) {
	auth := newBlankAuth(f)
	genuine := login(f, auth)
	verify(f, auth, genuine)
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
			t.Fatalf("R1: accepted %q, whose signature is not valid", text)
		}
		agreesWithGolangJWT(t, text, claims)
	})
}

// With a valid signature on any header and payload nothing panics, and golang-jwt reads the same claims from an
// accepted token and from its successor.
func FuzzDecodeSigned(f *testing.F) {
	auth := newBlankAuth(f)
	m := membersOf(f, login(f, auth)).with("exp", "4102444800").with("refresh_exp", "4102444800")
	verify(f, auth, forge(ourHeader, m.object()))
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
		text := forge(header, payload)
		claims, err := auth.Verify(t.Context(), text)
		if err != nil {
			return
		}
		agreesWithGolangJWT(t, text, claims)
		if written, err := claims.MarshalJSON(); err != nil || string(written) != payload {
			t.Fatalf("MarshalJSON returns %q, %v, want %q", written, err, payload)
		}
		if tokens, err := auth.Refresh(t.Context(), text); err == nil {
			agreesWithGolangJWT(t, tokens.AccessToken, tokens.Claims)
		}
	})
}

// strict is golang-jwt with its strictest settings, and the leeway of R2.
var strict = jwt.NewParser(jwt.WithValidMethods([]string{"HS256"}), jwt.WithStrictDecoding(), jwt.WithExpirationRequired(),
	jwt.WithIssuedAt(), jwt.WithLeeway(30*time.Second), jwt.WithJSONNumber())

func ourKey(*jwt.Token) (any, error) { return secret, nil }

// agreesWithGolangJWT checks that golang-jwt reads the same claims from a token that Verify accepts.
func agreesWithGolangJWT(t *testing.T, text string, claims middleware.Claims) {
	t.Helper()
	theirs, err := strict.Parse(text, ourKey)
	if err != nil {
		t.Fatalf("R1: accepted %q, which golang-jwt rejects: %v", text, err)
	}
	subject, _ := theirs.Claims.GetSubject()
	exp, err := theirs.Claims.GetExpirationTime()
	if subject != claims.Subject || err != nil || exp == nil || !exp.Equal(claims.ExpiresAt) {
		t.Fatalf("R1: subject %q and expiry %v, golang-jwt reads %q and %v", claims.Subject, claims.ExpiresAt, subject, exp)
	}
}

// golang-jwt accepts our tokens, and Verify accepts a token that golang-jwt signs.
func TestInterop(t *testing.T) {
	auth := newAuth(t, func(c *middleware.Config) { c.Issuer, c.Audience = "https://we.example", "api" })
	text := issue(t, auth, middleware.Identity{Subject: "admin", Claims: trickyClaims})
	for range 2 {
		theirs, err := jwt.Parse(text, ourKey, jwt.WithValidMethods([]string{"HS256"}), jwt.WithStrictDecoding(), jwt.WithExpirationRequired(),
			jwt.WithIssuedAt(), jwt.WithIssuer("https://we.example"), jwt.WithAudience("api"), jwt.WithSubject("admin"), jwt.WithJSONNumber())
		if err != nil {
			t.Fatal("golang-jwt rejects our token:", err)
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
	if claims := verify(t, auth, made); !reflect.DeepEqual(decodedClaims(t, claims), decoded(t, jsonOf(t, trickyClaims))) {
		t.Errorf("the claims of a token from golang-jwt are %v", decodedClaims(t, claims))
	}
}
