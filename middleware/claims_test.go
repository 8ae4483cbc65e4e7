package middleware_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// The application's claims are the same after several refreshes, whatever their type.
func TestOwnClaimsSurvive(t *testing.T) {
	auth := newAuth(t, func(c *middleware.Config) { c.Grace = -1 })
	for name, claims := range map[string]any{
		"struct":             trickyClaims,
		"pointer":            &trickyClaims,
		"map":                map[string]any{"large": int64(math.MaxInt64), "role": "admin", "": "no name", "list": []int{1, 2}},
		"map of numbers":     map[string]json.Number{"n": "9007199254740993"},
		"RawMessage":         json.RawMessage(" {\"b\" : 1.50,\n \"a\" : {\"c\":[ ]} } "),
		"empty struct":       struct{}{},
		"empty map":          map[string]int{},
		"nil":                nil,
		"nil map":            map[string]int(nil),
		"nil pointer":        (*appClaims)(nil),
		"embedded":           struct{ role }{role{"admin"}},
		"integers as names":  map[int]string{1: "a", 2: "b"},
		"names like ours":    map[string]any{"subject": 1, "s": 1, "expires": 1, "su": 1, "refresh": 1},
		"40 members":         json.RawMessage("{" + strings.Join(numbered(40), ",") + "}"),
		"nested twice":       json.RawMessage(`{"a":{"sub":1,"sub":2}}`),
		"escapes in a name":  json.RawMessage(`{"\u0061\"\\\n":1}`),
		"escaped characters": json.RawMessage(`{"a":"\u003c\/\ud83d\ude42"}`),
	} {
		t.Run(name, func(t *testing.T) {
			want := decoded(t, jsonOf(t, claims))
			text := issue(t, auth, middleware.Identity{Subject: "admin", Claims: claims})
			for round := range 3 {
				got := verify(t, auth, text)
				if own := decodedClaims(t, got); !reflect.DeepEqual(own, want) {
					t.Fatalf("after %d refreshes the claims are\n%v, want\n%v", round, own, want)
				}
				payload, _ := base64.RawURLEncoding.DecodeString(strings.Split(text, ".")[1])
				if written, err := got.MarshalJSON(); err != nil || string(written) != string(payload) {
					t.Errorf("MarshalJSON returns %s, %v, want the payload %s", written, err, payload)
				}
				text = refresh(t, auth, text)
			}
		})
	}
}

func TestDecode(t *testing.T) {
	auth := newAuth(t)
	claims := verify(t, auth, issue(t, auth, middleware.Identity{Subject: "admin", Claims: trickyClaims}))

	var mine appClaims
	if err := claims.Decode(&mine); err != nil || !reflect.DeepEqual(mine, trickyClaims) {
		t.Errorf("Decode returns %+v, %v, want %+v", mine, err, trickyClaims)
	}
	members := decodedClaims(t, claims).(map[string]any)
	if members["large"] != json.Number("9223372036854775807") || members["larger"] != json.Number("18446744073709551615") {
		t.Errorf("Decode into any returns %v and %v, want exact numbers", members["large"], members["larger"])
	}
	for _, reserved := range reservedNames {
		if value, ok := members[reserved]; ok {
			t.Errorf("Decode returns %s: %v, which is not a claim of the application", reserved, value)
		}
	}
	var wrong struct {
		Text int `json:"text"`
	}
	if err := claims.Decode(&wrong); err == nil || !strings.HasPrefix(err.Error(), "middleware: ") {
		t.Errorf("Decode of a string into an int: %v", err)
	}
	if err := claims.Decode(appClaims{}); err == nil {
		t.Error("Decode accepts a target that is not a pointer")
	}
	if err := (middleware.Claims{}).Decode(&mine); err != nil {
		t.Errorf("Decode of zero Claims: %v", err)
	}
	if b, err := json.Marshal(middleware.Claims{}); err != nil || string(b) != "null" {
		t.Errorf("zero Claims are encoded as %s, %v, want null", b, err)
	}
}

// Claims are a copy: a handler that changes them does not affect other requests.
func TestClaimsAreACopy(t *testing.T) {
	auth := newAuth(t)
	claims := verify(t, auth, issue(t, auth, middleware.Identity{Subject: "admin", Claims: trickyClaims}))
	written, _ := claims.MarshalJSON()
	want := string(written)
	for i := range written {
		written[i] = 'x'
	}
	var mine appClaims
	if err := claims.Decode(&mine); err != nil {
		t.Fatal(err)
	}
	for i := range mine.Raw {
		mine.Raw[i] = 'x'
	}
	if got, err := claims.MarshalJSON(); err != nil || string(got) != want {
		t.Errorf("the claims changed to %s, %v", got, err)
	}
	if got := decodedClaims(t, claims); !reflect.DeepEqual(got, decoded(t, jsonOf(t, trickyClaims))) {
		t.Errorf("the application's claims changed to %v", got)
	}
}

// Issue accepts only JSON objects without reserved names.
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
			t.Errorf("Issue with %s: %v, want an error that is not an *Error, because the client is not to blame", name, err)
		}
	}
}
