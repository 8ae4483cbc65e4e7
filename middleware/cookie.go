package middleware

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
)

// Cookie says how tokens travel in cookies. They are HttpOnly, Secure, SameSite=Lax and last until the
// session's deadline, so that an expired token still reaches the refresh. Every login, refresh and logout
// must come from the site itself or from [Config].TrustedOrigins, as must every other request that a cookie
// authenticates and that is not GET, HEAD or OPTIONS; others are answered 403 cross_origin.
type Cookie struct {
	_ [0]func()

	// Name is the cookie that goes with requests. Default "__Host-access_token"; with Domain
	// "__Secure-access_token", with Insecure "access_token".
	Name string

	// RefreshName and RefreshPath are for the refresh token of pair mode, which is sent to RefreshPath
	// alone: mount RefreshHandler there. Default "__Secure-refresh_token" ("refresh_token" with Insecure)
	// and "/refresh".
	RefreshName string
	RefreshPath string

	// Domain lets subdomains have the cookies. Default: this host alone, which is safer.
	Domain string

	// SameSite is Lax by default.
	SameSite http.SameSite

	// Insecure sends the cookies over plain http as well. For development only.
	Insecure bool
}

func (c Cookie) withDefaults() Cookie {
	hostPrefix, prefix := "__Host-", "__Secure-"
	switch {
	case c.Insecure:
		hostPrefix, prefix = "", ""
	case c.Domain != "":
		hostPrefix = prefix
	}
	if c.Name == "" {
		c.Name = hostPrefix + "access_token"
	}
	if c.RefreshName == "" {
		c.RefreshName = prefix + "refresh_token"
	}
	if c.RefreshPath == "" {
		c.RefreshPath = "/refresh"
	}
	if c.SameSite == 0 || c.SameSite == http.SameSiteDefaultMode {
		c.SameSite = http.SameSiteLaxMode
	}
	return c
}

// mistakes returns what is wrong (R15). Browsers would drop such cookies without a word.
func (c Cookie) mistakes(pair bool) []error {
	var wrong []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			wrong = append(wrong, fmt.Errorf("Cookie: "+format, args...))
		}
	}
	c = c.withDefaults()
	check(!c.Insecure || c.SameSite != http.SameSiteNoneMode, "Insecure with SameSite=None: browsers refuse such cookies")
	check(strings.HasPrefix(c.RefreshPath, "/"), "RefreshPath is %q: it must begin with a slash", c.RefreshPath)
	check(!pair || c.Name != c.RefreshName, "Name and RefreshName are both %q", c.Name)
	for _, name := range []string{c.Name, c.RefreshName} {
		check((&http.Cookie{Name: name, Value: "x", Domain: c.Domain, Path: c.RefreshPath}).Valid() == nil,
			"the name %q, the domain %q or the path %q is not valid in a cookie", name, c.Domain, c.RefreshPath)
		secured := hasPrefix(name, "__Host-") || hasPrefix(name, "__Secure-")
		check(!secured || !c.Insecure, "the name %q demands Secure: choose one without prefix, or leave out Insecure", name)
		check(!hasPrefix(name, "__Host-") || c.Domain == "", "the name %q forbids a Domain", name)
	}
	check(!hasPrefix(c.RefreshName, "__Host-") || c.RefreshPath == "/", "the name %q forbids a RefreshPath", c.RefreshName)
	return wrong
}

// hasPrefix compares as browsers do, without case (RFC 6265bis §5.7).
func hasPrefix(name, prefix string) bool {
	return len(name) >= len(prefix) && strings.EqualFold(name[:len(prefix)], prefix)
}

// cookieJar writes and clears the cookies.
type cookieJar struct {
	name    string
	access  http.Cookie
	refresh *http.Cookie // nil in one-token mode
}

func newCookieJar(c Cookie, pair bool) *cookieJar {
	c = c.withDefaults()
	access := http.Cookie{Name: c.Name, Path: "/", Domain: c.Domain, Secure: !c.Insecure, HttpOnly: true, SameSite: c.SameSite}
	jar := &cookieJar{name: c.Name, access: access}
	if pair {
		refresh := access
		refresh.Name, refresh.Path = c.RefreshName, c.RefreshPath
		jar.refresh = &refresh
	}
	return jar
}

// refreshSources are the cookies that have a token to be refreshed.
func (j *cookieJar) refreshSources() []Source {
	switch {
	case j == nil:
		return nil
	case j.refresh != nil:
		return []Source{FromCookie(j.refresh.Name)}
	}
	return []Source{FromCookie(j.name)}
}

// logoutSources are all: the refresh token's cookie is not sent to the logout's path.
func (j *cookieJar) logoutSources() []Source {
	if j == nil {
		return nil
	}
	return append(j.refreshSources(), FromCookie(j.name))
}

// maxCookieBytes is what browsers keep of name and value together (RFC 6265bis §5.6).
const maxCookieBytes = 4096

// fits refuses tokens that a browser would drop. It is part of making the answer, so that nothing is used up.
func (j *cookieJar) fits(tokens Tokens) error {
	if j == nil {
		return nil
	}
	if len(j.name)+len(tokens.AccessToken) > maxCookieBytes ||
		j.refresh != nil && len(j.refresh.Name)+len(tokens.RefreshToken) > maxCookieBytes {
		return fmt.Errorf("middleware: the token does not fit into a cookie of %d bytes: put less into the claims", maxCookieBytes)
	}
	return nil
}

// arrive refuses a login whose cookies the browser would drop without a word: Secure ones over plain http. Origin
// is how the browser itself sees it, also behind a proxy that ends TLS. Browsers trust their own machine.
func (j *cookieJar) arrive(r *http.Request) error {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	if !j.access.Secure || r.Header.Get("Origin") != "http://"+r.Host || host == "localhost" || ip.IsLoopback() {
		return nil
	}
	return errors.New("middleware: browsers drop Secure cookies over plain http: serve https, or set Cookie.Insecure for development")
}

func (j *cookieJar) set(c *gin.Context, tokens Tokens) {
	maxAge := int(max(1, secondsUntil(tokens.RefreshUntil)))
	put(c, j.access, tokens.AccessToken, maxAge)
	if j.refresh != nil {
		put(c, *j.refresh, tokens.RefreshToken, maxAge)
	}
}

func (j *cookieJar) clear(c *gin.Context) {
	put(c, j.access, "", -1)
	if j.refresh != nil {
		put(c, *j.refresh, "", -1)
	}
}

func put(c *gin.Context, cookie http.Cookie, value string, maxAge int) {
	cookie.Value, cookie.MaxAge = value, maxAge
	http.SetCookie(c.Writer, &cookie)
}
