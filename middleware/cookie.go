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

// Cookie says how tokens travel in cookies. They are HttpOnly, Secure, SameSite=Lax and sent with every request.
// The token that is refreshed lasts until the session's deadline, so that an expired one still reaches the
// refresh; the access token of pair mode lasts for its TTL. Every login, refresh and logout must come from the
// site itself or from [Config].TrustedOrigins, as must a WebSocket handshake and every other request that a
// cookie authenticates and that is not GET, HEAD or OPTIONS; others are answered 403 cross_origin. A login ends
// the session of the cookie that came with it (R16).
type Cookie struct {
	_ [0]func()

	// Name is the cookie of the token that is used on requests. Default "__Host-access_token"; with Domain
	// "__Secure-access_token", with Insecure "access_token".
	Name string

	// RefreshName is the cookie of the refresh token in pair mode. Default "__Host-refresh_token"; with Domain
	// "__Secure-refresh_token", with Insecure "refresh_token".
	RefreshName string

	// Domain lets subdomains have the cookies, and plant them. Default: this host alone, which is safer.
	Domain string

	// SameSite is Lax by default.
	SameSite http.SameSite

	// Insecure sends the cookies over plain http as well. For development only.
	Insecure bool
}

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
	check(!pair || c.Name != c.RefreshName, "Name and RefreshName are both %q", c.Name)
	for _, name := range []string{c.Name, c.RefreshName} {
		check((&http.Cookie{Name: name, Value: "x", Domain: c.Domain, Path: "/"}).Valid() == nil,
			"the name %q or the domain %q is not valid in a cookie", name, c.Domain)
		secured := hasPrefix(name, "__Host-") || hasPrefix(name, "__Secure-")
		check(!secured || !c.Insecure, "the name %q demands Secure: choose one without prefix, or leave out Insecure", name)
		check(!hasPrefix(name, "__Host-") || c.Domain == "", "the name %q forbids a Domain", name)
	}
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
		refresh.Name = c.RefreshName
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

// logoutSources are all: either token ends the session.
func (j *cookieJar) logoutSources() []Source {
	if j == nil {
		return nil
	}
	return append(j.refreshSources(), FromCookie(j.name))
}

// texts are all the tokens that came in cookies.
func (j *cookieJar) texts(r *http.Request) []string {
	var texts []string
	for _, source := range j.logoutSources() {
		for _, cookie := range r.CookiesNamed(source.name) {
			texts = append(texts, cookie.Value)
		}
	}
	return texts
}

// expired reports whether a browser has dropped the cookie of an access token, whose time is over, but still has
// the refresh token's.
func (j *cookieJar) expired(r *http.Request) bool {
	if j == nil || j.refresh == nil {
		return false
	}
	cookie, err := r.Cookie(j.refresh.Name)
	return err == nil && cookie.Value != ""
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

// set puts the tokens into the browser. A token that the browser has sent it has: were it set again, that answer
// might overtake the one with its successor (R6a).
func (j *cookieJar) set(c *gin.Context, tokens Tokens, sent string) {
	if j.refresh == nil {
		if tokens.AccessToken != sent {
			put(c, j.access, tokens.AccessToken, maxAge(tokens.RefreshUntil))
		}
		return
	}
	put(c, j.access, tokens.AccessToken, maxAge(tokens.ExpiresAt))
	if tokens.RefreshToken != sent {
		put(c, *j.refresh, tokens.RefreshToken, maxAge(tokens.RefreshUntil))
	}
}

// maxAge is at least a second, as 0 would delete the cookie.
func maxAge(end time.Time) int { return int(max(1, secondsUntil(end))) }

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
