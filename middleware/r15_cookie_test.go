package middleware_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// R15: mistakes in Config.Cookie and Config.TrustedOrigins.

func TestR15CookieMistakes(t *testing.T) {
	type Cookie = middleware.Cookie
	for name, row := range map[string]struct {
		cookie Cookie
		modes  string
		words  []string // nil if it is accepted
	}{
		"zero":                            {Cookie{}, "one token, pair", nil},
		"insecure":                        {Cookie{Insecure: true}, "one token, pair", nil},
		"insecure, strict":                {Cookie{Insecure: true, SameSite: http.SameSiteStrictMode}, "one token, pair", nil},
		"none":                            {Cookie{SameSite: http.SameSiteNoneMode}, "one token, pair", nil},
		"__Secure- with Domain":           {Cookie{Name: "__Secure-a", Domain: "example.com"}, "one token", nil},
		"one name in one-token mode":      {Cookie{Name: "__Host-refresh_token"}, "one token", nil},
		"insecure with SameSite=None":     {Cookie{Insecure: true, SameSite: http.SameSiteNoneMode}, "one token, pair", []string{"Insecure", "SameSite=None"}},
		"insecure with __Host-":           {Cookie{Insecure: true, Name: "__Host-a"}, "one token, pair", []string{`"__Host-a"`, "Insecure"}},
		"insecure with __Secure-":         {Cookie{Insecure: true, Name: "__Secure-a"}, "one token, pair", []string{`"__Secure-a"`, "Insecure"}},
		"insecure with __secure-":         {Cookie{Insecure: true, Name: "__secure-a"}, "one token, pair", []string{`"__secure-a"`, "Insecure"}},
		"insecure with __Secure- refresh": {Cookie{Insecure: true, RefreshName: "__Secure-r"}, "pair", []string{`"__Secure-r"`, "Insecure"}},
		"__Host- with Domain":             {Cookie{Name: "__Host-a", Domain: "example.com"}, "one token, pair", []string{`"__Host-a"`, "Domain"}},
		"__HOST- with Domain":             {Cookie{Name: "__HOST-a", Domain: "example.com"}, "one token, pair", []string{`"__HOST-a"`, "Domain"}},
		"__Host- refresh with Domain":     {Cookie{RefreshName: "__Host-r", Domain: "example.com"}, "pair", []string{`"__Host-r"`, "Domain"}},
		"one name for both":               {Cookie{Name: "__Host-refresh_token"}, "pair", []string{"both", `"__Host-refresh_token"`}},
		"a name with a space":             {Cookie{Name: "a b"}, "one token, pair", []string{`"a b"`}},
		"a name with a semicolon":         {Cookie{RefreshName: "a;b"}, "pair", []string{`"a;b"`}},
		"a name with a newline":           {Cookie{Name: "a\r\nX-Evil: 1"}, "one token, pair", []string{"name"}},
		"a Domain with a path":            {Cookie{Domain: "example.com/a"}, "one token, pair", []string{`"example.com/a"`}},
		"a Domain as URL":                 {Cookie{Domain: "https://example.com"}, "one token, pair", []string{"domain"}},
	} {
		for mode, inMode := range modes {
			if !strings.Contains(row.modes, mode) {
				continue
			}
			_, err := middleware.New(newConfig(t, inMode, withCookie(row.cookie)))
			if (err == nil) != (row.words == nil) {
				t.Errorf("R15: %s, %s: %v", name, mode, err)
			}
			for _, word := range row.words {
				if err != nil && !strings.Contains(err.Error(), word) {
					t.Errorf("R15: %s: %q, want %q in it", name, err, word)
				}
			}
		}
	}
	for _, origin := range []string{"", "*", "app.example.org", "https://", "https://app.example.org/", "https://app.example.org/path", "//app.example.org", "https://app.example.org?a"} {
		_, err := middleware.New(newConfig(t, withCookie(middleware.Cookie{}), func(c *middleware.Config) { c.TrustedOrigins = []string{"https://a.example", origin} }))
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", origin)) {
			t.Errorf("R15: the trusted origin %q: %v", origin, err)
		}
	}
	_, err := middleware.New(newConfig(t, pair, withCookie(middleware.Cookie{Insecure: true, SameSite: http.SameSiteNoneMode, Name: "__Host-a"}), func(c *middleware.Config) {
		c.TrustedOrigins = []string{"x"}
		c.Store = nil
	}))
	if lines := strings.Count(fmt.Sprint(err), "\n") + 1; lines < 4 {
		t.Errorf("R15: the error has %d lines, want one for each of the 4 mistakes: %v", lines, err)
	}
}
