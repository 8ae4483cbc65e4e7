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
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
)

func init() {
	wireErrors[middleware.CodeCrossOrigin] = struct {
		status int
		kind   string
	}{http.StatusForbidden, "invalid_request"}
}

func withCookie(cookie middleware.Cookie) change {
	return func(c *middleware.Config) { c.Cookie = &cookie }
}

func withInsecureCookie(c *middleware.Config) { c.Cookie = &middleware.Cookie{Insecure: true} }

// cookieModes are the modes with the cookie that is refreshed.
var cookieModes = map[string]struct {
	change
	name string
}{
	"one token": {modes["one token"], "__Host-access_token"},
	"pair":      {modes["pair"], "__Host-refresh_token"},
}

// cookieRoutes has AutoRefresh where there is one, and a login that ends in a redirect.
func cookieRoutes(auth *middleware.Auth, mode string) *gin.Engine {
	r := sharedRoutes(auth)
	if mode == "one token" {
		r.Any("/autorefresh", auth.AutoRefresh(time.Minute), whoami)
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

// A browser keeps cookies.
type browser struct {
	site
	jar *cookiejar.Jar
}

// browse opens a browser on a server that answers for example.com and its subdomains over TLS.
func browse(t testing.TB, auth *middleware.Auth, mode string) browser {
	t.Helper()
	server := httptest.NewTLSServer(cookieRoutes(auth, mode))
	t.Cleanup(server.Close)
	return openBrowser(t, server, "https://example.com")
}

// openBrowser takes every name for the server's.
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

// cookie is what the browser sends to a path by that name.
func (b browser) cookie(path, name string) string {
	for _, cookie := range b.jar.Cookies(must(url.Parse(b.url + path))) {
		if cookie.Name == name {
			return cookie.Value
		}
	}
	return ""
}

// alter changes a token in the browser.
func (b browser) alter(path, name string, alter func(text string) string) {
	b.t.Helper()
	u := must(url.Parse(b.url + path))
	b.jar.SetCookies(u, []*http.Cookie{{Name: name, Value: alter(b.cookie(path, name)), Path: path, Secure: true, MaxAge: 1000}})
}

// cookieAnswer checks that an answer gives its tokens in cookies alone.
func (r reply) cookieAnswer(t testing.TB) {
	t.Helper()
	if got := slices.Sorted(maps.Keys(r.fields(t))); r.status != http.StatusOK || !slices.Equal(got, []string{"expires_in", "refresh_expires_in", "token_type"}) {
		t.Errorf("answer %d %s, want no tokens in the body", r.status, r.body)
	}
	r.notStored(t)
}

// origins are what browsers say about where a request comes from.
var origins = map[string]struct {
	headers  map[string]string
	refused  bool
	trusting bool // refused, but for TrustedOrigins
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
