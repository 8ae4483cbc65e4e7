package middleware_test

import (
	"context"
	"maps"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
)

func withCookie(cookie middleware.Cookie) change {
	return func(c *middleware.Config) { c.Cookie = &cookie }
}

func withInsecureCookie(c *middleware.Config) { c.Cookie = &middleware.Cookie{Insecure: true} }

// cookieModes has, for each mode, the name of the cookie with the token that can be refreshed.
var cookieModes = map[string]struct {
	change
	name string
}{
	"one token": {modes["one token"], "__Host-access_token"},
	"pair":      {modes["pair"], "__Host-refresh_token"},
}

// cookieRoutes has the mode's routes and /callback, a login that ends in a redirect.
func cookieRoutes(auth *middleware.Auth, mode string) *gin.Engine {
	r := routes(auth)
	if mode == "one token" {
		r = oneTokenRoutes(auth)
	}
	r.GET("/callback", func(c *gin.Context) {
		tokens, err := auth.Issue(c.Request.Context(), middleware.Identity{Subject: c.Query("user")})
		if err != nil {
			_ = c.AbortWithError(http.StatusInternalServerError, err)
			return
		}
		if err := auth.SetCookies(c, tokens); err != nil {
			_ = c.AbortWithError(http.StatusServiceUnavailable, err)
			return
		}
		c.Redirect(http.StatusSeeOther, "/required")
	})
	return r
}

// A browser is a client with a cookie jar.
type browser struct {
	site
	jar *cookiejar.Jar
}

// browse starts a TLS server for example.com and its subdomains, and a browser for it.
func browse(t testing.TB, auth *middleware.Auth, mode string) browser {
	t.Helper()
	server := httptest.NewTLSServer(cookieRoutes(auth, mode))
	t.Cleanup(server.Close)
	return openBrowser(t, server, "https://example.com")
}

// openBrowser returns a browser that connects to the server whatever the host name.
func openBrowser(t testing.TB, server *httptest.Server, url string) browser {
	client := server.Client()
	transport := client.Transport.(*http.Transport)
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
	}
	if transport.TLSClientConfig != nil {
		transport.TLSClientConfig.ServerName = "example.com"
	}
	jar := must(cookiejar.New(nil))
	client.Jar = jar
	return browser{site{t: t, url: url, do: client.Do}, jar}
}

// cookie returns the value that the browser sends to the path in the cookie of that name.
func (b browser) cookie(path, name string) string {
	for _, cookie := range b.jar.Cookies(must(url.Parse(b.url + path))) {
		if cookie.Name == name {
			return cookie.Value
		}
	}
	return ""
}

// alter changes the value of a cookie in the browser.
func (b browser) alter(path, name string, alter func(text string) string) {
	b.t.Helper()
	u := must(url.Parse(b.url + path))
	b.jar.SetCookies(u, []*http.Cookie{{Name: name, Value: alter(b.cookie(path, name)), Path: path, Secure: true, MaxAge: 1000}})
}

// cookieAnswer checks that the response has no token in its body.
func (r reply) cookieAnswer(t testing.TB) {
	t.Helper()
	if got := slices.Sorted(maps.Keys(r.fields(t))); r.status != http.StatusOK || !slices.Equal(got, []string{"expires_in", "refresh_expires_in", "token_type"}) {
		t.Errorf("response %d %s, want no token in the body", r.status, r.body)
	}
	r.notStored(t)
}

// origins are the headers by which browsers tell the origin of a request.
var origins = map[string]struct {
	headers  map[string]string
	refused  bool
	trusting bool // refused unless TrustedOrigins has the origin
}{
	"another site":        {headers: map[string]string{"Sec-Fetch-Site": "cross-site"}, refused: true},
	"a sibling":           {headers: map[string]string{"Sec-Fetch-Site": "same-site", "Origin": "https://www.example.com"}, refused: true},
	"an older browser":    {headers: map[string]string{"Origin": "https://evil.example"}, refused: true},
	"a sandbox":           {headers: map[string]string{"Origin": "null"}, refused: true},
	"another port":        {headers: map[string]string{"Origin": "https://example.com:8443"}, refused: true},
	"a trusted origin":    {headers: map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://app.example.org"}, refused: true, trusting: true},
	"trusted, older":      {headers: map[string]string{"Origin": "https://app.example.org"}, refused: true, trusting: true},
	"trusted but http":    {headers: map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "http://app.example.org"}, refused: true},
	"trusted but a port":  {headers: map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://app.example.org:8443"}, refused: true},
	"the site":            {headers: map[string]string{"Sec-Fetch-Site": "same-origin", "Origin": "https://example.com"}},
	"the user":            {headers: map[string]string{"Sec-Fetch-Site": "none"}},
	"the site, older":     {headers: map[string]string{"Origin": "https://example.com"}},
	"no browser":          {},
	"a misleading header": {headers: map[string]string{"Referer": "https://evil.example/", "X-Forwarded-Host": "evil.example"}},
}
