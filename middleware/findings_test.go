package middleware_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// This file has a test for each finding of an attack on the first edition.

// A service that introspects whatever it receives as a bearer token must not be told that a refresh token is good.
func TestIntrospectionOfRefreshTokensNeedsTheHint(t *testing.T) {
	for mode, inMode := range modes {
		auth := newAuth(t, inMode, noGrace)
		s := listen(t, sharedRoutes(auth))
		tokens := begin(t, auth, middleware.Identity{Claims: gin.H{"token_type": "Bearer"}})
		for hint, edit := range map[string]func(text string) edit{
			"":                       func(text string) edit { return body(form, "token="+text) },
			"access_token":           func(text string) edit { return body(form, "token="+text+"&token_type_hint=access_token") },
			"unknown":                func(text string) edit { return body(form, "token_type_hint=pop&token="+text) },
			"another case":           func(text string) edit { return body(form, "token_type_hint=Refresh_Token&token="+text) },
			"refresh_token":          func(text string) edit { return body(form, "token_type_hint=refresh_token&token="+text) },
			"refresh_token, behind":  func(text string) edit { return body(form, "token="+text+"&token_type_hint=refresh_token") },
			"refresh_token, in JSON": func(text string) edit { return jsonBody(`{"token":"` + text + `","token_type_hint":"refresh_token"}`) },
			"unknown, in JSON":       func(text string) edit { return jsonBody(`{"token_type_hint":"jwt","token":"` + text + `"}`) },
			"in the URL": func(text string) edit {
				return func(r *http.Request) { r.URL.RawQuery = "token_type_hint=refresh_token"; body(form, "token="+text)(r) }
			},
		} {
			r := s.send("POST", "/introspect", edit(tokens.AccessToken))
			if fields := r.fields(t); fields["active"] != true || fields["token_type"] != "Bearer" {
				t.Errorf("%s: an access token with the hint %q: %s", mode, hint, r.body)
			}
			if tokens.RefreshToken == "" {
				continue
			}
			r = s.send("POST", "/introspect", edit(tokens.RefreshToken))
			fields := r.fields(t)
			if !strings.HasPrefix(hint, "refresh_token") {
				if r.body != `{"active":false}` {
					t.Errorf("a refresh token with the hint %q: %s", hint, r.body)
				}
				continue
			}
			if _, typed := fields["token_type"]; fields["active"] != true || fields["sub"] != "admin" || typed {
				t.Errorf("a refresh token with the hint %q: %s", hint, r.body)
			}
		}
		// Active means that it could be refreshed.
		renew(t, auth, tokens)
		inactive(t, "a replaced token", s, renewable(tokens))
	}
}

// A hint that cannot be read is an error in a question, and none in a logout.
func TestIntrospectionHintIsReadStrictly(t *testing.T) {
	for name, edit := range map[string]func(text string) edit{
		"twice": func(text string) edit {
			return body(form, "token="+text+"&token_type_hint=a&token_type_hint=refresh_token")
		},
		"JSON, a number": func(text string) edit { return jsonBody(`{"token":"` + text + `","token_type_hint":1}`) },
		"JSON, null":     func(text string) edit { return jsonBody(`{"token":"` + text + `","token_type_hint":null}`) },
	} {
		auth := newAuth(t, pair)
		s := listen(t, sharedRoutes(auth))
		tokens := begin(t, auth, middleware.Identity{})
		s.send("POST", "/introspect", edit(tokens.RefreshToken)).refused(t, middleware.CodeBadRequest)
		if r := s.send("POST", "/revoke", edit(tokens.RefreshToken)); r.status != http.StatusOK {
			t.Errorf("%s: the revocation is answered %d %s", name, r.status, r.body)
		}
		verifies(t, name, auth, tokens.AccessToken, middleware.CodeTokenRevoked)
	}
}

const maxForm = 64 << 10

// padded is a form of the given size with the token at its end.
func padded(text string, size int) string {
	end := "&message=hello&jwt=" + text
	return "a=" + strings.Repeat("x", size-len("a=")-len(end)) + end
}

// countedBody counts the bytes that were read of a body.
type countedBody struct {
	io.Reader
	n int
}

func (c *countedBody) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.n += n
	return n, err
}

func (c *countedBody) Close() error { return nil }

func TestFormSourceIsBounded(t *testing.T) {
	auth := newAuth(t, func(c *middleware.Config) {
		c.Sources = []middleware.Source{middleware.FromForm("jwt"), middleware.FromHeader("Authorization", "Bearer")}
	})
	r := gin.New()
	for path, guard := range map[string]gin.HandlerFunc{"/required": auth.Required(), "/optional": auth.Optional(), "/autorefresh": auth.AutoRefresh(time.Minute)} {
		r.Any(path, guard, func(c *gin.Context) { c.String(http.StatusOK, c.PostForm("message")) })
	}
	s := direct(t, r)
	text := login(t, auth)
	for _, path := range []string{"/required", "/optional", "/autorefresh"} {
		for _, method := range []string{"POST", "PUT", "PATCH"} {
			for _, contentType := range []string{form, form + "; charset=utf-8", "Application/X-WWW-Form-Urlencoded"} {
				for _, size := range []int{1 << 10, maxForm, maxForm + 1, 9 << 20} {
					read := &countedBody{Reader: strings.NewReader(padded(text, size))}
					got := s.send(method, path, func(r *http.Request) {
						r.Header.Set("Content-Type", contentType)
						r.Body, r.ContentLength = read, -1
					})
					if size <= maxForm && got.body != "hello" {
						t.Fatalf("%s %s: a form of %d bytes: %d %s", method, path, size, got.status, got.body)
					}
					if size > maxForm {
						got.refused(t, middleware.CodeBadRequest)
					}
					if read.n > maxForm+1 {
						t.Fatalf("%s %s: %d of %d bytes were read", method, path, read.n, size)
					}
				}
			}
		}
	}
}

// The bound is for forms: what the handler reads itself may be as long as it likes.
func TestFormSourceLeavesOtherBodies(t *testing.T) {
	header, field := middleware.FromHeader("Authorization", "Bearer"), middleware.FromForm("jwt")
	const size = 5 << 20
	upload := `{"data":"` + strings.Repeat("x", size) + `"}`
	for order, list := range map[string][]middleware.Source{"header first": {header, field}, "form first": {field, header}} {
		auth := newAuth(t, func(c *middleware.Config) { c.Sources = list })
		r := gin.New()
		r.Any("/", auth.Required(), func(c *gin.Context) {
			all, err := io.ReadAll(c.Request.Body)
			c.String(http.StatusOK, "%d %v", len(all), err)
		})
		s := listen(t, r)
		text := login(t, auth)
		want := fmt.Sprintf("%d <nil>", len(upload))
		for _, contentType := range []string{"application/json", "application/octet-stream", "text/plain; charset", "multipart/form-data", "image/png", "not a type", ""} {
			for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
				if got := s.send(method, "/", bearer(text), body(contentType, upload)); got.body != want {
					t.Errorf("%s: %s of %q: %d %s, want %s", order, method, contentType, got.status, got.body, want)
				}
			}
		}
		// ParseForm does not read the body of such a request either.
		if got := s.send("DELETE", "/", bearer(text), body(form, upload)); got.body != want {
			t.Errorf("%s: a form with DELETE: %d %s, want %s", order, got.status, got.body, want)
		}
	}
}

// widened is ourHeader with spaces, so that its segment has the given length.
func widened(t *testing.T, size int) string {
	t.Helper()
	header := ourHeader + strings.Repeat(" ", size*3/4-len(ourHeader))
	if got := len(segment(header)); got != size {
		t.Fatalf("the segment has %d characters, want %d", got, size)
	}
	return header
}

// crowded is a header with many members.
func crowded(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"%d":0,`, i)
	}
	return "{" + b.String() + strings.TrimPrefix(ourHeader, "{")
}

func TestLongHeadersAreNotParsed(t *testing.T) {
	f := newForger(t)
	f.accepts("R1 header", map[string]string{"of 512 characters": forge(widened(t, 512), f.members.object())})
	f.refuses("R1 header", map[string]string{
		"of 514 characters": forge(widened(t, 514), f.members.object()),
		"of 700 members":    forge(crowded(700), f.members.object()),
	})

}

// A forger with a long header gets no more work done than one with a short one.
func TestLongHeadersTakeNoWork(t *testing.T) {
	auth := newAuth(t)
	work := func(header string) float64 {
		text := forge(header, "{}") + "A"
		return testing.AllocsPerRun(100, func() { _, _ = auth.Verify(t.Context(), text) })
	}
	plain := work(ourHeader)
	for _, n := range []int{60, 200, 700} {
		if got := work(crowded(n)); got > plain+2 {
			t.Errorf("R1: a forged token with %d members in its header takes %v allocations, a plain one %v", n, got, plain)
		}
	}
	if got := work(crowded(40)); got > 60 { // nearly as many as the limit allows
		t.Errorf("R1: the longest header takes %v allocations", got)
	}
}

func TestKeyIDsThatAreTooLong(t *testing.T) {
	for name, row := range map[string]struct {
		id string
		ok bool
	}{
		"340 characters":         {strings.Repeat("x", 340), true},
		"341 characters":         {strings.Repeat("x", 341), false},
		"56 control characters":  {strings.Repeat("\x01", 56), true}, // 6 bytes each
		"57 control characters":  {strings.Repeat("\x01", 57), false},
		"170 escaped quotes":     {strings.Repeat(`"`, 170), true}, // 2 bytes each
		"171 escaped quotes":     {strings.Repeat(`"`, 171), false},
		"113 characters of UTF8": {strings.Repeat("漢", 113), true}, // 3 bytes each
		"114 characters of UTF8": {strings.Repeat("漢", 114), false},
	} {
		for mode, inMode := range modes {
			key := hs256(row.id, secret)
			auth, err := middleware.New(newConfig(t, inMode, keys(key)))
			if !row.ok {
				swapped := newAuth(t, inMode).SetKeys([]middleware.Key{key})
				for what, err := range map[string]error{"New": err, "SetKeys": swapped} {
					if err == nil || !strings.Contains(err.Error(), "Keys[0]") || !strings.Contains(err.Error(), "ID is too long") || !strings.Contains(err.Error(), "512") {
						t.Errorf("R15: %s, %s: %s says %v", name, mode, what, err)
					}
				}
				continue
			}
			if err != nil {
				t.Errorf("%s, %s: %v", name, mode, err)
				continue
			}
			tokens := begin(t, auth, middleware.Identity{})
			verify(t, auth, tokens.AccessToken)
			if head := headerOf(t, renewable(renew(t, auth, tokens))); head["kid"] != row.id {
				t.Errorf("%s, %s: the header is %v", name, mode, head)
			}
		}
	}
}

// RFC 6750 §2.3 for both kinds of URL that have a token in them.
func TestURLAnswersArePrivate(t *testing.T) {
	auth := newAuth(t, sources(spots))
	s := listen(t, sharedRoutes(auth))
	text := login(t, auth)
	for path, want := range map[string]string{
		"/in/" + text + "/path":            "private",
		"/in/a.b.c/path":                   "private",
		"/required?jwt=" + text:            "private",
		"/required?jwt=a.b.c":              "private",
		"/required?jwt=a.b.c&jwt=" + text:  "private",
		"/required?other=1":                "",
		"/optional?jwt=":                   "",
		"/optional?other=" + text + "&jwt": "",
	} {
		if got := s.send("GET", path).header.Get("Cache-Control"); got != want {
			t.Errorf("Cache-Control is %q for %.20s, want %q", got, path, want)
		}
	}
	if got := s.send("GET", "/required", bearer(text)).header.Get("Cache-Control"); got != "" {
		t.Errorf("Cache-Control is %q for a token in the header", got)
	}
}

// printed is what a value looks like in any log: by every verb of fmt, and by log/slog.
func printed(value any, handlers ...func(io.Writer) slog.Handler) string {
	var b bytes.Buffer
	formats := []string{"no verb at all\n"}
	for _, verb := range []string{"v", "s", "q", "x", "X", "d", "o", "O", "b", "c", "U", "e", "f", "g", "t", "T", "z"} {
		for _, flags := range []string{"", "+", "#", " ", "-300", "0300", ".100", "#+ "} {
			formats = append(formats, "%"+flags+verb+"\n")
		}
	}
	for _, format := range formats {
		fmt.Fprintf(&b, format, value)
	}
	fmt.Fprintln(&b, value)
	fmt.Fprintln(&b, fmt.Errorf("wrapped: %v", value))
	for _, handler := range handlers {
		log := slog.New(handler(&b))
		log.Info("x", "value", value)
		log.With("value", value).WithGroup("group").Info("x", slog.Group("inner", "value", value))
	}
	return b.String()
}

// withoutTime leaves out the time of the log.
var withoutTime = &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}}

func textLog(w io.Writer) slog.Handler { return slog.NewTextHandler(w, withoutTime) }
func jsonLog(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, withoutTime) }

// Two keys that differ in nothing but the secret look the same, wherever they are.
func TestPrintedKeysShowNoSecret(t *testing.T) {
	memory := newMemory(t)
	holders := map[string]func(k middleware.Key) any{
		"key":      func(k middleware.Key) any { return k },
		"pointer":  func(k middleware.Key) any { return &k },
		"slice":    func(k middleware.Key) any { return []middleware.Key{k} },
		"pointers": func(k middleware.Key) any { return []*middleware.Key{&k} },
		"array":    func(k middleware.Key) any { return [1]middleware.Key{k} },
		"map":      func(k middleware.Key) any { return map[string]middleware.Key{"a": k} },
		"any":      func(k middleware.Key) any { return []any{k, &k} },
		"field":    func(k middleware.Key) any { return struct{ Signing middleware.Key }{k} },
		"embedded": func(k middleware.Key) any { return struct{ middleware.Key }{k} },
		"Config": func(k middleware.Key) any {
			return middleware.Config{Keys: []middleware.Key{k}, Store: memory, Pair: true}
		},
		"&Config":    func(k middleware.Key) any { return &middleware.Config{Keys: []middleware.Key{k}, Store: memory} },
		"in Configs": func(k middleware.Key) any { return []middleware.Config{{Keys: []middleware.Key{k, k}}} },
		"our Config": func(k middleware.Key) any {
			return struct {
				middleware.Config
				Port int
			}{middleware.Config{Keys: []middleware.Key{k}}, 8080}
		},
	}
	for name, pair := range map[string][2]any{
		"secret":   {secret, bytes.Repeat([]byte("another secret"), 3)},
		"text":     {"a secret by mistake", "another one"},
		"RSA":      {rsaKey(), shortRSA()},
		"EC":       {p256(), p384()},
		"Ed25519":  {edKey(), edKey()[:10]},
		"by value": {*p256(), *p384()},
	} {
		for holder, hold := range holders {
			var texts [2]string
			for i, material := range pair {
				texts[i] = printed(hold(middleware.Key{ID: "name of key", Algorithm: middleware.HS256, Key: material}), textLog, jsonLog)
			}
			if texts[0] != texts[1] {
				t.Errorf("a %s in a %s is printed: %s", name, holder, difference(texts))
			}
			if !strings.Contains(texts[0], "name of key") || !strings.Contains(texts[0], "HS256") {
				t.Errorf("a %s: neither ID nor Algorithm is printed: %.500s", holder, texts[0])
			}
		}
	}
	if text, err := json.Marshal(&middleware.Key{ID: "a", Algorithm: middleware.HS256, Key: secret}); string(text) != `{"ID":"a","Algorithm":"HS256"}` {
		t.Errorf("as JSON: %s, %v", text, err)
	}
	if got := fmt.Sprint((*middleware.Key)(nil)); got != "<nil>" {
		t.Errorf("a nil Key is printed as %s", got)
	}
}

// difference is the first line in which two texts differ.
func difference(texts [2]string) string {
	theirs := strings.Split(texts[1], "\n")
	for i, line := range strings.Split(texts[0], "\n") {
		if i >= len(theirs) || line != theirs[i] {
			return fmt.Sprintf("%.300q", line)
		}
	}
	return ""
}

func TestPrintedTokensShowNoToken(t *testing.T) {
	auth := newAuth(t, pair)
	tokens := begin(t, auth, middleware.Identity{Subject: "alice"})
	other := tokens
	other.AccessToken, other.RefreshToken = "x.y.z", ""
	for holder, hold := range map[string]func(t middleware.Tokens) any{
		"tokens":   func(t middleware.Tokens) any { return t },
		"pointer":  func(t middleware.Tokens) any { return &t },
		"slice":    func(t middleware.Tokens) any { return []middleware.Tokens{t} },
		"map":      func(t middleware.Tokens) any { return map[string]middleware.Tokens{"a": t} },
		"pointers": func(t middleware.Tokens) any { return map[string]*middleware.Tokens{"a": &t} },
		"any":      func(t middleware.Tokens) any { return []any{t, &t} },
		"field":    func(t middleware.Tokens) any { return struct{ Tokens middleware.Tokens }{t} },
		"embedded": func(t middleware.Tokens) any { return struct{ middleware.Tokens }{t} },
	} {
		handlers := []func(io.Writer) slog.Handler{textLog}
		if holder == "tokens" || holder == "pointer" || holder == "embedded" {
			handlers = append(handlers, jsonLog) // for the others it uses encoding/json
		}
		texts := [2]string{printed(hold(tokens), handlers...), printed(hold(other), handlers...)}
		if texts[0] != texts[1] {
			t.Errorf("%s: a token is printed: %s", holder, difference(texts))
		}
		for _, word := range []string{"alice", tokens.Claims.SessionID, tokens.ExpiresAt.Format(time.RFC3339), tokens.RefreshUntil.Format(time.RFC3339)} {
			if !strings.Contains(texts[0], word) {
				t.Errorf("%s: %s is not printed: %.500s", holder, word, texts[0])
			}
		}
	}
	// JSON is what a handler answers with: it has the tokens.
	for _, value := range []any{tokens, &tokens, map[string]middleware.Tokens{"a": tokens}} {
		if text, err := json.Marshal(value); err != nil || !bytes.Contains(text, []byte(tokens.AccessToken)) || !bytes.Contains(text, []byte(tokens.RefreshToken)) {
			t.Errorf("as JSON: %s, %v", text, err)
		}
	}
}

// Claims point to what they were read from. The payload is no secret, but with its signature it is a token.
func TestPrintedClaimsShowNoToken(t *testing.T) {
	auth := newAuth(t)
	text := login(t, auth)
	for range 3 { // the third time they come from the cache
		claims := verify(t, auth, text)
		for _, value := range []any{claims, &claims, []middleware.Claims{claims}, map[string]any{"a": claims}, struct{ C *middleware.Claims }{&claims}} {
			shown := printed(value, textLog, jsonLog)
			_, signature, _ := cutLast(text, ".")
			for _, form := range []string{signature, hex.EncodeToString([]byte(signature)), strings.ToUpper(hex.EncodeToString([]byte(signature))), strings.Trim(fmt.Sprint([]byte(signature)), "[]")} {
				if strings.Contains(shown, form) {
					t.Fatalf("%T shows the signature as %s", value, form)
				}
			}
		}
	}
}

// referenceRFC6979 is §3.2 of RFC 6979, step by step.
func referenceRFC6979(curve elliptic.Curve, point ecdh.Curve, hash crypto.Hash, private []byte, message string) (r, s *big.Int) {
	n := curve.Params().N
	size := (n.BitLen() + 7) / 8
	toInt := func(b []byte) *big.Int {
		i := new(big.Int).SetBytes(b)
		return i.Rsh(i, uint(max(0, len(b)*8-n.BitLen())))
	}
	mac := func(key []byte, parts ...[]byte) []byte {
		h := hmac.New(hash.New, key)
		for _, part := range parts {
			h.Write(part)
		}
		return h.Sum(nil)
	}
	digest := hash.New()
	digest.Write([]byte(message))
	h := toInt(digest.Sum(nil))
	reduced := new(big.Int).Mod(h, n).FillBytes(make([]byte, size))
	k, v := make([]byte, hash.Size()), bytes.Repeat([]byte{1}, hash.Size())
	for _, step := range []byte{0, 1} {
		k = mac(k, v, []byte{step}, private, reduced)
		v = mac(k, v)
	}
	for {
		var t []byte
		for len(t) < size {
			v = mac(k, v)
			t = append(t, v...)
		}
		if nonce := toInt(t[:size]); nonce.Sign() > 0 && nonce.Cmp(n) < 0 {
			scalar := made(point.NewPrivateKey(nonce.FillBytes(make([]byte, size))))
			r = new(big.Int).SetBytes(scalar.PublicKey().Bytes()[1 : 1+size])
			r.Mod(r, n)
			s = new(big.Int).Mul(r, new(big.Int).SetBytes(private))
			s.Add(s, h).Mul(s, nonce.ModInverse(nonce, n)).Mod(s, n)
			return r, s
		}
		k = mac(k, v, []byte{0})
		v = mac(k, v)
	}
}

// vectorsRFC6979 are those of A.2.5, A.2.6 and A.2.7 with the hash of the JWS algorithm.
var vectorsRFC6979 = []struct {
	algorithm  middleware.Algorithm
	curve      elliptic.Curve
	point      ecdh.Curve
	hash       crypto.Hash
	private    string
	signatures map[string][2]string
}{
	{
		middleware.ES256, elliptic.P256(), ecdh.P256(), crypto.SHA256,
		"C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721",
		map[string][2]string{
			"sample": {
				"EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716",
				"F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8",
			},
			"test": {
				"F1ABB023518351CD71D881567B1EA663ED3EFCF6C5132B354F28D3B0B7D38367",
				"019F4113742A2B14BD25926B49C649155F267E60D3814B4C0CC84250E46F0083",
			},
		},
	},
	{
		middleware.ES384, elliptic.P384(), ecdh.P384(), crypto.SHA384,
		"6B9D3DAD2E1B8C1C05B19875B6659F4DE23C3B667BF297BA9AA47740787137D896D5724E4C70A825F872C9EA60D2EDF5",
		map[string][2]string{
			"sample": {
				"94EDBB92A5ECB8AAD4736E56C691916B3F88140666CE9FA73D64C4EA95AD133C81A648152E44ACF96E36DD1E80FABE46",
				"99EF4AEB15F178CEA1FE40DB2603138F130E740A19624526203B6351D0A3A94FA329C145786E679E7B82C71A38628AC8",
			},
			"test": {
				"8203B63D3C853E8D77227FB377BCF7B7B772E97892A80F36AB775D509D7A5FEB0542A7F0812998DA8F1DD3CA3CF023DB",
				"DDD0760448D42D8A43AF45AF836FCE4DE8BE06B485E9B61B827C2F13173923E06A739F040649A667BF3B828246BAA5A5",
			},
		},
	},
	{
		middleware.ES512, elliptic.P521(), ecdh.P521(), crypto.SHA512,
		"00FAD06DAA62BA3B25D2FB40133DA757205DE67F5BB0018FEE8C86E1B68C7E75CAA896EB32F1F47C70855836A6D16FCC1466F6D8FBEC67DB89EC0C08B0E996B83538",
		map[string][2]string{
			"sample": {
				"00C328FAFCBD79DD77850370C46325D987CB525569FB63C5D3BC53950E6D4C5F174E25A1EE9017B5D450606ADD152B534931D7D4E8455CC91F9B15BF05EC36E377FA",
				"00617CCE7CF5064806C467F678D3B4080D6F1CC50AF26CA209417308281B68AF282623EAA63E5B5C0723D8B8C37FF0777B1A20F8CCB1DCCC43997F1EE0E44DA4A67A",
			},
			"test": {
				"013E99020ABF5CEE7525D16B69B229652AB6BDF2AFFCAEF38773B4B7D08725F10CDB93482FDCC54EDCEE91ECA4166B2A7C6265EF0CE2BD7051B7CEF945BABD47EE6D",
				"01FBD0013C674AA79CB39849527916CE301C66EA7CE8B80682786AD60F98F7E78A19CA69EFF5C57400E3B3A0AD66CE0978214D13BAF4E9AC60752F7B155E2DE4DCE3",
			},
		},
	},
}

// The vectors prove the reference, and the reference proves our tokens, which cannot say "sample".
func TestECDSASignsByRFC6979(t *testing.T) {
	for _, v := range vectorsRFC6979 {
		t.Run(string(v.algorithm), func(t *testing.T) {
			private := made(hex.DecodeString(v.private))
			for message, want := range v.signatures {
				r, s := referenceRFC6979(v.curve, v.point, v.hash, private, message)
				if got := fmt.Sprintf("%0*X %0*X", len(v.private), r, len(v.private), s); got != want[0]+" "+want[1] {
					t.Fatalf("the reference signs %q with %s", message, got)
				}
			}
			key := middleware.Key{Algorithm: v.algorithm, Key: made(ecdsa.ParseRawPrivateKey(v.curve, private))}
			auth := newAuth(t, pair, keys(key))
			verifiedByGolangJWT(t, login(t, auth), key)
			// r and s have a fixed width (RFC 7518 §3.4): go on until each of them began with a zero. That takes one
			// token in 2 on P-521 and one in 256 on the others, so once is enough for these.
			zeros := [2]bool{}
			for n := 0; n < 20 || v.algorithm != middleware.ES384 && zeros != [2]bool{true, true}; n++ {
				tokens := begin(t, auth, middleware.Identity{})
				for _, text := range []string{tokens.AccessToken, tokens.RefreshToken} {
					signed, signature, _ := cutLast(text, ".")
					r, s := referenceRFC6979(v.curve, v.point, v.hash, private, signed)
					want := slices.Concat(r.FillBytes(make([]byte, len(private))), s.FillBytes(make([]byte, len(private))))
					if signature != segment(string(want)) {
						t.Fatalf("the signature is %s, want %s", signature, segment(string(want)))
					}
					zeros[0] = zeros[0] || want[0] == 0
					zeros[1] = zeros[1] || want[len(private)] == 0
				}
				verify(t, auth, tokens.AccessToken)
			}
		})
	}
}

// R7 to the letter: all who refresh a replaced token within the grace hold the same text.
func TestR7SuccessorsAreIdentical(t *testing.T) {
	for alg, key := range signers() {
		salted := strings.HasPrefix(string(alg), "PS")
		for mode, inMode := range modes {
			auth := newAuth(t, inMode, keys(key))
			first := begin(t, auth, middleware.Identity{Claims: hard})
			want := renew(t, auth, first)
			for range 3 {
				got := renew(t, auth, first)
				for what, texts := range map[string][2]string{"access": {got.AccessToken, want.AccessToken}, "refresh": {got.RefreshToken, want.RefreshToken}} {
					head, _, _ := cutLast(texts[0], ".")
					wantHead, _, _ := cutLast(texts[1], ".")
					if head != wantHead || texts[0] != texts[1] && !salted {
						t.Errorf("R7: %s, %s: the %s tokens differ: %s and %s", alg, mode, what, texts[0], texts[1])
					}
				}
				if salted && got.AccessToken == want.AccessToken {
					t.Errorf("%s, %s: two signatures have one salt", alg, mode)
				}
			}
		}
	}
}

// audiences are values of aud and whether our "api" is in them, and whether they are well-formed at all.
var audiences = map[string]struct{ ours, valid bool }{
	`"api"`:                     {true, true},
	`"\u0061pi"`:                {true, true},
	`"web"`:                     {false, true},
	`""`:                        {false, true},
	`"API"`:                     {false, true},
	`"Api"`:                     {false, true},
	`"apI"`:                     {false, true},
	`"ap"`:                      {false, true},
	`"pi"`:                      {false, true},
	`"a"`:                       {false, true},
	`"apis"`:                    {false, true},
	`"api/"`:                    {false, true},
	`"xapi"`:                    {false, true},
	`" api"`:                    {false, true},
	`"api "`:                    {false, true},
	`"api\u0000"`:               {false, true},
	`"web api"`:                 {false, true},
	`"web,api"`:                 {false, true},
	`"[\"api\"]"`:               {false, true},
	`["api"]`:                   {true, true},
	`["\u0061pi"]`:              {true, true},
	`["api","web"]`:             {true, true},
	`["web","api"]`:             {true, true},
	`["web","api","app"]`:       {true, true},
	`[ "web" , "api" ]`:         {true, true},
	`["api","api"]`:             {true, true},
	`["","api"]`:                {true, true},
	`["web","app"]`:             {false, true},
	`["web"]`:                   {false, true},
	`[""]`:                      {false, true},
	`[]`:                        {false, true},
	`["API"]`:                   {false, true},
	`["ap","i"]`:                {false, true},
	`["ap","pi","apis"," api"]`: {false, true},
	`["xapi","api/"]`:           {false, true},
	`[["api"]]`:                 {false, false},
	`["api",["api"]]`:           {false, false},
	`[[],"api"]`:                {false, false},
	`["api",null]`:              {false, false},
	`[null,"api"]`:              {false, false},
	`[null]`:                    {false, false},
	`["api",1]`:                 {false, false},
	`[1,"api"]`:                 {false, false},
	`[0]`:                       {false, false},
	`["api",true]`:              {false, false},
	`["api",{}]`:                {false, false},
	`[{"api":"api"}]`:           {false, false},
	`null`:                      {false, false},
	`1`:                         {false, false},
	`0`:                         {false, false},
	`true`:                      {false, false},
	`{}`:                        {false, false},
	`{"api":"api"}`:             {false, false},
}

func TestAudiences(t *testing.T) {
	for mode, inMode := range modes {
		strict, any := newAuth(t, inMode, func(c *middleware.Config) { c.Audience = "api" }), newAuth(t, inMode)
		tokens := begin(t, strict, middleware.Identity{})
		check := func(aud, object string, ours, valid bool) {
			t.Helper()
			for auth, accepted := range map[*middleware.Auth]bool{strict: ours, any: valid} {
				code := middleware.CodeTokenInvalid
				if accepted {
					code = ""
				}
				verifies(t, fmt.Sprintf("R1: %s, %s where %v", mode, aud, auth == strict), auth, forge(ourHeader, object), code)
			}
		}
		access := membersOf(t, tokens.AccessToken)
		for aud, row := range audiences {
			check(aud, access.with("aud", aud).object(), row.ours, row.valid)
		}
		none := access.without("aud")
		check("no aud", none.object(), false, true)
		for _, more := range [][]string{
			{`"aud":"api"`, `"aud":"api"`}, {`"aud":"api"`, `"aud":"web"`}, {`"aud":"web"`, `"aud":"api"`},
			{`"aud":["web"]`, `"aud":["api"]`}, {`"aud":"api"`, `"\u0061ud":"api"`}, {`"aud":[]`, `"aud":"api"`},
		} {
			check(fmt.Sprint(more), none.object(more...), false, false)
		}
		for _, more := range []string{`"AUD":"api"`, `"Aud":["api"]`, `"aud ":"api"`, `"audience":"api"`} {
			check(more, none.object(more), false, true)
		}
		// A refresh token is judged in the same way.
		if tokens.RefreshToken != "" {
			head, m := `{"alg":"HS256","typ":"refresh+jwt"}`, membersOf(t, tokens.RefreshToken)
			for aud, row := range map[string]middleware.Code{`["web","app"]`: middleware.CodeTokenInvalid, `"web"`: middleware.CodeTokenInvalid, `["web","api"]`: ""} {
				refreshes(t, "R1: "+aud, strict, forge(head, m.with("aud", aud).object()), row)
			}
		}
	}
}

// Without an own audience a token says none, and with one it says that alone.
func TestAudienceOfOurTokens(t *testing.T) {
	for _, audience := range []string{"api", "https://api.example/v1?a=b&c", `quo"ted`, "漢字"} {
		auth := newAuth(t, pair, func(c *middleware.Config) { c.Audience = audience })
		tokens := renew(t, auth, begin(t, auth, middleware.Identity{}))
		for _, text := range []string{tokens.AccessToken, tokens.RefreshToken} {
			var got string
			if err := json.Unmarshal([]byte(membersOf(t, text)["aud"]), &got); err != nil || got != audience {
				t.Errorf("aud is %q, want %q", got, audience)
			}
		}
		verify(t, auth, tokens.AccessToken)
	}
	if aud, said := membersOf(t, login(t, newAuth(t)))["aud"]; said {
		t.Errorf("aud is %s without an audience", aud)
	}
}

// A date is refused from the first second that cannot be counted in microseconds with room to spare (R1), however it
// is written.
func TestR1LastDate(t *testing.T) {
	auth := newAuth(t)
	m := membersOf(t, login(t, auth))
	const last = math.MaxInt64 / 4 / 1_000_000
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
		verifies(t, "R1: exp "+exp, auth, forge(ourHeader, m.with("exp", exp).object()), code)
	}
	verifies(t, "R1: a negative nbf", auth, forge(ourHeader, m.with("nbf", "-1").object()), middleware.CodeTokenInvalid)
}

// The application's members are checked as well, though nothing here reads them: Decode and other parsers do.
func TestR1OwnMembersAreWellFormed(t *testing.T) {
	auth := newAuth(t)
	m := membersOf(t, login(t, auth))
	for value, code := range map[string]middleware.Code{
		`"\u00e4\u00E4\ud83d\ude42"`: "",
		"\"\\u\x10\x11\x12\x13\"":    middleware.CodeTokenInvalid, // which are digits but for one bit
		"\"\\u001\"":                 middleware.CodeTokenInvalid,
		"\"\\u001g\"":                middleware.CodeTokenInvalid,
		"\"\\u001@\"":                middleware.CodeTokenInvalid,
		"\"\\U0010\"":                middleware.CodeTokenInvalid,
		"\"\\x10\"":                  middleware.CodeTokenInvalid,
		"\"\x7f\"":                   "",
		"\"\x1f\"":                   middleware.CodeTokenInvalid,
	} {
		for _, own := range []string{value, "[" + value + "]", `{"a":` + value + "}", "{" + value + ":1}"} {
			verifies(t, fmt.Sprintf("R1: %q", own), auth, forge(ourHeader, m.with("own", own).object()), code)
		}
	}
}

// The pool of HMAC states hands each to one goroutine: what another one signs meanwhile must not mix with it.
func TestHMACStatesAreNotShared(t *testing.T) {
	auth := newAuth(t, pair, func(c *middleware.Config) { c.TokenCache = -1 })
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			subject := strings.Repeat(fmt.Sprint("user ", i), 100*(i%2)+1)
			for range 200 {
				tokens, err := auth.Issue(t.Context(), middleware.Identity{Subject: subject})
				if err != nil {
					t.Error(err)
					return
				}
				claims, err := auth.Verify(t.Context(), tokens.AccessToken)
				if _, changed := auth.Verify(t.Context(), tokens.AccessToken+"A"); err != nil || changed == nil || claims.Subject != subject {
					t.Errorf("a token of our own: %v, a changed one: %v", err, changed)
					return
				}
			}
		})
	}
	all.Wait()
}

// A request that was made without a server may have no body at all.
func TestFormSourceWithoutBody(t *testing.T) {
	auth := newAuth(t, sources(spots))
	direct(t, sharedRoutes(auth)).send("POST", "/required", func(r *http.Request) {
		r.Header.Set("Content-Type", form)
		r.Body = nil
	}).refused(t, middleware.CodeTokenMissing)
}
