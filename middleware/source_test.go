package middleware_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// Config.Sources. Form bodies are tested in source_form_test.go.

// A tokenPlace is a source, and how a client puts a token there.
type tokenPlace struct {
	name   string
	source middleware.Source
	put    func(r *http.Request, text string)
}

var tokenPlaces = []tokenPlace{
	{"header", middleware.FromHeader("Authorization", "Bearer"), func(r *http.Request, text string) { bearer(text)(r) }},
	{"own header", middleware.FromHeader("x-token", ""), func(r *http.Request, text string) { header("X-Token", text)(r) }},
	{"cookie", middleware.FromCookie("jwt"), func(r *http.Request, text string) { header("Cookie", "other=1; jwt="+text)(r) }},
	{"query", middleware.FromQuery("jwt"), func(r *http.Request, text string) { r.URL.RawQuery = "a=1&jwt=" + url.QueryEscape(text) }},
	{"form", middleware.FromForm("jwt"), func(r *http.Request, text string) { body(form, "a=1&jwt="+url.QueryEscape(text))(r) }},
	{"path", middleware.FromParam("jwt"), func(r *http.Request, text string) { r.URL.Path = "/in/" + text + "/path" }},
}

func sources(places []tokenPlace) change {
	return func(c *middleware.Config) {
		c.Sources = nil
		for _, place := range places {
			c.Sources = append(c.Sources, place.source)
		}
	}
}

// The first source with a token decides. Later sources neither override its token nor replace one that is not valid.
func TestSourcesInOrder(t *testing.T) {
	backwards := slices.Clone(tokenPlaces)
	slices.Reverse(backwards)
	for order, places := range map[string][]tokenPlace{"forwards": tokenPlaces, "backwards": backwards} {
		auth := newAuth(t, sources(places))
		s := listen(t, routes(auth))
		send := func(path string, texts map[string]string) reply {
			return s.send("POST", path, func(r *http.Request) {
				for _, place := range places {
					if text, ok := texts[place.name]; ok {
						place.put(r, text)
					}
				}
			})
		}
		for i, first := range places {
			texts := map[string]string{}
			for _, place := range places[i:] {
				texts[place.name] = issue(t, auth, middleware.Identity{Subject: place.name})
			}
			what := fmt.Sprintf("%s, from the %s on", order, first.name)
			if r := send("/required", texts); r.status != http.StatusOK || !strings.HasPrefix(r.body, first.name+" ") {
				t.Errorf("%s: response %d %q, want the token in the %s", what, r.status, r.body, first.name)
			}
			for why, bad := range map[string]struct {
				text string
				code middleware.Code
			}{
				"garbage": {"a.b.c", middleware.CodeTokenInvalid},
				"expired": {aged(t, texts[first.name], 2*time.Hour), middleware.CodeTokenExpired},
			} {
				texts[first.name] = bad.text
				for _, path := range []string{"/required", "/optional"} {
					if send(path, texts).rejected(t, bad.code); t.Failed() {
						t.Fatalf("%s: %s at %s", what, why, path)
					}
				}
			}
		}
		send("/required", nil).rejected(t, middleware.CodeTokenMissing)
	}
}

// A token is found in the listed source, and in no other.
func TestSourcesAreWhatIsListed(t *testing.T) {
	for _, listed := range tokenPlaces {
		auth := newAuth(t, sources([]tokenPlace{listed}))
		s := listen(t, routes(auth))
		text := login(t, auth)
		for _, used := range tokenPlaces {
			r := s.send("POST", "/required", func(r *http.Request) { used.put(r, text) })
			switch {
			case used.name == listed.name:
				r.passed(t, "admin")
			default:
				if r.rejected(t, middleware.CodeTokenMissing); t.Failed() {
					t.Fatalf("a token in the %s, while only the %s is listed", used.name, listed.name)
				}
			}
		}
	}
}

// FromHeader with other names and schemes.
func TestSourceHeaders(t *testing.T) {
	const missing, invalid = middleware.CodeTokenMissing, middleware.CodeTokenInvalid
	for name, row := range map[string]struct {
		source middleware.Source
		header string
		values map[string]middleware.Code
	}{
		"another name": {middleware.FromHeader("X-Auth", "Bearer"), "X-Auth", map[string]middleware.Code{
			"Bearer TOKEN": "", "bEaReR  TOKEN ": "", "TOKEN": missing, "Token TOKEN": missing, "Bearer": missing, "": missing,
		}},
		"another scheme": {middleware.FromHeader("Authorization", "Token"), "Authorization", map[string]middleware.Code{
			"Token TOKEN": "", "tOkEn TOKEN": "", "Bearer TOKEN": missing, "Tokens TOKEN": missing, "Token": missing, "TokenTOKEN": missing, "Token a.b.c": invalid,
		}},
		"no scheme": {middleware.FromHeader("X-Access-Token", ""), "X-Access-Token", map[string]middleware.Code{
			"TOKEN": "", "Bearer TOKEN": invalid, "": missing, "a.b.c": invalid,
		}},
		"name in lower case": {middleware.FromHeader("x-access-token", ""), "X-Access-Token", map[string]middleware.Code{"TOKEN": ""}},
	} {
		auth := newAuth(t, func(c *middleware.Config) { c.Sources = []middleware.Source{row.source} })
		s := listen(t, routes(auth))
		text := login(t, auth)
		for value, code := range row.values {
			r := s.send("GET", "/required", header(row.header, strings.ReplaceAll(value, "TOKEN", text)))
			if code == "" {
				r.passed(t, "admin")
			} else {
				r.rejected(t, code)
			}
			if t.Failed() {
				t.Fatalf("%s: %q", name, value)
			}
		}
		s.send("GET", "/required", header("X-Other", "Bearer "+text)).rejected(t, missing)
	}
}

// A source without a token is skipped.
func TestSourcesPassOn(t *testing.T) {
	auth := newAuth(t, sources(tokenPlaces))
	s := listen(t, routes(auth))
	text := login(t, auth)
	query := func(r *http.Request) { r.URL.RawQuery = "jwt=" + text }
	for name, edit := range map[string]edit{
		"another scheme":  header("Authorization", "Basic YWRtaW46YWRtaW4="),
		"an empty scheme": header("Authorization", "Bearer"),
		"an empty header": header("X-Token", ""),
		"an empty cookie": header("Cookie", "jwt="),
		"another cookie":  header("Cookie", "jwt2=x; Jwt=x"),
	} {
		s.send("GET", "/required", edit, query).passed(t, "admin")
		s.send("GET", "/required", edit).rejected(t, middleware.CodeTokenMissing)
		if t.Failed() {
			t.Fatal(name)
		}
	}
}

// A token that is sent twice in one source is rejected: a proxy in front of the server may have checked the other one.
func TestSourcesTwiceInOnePlace(t *testing.T) {
	auth := newAuth(t, sources(tokenPlaces))
	s := listen(t, routes(auth))
	text := login(t, auth)
	for _, other := range []string{text, "a.b.c", ""} {
		for name, edit := range map[string]edit{
			"header":        func(r *http.Request) { r.Header["Authorization"] = []string{"Bearer " + text, "Bearer " + other} },
			"other scheme":  func(r *http.Request) { r.Header["Authorization"] = []string{"Basic " + other, "Bearer " + text} },
			"own header":    func(r *http.Request) { r.Header["X-Token"] = []string{text, other} },
			"cookie":        header("Cookie", "jwt="+text+"; jwt="+other),
			"cookie first":  header("Cookie", "jwt="+other+"; jwt="+text),
			"cookies apart": func(r *http.Request) { r.Header["Cookie"] = []string{"jwt=" + text, "jwt=" + other} },
			"query":         func(r *http.Request) { r.URL.RawQuery = "jwt=" + text + "&a=1&jwt=" + other },
			"form":          body(form, "jwt="+other+"&jwt="+text),
			"form, broken":  body(form, "jwt="+text+"&a=%zz"),
		} {
			for _, path := range []string{"/required", "/optional"} {
				if s.send("POST", path, edit).rejected(t, middleware.CodeBadRequest); t.Failed() {
					t.Fatalf("%s: a token and %q at %s", name, other, path)
				}
			}
		}
	}
	verify(t, auth, refresh(t, auth, text))
}

// RFC 6750 §2.3: if the token is in the query, the response is private.
func TestQueryAnswersArePrivate(t *testing.T) {
	auth := newAuth(t, sources(tokenPlaces))
	s := listen(t, routes(auth))
	text := login(t, auth)
	for query, want := range map[string]string{"jwt=" + text: "private", "jwt=a.b.c": "private", "": "", "other=1": ""} {
		if got := s.send("GET", "/required", func(r *http.Request) { r.URL.RawQuery = query }).header.Get("Cache-Control"); got != want {
			t.Errorf("Cache-Control is %q for the query %.10q, want %q", got, query, want)
		}
	}
}

// The same for tokens in the path, and for queries that FromQuery rejects.
func TestURLAnswersArePrivate(t *testing.T) {
	auth := newAuth(t, sources(tokenPlaces))
	s := listen(t, routes(auth))
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
		t.Errorf("Cache-Control is %q for a token in the header, want none", got)
	}
}

// Refresh and logout read the headers of the list, then the body, and no other source of the list.
func TestSourcesOfRefreshAndLogout(t *testing.T) {
	for mode, inMode := range modes {
		for _, place := range tokenPlaces[:5] {
			for _, path := range bodyRoutes {
				auth := newAuth(t, inMode, sources(tokenPlaces))
				s := listen(t, routes(auth))
				text := refreshable(issueTokens(t, auth, middleware.Identity{}))
				r := s.send("POST", path, func(r *http.Request) { place.put(r, text) })
				if strings.Contains(place.name, "header") {
					r.accepted(t, path)
				} else {
					r.rejected(t, middleware.CodeTokenMissing)
					s.send("POST", path, jsonBody(`{"refresh_token":"`+text+`"}`)).accepted(t, path)
				}
				if t.Failed() {
					t.Fatalf("%s, %s: a token in the %s", mode, path, place.name)
				}
			}
		}
	}
	// Authorization is read only if it is listed.
	auth := newAuth(t, func(c *middleware.Config) { c.Sources = []middleware.Source{middleware.FromHeader("X-Token", "")} })
	s := listen(t, routes(auth))
	for _, path := range bodyRoutes {
		s.send("POST", path, bearer(login(t, auth))).rejected(t, middleware.CodeTokenMissing)
		r := s.send("POST", path, func(r *http.Request) { r.Header["X-Token"] = []string{"a.b.c"} }, jsonBody(`{"refresh_token":"`+login(t, auth)+`"}`))
		r.rejected(t, middleware.CodeTokenInvalid)
	}
}
