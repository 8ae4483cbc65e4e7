package middleware_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// printed formats a value in every way that a log might: with each verb of fmt, and with log/slog.
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

// withoutTime removes the time from a log.
var withoutTime = &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}}

func textLog(w io.Writer) slog.Handler { return slog.NewTextHandler(w, withoutTime) }

func jsonLog(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, withoutTime) }

// Two keys that differ only in their secret are printed alike, also inside other values.
func TestPrintedKeysShowNoSecret(t *testing.T) {
	t.Parallel()
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
				t.Errorf("a %s key in a %s is printed: %s", name, holder, difference(texts))
			}
			if !strings.Contains(texts[0], "name of key") || !strings.Contains(texts[0], "HS256") {
				t.Errorf("a %s: ID or Algorithm is not printed: %.500s", holder, texts[0])
			}
		}
	}
	if text, err := json.Marshal(&middleware.Key{ID: "a", Algorithm: middleware.HS256, Key: secret}); string(text) != `{"ID":"a","Algorithm":"HS256"}` {
		t.Errorf("a Key as JSON: %s, %v", text, err)
	}
	if got := fmt.Sprint((*middleware.Key)(nil)); got != "<nil>" {
		t.Errorf("a nil Key is printed as %s", got)
	}
}

// difference returns the first line in which the texts differ.
func difference(texts [2]string) string {
	theirs := strings.Split(texts[1], "\n")
	for i, line := range strings.Split(texts[0], "\n") {
		if i >= len(theirs) || line != theirs[i] {
			return fmt.Sprintf("%.300q", line)
		}
	}
	return ""
}

// Tokens are printed without the text of a token, unless encoding/json encodes them.
func TestPrintedTokensShowNoToken(t *testing.T) {
	t.Parallel()
	auth := newAuth(t, pair)
	tokens := issueTokens(t, auth, middleware.Identity{Subject: "alice"})
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
			handlers = append(handlers, jsonLog) // the JSON handler encodes the others with encoding/json
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
	// In JSON, as in a response, the tokens are present.
	for _, value := range []any{tokens, &tokens, map[string]middleware.Tokens{"a": tokens}} {
		if text, err := json.Marshal(value); err != nil || !bytes.Contains(text, []byte(tokens.AccessToken)) || !bytes.Contains(text, []byte(tokens.RefreshToken)) {
			t.Errorf("as JSON: %s, %v", text, err)
		}
	}
}

// Two proofs for the same request are printed alike.
func TestPrintedProofsShowNoProof(t *testing.T) {
	t.Parallel()
	for holder, hold := range map[string]func(p middleware.Proof) any{
		"proof":   func(p middleware.Proof) any { return p },
		"pointer": func(p middleware.Proof) any { return &p },
	} {
		var texts [2]string
		for i := range texts {
			proof := middleware.Proof{DPoP: newProver().proof("POST", api, ""), Method: "POST", URL: api}
			texts[i] = printed(hold(proof), textLog, jsonLog)
		}
		if texts[0] != texts[1] || !strings.Contains(texts[0], "POST") || !strings.Contains(texts[0], api) {
			t.Errorf("a %s is printed: %s", holder, difference(texts))
		}
	}
}

// Claims are printed without the signature. The payload is not secret, but with its signature it would be a token.
func TestPrintedClaimsShowNoToken(t *testing.T) {
	t.Parallel()
	auth := newAuth(t)
	text := login(t, auth)
	for range 3 { // the last time they come from the token cache
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
