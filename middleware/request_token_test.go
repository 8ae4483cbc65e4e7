package middleware_test

import (
	"bytes"
	"errors"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// Where a request may carry its token by default, and what a malformed request is answered. Config.Sources is tested in
// source_test.go.

func TestAuthorizationHeader(t *testing.T) {
	d := newServer(t)
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
					r.rejected(t, code)
				}
			}
		})
	}
	d.stillUsable("header")
}

// An HTTP/1 server cuts off spaces at the end of a header. Over HTTP/2 they arrive.
func TestAuthorizationHeaderEndsInSpaces(t *testing.T) {
	d := newServer(t)
	r := gin.New()
	r.GET("/", d.auth.Required())
	for _, value := range []string{"Bearer TOKEN ", "bearer  TOKEN  "} {
		request := httptest.NewRequest("GET", "/", nil)
		request.Header.Set("Authorization", strings.ReplaceAll(value, "TOKEN", d.text))
		answer := httptest.NewRecorder()
		r.ServeHTTP(answer, request)
		if answer.Code != http.StatusOK {
			t.Errorf("%q: response %d, want 200", value, answer.Code)
		}
	}
}

func TestTwoAuthorizationHeaders(t *testing.T) {
	d := newServer(t)
	for name, more := range map[string]string{"the same": "Bearer " + d.text, "another token": "Bearer x", "another scheme": "Basic x", "empty": ""} {
		for _, route := range tokenRoutes {
			for order, edits := range [][]edit{
				{bearer(d.text), header("Authorization", more)},
				{header("Authorization", more), bearer(d.text)},
			} {
				r := d.send(route.method, route.path, edits...)
				if r.status != http.StatusBadRequest {
					t.Errorf("%s, order %d, at %s: not 400", name, order, route.path)
				}
				r.rejected(t, middleware.CodeBadRequest)
			}
		}
	}
	d.stillUsable("two headers")
}

// Refresh and logout read the token from the header or the body.
func TestTokenFromHeaderOrBody(t *testing.T) {
	t.Parallel()
	for name, edits := range map[string][]edit{
		"header":                      {authorization("Bearer TOKEN")},
		"JSON":                        {jsonBody(`{"refresh_token":"TOKEN"}`)},
		"JSON with a charset":         {body("application/json; charset=utf-8", `{"refresh_token":"TOKEN"}`)},
		"type in other case":          {body("Application/JSON", `{"refresh_token":"TOKEN"}`)},
		"JSON with spaces":            {jsonBody(" { \"refresh_token\" :\n\"TOKEN\" } ")},
		"JSON with escapes":           {jsonBody(`{"refresh\u005ftoken":"\u0065\u0079J` + `REST"}`)},
		"JSON, more members":          {jsonBody(`{"a":{"refresh_token":"x"},"refresh_token":"TOKEN","Refresh_Token":"x","b":[1]}`)},
		"form":                        {body(form, "refresh_token=TOKEN")},
		"form with a charset":         {body(form+"; charset=utf-8", "refresh_token=TOKEN")},
		"form, more fields":           {body(form, "a=1&refresh_token=TOKEN&Refresh_Token=x")},
		"form with escapes":           {body(form, "refresh%5Ftoken=%65%79J"+"REST")},
		"header before body":          {authorization("Bearer TOKEN"), jsonBody(`{"refresh_token":"x"}`)},
		"header before a broken body": {authorization("Bearer TOKEN"), jsonBody(`{`)},
		"body beside another scheme":  {authorization("Basic x"), jsonBody(`{"refresh_token":"TOKEN"}`)},
		"body beside an empty header": {authorization("Bearer"), body(form, "refresh_token=TOKEN")},
	} {
		for _, path := range bodyRoutes {
			t.Run(name+path, func(t *testing.T) {
				d := newServer(t)
				d.send("POST", path, append(edits, insertToken(d.text))...).accepted(t, path)
			})
		}
	}
}

// If a body has no refresh_token, the response and OnError's cause name it. A request without a body has no such hint.
func TestBodyWithoutRefreshToken(t *testing.T) {
	t.Parallel()
	log := new(eventLog)
	d := newServer(t, func(c *middleware.Config) { c.OnEvent = log.record })
	for name, row := range map[string]struct {
		edit edit
		hint bool
	}{
		"JSON":         {jsonBody(`{"token":"TOKEN"}`), true},
		"form":         {body(form, "token=TOKEN"), true},
		"empty object": {jsonBody(`{}`), true},
		"empty":        {jsonBody(""), true}, // sent in chunks, so its length is not announced
		"no body":      {anonymous, false},
	} {
		for _, path := range bodyRoutes {
			log.take()
			r := d.send("POST", path, row.edit, insertToken(d.text))
			r.rejected(t, middleware.CodeTokenMissing)
			cause := strings.Join(errorTexts(log.take()[0].Err), " ")
			if strings.Contains(r.body, "refresh_token") != row.hint || strings.Contains(cause, "member or field refresh_token") != row.hint {
				t.Errorf("%s%s: the response is %s and the cause %q, hint: %v", name, path, r.body, cause, row.hint)
			}
			wantNoSecret(t, r.body+cause, d.text)
		}
	}
}

// Refresh and logout reject every other body, and a token in any other place.
func TestBadBodies(t *testing.T) {
	t.Parallel()
	d := newServer(t)
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
		"truncated":            {middleware.CodeBadRequest, jsonBody(`{"refresh_token":"TOKEN"`)},
		"trailing bytes":       {middleware.CodeBadRequest, jsonBody(`{"refresh_token":"TOKEN"}x`)},
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
		"only spaces":          {middleware.CodeBadRequest, jsonBody(`   `)},
		"invalid UTF-8":        {middleware.CodeBadRequest, jsonBody("{\"refresh_token\":\"TOKEN\",\"a\":\"\xff\"}")},
		"byte order mark":      {middleware.CodeBadRequest, jsonBody("\ufeff{\"refresh_token\":\"TOKEN\"}")},
		"UTF-16":               {middleware.CodeBadRequest, jsonBody("\xff\xfe{\x00}\x00")},
		"token only":           {middleware.CodeBadRequest, jsonBody("TOKEN")},
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
		"token of 9 KiB":       {middleware.CodeTokenInvalid, jsonBody(`{"refresh_token":"` + strings.Repeat("A", 9<<10) + `"}`)},
		"two Authorization, body": {middleware.CodeBadRequest, func(r *http.Request) {
			r.Header["Authorization"] = []string{"Basic x", "Basic x"}
			jsonBody(`{"refresh_token":"TOKEN"}`)(r)
		}},
	} {
		for _, path := range bodyRoutes {
			t.Run(name+path, func(t *testing.T) {
				r := d.send("POST", path, row.edit, insertToken(d.text))
				r.rejected(t, row.code)
				r.notStored(t)
			})
		}
	}
	d.stillUsable("bad bodies")
}

func multipartForm(t *testing.T, text string) (body, contentType string) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	if err := errors.Join(w.WriteField("refresh_token", text), w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.String(), w.FormDataContentType()
}

// By default a guard reads only the header. A token in a URL would end up in logs.
func TestGuardsReadTheHeaderAlone(t *testing.T) {
	d := newServer(t)
	for name, edit := range map[string]edit{
		"URL":    func(r *http.Request) { r.URL.RawQuery = "access_token=" + d.text + "&token=" + d.text },
		"cookie": header("Cookie", "access_token="+d.text+"; jwt="+d.text),
		"body":   jsonBody(`{"access_token":"` + d.text + `","refresh_token":"` + d.text + `"}`),
		"header": header("X-Access-Token", d.text),
		"proxy":  header("Proxy-Authorization", "Bearer "+d.text),
	} {
		r := d.send("POST", "/required", edit)
		if r.status != http.StatusUnauthorized {
			t.Errorf("a token in the %s: not 401", name)
		}
		r.rejected(t, middleware.CodeTokenMissing)
	}
}
