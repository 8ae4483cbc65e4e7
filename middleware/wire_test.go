package middleware_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// A desk is an Auth with all its routes on a real listener, and a login.
type desk struct {
	site
	auth *middleware.Auth
	text string // the token of admin's login
}

func newDesk(t *testing.T, changes ...change) desk {
	t.Helper()
	auth := newAuth(t, changes...)
	return desk{listen(t, routes(auth)), auth, login(t, auth)}
}

func noGrace(c *middleware.Config) { c.Grace = -1 }

// unharmed checks that the desk's token is not used up.
func (d desk) unharmed(rule string) {
	d.t.Helper()
	if r := d.send("POST", "/refresh", bearer(d.text)); r.status != http.StatusOK {
		d.t.Errorf("%s: the token is used up: %d %s", rule, r.status, r.body)
	}
}

func (r reply) notStored(t testing.TB) {
	t.Helper()
	if r.header.Get("Cache-Control") != "no-store" || r.header.Get("Pragma") != "no-cache" {
		t.Errorf("answer %d can be stored: %v", r.status, r.header)
	}
}

// accepts is 200 for a refresh and 204 for both logouts.
func (r reply) accepted(t testing.TB, path string) {
	t.Helper()
	want := http.StatusNoContent
	if path == "/refresh" {
		want = http.StatusOK
	}
	if r.status != want {
		t.Errorf("%s answers %d %s, want %d", path, r.status, r.body, want)
	}
}

// takers are the handlers that take a token from more places than the header.
var takers = []string{"/refresh", "/logout", "/logout/all"}

func TestLoginAndRefreshAnswer(t *testing.T) {
	d := newDesk(t, func(c *middleware.Config) { c.TTL, c.RefreshTTL = time.Minute, time.Hour })
	near := func(value any, want int64) bool {
		return fmt.Sprint(value) == fmt.Sprint(want) || fmt.Sprint(value) == fmt.Sprint(want-1)
	}
	first := d.send("POST", "/login?user=admin")
	for path, r := range map[string]reply{
		"/login":   first,
		"/refresh": d.send("POST", "/refresh", bearer(first.token(t))),
	} {
		fields := r.fields(t)
		if got, want := slices.Sorted(maps.Keys(fields)), []string{"access_token", "expires_in", "refresh_expires_in", "token_type"}; !slices.Equal(got, want) {
			t.Errorf("%s answers with %v, want %v", path, got, want)
		}
		if fields["token_type"] != "Bearer" || !near(fields["expires_in"], 60) || !near(fields["refresh_expires_in"], 3600) {
			t.Errorf("%s answers %s", path, r.body)
		}
		if !strings.HasPrefix(r.header.Get("Content-Type"), "application/json") || r.header.Get("WWW-Authenticate") != "" {
			t.Errorf("%s answers with %v", path, r.header)
		}
		r.notStored(t)
		d.send("GET", "/required", bearer(r.token(t))).passed(t, "admin")
	}
}

func TestLogoutAnswer(t *testing.T) {
	d := newDesk(t)
	for range 2 { // twice is fine (R11)
		r := d.send("POST", "/logout", bearer(d.text))
		if r.status != http.StatusNoContent || r.body != "" {
			t.Errorf("R11: logout answers %d %q, want 204 and nothing", r.status, r.body)
		}
		r.notStored(t)
	}
	for _, path := range []string{"/required", "/optional", "/autorefresh"} {
		d.send("GET", path, bearer(d.text)).refused(t, middleware.CodeTokenRevoked)
	}
	d.send("POST", "/refresh", bearer(d.text)).refused(t, middleware.CodeTokenRevoked)
	d.send("POST", "/logout/all", bearer(d.text)).refused(t, middleware.CodeTokenRevoked)
	d.send("POST", "/logout").notStored(t)

	first, second := login(t, d.auth), login(t, d.auth)
	d.send("POST", "/logout/all", bearer(first)).accepted(t, "/logout/all")
	for _, text := range []string{first, second} {
		d.send("GET", "/required", bearer(text)).refused(t, middleware.CodeTokenRevoked)
	}
	d.send("GET", "/required", bearer(login(t, d.auth))).passed(t, "admin") // R12
}

// The table of the wire, row by row.
func TestWire(t *testing.T) {
	const day = 24 * time.Hour
	refusing := func(c *middleware.Config) {
		c.Reload = func(context.Context, middleware.Claims) (any, error) { return nil, middleware.ErrRefused }
	}
	for name, row := range map[string]struct {
		code   middleware.Code
		change change
		before func(d desk)
		method string
		path   string
		age    time.Duration
		edit   edit
		more   string
	}{
		"two Authorization headers":    {code: middleware.CodeBadRequest, method: "GET", path: "/required", edit: header("Authorization", "Bearer x")},
		"unreadable body":              {code: middleware.CodeBadRequest, method: "POST", path: "/refresh", edit: func(r *http.Request) { r.Header.Del("Authorization"); jsonBody("{")(r) }},
		"no token":                     {code: middleware.CodeTokenMissing, method: "GET", path: "/required", edit: anonymous},
		"no token to refresh":          {code: middleware.CodeTokenMissing, method: "POST", path: "/refresh", edit: anonymous},
		"another scheme":               {code: middleware.CodeTokenMissing, method: "GET", path: "/required", edit: authorization("Basic YWRtaW46YWRtaW4=")},
		"R1 not genuine":               {code: middleware.CodeTokenInvalid, method: "GET", path: "/required", edit: authorization("Bearer a.b.c")},
		"R2 from the future":           {code: middleware.CodeTokenInvalid, method: "GET", path: "/required", age: -time.Hour},
		"R2 expired":                   {code: middleware.CodeTokenExpired, method: "GET", path: "/required", age: 2 * time.Hour},
		"R2 expired, optional":         {code: middleware.CodeTokenExpired, method: "GET", path: "/optional", age: 2 * time.Hour},
		"R3 logged out":                {code: middleware.CodeTokenRevoked, method: "GET", path: "/required", before: func(d desk) { d.send("POST", "/logout", bearer(d.text)) }},
		"R3 logged out everywhere":     {code: middleware.CodeTokenRevoked, method: "GET", path: "/required", before: func(d desk) { _ = d.auth.RevokeSubject(d.t.Context(), "admin") }},
		"R4 replaced":                  {code: middleware.CodeTokenRevoked, method: "GET", path: "/required", change: noGrace, before: func(d desk) { refresh(d.t, d.auth, d.text) }},
		"R5 window over":               {code: middleware.CodeRefreshExpired, method: "POST", path: "/refresh", age: 15 * day},
		"R5 window over, AutoRefresh":  {code: middleware.CodeRefreshExpired, method: "GET", path: "/autorefresh", age: 15 * day},
		"R5 window over, logout":       {code: middleware.CodeRefreshExpired, method: "POST", path: "/logout", age: 15 * day},
		"R5 idle":                      {code: middleware.CodeRefreshExpired, method: "POST", path: "/refresh", age: 3 * time.Hour, change: func(c *middleware.Config) { c.IdleTTL = 2 * time.Hour }},
		"R8 reuse":                     {code: middleware.CodeTokenReused, method: "POST", path: "/refresh", change: noGrace, before: func(d desk) { refresh(d.t, d.auth, d.text) }},
		"R8 reuse under AutoRefresh":   {code: middleware.CodeTokenReused, method: "GET", path: "/autorefresh", change: noGrace, before: func(d desk) { refresh(d.t, d.auth, d.text) }},
		"R8 reuse of an expired token": {code: middleware.CodeTokenReused, method: "GET", path: "/autorefresh", age: 2 * time.Hour, change: noGrace, before: func(d desk) { refresh(d.t, d.auth, d.text) }},
		"Reload says no":               {code: middleware.CodeSubjectRefused, method: "POST", path: "/refresh", change: refusing},
		"Reload says no, AutoRefresh":  {code: middleware.CodeSubjectRefused, method: "GET", path: "/autorefresh", age: 2 * time.Hour, change: refusing},
		"login refused":                {code: middleware.CodeInvalidCredentials, method: "POST", path: "/login", change: authenticating(func(*gin.Context) (middleware.Identity, error) { return middleware.Identity{}, middleware.ErrRefused })},
		"login too old":                {code: middleware.CodeLoginTooOld, method: "GET", path: "/fresh", age: 30 * time.Minute, more: `, max_age="600"`},
		"not allowed":                  {code: middleware.CodeForbidden, method: "GET", path: "/never"},
	} {
		t.Run(name, func(t *testing.T) {
			if row.change == nil {
				row.change = func(*middleware.Config) {}
			}
			if row.edit == nil {
				row.edit = func(*http.Request) {}
			}
			d := newDesk(t, row.change)
			if row.age != 0 {
				d.text = aged(t, d.text, row.age)
			}
			if row.before != nil {
				row.before(d)
			}
			r := d.send(row.method, row.path, bearer(d.text), row.edit)
			r.refused(t, row.code, row.more)
			if row.method == "POST" {
				r.notStored(t)
			}
		})
	}
}

func authorization(value string) edit {
	return func(r *http.Request) { r.Header.Set("Authorization", value) }
}

func anonymous(r *http.Request) { r.Header.Del("Authorization") }

func authenticating(authenticate func(*gin.Context) (middleware.Identity, error)) change {
	return func(c *middleware.Config) { c.Authenticate = authenticate }
}

func TestAuthorizationHeader(t *testing.T) {
	d := newDesk(t)
	for value, code := range map[string]middleware.Code{
		"Bearer TOKEN":          "",
		"bearer TOKEN":          "",
		"BEARER TOKEN":          "",
		"bEaReR TOKEN":          "",
		"Bearer  TOKEN":         "",
		"Bearer    TOKEN  ":     "",
		"":                      middleware.CodeTokenMissing,
		"Bearer":                middleware.CodeTokenMissing,
		"Bearer ":               middleware.CodeTokenMissing,
		"Bearer    ":            middleware.CodeTokenMissing,
		"TOKEN":                 middleware.CodeTokenMissing,
		"BearerTOKEN":           middleware.CodeTokenMissing,
		"Bearer=TOKEN":          middleware.CodeTokenMissing,
		"Bearer\tTOKEN":         middleware.CodeTokenMissing,
		"Bearers TOKEN":         middleware.CodeTokenMissing,
		"Basic TOKEN":           middleware.CodeTokenMissing,
		"Basic a, Bearer TOKEN": middleware.CodeTokenMissing,
		"DPoP TOKEN":            middleware.CodeTokenMissing,
		"JWT TOKEN":             middleware.CodeTokenMissing,
		"Bearer \tTOKEN":        middleware.CodeTokenInvalid,
		"Bearer TOKEN TOKEN":    middleware.CodeTokenInvalid,
		"Bearer Bearer TOKEN":   middleware.CodeTokenInvalid,
		"Bearer TOKEN, Basic a": middleware.CodeTokenInvalid,
		"Bearer TOKEN,":         middleware.CodeTokenInvalid,
		`Bearer "TOKEN"`:        middleware.CodeTokenInvalid,
		"Bearer token=TOKEN":    middleware.CodeTokenInvalid,
		"Bearer null":           middleware.CodeTokenInvalid,
		"Bearer TOKEN\x80":      middleware.CodeTokenInvalid,
	} {
		t.Run(value, func(t *testing.T) {
			edit := header("Authorization", strings.ReplaceAll(value, "TOKEN", d.text))
			for _, path := range []string{"/required", "/optional", "/autorefresh"} {
				r := d.send("GET", path, edit)
				switch {
				case code == "":
					r.passed(t, "admin")
				case code == middleware.CodeTokenMissing && path == "/optional":
					r.passed(t, "guest")
				default:
					r.refused(t, code)
				}
			}
		})
	}
	d.unharmed("header")
}

// Over HTTP/2 spaces arrive that an HTTP/1 server cuts off.
func TestAuthorizationHeaderEndsInSpaces(t *testing.T) {
	d := newDesk(t)
	r := gin.New()
	r.GET("/", d.auth.Required())
	for _, value := range []string{"Bearer TOKEN ", "bearer  TOKEN  "} {
		request := httptest.NewRequest("GET", "/", nil)
		request.Header.Set("Authorization", strings.ReplaceAll(value, "TOKEN", d.text))
		answer := httptest.NewRecorder()
		r.ServeHTTP(answer, request)
		if answer.Code != http.StatusOK {
			t.Errorf("%q is answered %d", value, answer.Code)
		}
	}
}

func TestTwoAuthorizationHeaders(t *testing.T) {
	d := newDesk(t)
	for name, more := range map[string]string{"the same": "Bearer " + d.text, "another token": "Bearer x", "another scheme": "Basic x", "empty": ""} {
		for _, door := range doors {
			for order, edits := range [][]edit{
				{bearer(d.text), header("Authorization", more)},
				{header("Authorization", more), bearer(d.text)},
			} {
				r := d.send(door.method, door.path, edits...)
				if r.status != http.StatusBadRequest {
					t.Errorf("%s, order %d, at %s:", name, order, door.path)
				}
				r.refused(t, middleware.CodeBadRequest)
			}
		}
	}
	d.unharmed("two headers")
}

const form = "application/x-www-form-urlencoded"

// A token is taken from the header or the body, and from nowhere else.
func TestTokenFromHeaderOrBody(t *testing.T) {
	for name, edits := range map[string][]edit{
		"header":                      {authorization("Bearer TOKEN")},
		"JSON":                        {jsonBody(`{"refresh_token":"TOKEN"}`)},
		"JSON with a charset":         {body("application/json; charset=utf-8", `{"refresh_token":"TOKEN"}`)},
		"JSON in capitals":            {body("Application/JSON", `{"refresh_token":"TOKEN"}`)},
		"JSON with spaces":            {jsonBody(" { \"refresh_token\" :\n\"TOKEN\" } ")},
		"JSON with escapes":           {jsonBody(`{"refresh\u005ftoken":"\u0065\u0079J` + `REST"}`)},
		"JSON with more":              {jsonBody(`{"a":{"refresh_token":"x"},"refresh_token":"TOKEN","Refresh_Token":"x","b":[1]}`)},
		"form":                        {body(form, "refresh_token=TOKEN")},
		"form with a charset":         {body(form+"; charset=utf-8", "refresh_token=TOKEN")},
		"form with more":              {body(form, "a=1&refresh_token=TOKEN&Refresh_Token=x")},
		"form with escapes":           {body(form, "refresh%5Ftoken=%65%79J"+"REST")},
		"header before body":          {authorization("Bearer TOKEN"), jsonBody(`{"refresh_token":"x"}`)},
		"header before a broken body": {authorization("Bearer TOKEN"), jsonBody(`{`)},
		"body beside another scheme":  {authorization("Basic x"), jsonBody(`{"refresh_token":"TOKEN"}`)},
		"body beside an empty header": {authorization("Bearer"), body(form, "refresh_token=TOKEN")},
	} {
		for _, path := range takers {
			t.Run(name+path, func(t *testing.T) {
				d := newDesk(t)
				d.send("POST", path, append(edits, insert(d.text))...).accepted(t, path)
			})
		}
	}
}

// insert puts the token where TOKEN stands in the header or the body, and what follows "eyJ" where REST does.
func insert(text string) edit {
	replace := strings.NewReplacer("TOKEN", text, "REST", strings.TrimPrefix(text, "eyJ")).Replace
	return func(r *http.Request) {
		for i, value := range r.Header["Authorization"] {
			r.Header["Authorization"][i] = replace(value)
		}
		if r.Body != nil {
			var b bytes.Buffer
			_, _ = b.ReadFrom(r.Body)
			body(r.Header.Get("Content-Type"), replace(b.String()))(r)
		}
	}
}

func TestBadBodies(t *testing.T) {
	d := newDesk(t)
	mib := strings.Repeat("x", 1<<20)
	multi, multiType := multipartForm(t, d.text)
	for name, row := range map[string]struct {
		code middleware.Code
		edit edit
	}{
		"no body":              {middleware.CodeTokenMissing, func(*http.Request) {}},
		"empty":                {middleware.CodeTokenMissing, jsonBody("")},
		"empty, unknown type":  {middleware.CodeTokenMissing, body("text/plain", "")},
		"empty object":         {middleware.CodeTokenMissing, jsonBody(`{}`)},
		"empty token":          {middleware.CodeTokenMissing, jsonBody(`{"refresh_token":""}`)},
		"name in another case": {middleware.CodeTokenMissing, jsonBody(`{"Refresh_Token":"TOKEN"}`)},
		"another name":         {middleware.CodeTokenMissing, jsonBody(`{"token":"TOKEN","access_token":"TOKEN"}`)},
		"nested":               {middleware.CodeTokenMissing, jsonBody(`{"a":{"refresh_token":"TOKEN"}}`)},
		"form, empty token":    {middleware.CodeTokenMissing, body(form, `refresh_token=`)},
		"form, another name":   {middleware.CodeTokenMissing, body(form, `token=TOKEN`)},
		"in the URL":           {middleware.CodeTokenMissing, func(r *http.Request) { r.URL.RawQuery = "refresh_token=" + d.text }},
		"in the URL, form":     {middleware.CodeTokenMissing, func(r *http.Request) { r.URL.RawQuery = "refresh_token=" + d.text; body(form, "a=1")(r) }},
		"in a cookie":          {middleware.CodeTokenMissing, header("Cookie", "refresh_token="+d.text+"; access_token="+d.text)},
		"cut":                  {middleware.CodeBadRequest, jsonBody(`{"refresh_token":"TOKEN"`)},
		"something behind":     {middleware.CodeBadRequest, jsonBody(`{"refresh_token":"TOKEN"}x`)},
		"two objects":          {middleware.CodeBadRequest, jsonBody(`{"refresh_token":"TOKEN"}{}`)},
		"twice":                {middleware.CodeBadRequest, jsonBody(`{"refresh_token":"TOKEN","refresh_token":"TOKEN"}`)},
		"twice, escaped":       {middleware.CodeBadRequest, jsonBody(`{"refresh_token":"TOKEN","\u0072efresh_token":"TOKEN"}`)},
		"a number":             {middleware.CodeBadRequest, jsonBody(`{"refresh_token":1}`)},
		"null":                 {middleware.CodeBadRequest, jsonBody(`{"refresh_token":null}`)},
		"a list":               {middleware.CodeBadRequest, jsonBody(`{"refresh_token":["TOKEN"]}`)},
		"an object":            {middleware.CodeBadRequest, jsonBody(`{"refresh_token":{"a":"TOKEN"}}`)},
		"body a list":          {middleware.CodeBadRequest, jsonBody(`["TOKEN"]`)},
		"body a string":        {middleware.CodeBadRequest, jsonBody(`"TOKEN"`)},
		"body null":            {middleware.CodeBadRequest, jsonBody(`null`)},
		"body of spaces":       {middleware.CodeBadRequest, jsonBody(`   `)},
		"invalid UTF-8":        {middleware.CodeBadRequest, jsonBody("{\"refresh_token\":\"TOKEN\",\"a\":\"\xff\"}")},
		"byte order mark":      {middleware.CodeBadRequest, jsonBody("\ufeff{\"refresh_token\":\"TOKEN\"}")},
		"UTF-16":               {middleware.CodeBadRequest, jsonBody("\xff\xfe{\x00}\x00")},
		"the bare token":       {middleware.CodeBadRequest, jsonBody("TOKEN")},
		"JSON as a form":       {middleware.CodeTokenMissing, body(form, `{"refresh_token":"TOKEN"}`)},
		"a form as JSON":       {middleware.CodeBadRequest, jsonBody(`refresh_token=TOKEN`)},
		"form, twice":          {middleware.CodeBadRequest, body(form, `refresh_token=TOKEN&refresh_token=TOKEN`)},
		"form, broken escape":  {middleware.CodeBadRequest, body(form, `refresh_token=TOKEN%zz`)},
		"form, semicolon":      {middleware.CodeBadRequest, body(form, `refresh_token=TOKEN;a=1`)},
		"unknown type":         {middleware.CodeBadRequest, body("text/plain", `{"refresh_token":"TOKEN"}`)},
		"no type":              {middleware.CodeBadRequest, body("", `{"refresh_token":"TOKEN"}`)},
		"broken type":          {middleware.CodeBadRequest, body("application json", `{"refresh_token":"TOKEN"}`)},
		"another JSON":         {middleware.CodeBadRequest, body("application/jsonp", `{"refresh_token":"TOKEN"}`)},
		"multipart":            {middleware.CodeBadRequest, body(multiType, multi)},
		"1 MiB of JSON":        {middleware.CodeBadRequest, jsonBody(`{"refresh_token":"TOKEN","a":"` + mib + `"}`)},
		"1 MiB of form":        {middleware.CodeBadRequest, body(form, `refresh_token=TOKEN&a=`+mib)},
		"1 MiB of spaces":      {middleware.CodeBadRequest, jsonBody(`{"refresh_token":"TOKEN"}` + strings.Repeat(" ", 1<<20))},
		"1 MiB, chunked":       {middleware.CodeBadRequest, func(r *http.Request) { jsonBody(`{"a":"` + mib + `"}`)(r); r.ContentLength = -1 }},
		"deep":                 {middleware.CodeBadRequest, jsonBody(`{"refresh_token":"TOKEN","a":` + strings.Repeat("[", 15<<10))},
		"not genuine":          {middleware.CodeTokenInvalid, jsonBody(`{"refresh_token":"a.b.c"}`)},
		"newline in the token": {middleware.CodeTokenInvalid, jsonBody(`{"refresh_token":"TOKEN\n"}`)},
		"space in the token":   {middleware.CodeTokenInvalid, body(form, `refresh_token=+TOKEN`)},
		"scheme in the token":  {middleware.CodeTokenInvalid, jsonBody(`{"refresh_token":"Bearer TOKEN"}`)},
		"a token of 9 KiB":     {middleware.CodeTokenInvalid, jsonBody(`{"refresh_token":"` + strings.Repeat("A", 9<<10) + `"}`)},
		"two Authorization, body": {middleware.CodeBadRequest, func(r *http.Request) {
			r.Header["Authorization"] = []string{"Basic x", "Basic x"}
			jsonBody(`{"refresh_token":"TOKEN"}`)(r)
		}},
	} {
		for _, path := range takers {
			t.Run(name+path, func(t *testing.T) {
				r := d.send("POST", path, row.edit, insert(d.text))
				r.refused(t, row.code)
				r.notStored(t)
			})
		}
	}
	d.unharmed("bad bodies")
}

func multipartForm(t *testing.T, text string) (body, contentType string) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	if err := errors.Join(w.WriteField("refresh_token", text), w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.String(), w.FormDataContentType()
}

// A guard reads the header alone: a token in a URL ends up in logs.
func TestGuardsReadTheHeaderAlone(t *testing.T) {
	d := newDesk(t)
	for name, edit := range map[string]edit{
		"URL":    func(r *http.Request) { r.URL.RawQuery = "access_token=" + d.text + "&token=" + d.text },
		"cookie": header("Cookie", "access_token="+d.text+"; jwt="+d.text),
		"body":   jsonBody(`{"access_token":"` + d.text + `","refresh_token":"` + d.text + `"}`),
		"header": header("X-Access-Token", d.text),
		"proxy":  header("Proxy-Authorization", "Bearer "+d.text),
	} {
		r := d.send("POST", "/required", edit)
		if r.status != http.StatusUnauthorized {
			t.Errorf("a token in the %s:", name)
		}
		r.refused(t, middleware.CodeTokenMissing)
	}
}

func TestGuards(t *testing.T) {
	d := newDesk(t)
	for _, path := range []string{"/required", "/optional", "/autorefresh", "/fresh", "/allow"} {
		d.send("GET", path, bearer(d.text)).passed(t, "admin")
		d.send("GET", path, bearer("a.b.c")).refused(t, middleware.CodeTokenInvalid)
		r := d.send("GET", path)
		if path == "/optional" {
			r.passed(t, "guest")
		} else {
			r.refused(t, middleware.CodeTokenMissing)
		}
		// a CORS preflight carries no token, and nothing that it carries counts
		d.send("OPTIONS", path).passed(t, "guest")
		d.send("OPTIONS", path, bearer("a.b.c")).passed(t, "guest")
		preflight := d.send("OPTIONS", path, bearer(aged(t, d.text, 2*time.Hour)))
		preflight.passed(t, "guest")
		if preflight.header.Get("Authorization") != "" {
			t.Errorf("OPTIONS %s renews a token", path)
		}
	}
	d.send("OPTIONS", "/never").passed(t, "guest")
	everything := gin.New()
	everything.NoRoute(d.auth.Required(), whoami)
	all := listen(t, everything)
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "options", "Options", "OPTIONSX"} {
		if r := all.send(method, "/"); r.status != http.StatusUnauthorized {
			t.Errorf("%s without a token is answered %d %s", method, r.status, r.body)
		}
	}
}

// almostExpired leaves a token of one hour 30 seconds to live, less than AutoRefresh's minute.
const almostExpired = time.Hour - 30*time.Second

func TestAutoRefresh(t *testing.T) {
	for name, age := range map[string]time.Duration{"expired": 2 * time.Hour, "almost expired": almostExpired} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			old := aged(t, d.text, age)
			r := d.send("GET", "/autorefresh", bearer(old))
			r.passed(t, "admin")
			r.notStored(t)
			text, found := strings.CutPrefix(r.header.Get("Authorization"), "Bearer ")
			if !found || r.header.Get("Access-Control-Expose-Headers") != "Authorization" {
				t.Fatalf("AutoRefresh answers with %v", r.header)
			}
			claims := verify(t, d.auth, text)
			if _, seen, _ := strings.Cut(r.body, " "); seen != claims.ID {
				t.Errorf("the handler sees %s, want the new token's claims %s", seen, claims.ID)
			}
			if got, want := claims.AuthTime.Unix(), membersOf(t, old).integer("auth_time"); got != want {
				t.Errorf("R9: auth_time is %d, want %d", got, want)
			}
			if again := d.send("GET", "/autorefresh", bearer(old)); again.header.Get("Authorization") != "Bearer "+text {
				t.Errorf("R7: the second request in the grace gets another token than the first: %v", again.header)
			}
			if next := d.send("GET", "/autorefresh", bearer(text)); next.header.Get("Authorization") != "" {
				t.Error("AutoRefresh renews a token that is new")
			}
		})
	}
}

func TestAutoRefreshLeavesAlone(t *testing.T) {
	d := newDesk(t)
	for name, text := range map[string]string{"new": d.text, "half its life": aged(t, d.text, 30*time.Minute)} {
		r := d.send("GET", "/autorefresh", bearer(text))
		r.passed(t, "admin")
		if r.header.Get("Authorization") != "" || r.header.Get("Access-Control-Expose-Headers") != "" {
			t.Errorf("AutoRefresh renews a token that is %s: %v", name, r.header)
		}
	}
}

// AutoRefresh(0) waits for the expiry. What an application says about CORS itself stays.
func TestAutoRefreshZero(t *testing.T) {
	auth := newAuth(t)
	text := login(t, auth)
	r := gin.New()
	r.GET("/", func(c *gin.Context) { c.Header("Access-Control-Expose-Headers", "X-Total") }, auth.AutoRefresh(0), whoami)
	s := listen(t, r)
	if r := s.send("GET", "/", bearer(aged(t, text, almostExpired))); r.header.Get("Authorization") != "" {
		t.Error("AutoRefresh(0) renews a token that still lives")
	}
	renewed := s.send("GET", "/", bearer(aged(t, text, 2*time.Hour)))
	if got := strings.Join(renewed.header.Values("Access-Control-Expose-Headers"), ","); got != "X-Total,Authorization" {
		t.Errorf("the exposed headers are %q", got)
	}
}

// R8 under AutoRefresh and at the RefreshHandler: the thief's or the owner's, one of the two tokens is
// stolen, so both are dead.
func TestR8Reuse(t *testing.T) {
	for _, keep := range []bool{false, true} {
		for _, door := range []struct{ method, path string }{{"GET", "/autorefresh"}, {"POST", "/refresh"}} {
			for name, age := range map[string]time.Duration{"living": 0, "expired": 2 * time.Hour} {
				t.Run(fmt.Sprintf("%s %s keep=%v", door.path, name, keep), func(t *testing.T) {
					d := newDesk(t, noGrace, func(c *middleware.Config) { c.KeepSessionOnReuse = keep })
					old := aged(t, d.text, age)
					newest := refresh(t, d.auth, old)
					if age == 0 {
						d.send("GET", "/required", bearer(old)).refused(t, middleware.CodeTokenRevoked)
						d.send("GET", "/required", bearer(newest)).passed(t, "admin") // no guard but AutoRefresh ends a session
					}
					d.send(door.method, door.path, bearer(old)).refused(t, middleware.CodeTokenReused)
					r := d.send("GET", "/required", bearer(newest))
					if keep {
						r.passed(t, "admin")
					} else {
						r.refused(t, middleware.CodeTokenRevoked)
						d.send("POST", "/refresh", bearer(newest)).refused(t, middleware.CodeTokenRevoked)
					}
				})
			}
		}
	}
}

// The login counts, not the last refresh.
func TestFresh(t *testing.T) {
	d := newDesk(t)
	d.send("GET", "/fresh", bearer(aged(t, d.text, 9*time.Minute))).passed(t, "admin")
	old := aged(t, d.text, 11*time.Minute)
	for _, text := range []string{old, refresh(t, d.auth, old)} {
		d.send("GET", "/fresh", bearer(text)).refused(t, middleware.CodeLoginTooOld, `, max_age="600"`)
	}
	unknown := forge(ourHeader, membersOf(t, login(t, d.auth)).without("auth_time").object())
	d.send("GET", "/fresh", bearer(unknown)).refused(t, middleware.CodeTokenInvalid)
}

func TestAllowSeesTheRequest(t *testing.T) {
	auth := newAuth(t)
	r := gin.New()
	r.GET("/:owner", auth.Allow(func(c *gin.Context, claims middleware.Claims) bool { return c.Param("owner") == claims.Subject }), whoami)
	s := listen(t, r)
	text := login(t, auth)
	s.send("GET", "/admin", bearer(text)).passed(t, "admin")
	s.send("GET", "/alice", bearer(text)).refused(t, middleware.CodeForbidden)
	s.send("GET", "/admin").refused(t, middleware.CodeTokenMissing)
}

func TestNestedGuards(t *testing.T) {
	auth := newAuth(t)
	anybody := auth.Allow(func(_ *gin.Context, claims middleware.Claims) bool { return claims.ExpiresAt.After(time.Now()) })
	nobody := auth.Allow(func(*gin.Context, middleware.Claims) bool { return false })
	required, autoRefresh, optional, fresh := auth.Required(), auth.AutoRefresh(time.Minute), auth.Optional(), auth.Fresh(10*time.Minute)
	r := gin.New()
	for path, guards := range map[string][]gin.HandlerFunc{
		"/renewed-required": {autoRefresh, required, optional, anybody},
		"/required-renewed": {required, autoRefresh},
		"/renewed-fresh":    {autoRefresh, fresh},
		"/required-nobody":  {required, nobody},
		"/optional":         {optional, required},
		"/optional-nobody":  {optional, nobody},
	} {
		r.GET(path, append(guards, whoami)...)
	}
	s := listen(t, r)
	text := login(t, auth)
	expired := aged(t, text, 2*time.Hour)
	s.send("GET", "/required-renewed", bearer(expired)).refused(t, middleware.CodeTokenExpired)
	s.send("GET", "/renewed-required", bearer(expired)).passed(t, "admin")
	s.send("GET", "/renewed-fresh", bearer(expired)).refused(t, middleware.CodeLoginTooOld, `, max_age="600"`)
	text = login(t, auth)
	s.send("GET", "/required-nobody", bearer(text)).refused(t, middleware.CodeForbidden)
	s.send("GET", "/optional-nobody", bearer(text)).refused(t, middleware.CodeForbidden)
	s.send("GET", "/optional-nobody").refused(t, middleware.CodeTokenMissing)
	s.send("GET", "/optional").refused(t, middleware.CodeTokenMissing)
	s.send("GET", "/optional", bearer(text)).passed(t, "admin")
}

// What one Auth let through is not let through by another.
func TestTwoAuthsInOneRequest(t *testing.T) {
	first := newAuth(t)
	second := newAuth(t, func(c *middleware.Config) {
		c.Keys = []middleware.Key{hs256("", bytes.Repeat([]byte("k"), 32))}
	})
	sameKey := newAuth(t) // but another blacklist
	r := gin.New()
	yes := func(*gin.Context, middleware.Claims) bool { return true }
	for path, guards := range map[string][]gin.HandlerFunc{
		"/required": {first.Required(), second.Required()},
		"/optional": {first.Required(), second.Optional()},
		"/renewed":  {first.AutoRefresh(0), second.AutoRefresh(0)},
		"/fresh":    {first.Required(), second.Fresh(time.Hour)},
		"/allow":    {first.Required(), second.Allow(yes)},
		"/same-key": {first.Required(), sameKey.Required()},
	} {
		r.GET(path, append(guards, whoami)...)
	}
	s := listen(t, r)
	text := login(t, first)
	for _, path := range []string{"/required", "/optional", "/renewed", "/fresh", "/allow"} {
		s.send("GET", path, bearer(text)).refused(t, middleware.CodeTokenInvalid)
	}
	s.send("GET", "/same-key", bearer(text)).passed(t, "admin")
	if err := sameKey.Logout(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	s.send("GET", "/same-key", bearer(text)).refused(t, middleware.CodeTokenRevoked)
}

// A refused request reaches no handler behind the guard.
func TestRefusedRequestsEnd(t *testing.T) {
	auth := newAuth(t)
	var ran atomic.Int32
	count := func(*gin.Context) { ran.Add(1) }
	r := gin.New()
	for path, guard := range map[string]gin.HandlerFunc{
		"/required": auth.Required(), "/optional": auth.Optional(), "/autorefresh": auth.AutoRefresh(0), "/fresh": auth.Fresh(time.Hour),
		"/allow": auth.Allow(func(*gin.Context, middleware.Claims) bool { return false }),
		"/login": auth.LoginHandler, "/refresh": auth.RefreshHandler, "/logout": auth.LogoutHandler, "/logout/all": auth.LogoutAllHandler,
	} {
		r.POST(path, guard, count)
	}
	s := listen(t, r)
	for _, route := range r.Routes() {
		s.send("POST", route.Path, bearer("a.b.c"))
		if ran.Load() != 0 {
			t.Fatalf("%s refuses, and yet the next handler runs", route.Path)
		}
	}
}

func TestMustClaims(t *testing.T) {
	c, _ := gin.CreateTestContext(httptest.NewRecorder())
	if claims, ok := middleware.ClaimsFrom(c); ok || claims.Subject != "" {
		t.Errorf("ClaimsFrom without a guard gives %v", claims)
	}
	mustPanic(t, "MustClaims", func() { middleware.MustClaims(c) }, "MustClaims", "auth.Required()")

	auth := newAuth(t)
	r := gin.New()
	r.GET("/", auth.Required(), func(c *gin.Context) { c.String(http.StatusOK, middleware.MustClaims(c).Subject) })
	listen(t, r).send("GET", "/", bearer(login(t, auth))).passed(t, "admin")
}

// mustPanic checks that a mistake in the program is told at once, by whom and what to do.
func mustPanic(t *testing.T, name string, call func(), words ...string) {
	t.Helper()
	defer func() {
		t.Helper()
		text := fmt.Sprint(recover())
		for _, word := range append(words, "middleware: ") {
			if !strings.Contains(text, word) {
				t.Errorf("%s panics with %q, want %q in it", name, text, word)
			}
		}
	}()
	call()
}

func TestOnErrorReplacesTheBody(t *testing.T) {
	store := &faulty{Store: newMemory(t)}
	d := newDesk(t, func(c *middleware.Config) {
		c.Store = store
		c.OnError = func(c *gin.Context, err *middleware.Error) {
			c.String(http.StatusTeapot, "%s %d %v", err.Code, err.Status, err.MaxAge)
			err.Code, err.Status, err.Type, err.Description = "changed", 1, "changed", "changed" // nobody else's
		}
	})
	for range 2 {
		for _, row := range []struct{ path, edit, body, challenge string }{
			{"/required", "", "token_missing 401 0s", `Bearer realm="api"`},
			{"/required", "Bearer a.b.c", "token_invalid 401 0s", `Bearer realm="api", error="invalid_token", error_description="`},
			{"/fresh", "Bearer " + aged(t, d.text, 11*time.Minute), "login_too_old 401 10m0s", `Bearer realm="api", error="insufficient_user_authentication", error_description="`},
			{"/never", "Bearer " + d.text, "forbidden 403 0s", ""},
		} {
			r := d.send("GET", row.path, authorization(row.edit))
			challenge := r.header.Get("WWW-Authenticate")
			if r.status != http.StatusTeapot || r.body != row.body || !strings.HasPrefix(challenge, row.challenge) || (row.challenge == "") != (challenge == "") {
				t.Errorf("%s with OnError answers %d %q %q, want 418 %q %q", row.path, r.status, r.body, challenge, row.body, row.challenge)
			}
		}
	}
	store.fault.Store(&fault{get: failing})
	if r := d.send("GET", "/required", bearer(d.text)); r.header.Get("Retry-After") != "1" || r.body != "store_unavailable 503 0s" {
		t.Errorf("R14 with OnError: %d %q %v", r.status, r.body, r.header)
	}
}

// An OnError that only logs must not turn a refusal into a 200.
func TestOnErrorThatWritesNothing(t *testing.T) {
	d := newDesk(t, func(c *middleware.Config) { c.OnError = func(*gin.Context, *middleware.Error) {} })
	for _, door := range doors {
		if r := d.send(door.method, door.path, bearer("a.b.c")); r.status != http.StatusUnauthorized || strings.Contains(r.body, "admin") {
			t.Errorf("%s with an empty OnError answers %d %q, want 401", door.path, r.status, r.body)
		}
	}
}

func TestAuthenticate(t *testing.T) {
	outage := errors.New("dial tcp 10.0.0.7:5432: refused")
	_, notGenuine := newAuth(t).Verify(t.Context(), "a.b.c")
	for name, row := range map[string]struct {
		id   middleware.Identity
		err  error
		code middleware.Code
	}{
		"refused":             {err: middleware.ErrRefused, code: middleware.CodeInvalidCredentials},
		"refused, wrapped":    {err: fmt.Errorf("no user: %w", middleware.ErrRefused), code: middleware.CodeInvalidCredentials},
		"refused, identity":   {id: middleware.Identity{Subject: "admin"}, err: middleware.ErrRefused, code: middleware.CodeInvalidCredentials},
		"bad request":         {err: middleware.ErrBadRequest, code: middleware.CodeBadRequest},
		"bad request, joined": {err: errors.Join(outage, middleware.ErrBadRequest), code: middleware.CodeBadRequest},
		"could not tell":      {err: outage, code: middleware.CodeStoreUnavailable},
		"too late":            {err: context.DeadlineExceeded, code: middleware.CodeStoreUnavailable},
		"another step's":      {err: fmt.Errorf("second factor: %w", notGenuine), code: middleware.CodeTokenInvalid},
		"no subject":          {code: middleware.CodeServerError},
		"unusable claims":     {id: middleware.Identity{Subject: "admin", Claims: map[string]int{"SUB": 5432}}, code: middleware.CodeServerError},
		"no lifetime":         {id: middleware.Identity{Subject: "admin", TTL: -time.Hour}, code: middleware.CodeServerError},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, authenticating(func(*gin.Context) (middleware.Identity, error) { return row.id, row.err }))
			r := d.send("POST", "/login")
			r.refused(t, row.code)
			r.notStored(t)
			if strings.Contains(r.body, "5432") || strings.Contains(r.body, "no user") || strings.Contains(r.body, "factor") {
				t.Errorf("the answer tells what is behind: %s", r.body)
			}
		})
	}
	t.Run("nil", func(t *testing.T) {
		newDesk(t, authenticating(nil)).send("POST", "/login?user=admin").refused(t, middleware.CodeServerError)
	})
}

// Nobody learns from the answer which names exist.
func TestSameWordsForUnknownAndWrong(t *testing.T) {
	d := newDesk(t, authenticating(func(c *gin.Context) (middleware.Identity, error) {
		return middleware.Identity{}, fmt.Errorf("%s: %w", c.Query("user"), middleware.ErrRefused)
	}))
	unknown, wrong := d.send("POST", "/login?user=nobody"), d.send("POST", "/login?user=admin")
	unknown.header.Del("Date")
	wrong.header.Del("Date")
	if unknown.status != wrong.status || unknown.body != wrong.body || !maps.EqualFunc(unknown.header, wrong.header, slices.Equal) {
		t.Errorf("unknown: %v, wrong: %v", unknown, wrong)
	}
	unknown.refused(t, middleware.CodeInvalidCredentials)
}

// Where Authenticate answers itself, that answer stands and no token goes with it.
func TestAuthenticateAnswersItself(t *testing.T) {
	admin := middleware.Identity{Subject: "admin"}
	slow := func(c *gin.Context) {
		c.Header("Retry-After", "60")
		c.AbortWithStatusJSON(http.StatusTooManyRequests, gin.H{"error": "slow_down"})
	}
	for name, row := range map[string]struct {
		answer func(c *gin.Context)
		id     middleware.Identity
		err    error
		status int
		body   string
	}{
		"429":                   {slow, middleware.Identity{}, nil, 429, `{"error":"slow_down"}`},
		"429, refused":          {slow, middleware.Identity{}, middleware.ErrRefused, 429, `{"error":"slow_down"}`},
		"429, other error":      {slow, middleware.Identity{}, errors.New("too many"), 429, `{"error":"slow_down"}`},
		"429, identity":         {slow, admin, nil, 429, `{"error":"slow_down"}`},
		"status only":           {func(c *gin.Context) { c.AbortWithStatus(429) }, admin, nil, 429, ""},
		"aborted, not written":  {func(c *gin.Context) { c.Status(423); c.Abort() }, admin, nil, 423, ""},
		"written, not aborted":  {func(c *gin.Context) { c.String(202, "second factor") }, admin, nil, 202, "second factor"},
		"redirect, not aborted": {func(c *gin.Context) { c.String(303, "elsewhere") }, admin, middleware.ErrRefused, 303, "elsewhere"},
	} {
		t.Run(name, func(t *testing.T) {
			var onError atomic.Bool
			d := newDesk(t, func(c *middleware.Config) { c.OnError = func(*gin.Context, *middleware.Error) { onError.Store(true) } },
				authenticating(func(c *gin.Context) (middleware.Identity, error) { row.answer(c); return row.id, row.err }))
			r := d.send("POST", "/login")
			if r.status != row.status || r.body != row.body || r.header.Get("WWW-Authenticate") != "" || onError.Load() {
				t.Errorf("answer %d %q %v, want %d %q", r.status, r.body, r.header, row.status, row.body)
			}
		})
	}
}

// LoginHandler bounds the body that Authenticate reads.
func TestLoginBodyIsBounded(t *testing.T) {
	d := newDesk(t, authenticating(func(c *gin.Context) (middleware.Identity, error) {
		var login struct{ User string }
		if err := c.ShouldBindJSON(&login); err != nil {
			return middleware.Identity{}, err
		}
		return middleware.Identity{Subject: login.User}, nil
	}))
	d.send("POST", "/login", jsonBody(`{"user":"admin"}`)).token(t)
	d.send("POST", "/login", jsonBody(`{"user":"`+strings.Repeat("x", 1<<20)+`"}`)).refused(t, middleware.CodeBadRequest)
}

// reloader is a Reload whose answer can be changed while the server runs.
type reloader struct {
	answer atomic.Pointer[reloaded]
	asked  atomic.Value
}

type reloaded struct {
	claims any
	err    error
}

func (r *reloader) reload(_ context.Context, claims middleware.Claims) (any, error) {
	r.asked.Store(claims.Subject)
	answer := r.answer.Load()
	return answer.claims, answer.err
}

func TestReload(t *testing.T) {
	for name, row := range map[string]struct {
		reloaded
		code  middleware.Code
		alive middleware.Code // the same, but the token still lives: AutoRefresh can let it pass
	}{
		"new claims": {reloaded: reloaded{claims: map[string]string{"role": "user"}}},
		"no claims":  {reloaded: reloaded{}},
		"refused":    {reloaded{nil, fmt.Errorf("blocked: %w", middleware.ErrRefused)}, middleware.CodeSubjectRefused, middleware.CodeSubjectRefused},
		"outage":     {reloaded{nil, errors.New("dial tcp 10.0.0.7:5432")}, middleware.CodeStoreUnavailable, ""},
		"reserved":   {reloaded{map[string]string{"sub": "root"}, nil}, middleware.CodeServerError, ""},
		"too long":   {reloaded{map[string]string{"pad": strings.Repeat("x", maxToken)}, nil}, middleware.CodeServerError, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var r reloader
			d := newDesk(t, noGrace, func(c *middleware.Config) { c.Reload = r.reload })
			d.text = issue(t, d.auth, middleware.Identity{Subject: "admin", Claims: map[string]string{"role": "admin"}})
			for _, request := range []struct {
				method, path string
				age          time.Duration
				code         middleware.Code
			}{
				{"POST", "/refresh", 0, row.code},
				{"POST", "/refresh", 2 * time.Hour, row.code},
				{"GET", "/autorefresh", 2 * time.Hour, row.code},
				{"GET", "/autorefresh", almostExpired, row.alive},
			} {
				d.text = issue(t, d.auth, middleware.Identity{Subject: "admin", Claims: map[string]string{"role": "admin"}})
				text := aged(t, d.text, request.age)
				r.answer.Store(&row.reloaded)
				answer := d.send(request.method, request.path, bearer(text))
				if asked := r.asked.Load(); asked != "admin" {
					t.Errorf("Reload was asked for %v", asked)
				}
				if row.code == "" {
					reloadedInto(t, d.auth, answer, row.claims)
					continue
				}
				if request.code == "" {
					answer.passed(t, "admin")
				} else {
					answer.refused(t, request.code)
				}
				if strings.Contains(answer.body, "5432") || answer.header.Get("Authorization") != "" {
					t.Errorf("answer %s %v", answer.body, answer.header)
				}
				r.answer.Store(&reloaded{})
				refresh(t, d.auth, text) // R9: not used up
			}
		})
	}
}

// reloadedInto checks the application's claims of the token in an answer's body or header.
func reloadedInto(t *testing.T, auth *middleware.Auth, r reply, want any) {
	t.Helper()
	text, found := strings.CutPrefix(r.header.Get("Authorization"), "Bearer ")
	if !found {
		text = r.token(t)
	}
	if got := decodedClaims(t, verify(t, auth, text)); fmt.Sprint(got) != fmt.Sprint(decoded(t, ownJSON(t, want))) {
		t.Errorf("R9: the claims are %v, want %v", got, want)
	}
}

// faulty is a blacklist with a driver that can fail. It is no Peeker.
type faulty struct {
	middleware.Store
	fault atomic.Pointer[fault]
}

type fault struct {
	get  func(ctx context.Context, values []string) ([]string, error)
	swap func(ctx context.Context) (bool, error)
}

func (s *faulty) Get(ctx context.Context, keys ...string) ([]string, error) {
	values, err := s.Store.Get(ctx, keys...)
	if f := s.fault.Load(); f != nil && f.get != nil {
		return f.get(ctx, values)
	}
	return values, err
}

func (s *faulty) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	if f := s.fault.Load(); f != nil && f.swap != nil {
		if swapped, err := f.swap(ctx); !swapped {
			return false, err
		}
	}
	return s.Store.CompareAndSwap(ctx, key, old, new, expires)
}

var errDriver = errors.New("read tcp 10.0.0.7:6379: NOAUTH s3cret")

func failing(context.Context, []string) ([]string, error) { return nil, errDriver }

func failingSwap(context.Context) (bool, error) { return false, errDriver }

func refusingSwap(context.Context) (bool, error) { return false, nil }

// answering gives each key of a Get the same value.
func answering(value string) *fault {
	return &fault{get: func(_ context.Context, values []string) ([]string, error) {
		return slices.Repeat([]string{value}, len(values)), nil
	}}
}

// R14: the store fails, so nobody passes and nobody loses anything.
func TestR14StoreFails(t *testing.T) {
	faults := map[string]*fault{
		"Get fails":            {get: failing},
		"Get gives too few":    {get: func(context.Context, []string) ([]string, error) { return nil, nil }},
		"Get gives too many":   {get: func(_ context.Context, values []string) ([]string, error) { return append(values, "", ""), nil }},
		"fails with a cancel":  {get: func(context.Context, []string) ([]string, error) { return nil, context.Canceled }},
		"fails, and yet tells": {get: func(_ context.Context, values []string) ([]string, error) { return values, errDriver }},
	}
	for _, value := range []string{
		"x y", "Ended", "ended ", " ", "0", "-1", "+1", "1.", ".1", "1..2", "1.2.", "1.2.3.", "1.2.3.4.", "1.2.3.4.5", "01.1", "1.01", "A.B", "1,2", "1.2\n", "zzzzzzzzzzzz.1",
		"1.zzzzzzzzzzzzz", `{"cutoff":1}`, "\x00", "1e3.é",
	} {
		faults[fmt.Sprintf("record %q", value)] = answering(value)
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			store := &faulty{Store: newMemory(t)}
			d := newDesk(t, func(c *middleware.Config) { c.Store = store })
			store.fault.Store(fault)
			for _, door := range append(doors, struct{ method, path string }{"POST", "/login?user=admin"}) {
				if _, isRecord := strings.CutPrefix(name, "record"); isRecord && door.path == "/logout" {
					continue // it overwrites whatever is there
				}
				r := d.send(door.method, door.path, bearer(d.text))
				if r.status != http.StatusServiceUnavailable {
					t.Errorf("R14: %s:", door.path)
				}
				r.refused(t, middleware.CodeStoreUnavailable)
				if strings.Contains(r.body+fmt.Sprint(r.header), "s3cret") {
					t.Errorf("R14: the answer has the driver's words: %s %v", r.body, r.header)
				}
			}
			d.send("GET", "/optional").passed(t, "guest") // no token, no question to the store
			store.fault.Store(nil)
			d.send("GET", "/required", bearer(d.text)).passed(t, "admin")
			d.unharmed("R14")
		})
	}
}

func TestR14SwapFails(t *testing.T) {
	for name, swap := range map[string]func(context.Context) (bool, error){"fails": failingSwap, "refuses on and on": refusingSwap} {
		t.Run(name, func(t *testing.T) {
			store := &faulty{Store: newMemory(t)}
			d := newDesk(t, noGrace, func(c *middleware.Config) { c.Store = store })
			replaced := login(t, d.auth)
			refresh(t, d.auth, replaced)
			store.fault.Store(&fault{swap: swap})
			// R8: to say "reused" without having ended the session would be a lie
			d.send("POST", "/refresh", bearer(replaced)).refused(t, middleware.CodeStoreUnavailable)
			d.send("GET", "/autorefresh", bearer(replaced)).refused(t, middleware.CodeStoreUnavailable)
			for _, path := range takers {
				d.send("POST", path, bearer(d.text)).refused(t, middleware.CodeStoreUnavailable)
			}
			for _, age := range []time.Duration{2 * time.Hour, almostExpired} {
				r := d.send("GET", "/autorefresh", bearer(aged(t, d.text, age)))
				r.refused(t, middleware.CodeStoreUnavailable)
				if r.header.Get("Authorization") != "" {
					t.Error("R14: AutoRefresh gives a token that the store knows nothing of")
				}
			}
			d.send("GET", "/required", bearer(d.text)).passed(t, "admin") // it only reads
			d.send("POST", "/login?user=admin").token(t)
			store.fault.Store(nil)
			d.unharmed("R14")
		})
	}
}

// calls are the steps that ask the store, without HTTP.
func calls(auth *middleware.Auth) map[string]func(ctx context.Context, text string) error {
	all := steps(auth)
	all["Issue"] = func(ctx context.Context, _ string) error {
		_, err := auth.Issue(ctx, middleware.Identity{Subject: "admin"})
		return err
	}
	all["RevokeSession"] = func(ctx context.Context, _ string) error { return auth.RevokeSession(ctx, "sid") }
	all["RevokeSubject"] = func(ctx context.Context, _ string) error { return auth.RevokeSubject(ctx, "admin") }
	return all
}

// The application can look behind the error; its text is the client's.
func TestR14ErrorsOfTheSteps(t *testing.T) {
	store := &faulty{Store: newMemory(t)}
	auth := newAuth(t, func(c *middleware.Config) { c.Store = store })
	text := login(t, auth)
	store.fault.Store(&fault{get: failing})
	for name, call := range calls(auth) {
		err := call(t.Context(), text)
		if !hasCode(err, middleware.CodeStoreUnavailable) || !errors.Is(err, errDriver) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("R14: %s: %v, want %s with the driver's error behind it", name, err, middleware.CodeStoreUnavailable)
		}
	}
	store.fault.Store(answering("no record"))
	for name, call := range calls(auth) {
		if name == "Logout" || name == "RevokeSession" {
			continue // they overwrite whatever is there, or would: nothing is, so their swaps are lost
		}
		if err := call(t.Context(), text); !hasCode(err, middleware.CodeStoreUnavailable) || errors.Unwrap(err) == nil {
			t.Errorf("R14: %s on a record that nobody can read: %v, want %s", name, err, middleware.CodeStoreUnavailable)
		}
	}
	for name, err := range map[string]error{
		"RevokeSession": auth.RevokeSession(t.Context(), ""), "RevokeSubject": auth.RevokeSubject(t.Context(), ""),
	} {
		if err == nil || hasCode(err, middleware.CodeStoreUnavailable) {
			t.Errorf("%s of nothing: %v, want an error about that", name, err)
		}
	}
}

// hanging waits for its context, as the contract of Store demands, or for an hour.
func hanging(ctx context.Context, _ []string) ([]string, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(time.Hour):
		return nil, errDriver
	}
}

func TestR14StoreHangs(t *testing.T) {
	for _, timeout := range []time.Duration{0, 300 * time.Millisecond} { // 0: the default of one second
		synctest.Test(t, func(t *testing.T) {
			store := &faulty{Store: newMemory(t)}
			auth := newAuth(t, func(c *middleware.Config) { c.Store, c.StoreTimeout = store, timeout })
			site, text := direct(t, routes(auth)), login(t, auth)
			store.fault.Store(&fault{get: hanging})
			want := timeout
			if want == 0 {
				want = time.Second
			}
			bounded := func(name string, call func()) {
				start := time.Now()
				call()
				if took := time.Since(start); took != want {
					t.Errorf("R14: %s waits %v for the store, want %v", name, took, want)
				}
			}
			for _, door := range append(doors, struct{ method, path string }{"POST", "/login?user=admin"}) {
				bounded(door.path, func() {
					site.send(door.method, door.path, bearer(text)).refused(t, middleware.CodeStoreUnavailable)
				})
			}
			for name, call := range calls(auth) {
				bounded(name, func() {
					if err := call(t.Context(), text); !hasCode(err, middleware.CodeStoreUnavailable) {
						t.Errorf("R14: %s: %v", name, err)
					}
				})
			}
			store.fault.Store(nil)
			refresh(t, auth, text)
		})
	}
}

// The bound is for all that a request does at the store, not for each call. For a client that goes the look is
// finished, as it may show reuse (R8), but nothing is swapped.
func TestR14StoreIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &faulty{Store: newMemory(t)}
		auth := newAuth(t, func(c *middleware.Config) { c.Store = store })
		slow := func(d time.Duration) *fault {
			wait := func(ctx context.Context) error {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(d):
					return nil
				}
			}
			return &fault{
				get:  func(ctx context.Context, values []string) ([]string, error) { return values, wait(ctx) },
				swap: func(ctx context.Context) (bool, error) { err := wait(ctx); return err == nil, err },
			}
		}
		text := login(t, auth)
		refreshing := func(ctx context.Context, latency time.Duration) (time.Duration, error) {
			store.fault.Store(slow(latency))
			start := time.Now()
			_, err := auth.Refresh(ctx, text)
			return time.Since(start), err
		}
		if took, err := refreshing(t.Context(), 600*time.Millisecond); took != time.Second || !hasCode(err, middleware.CodeStoreUnavailable) {
			t.Errorf("R14: two calls of 0.6 s: %v after %v, want 503 after 1 s", err, took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if took, err := refreshing(ctx, 600*time.Millisecond); took != 600*time.Millisecond || !hasCode(err, middleware.CodeStoreUnavailable) {
			t.Errorf("R14: the client goes after 0.1 s: %v after %v, want 503 after the look of 0.6 s", err, took)
		}
		if took, err := refreshing(t.Context(), 400*time.Millisecond); took != 800*time.Millisecond || err != nil {
			t.Errorf("R14: two calls of 0.4 s: %v after %v, want success after 0.8 s", err, took)
		}
	})
}

// journal collects events.
type journal struct {
	mu     sync.Mutex
	events []middleware.Event
}

func (j *journal) write(_ context.Context, e middleware.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events = append(j.events, e)
}

// read takes out what was written.
func (j *journal) read() []middleware.Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	events := j.events
	j.events = nil
	return events
}

func TestOnEvent(t *testing.T) {
	var j journal
	store := &faulty{Store: newMemory(t)}
	d := newDesk(t, noGrace, func(c *middleware.Config) {
		c.Store, c.OnEvent = store, j.write
		authenticate := c.Authenticate
		c.Authenticate = func(c *gin.Context) (middleware.Identity, error) {
			if c.Query("user") == "" {
				return middleware.Identity{}, middleware.ErrRefused
			}
			return authenticate(c)
		}
	})
	revoked := login(t, d.auth)
	if err := d.auth.Logout(t.Context(), revoked); err != nil {
		t.Fatal(err)
	}
	replaced := func(age time.Duration) string {
		text := aged(t, login(t, d.auth), age)
		refresh(t, d.auth, text)
		return text
	}
	for name, row := range map[string]struct {
		method, path string
		edit         edit
		want         middleware.Event // SessionID "sid": that of the presented token
	}{
		"login":               {"POST", "/login?user=admin", anonymous, middleware.Event{Kind: "login", Subject: "admin", SessionID: "new"}},
		"login refused":       {"POST", "/login", anonymous, middleware.Event{Kind: "login_failed", Code: "invalid_credentials"}},
		"refresh":             {"POST", "/refresh", bearer(login(t, d.auth)), middleware.Event{Kind: "refresh", Subject: "admin", SessionID: "sid"}},
		"refresh refused":     {"POST", "/refresh", bearer(revoked), middleware.Event{Kind: "rejected", Subject: "admin", SessionID: "sid", Code: "token_revoked"}},
		"refresh, no token":   {"POST", "/refresh", anonymous, middleware.Event{Kind: "rejected", Code: "token_missing"}},
		"refresh, bad body":   {"POST", "/refresh", body(form, "refresh_token="+d.text+"%zz"), middleware.Event{Kind: "rejected", Code: "bad_request"}},
		"reuse":               {"POST", "/refresh", bearer(replaced(0)), middleware.Event{Kind: "reuse", Subject: "admin", SessionID: "sid", Code: "token_reused"}},
		"reuse, AutoRefresh":  {"GET", "/autorefresh", bearer(replaced(2 * time.Hour)), middleware.Event{Kind: "reuse", Subject: "admin", SessionID: "sid", Code: "token_reused"}},
		"AutoRefresh":         {"GET", "/autorefresh", bearer(aged(t, login(t, d.auth), 2*time.Hour)), middleware.Event{Kind: "refresh", Subject: "admin", SessionID: "sid"}},
		"logout":              {"POST", "/logout", bearer(login(t, d.auth)), middleware.Event{Kind: "logout", Subject: "admin", SessionID: "sid"}},
		"logout refused":      {"POST", "/logout", bearer(aged(t, login(t, d.auth), 1000*time.Hour)), middleware.Event{Kind: "rejected", Subject: "admin", SessionID: "sid", Code: "refresh_expired"}},
		"logout all":          {"POST", "/logout/all", bearer(issue(t, d.auth, middleware.Identity{Subject: "alice"})), middleware.Event{Kind: "logout_all", Subject: "alice", SessionID: "sid"}},
		"logout all, revoked": {"POST", "/logout/all", bearer(revoked), middleware.Event{Kind: "rejected", Subject: "admin", SessionID: "sid", Code: "token_revoked"}},
		"no token":            {"GET", "/required", anonymous, middleware.Event{Kind: "rejected", Code: "token_missing"}},
		"forged":              {"GET", "/required", bearer(d.text + "A"), middleware.Event{Kind: "rejected", Code: "token_invalid"}},
		"two headers":         {"GET", "/optional", func(r *http.Request) { r.Header["Authorization"] = []string{d.text, d.text} }, middleware.Event{Kind: "rejected", Code: "bad_request"}},
		"expired":             {"GET", "/required", bearer(aged(t, d.text, 2*time.Hour)), middleware.Event{Kind: "rejected", Subject: "admin", SessionID: "sid", Code: "token_expired"}},
		"revoked":             {"GET", "/optional", bearer(revoked), middleware.Event{Kind: "rejected", Subject: "admin", SessionID: "sid", Code: "token_revoked"}},
		"too old":             {"GET", "/fresh", bearer(aged(t, d.text, 30*time.Minute)), middleware.Event{Kind: "rejected", Subject: "admin", SessionID: "sid", Code: "login_too_old"}},
		"not allowed":         {"GET", "/never", bearer(d.text), middleware.Event{Kind: "rejected", Subject: "admin", SessionID: "sid", Code: "forbidden"}},
	} {
		t.Run(name, func(t *testing.T) {
			j.read()
			var sent string
			d.send(row.method, row.path, row.edit, func(r *http.Request) { sent = strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ") })
			events := j.read()
			if len(events) != 1 {
				t.Fatalf("events %+v, want one", events)
			}
			got := events[0]
			silent(t, fmt.Sprintf("%+v %q", got, chain(got.Err)), sent, d.text)
			if (got.Err == nil) != (row.want.Code == "") || got.ClientIP != "127.0.0.1" {
				t.Errorf("event %+v", got)
			}
			switch row.want.SessionID {
			case "sid":
				row.want.SessionID = membersOf(t, sent).sid()
			case "new":
				row.want.SessionID = got.SessionID
				if !regexp.MustCompile(`^[0-9a-z]{10}-[\w-]{22}$`).MatchString(got.SessionID) {
					t.Errorf("session %q", got.SessionID)
				}
			}
			got.Err, got.ClientIP = nil, ""
			if got != row.want {
				t.Errorf("event %+v, want %+v", got, row.want)
			}
		})
	}
	for name, edits := range map[string][]edit{"/optional": nil, "/required": {bearer(d.text)}, "/autorefresh": {bearer(d.text)}} {
		d.send("GET", name, edits...)
		if events := j.read(); len(events) > 0 {
			t.Errorf("a request that passes %s makes the events %+v", name, events)
		}
	}
	store.fault.Store(&fault{get: failing})
	for path, kind := range map[string]middleware.EventKind{"/login?user=admin": "login_failed", "/refresh": "rejected", "/logout": "rejected"} {
		d.send("POST", path, bearer(d.text))
		events := j.read()
		if len(events) != 1 || events[0].Kind != kind || events[0].Code != "store_unavailable" || !errors.Is(events[0].Err, errDriver) {
			t.Errorf("R14: %s makes the events %+v", path, events)
		}
	}
}

// The steps report as the handlers do, without a client.
func TestOnEventOfTheSteps(t *testing.T) {
	var j journal
	auth := newAuth(t, func(c *middleware.Config) { c.OnEvent = j.write })
	text := login(t, auth)
	sid := membersOf(t, text).sid()
	_, _ = auth.Verify(t.Context(), text)
	text = refresh(t, auth, text)
	_ = auth.Logout(t.Context(), text)
	_, _ = auth.Verify(t.Context(), text)
	_, _ = auth.Refresh(t.Context(), "a.b.c")
	_, _ = auth.Issue(t.Context(), middleware.Identity{})
	_ = auth.RevokeSession(t.Context(), sid)
	_ = auth.RevokeSubject(t.Context(), "admin")
	want := []middleware.Event{
		{Kind: middleware.EventLogin, Subject: "admin", SessionID: sid},
		{Kind: middleware.EventRefresh, Subject: "admin", SessionID: sid},
		{Kind: middleware.EventLogout, Subject: "admin", SessionID: sid},
		{Kind: middleware.EventRejected, Subject: "admin", SessionID: sid, Code: middleware.CodeTokenRevoked},
		{Kind: middleware.EventRejected, Code: middleware.CodeTokenInvalid},
		{Kind: middleware.EventLoginFailed, Code: middleware.CodeServerError},
		{Kind: middleware.EventLogout, SessionID: sid},
		{Kind: middleware.EventLogoutAll, Subject: "admin"},
	}
	got := j.read()
	for i := range got {
		silent(t, fmt.Sprintf("%+v %q", got[i], chain(got[i].Err)), text)
		got[i].Err = nil
	}
	if !slices.Equal(got, want) {
		t.Errorf("events\n%+v, want\n%+v", got, want)
	}
}

// chain is the text of an error and of all that is behind it.
func chain(err error) (texts []string) {
	for ; err != nil; err = errors.Unwrap(err) {
		texts = append(texts, fmt.Sprintf("%v %+v %#v", err, err, err))
	}
	return texts
}

// silent checks that a text shows no part of a token that would help anybody, and no key.
func silent(t *testing.T, text string, tokens ...string) {
	t.Helper()
	for _, token := range tokens {
		parts := strings.Split(token, ".")
		if len(parts) == 3 && (strings.Contains(text, parts[1]) || strings.Contains(text, parts[2])) {
			t.Errorf("a token shows in %s", text)
		}
	}
	if strings.Contains(text, string(secret)) {
		t.Errorf("the key shows in %s", text)
	}
}

// No error's text holds the token or the subject that it is about.
func TestErrorsAreSilent(t *testing.T) {
	auth := newAuth(t, noGrace)
	text := issue(t, auth, middleware.Identity{Subject: "a-subject-to-be-found"})
	parts := strings.Split(text, ".")
	offered := []string{
		text + "A", text + "\n", parts[0] + "." + parts[1] + "." + parts[1], parts[1] + "." + parts[1] + "." + parts[2],
		forge(`{"alg":"none"}`, membersOf(t, text).object()), forge(ourHeader, membersOf(t, text).object(`"sub":"a-subject-to-be-found"`)),
		aged(t, text, 10000*time.Hour), aged(t, text, -time.Hour), strings.Repeat(text, 30),
		forge(ourHeader, membersOf(t, text).with("jti", `"x"`).object()), forge(ourHeader, membersOf(t, text).with("sid", `"x"`).object()),
		forge(ourHeader, membersOf(t, text).with("exp", `"x"`).object()), forge(ourHeader, membersOf(t, text).object()+"x"),
	}
	refresh(t, auth, text)
	for _, offered := range append(offered, text) {
		for name, call := range steps(auth) {
			err := call(t.Context(), offered)
			if err == nil && name != "Logout" {
				t.Errorf("%s of %q gives no error", name, offered)
			}
			told := strings.Join(chain(err), " ")
			silent(t, told, offered, text)
			if strings.Contains(told, "a-subject-to-be-found") {
				t.Errorf("%s tells the subject: %s", name, told)
			}
		}
	}
}
