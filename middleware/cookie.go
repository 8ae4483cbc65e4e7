package middleware

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
)

// Cookie configures tokens in cookies. The cookies are HttpOnly, Secure, SameSite=Lax, with Path=/. The
// cookie of the token to refresh lasts until the session's deadline, so that an expired token still reaches the refresh.
// In pair mode the cookie of the access token lasts for its TTL, in a bound session up to ten seconds less.
//
// Every login, refresh and logout must come from the same origin or from [Config].TrustedOrigins. So must a WebSocket
// handshake, and every other request that a cookie authenticates unless its method is GET, HEAD or OPTIONS. A request
// from another origin is answered 403 cross_origin. A login ends the session of the cookie that came with it (R16).
type Cookie struct {
	_ [0]func() // no unkeyed literals

	// Name is the cookie of the token for requests. Default "__Host-access_token"; with Domain "__Secure-access_token",
	// with Insecure "access_token".
	Name string

	// RefreshName is the cookie of the refresh token in pair mode. Default "__Host-refresh_token"; with Domain
	// "__Secure-refresh_token", with Insecure "refresh_token".
	RefreshName string

	// Domain shares the cookies with subdomains, which can then read and set them. Default: this host only, which is
	// safer.
	Domain string

	// SameSite is Lax by default.
	SameSite http.SameSite

	// Insecure sends the cookies over plain http as well. For development only.
	Insecure bool

	// BindPath is the path of [Auth.BindHandler] as the browser sees it. Default "/session/bind". It is sent to browsers
	// if [Config].Bind is set in pair mode without Domain.
	BindPath string
}

// withDefaults chooses the strictest name prefix that the other fields allow (RFC 6265bis §4.1.3).
func (c Cookie) withDefaults() Cookie {
	prefix := "__Host-"
	switch {
	case c.Insecure:
		prefix = ""
	case c.Domain != "":
		prefix = "__Secure-"
	}
	if c.Name == "" {
		c.Name = prefix + "access_token"
	}
	if c.RefreshName == "" {
		c.RefreshName = prefix + "refresh_token"
	}
	if c.BindPath == "" {
		c.BindPath = "/session/bind"
	}
	if c.SameSite == 0 || c.SameSite == http.SameSiteDefaultMode {
		c.SameSite = http.SameSiteLaxMode
	}
	return c
}

// mistakes returns what is wrong (R15). Browsers would drop such cookies silently.
func (c Cookie) mistakes(pair bool) (m mistakes) {
	c = c.withDefaults()
	m.check(!c.Insecure || c.SameSite != http.SameSiteNoneMode, "Cookie: Insecure with SameSite=None: browsers reject such cookies")
	m.check(strings.HasPrefix(c.BindPath, "/") && isQuotable(c.BindPath), "Cookie: BindPath is %q: it must be a path, in printable ASCII without quotes", c.BindPath)
	m.check(!pair || c.Name != c.RefreshName, "Cookie: Name and RefreshName are both %q", c.Name)
	for _, name := range []string{c.Name, c.RefreshName} {
		m.check((&http.Cookie{Name: name, Value: "x", Domain: c.Domain, Path: "/"}).Valid() == nil,
			"Cookie: the name %q or the domain %q is not valid in a cookie", name, c.Domain)
		secured := hasPrefix(name, "__Host-") || hasPrefix(name, "__Secure-")
		m.check(!secured || !c.Insecure, "Cookie: the name %q requires Secure: choose one without the prefix, or remove Insecure", name)
		m.check(!hasPrefix(name, "__Host-") || c.Domain == "", "Cookie: the name %q does not allow a Domain", name)
	}
	return m
}

// hasPrefix ignores case, like browsers (RFC 6265bis §5.7).
func hasPrefix(name, prefix string) bool {
	return len(name) >= len(prefix) && strings.EqualFold(name[:len(prefix)], prefix)
}

// cookieJar sets and clears the cookies. A nil jar means that tokens do not travel in cookies.
type cookieJar struct {
	access  http.Cookie  // of the token for requests
	refresh *http.Cookie // of the refresh token; nil in one-token mode
	dbsc    *dbsc        // nil: browsers cannot bind sessions
}

func newCookieJar(c Cookie, pair bool) *cookieJar {
	c = c.withDefaults()
	access := http.Cookie{Name: c.Name, Path: "/", Domain: c.Domain, Secure: !c.Insecure, HttpOnly: true, SameSite: c.SameSite}
	jar := &cookieJar{access: access}
	if pair {
		refresh := access
		refresh.Name = c.RefreshName
		jar.refresh = &refresh
	}
	return jar
}

// refreshSources returns the cookie with the token to refresh.
func (j *cookieJar) refreshSources() []Source {
	switch {
	case j == nil:
		return nil
	case j.refresh != nil:
		return []Source{FromCookie(j.refresh.Name)}
	}
	return []Source{FromCookie(j.access.Name)}
}

// logoutSources returns all cookies, because either token ends the session.
func (j *cookieJar) logoutSources() []Source {
	if j == nil {
		return nil
	}
	return append(j.refreshSources(), FromCookie(j.access.Name))
}

// tokens returns all tokens that came in cookies.
func (j *cookieJar) tokens(r *http.Request) []string {
	var texts []string
	for _, source := range j.logoutSources() {
		for _, cookie := range r.CookiesNamed(source.name) {
			texts = append(texts, cookie.Value)
		}
	}
	return texts
}

// accessExpired reports whether the browser has dropped the expired cookie of an access token but still has the refresh
// token.
func (j *cookieJar) accessExpired(r *http.Request) bool {
	if j == nil || j.refresh == nil {
		return false
	}
	cookie, err := r.Cookie(j.refresh.Name)
	return err == nil && cookie.Value != ""
}

// maxCookieBytes is the size of name and value together that browsers accept (RFC 6265bis §5.6).
const maxCookieBytes = 4096

// checkSize rejects tokens that a browser would drop. It runs before the swap, so nothing is used up (R10).
func (j *cookieJar) checkSize(tokens Tokens) error {
	if j == nil {
		return nil
	}
	if len(j.access.Name)+len(tokens.AccessToken) > maxCookieBytes ||
		j.refresh != nil && len(j.refresh.Name)+len(tokens.RefreshToken) > maxCookieBytes {
		return fmt.Errorf("middleware: the token does not fit into a cookie of %d bytes: put less into the claims", maxCookieBytes)
	}
	return nil
}

// checkScheme rejects a login whose cookies the browser would drop silently: Secure cookies over plain http. Origin
// tells which scheme the browser sees, even behind a proxy that terminates TLS. Browsers accept such cookies from
// localhost.
func (j *cookieJar) checkScheme(r *http.Request) error {
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

// set sends the tokens to the browser, except the token that the browser has sent: setting that one again could undo
// a concurrent response that carries its successor (R6a).
func (j *cookieJar) set(c *gin.Context, tokens Tokens, sent string) {
	if j.refresh == nil {
		if tokens.AccessToken != sent {
			setCookie(c, j.access, tokens.AccessToken, maxAge(tokens.RefreshUntil))
		}
		return
	}
	j.dbsc.offer(c, tokens.refresh)
	setCookie(c, j.access, tokens.AccessToken, maxAge(cookieEnd(tokens)))
	if tokens.RefreshToken != sent {
		setCookie(c, *j.refresh, tokens.RefreshToken, maxAge(tokens.RefreshUntil))
	}
}

// maxAge is at least one second, because zero would delete the cookie.
func maxAge(end time.Time) int { return int(max(1, secondsUntil(end))) }

// clear deletes all cookies of the session.
func (j *cookieJar) clear(c *gin.Context) {
	setCookie(c, j.access, "", -1)
	if j.refresh != nil {
		setCookie(c, *j.refresh, "", -1)
	}
}

// setCookie bypasses gin's SetCookie, which escapes the value.
func setCookie(c *gin.Context, cookie http.Cookie, value string, maxAge int) {
	cookie.Value, cookie.MaxAge = value, maxAge
	http.SetCookie(c.Writer, &cookie)
}
