package middleware_test

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// R1: alg, kid, typ and crit.

func TestR1Header(t *testing.T) {
	f := newForger(t)
	withHeader := func(header string) string { return forge(header, f.members.object()) }
	f.accepts("R1 header", forgeAll(map[string]string{
		"our header":          ourHeader,
		"spaces and order":    " {\"typ\" : \"JWT\",\n\"alg\" : \"HS256\"} ",
		"names with escapes":  `{"\u0061lg":"HS\u003256","t\u0079p":"JWT"}`,
		"a key in the header": `{"alg":"HS256","typ":"JWT","jwk":{"kty":"oct","k":"AA"},"jku":"https://evil.example","x5c":[]}`,
		"other case":          `{"alg":"HS256","typ":"JWT","ALG":"none","Typ":"x","KID":"x","Crit":["exp"]}`,
	}, withHeader))

	f.rejects("R1 header", forgeAll(map[string]string{
		"alg none":                  `{"alg":"none","typ":"JWT"}`,
		"alg None":                  `{"alg":"None","typ":"JWT"}`,
		"alg NONE":                  `{"alg":"NONE","typ":"JWT"}`,
		"alg nOnE":                  `{"alg":"nOnE","typ":"JWT"}`,
		"alg empty":                 `{"alg":"","typ":"JWT"}`,
		"alg missing":               `{"typ":"JWT"}`,
		"alg null":                  `{"alg":null,"typ":"JWT"}`,
		"alg a number":              `{"alg":256,"typ":"JWT"}`,
		"alg a list":                `{"alg":["HS256"],"typ":"JWT"}`,
		"alg in lower case":         `{"alg":"hs256","typ":"JWT"}`,
		"alg by another name":       `{"Alg":"HS256","typ":"JWT"}`,
		"alg with a space":          `{"alg":"HS256 ","typ":"JWT"}`,
		"alg RS256":                 `{"alg":"RS256","typ":"JWT"}`,
		"alg HS512":                 `{"alg":"HS512","typ":"JWT"}`,
		"alg twice":                 `{"alg":"HS256","alg":"HS256","typ":"JWT"}`,
		"alg twice, escaped":        `{"alg":"HS256","\u0061lg":"none","typ":"JWT"}`,
		"unknown kid":               `{"alg":"HS256","kid":"a","typ":"JWT"}`,
		"kid a path":                `{"alg":"HS256","kid":"../../dev/null","typ":"JWT"}`,
		"kid a number":              `{"alg":"HS256","kid":1,"typ":"JWT"}`,
		"kid null":                  `{"alg":"HS256","kid":null,"typ":"JWT"}`,
		"crit":                      `{"alg":"HS256","crit":["exp"],"typ":"JWT"}`,
		"crit empty":                `{"alg":"HS256","crit":[],"typ":"JWT"}`,
		"crit null":                 `{"alg":"HS256","crit":null,"typ":"JWT"}`,
		"crit escaped":              `{"alg":"HS256","\u0063rit":["b64"],"b64":true,"typ":"JWT"}`,
		"typ missing":               `{"alg":"HS256"}`,
		"typ empty":                 `{"alg":"HS256","typ":""}`,
		"typ null":                  `{"alg":"HS256","typ":null}`,
		"typ a number":              `{"alg":"HS256","typ":1}`,
		"another application's typ": `{"alg":"HS256","typ":"at+jwt"}`,
		"typ in lower case":         `{"alg":"HS256","typ":"jwt"}`,
		"typ with application/":     `{"alg":"HS256","typ":"application/jwt"}`,
		"typ twice":                 `{"alg":"HS256","typ":"JWT","typ":"JWT"}`,
		"unknown member twice":      `{"alg":"HS256","typ":"JWT","x":1,"x":1}`,
		"empty object":              `{}`,
		"a list":                    `[{"alg":"HS256","typ":"JWT"}]`,
		"null":                      `null`,
		"a string":                  `"HS256"`,
		"truncated":                 `{"alg":"HS256","typ":"JWT"`,
		"trailing bytes":            `{"alg":"HS256","typ":"JWT"}{}`,
		"trailing NUL":              "{\"alg\":\"HS256\",\"typ\":\"JWT\"}\x00",
		"leading bytes":             `x{"alg":"HS256","typ":"JWT"}`,
		"byte order mark":           "\ufeff" + ourHeader,
		"invalid UTF-8":             "{\"alg\":\"HS256\",\"typ\":\"JWT\",\"x\":\"\xff\"}",
		"trailing comma":            `{"alg":"HS256","typ":"JWT",}`,
		"only spaces":               "  ",
	}, withHeader))
}

func TestR1KidChoosesTheKey(t *testing.T) {
	other := []byte("another secret, of 32 bytes also")
	f := newForger(t, func(c *middleware.Config) {
		c.Keys = []middleware.Key{hs256("new", secret), hs256("old", other)}
	})
	signed := func(kid string, key []byte) string {
		return signHMAC(sha256.New, key, segment(`{"alg":"HS256",`+kid+`"typ":"JWT"}`), segment(f.members.object()))
	}
	f.accepts("R1 kid", map[string]string{
		"signed with the first key": f.genuine,
		"the first key's kid":       signed(`"kid":"new",`, secret),
		"the second key's kid":      signed(`"kid":"old",`, other),
	})
	if head, _, _ := strings.Cut(f.genuine, "."); head != segment(`{"alg":"HS256","kid":"new","typ":"JWT"}`) {
		t.Errorf("R1: Keys[0] does not sign: header %s", head)
	}
	f.rejects("R1 kid", map[string]string{
		"the second key's kid on the first key's signature": signed(`"kid":"old",`, secret),
		"the first key's kid on the second key's signature": signed(`"kid":"new",`, other),
		"no kid, but the keys have one":                     signed(``, secret),
		"empty kid":                                         signed(`"kid":"",`, secret),
		"unknown kid":                                       signed(`"kid":"newer",`, secret),
		"kid in another case":                               signed(`"kid":"NEW",`, secret),
		"kid twice":                                         signed(`"kid":"new","kid":"new",`, secret),
	})
}

// In one-token mode no guard and no refresh accepts a refresh token.
func TestR1TypOnRequests(t *testing.T) {
	f := newForger(t)
	text := forge(`{"alg":"HS256","typ":"refresh+jwt"}`, f.members.with("access_ttl", "60").object())
	if _, err := f.auth.Verify(t.Context(), text); !hasCode(err, middleware.CodeTokenInvalid) {
		t.Errorf("R1: Verify of a refresh token: %v, want %s", err, middleware.CodeTokenInvalid)
	}
	for _, door := range tokenRoutes {
		if strings.HasPrefix(door.path, "/logout") {
			continue // a logout accepts any genuine token (R11)
		}
		f.site.send(door.method, door.path, bearer(text)).rejected(t, middleware.CodeTokenInvalid)
	}
	refresh(t, f.auth, f.genuine)
}

func TestLongHeadersAreNotParsed(t *testing.T) {
	f := newForger(t)
	f.accepts("R1 header", map[string]string{"512 characters": forge(paddedHeader(t, 512), f.members.object())})
	f.rejects("R1 header", map[string]string{
		"514 characters": forge(paddedHeader(t, 514), f.members.object()),
		"700 members":    forge(headerWithMembers(700), f.members.object()),
	})

}

// A long header does not cost more than a short one. (testing.AllocsPerRun cannot be used in a parallel test.)
func TestLongHeadersTakeNoWork(t *testing.T) {
	auth := newAuth(t)
	work := func(header string) float64 {
		text := forge(header, "{}") + "A"
		return testing.AllocsPerRun(100, func() { _, _ = auth.Verify(t.Context(), text) })
	}
	plain := work(ourHeader)
	for _, n := range []int{60, 200, 700} {
		if got := work(headerWithMembers(n)); got > plain+2 {
			t.Errorf("R1: a forged token with %d members in its header costs %v allocations, a plain one %v", n, got, plain)
		}
	}
	if got := work(headerWithMembers(40)); got > 60 { // almost as many as the limit allows
		t.Errorf("R1: the longest header costs %v allocations, want at most 60", got)
	}
}

// paddedHeader pads ourHeader with spaces until its segment has the given length.
func paddedHeader(t *testing.T, size int) string {
	t.Helper()
	header := ourHeader + strings.Repeat(" ", size*3/4-len(ourHeader))
	if got := len(segment(header)); got != size {
		t.Fatalf("the segment has %d characters, want %d", got, size)
	}
	return header
}

// headerWithMembers adds n members to ourHeader.
func headerWithMembers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"%d":0,`, i)
	}
	return "{" + b.String() + strings.TrimPrefix(ourHeader, "{")
}

// No guard accepts a refresh token, from whatever source.
func TestR1PairRefreshTokenOpensNothing(t *testing.T) {
	auth := newAuth(t, pair, func(c *middleware.Config) {
		c.Sources = []middleware.Source{
			middleware.FromHeader("Authorization", "Bearer"), middleware.FromHeader("X-Token", ""), middleware.FromCookie("jwt"),
			middleware.FromQuery("jwt"), middleware.FromForm("jwt"), middleware.FromParam("jwt"),
		}
	})
	tokens := issueTokens(t, auth, middleware.Identity{Claims: gin.H{"role": "admin"}})
	s := listen(t, routes(auth))
	offers := func(text string) map[string]edit {
		return map[string]edit{
			"header": bearer(text),
			"own":    header("X-Token", text),
			"cookie": header("Cookie", "jwt="+text),
			"query":  func(r *http.Request) { r.URL.RawQuery = "jwt=" + text },
			"form":   body(form, "jwt="+text),
		}
	}
	for path := range guards(auth) {
		if strings.Contains(path, ":") {
			continue
		}
		for place := range offers("") {
			s.send("POST", path, offers(tokens.AccessToken)[place]).passed(t, "admin")
			r := s.send("POST", path, offers(tokens.RefreshToken)[place])
			if r.rejected(t, middleware.CodeTokenInvalid); t.Failed() {
				t.Fatalf("R1: a refresh token in the %s at %s", place, path)
			}
		}
	}
	s.send("GET", "/in/"+tokens.AccessToken+"/path").passed(t, "admin")
	s.send("GET", "/in/"+tokens.RefreshToken+"/path").rejected(t, middleware.CodeTokenInvalid)
	wantVerify(t, "R1: a refresh token", auth, tokens.RefreshToken, middleware.CodeTokenInvalid)
	refreshTokens(t, auth, tokens) // it can still be refreshed
}

// In pair mode only a refresh token can be refreshed. No mode refreshes the tokens of the other.
func TestR1PairAccessTokenRefreshesNothing(t *testing.T) {
	memory := newMemory(t)
	shared := func(c *middleware.Config) { c.Store = memory }
	single, expired := newAuth(t, shared), time.Duration(2*time.Hour)
	theirs := issueTokens(t, single, middleware.Identity{})
	for place, at := range refreshPlaces {
		auth := newAuth(t, pair, shared, allowPlace(place))
		s := listen(t, routes(auth))
		tokens := issueTokens(t, auth, middleware.Identity{})
		for what, text := range map[string]string{
			"access token":         tokens.AccessToken,
			"expired access token": aged(t, tokens.AccessToken, expired),
			"one-token mode":       theirs.AccessToken,
		} {
			s.send("POST", "/refresh", at(text)).rejected(t, middleware.CodeTokenInvalid)
			if t.Failed() {
				t.Fatalf("R1: %s in the %s", what, place)
			}
			wantRefresh(t, "R1: "+what, auth, text, middleware.CodeTokenInvalid)
		}
		s.send("POST", "/refresh", at(tokens.RefreshToken)).tokens(t)

		// One-token mode does not accept tokens of pair mode either.
		for what, text := range map[string]string{"access": tokens.AccessToken, "refresh": tokens.RefreshToken, "expired": aged(t, tokens.AccessToken, expired)} {
			wantRefresh(t, "R1: one-token mode, a token of pair mode: "+what, single, text, middleware.CodeTokenInvalid)
			direct(t, oneTokenRoutes(single)).send("GET", "/autorefresh", bearer(aged(t, text, expired))).rejected(t, middleware.CodeTokenInvalid)
		}
	}
}

// refreshPlaces are the places for a refresh token in a request.
var refreshPlaces = map[string]func(text string) edit{
	"header": bearer,
	"JSON":   func(text string) edit { return jsonBody(`{"refresh_token":"` + text + `"}`) },
	"form":   func(text string) edit { return body(form, "refresh_token="+text) },
	"cookie": func(text string) edit { return header("Cookie", "refresh_token="+text) },
}

// allowPlace returns the change that a place needs.
func allowPlace(place string) change {
	if place == "cookie" {
		return withInsecureCookie
	}
	return func(*middleware.Config) {}
}
