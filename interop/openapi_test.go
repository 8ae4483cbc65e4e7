package interop_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/gin-gonic/gin"
	"github.com/swaggo/swag"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
)

// described is a server whose requests and answers must fit docs/openapi.yaml.
type described struct {
	t      *testing.T
	doc    *openapi3.T
	router routers.Router
	server http.Handler
}

func newDescribed(t *testing.T, config middleware.Config) described {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromFile("../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	blacklist := store.NewMemory()
	t.Cleanup(func() { _ = blacklist.Close() })
	config.Keys = []middleware.Key{{Algorithm: middleware.HS256, Key: []byte("a secret of 32 bytes or more, and random")}}
	config.Store = blacklist
	config.Authenticate = func(c *gin.Context) (middleware.Identity, error) {
		var login struct {
			Username string `json:"username" form:"username" binding:"required"`
			Password string `json:"password" form:"password" binding:"required"`
		}
		if err := c.ShouldBind(&login); err != nil {
			return middleware.Identity{}, middleware.ErrBadRequest
		}
		if login.Password != "secret" {
			return middleware.Identity{}, middleware.ErrRefused
		}
		return middleware.Identity{Subject: login.Username}, nil
	}
	auth, err := middleware.New(config)
	if err != nil {
		t.Fatal(err)
	}
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	r.POST("/login", auth.LoginHandler)
	r.POST("/refresh", auth.RefreshHandler)
	r.POST("/logout", auth.LogoutHandler)
	r.GET("/me", auth.Required(), func(c *gin.Context) { c.JSON(http.StatusOK, middleware.MustClaims(c)) })
	return described{t, doc, router, r}
}

// send sends a request, and compares the answer, and the request if it is a good one, with the description.
func (d described) send(method, path, body string, header http.Header, want int) *http.Response {
	d.t.Helper()
	ctx := d.t.Context()
	request := func() *http.Request {
		r := httptest.NewRequestWithContext(ctx, method, "https://api.example"+path, strings.NewReader(body))
		r.Header = header.Clone()
		if r.Header == nil {
			r.Header = http.Header{}
		}
		if body != "" {
			r.Header.Set("Content-Type", "application/json")
		} else {
			r.Body = http.NoBody
		}
		return r
	}
	recorder := httptest.NewRecorder()
	d.server.ServeHTTP(recorder, request())
	answer := recorder.Result()
	content, err := io.ReadAll(answer.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	answer.Body = io.NopCloser(bytes.NewReader(content))
	if answer.StatusCode != want {
		d.t.Errorf("%s %s: got %s %s, want %d", method, path, answer.Status, content, want)
	}

	route, params, err := d.router.FindRoute(request())
	if err != nil {
		d.t.Fatal(err)
	}
	input := &openapi3filter.RequestValidationInput{Request: request(), PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc}}
	if err := openapi3filter.ValidateRequest(ctx, input); err != nil && want < 400 {
		d.t.Errorf("%s %s: the request is not described: %v", method, path, err)
	}
	if err := openapi3filter.ValidateResponse(ctx, &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: answer.StatusCode, Header: answer.Header, Body: io.NopCloser(bytes.NewReader(content)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	}); err != nil {
		d.t.Errorf("%s %s: the answer %d %s is not described: %v", method, path, answer.StatusCode, content, err)
	}
	return answer
}

const credentials = `{"username":"ann","password":"secret"}`

// The answers of a server are those that docs/openapi.yaml describes.
func TestOpenAPI(t *testing.T) {
	for name, pair := range map[string]bool{"one-token mode": false, "pair mode": true} {
		t.Run(name, func(t *testing.T) {
			d := newDescribed(t, middleware.Config{Pair: pair})
			var tokens struct {
				Access  string `json:"access_token"`
				Refresh string `json:"refresh_token"`
			}
			decode(t, d.send("POST", "/login", credentials, nil, 200), &tokens)
			bearer := func(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }
			d.send("POST", "/login", `{"username":"ann","password":"wrong"}`, nil, 401)
			d.send("POST", "/login", `{"username":"ann"}`, nil, 400)
			d.send("GET", "/me", "", bearer(tokens.Access), 200)
			d.send("GET", "/me", "", nil, 401)
			d.send("GET", "/me", "", bearer("forged"), 401)
			if pair {
				d.send("POST", "/refresh", `{"refresh_token":"`+tokens.Refresh+`"}`, nil, 200)
				d.send("POST", "/refresh", `{"token":"`+tokens.Refresh+`"}`, nil, 401)
			}
			d.send("POST", "/refresh", "", bearer(cmp.Or(tokens.Refresh, tokens.Access)), 200)
			d.send("POST", "/logout", "", bearer(tokens.Access), 204)
			d.send("GET", "/me", "", bearer(tokens.Access), 401)
		})
	}
}

// The security schemes have the names of the real cookies.
func TestOpenAPICookies(t *testing.T) {
	d := newDescribed(t, middleware.Config{Pair: true, Cookie: &middleware.Cookie{}})
	login := d.send("POST", "/login", credentials, nil, 200)
	var names, described, pairs []string
	for _, cookie := range login.Cookies() {
		names, pairs = append(names, cookie.Name), append(pairs, cookie.Name+"="+cookie.Value)
	}
	for _, scheme := range d.doc.Components.SecuritySchemes {
		if scheme.Value.In == "cookie" {
			described = append(described, scheme.Value.Name)
		}
	}
	slices.Sort(names)
	slices.Sort(described)
	if len(names) != 2 || !slices.Equal(names, described) {
		t.Errorf("the server sets the cookies %q, the document describes %q", names, described)
	}
	header := http.Header{"Cookie": {strings.Join(pairs, "; ")}}
	d.send("GET", "/me", "", header, 200)
	d.send("POST", "/refresh", "", header, 200)
	d.send("POST", "/logout", "", http.Header{"Cookie": header["Cookie"], "Origin": {"https://evil.example"}}, 403)
	d.send("POST", "/logout", "", header, 204)
}

// All codes are described.
func TestOpenAPICodes(t *testing.T) {
	source, err := os.ReadFile("../middleware/error.go")
	if err != nil {
		t.Fatal(err)
	}
	var codes []any
	for _, match := range regexp.MustCompile(`\tCode\w+ +Code = "(\w+)"`).FindAllSubmatch(source, -1) {
		codes = append(codes, string(match[1]))
	}
	got := newDescribed(t, middleware.Config{}).doc.Components.Schemas["Error"].Value.Properties["code"].Value.Enum
	if len(codes) < 10 || !reflect.DeepEqual(got, codes) {
		t.Errorf("got %v, want %v", got, codes)
	}
}

// The pages show the security schemes of openapi.yaml, and annotations that swag reads.
func TestOpenAPIPages(t *testing.T) {
	whole, err := os.ReadFile("../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range []string{"openapi.md", "openapi.zh-CN.md"} {
		text, err := os.ReadFile("../docs/" + page)
		if err != nil {
			t.Fatal(err)
		}
		if schemes := fenced(string(text), "yaml"); schemes == "" || !strings.Contains(string(whole), schemes) {
			t.Errorf("%s shows schemes that are not in openapi.yaml:\n%s", page, schemes)
		}
		directory := t.TempDir()
		if err := os.WriteFile(filepath.Join(directory, "main.go"), []byte(fenced(string(text), "go")), 0o600); err != nil {
			t.Fatal(err)
		}
		parser := swag.New(swag.SetDebugger(discard{}), swag.ParseUsingGoList(false))
		if err := parser.ParseAPI(directory, "main.go", 1); err != nil {
			t.Fatalf("%s: %v", page, err)
		}
		swagger := parser.GetSwagger()
		token := swagger.SecurityDefinitions["token"]
		if token == nil || token.Type != "apiKey" || token.In != "header" || token.Name != "Authorization" {
			t.Errorf("%s: the scheme is %+v", page, token)
		}
		login, me := swagger.Paths.Paths["/login"].Post, swagger.Paths.Paths["/me"].Get
		if login == nil || me == nil || login.Security != nil || len(me.Security) != 1 || me.Security[0]["token"] == nil {
			t.Errorf("%s: the operations are %+v and %+v", page, login, me)
		}
	}
}

// fenced returns the first code block in a language.
func fenced(text, language string) string {
	_, block, _ := strings.Cut(text, "```"+language+"\n")
	block, _, _ = strings.Cut(block, "```\n")
	return block
}

type discard struct{}

func (discard) Printf(string, ...any) {}

func decode(t *testing.T, answer *http.Response, into any) {
	t.Helper()
	if err := json.NewDecoder(answer.Body).Decode(into); err != nil {
		t.Fatal(err)
	}
}
