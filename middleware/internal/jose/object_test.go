package jose_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/ginrefresh/ginrefresh/middleware/internal/jose"
)

// FuzzScanObject compares the scanner with encoding/json. Only the scanner rejects a name that appears twice.
func FuzzScanObject(f *testing.F) {
	for _, text := range []string{
		`{}`, ` { } `, `{"a":1}`, `{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, `{"a":[{"b":"}"}],"c":{"d":"]"}}`, `{"a" : "\"\\" , "b" : null}`, `{"a":1}x`,
		`[]`, `null`, `"a"`, ``, ` `, `{`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, "{\"\xff\":1}", `{"\ud800":1,"\ud801":2}`, `{"":0}`,
		`{"a":-0.0e+1,"b":true,"c":false}`, "{\"a\":\r\n\t1}", `{"A":1,"a":2}`, `{"a":"\\"}`, `{"a":"\\\""}`, manyMembers(40),
		`{"a":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, object []byte) {
		want, valid := objectMembers(object)
		var got []member
		err := jose.ScanObject(object, func(name string, value, _ []byte) error {
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

// manyMembers returns an object with more members than nameSet keeps without a map.
func manyMembers(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(`"own%d":%d`, i, i))
	}
	return "{" + strings.Join(all, ",") + "}"
}

// objectMembers does the same as the scanner with encoding/json alone.
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

// An error of the callback ends the scan.
func TestScanObjectStops(t *testing.T) {
	calls := 0
	err := jose.ScanObject([]byte(`{"a":1,"b":2}`), func(string, []byte, []byte) error { calls++; return io.EOF })
	if err != io.EOF || calls != 1 {
		t.Errorf("%d calls and %v, want one and EOF", calls, err)
	}
}
