package middleware

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware/internal/jose"
	"github.com/ginrefresh/ginrefresh/middleware/internal/session"
)

// The defaults of the zero [Config].
const (
	DefaultTTL          = time.Hour
	DefaultRefreshTTL   = 14 * 24 * time.Hour
	DefaultGrace        = 10 * time.Second
	DefaultStoreTimeout = time.Second
	defaultRealm        = "api"
)

// maxGrace limits how long a stolen token is accepted after its owner has refreshed it (R15).
const maxGrace = 5 * time.Minute

// maxLifetime keeps the sum of all lifetimes inside a time.Duration. If it overflowed, records would expire at once.
const maxLifetime = 50 * 365 * 24 * time.Hour

// Config is the configuration of an [Auth]. Keys (or KeysFrom) and Store are required. Every other field has a safe
// default.
type Config struct {
	_ [0]func() // no unkeyed literals

	// Keys sign and verify tokens. The first key signs; a token is verified with the key that its kid names. If all keys
	// are public, the Auth verifies the tokens of another server and issues none.
	Keys []Key

	// KeysFrom takes the place of Keys in a verify-only service: it fetches the public keys from the server that issues
	// the tokens.
	KeysFrom *JWKS

	// Store is the blacklist. It has no default, because the choice decides what survives a restart and which servers
	// learn of a logout. See package store.
	Store Store

	// Pair makes a login return two tokens: an access token for requests, and a refresh token that can only be
	// refreshed. Default: one token for both.
	Pair bool

	// MaxSessions is how many sessions a subject can have, at most 50. At the limit a login first ends the session with the
	// oldest login. It also turns on [Auth.Sessions], [Auth.RevokeOthers] and their handlers (R17). A login then takes one
	// swap more. Use the same value on all servers. 0: no limit, and sessions are not listed.
	MaxSessions int

	// Bind lets clients bind the refresh token to a key that never leaves them, so that a stolen refresh token is
	// worthless (R18, R19). It needs Pair. Default [BindOff]. See docs/bound.md.
	Bind Binding

	// PublicURL is the URL that clients see in front of a route's path, such as https://api.example.org. A proof names
	// the URL of the request (RFC 9449 §4.2), which the server cannot know behind a proxy. Default: the scheme and the
	// host of the request itself.
	PublicURL string

	// Authenticate checks the credentials of a login request for LoginHandler. It returns the user's identity, or
	// [ErrRefused], or [ErrBadRequest], or any other error if it could not decide. If it has responded itself (429, a
	// redirect to a second factor), that response stands. Without Authenticate LoginHandler answers 500; use [Auth.Issue]
	// after another kind of login.
	Authenticate func(c *gin.Context) (Identity, error)

	// Reload looks the subject up again at each refresh and returns all of the application's claims for the new token.
	// To keep some of the old ones, read them with claims.Decode. [ErrRefused] means that the session must not continue;
	// any other error means 503, except that AutoRefresh then accepts a token that is still alive. In both cases the
	// presented token is not used up (R9). nil: the claims are kept.
	Reload func(ctx context.Context, claims Claims) (any, error)

	// TTL is how long a token is good for requests. Whole seconds, default 1 hour.
	TTL time.Duration

	// RefreshTTL is how long after the login a session can be refreshed. A refresh does not extend it. Whole seconds,
	// longer than TTL, default 14 days.
	RefreshTTL time.Duration

	// IdleTTL ends a session that has not been refreshed for this long, counted from the issue of its newest token. Longer
	// than TTL. 0: sessions may be idle until RefreshTTL.
	IdleTTL time.Duration

	// Grace is the grace period after a refresh. During it the replaced token is still accepted. A refresh with it
	// returns the same successor, and a refresh with the successor returns the successor, as long as that is alive. So
	// parallel refreshes and lost responses log nobody out. At most 5 minutes. 0 means the default of 10 seconds. A negative value means none: then one of two
	// parallel refreshes counts as reuse.
	Grace time.Duration

	// Leeway is how far the clocks of the servers may differ when a token's expiry is checked: every token is accepted
	// for that much longer. Default 0.
	Leeway time.Duration

	// StoreTimeout is how long one step (a login, a check, a refresh, a logout) waits for the store before the request
	// is answered 503. It must be shorter than
	// Grace, because a swap that takes effect later would look like reuse to its own client (R10a). Default 1 second,
	// or half of Grace if Grace is shorter than two seconds.
	StoreTimeout time.Duration

	// Issuer and Audience are written into every token and required in it. "": neither.
	Issuer   string
	Audience string

	// Realm is the realm in WWW-Authenticate. Default "api".
	Realm string

	// Sources are the places where a request may carry its token. The first source that has one decides: if its token is
	// bad, the request is rejected. Default: FromHeader("Authorization", "Bearer"). With Cookie, the cookie comes after
	// them. Refresh and logout use only the header sources, then the body, then the cookies.
	Sources []Source

	// Cookie sends the tokens in cookies instead of response bodies. &Cookie{} has safe defaults. nil: no cookies.
	Cookie *Cookie

	// TrustedOrigins are other origins whose pages may send requests that a cookie authenticates, as
	// scheme://host[:port].
	TrustedOrigins []string

	// TokenCache is the approximate number of verified tokens to cache, so that their signature is not checked again. A
	// token is cached when it comes for the second time. Its expiry and the blacklist are checked on every request. Each
	// token takes about 1 KiB, and up to twice this number are kept. Default 10,000; negative: none.
	TokenCache int

	// KeepSessionOnReuse rejects a replaced token that is presented after the grace period without ending its session.
	// Then the thief of a token can keep the session (R8).
	KeepSessionOnReuse bool

	// DangerouslyIgnoreRevocation lets a verify-only service run without a Store. It accepts every token until it
	// expires, even after a logout, and in one-token mode even after a refresh.
	DangerouslyIgnoreRevocation bool

	// OnTokens writes the response to a successful login or refresh in place of the default JSON, for example a redirect
	// after a form login, or other member names. The cookies are already set. Tokens encode themselves as the default JSON.
	OnTokens func(c *gin.Context, tokens Tokens)

	// OnError writes the response to a rejected request in place of the default JSON. The status, WWW-Authenticate and
	// Retry-After are already set. The handlers behind the guard do not run.
	OnError func(c *gin.Context, err *Error)

	// OnEvent is called for each login, refresh, logout and rejection, by many requests at once. It runs before the
	// response is sent, so a slow OnEvent delays the request.
	OnEvent func(ctx context.Context, e Event)
}

// Identity is the user who logs in.
type Identity struct {
	// Subject is the user's permanent id. It must not be empty. [Auth.RevokeSubject] takes the same id.
	Subject string

	// Claims are the application's own claims: a struct or map that encoding/json encodes as an object, or nil. They
	// are not secret. A token of more than 8 KiB is refused.
	Claims any

	// Label describes the device or browser, for [Auth.Sessions]. It is cut at 64 bytes.
	Label string

	// AuthTime is when the user authenticated, if that was before this login: for example the auth_time of an ID token
	// (OpenID Connect Core §2), when the provider has not asked for the password again. Default: now. [Auth.Fresh] and
	// RefreshTTL count from it. If RefreshTTL has passed since, the login is answered 401 login_too_old.
	AuthTime time.Time

	// TTL and RefreshTTL are shorter lifetimes for this session. The configured ones apply if these are 0 or longer.
	// Fractions of a second are cut off.
	TTL        time.Duration
	RefreshTTL time.Duration
}

// rules returns the part of the configuration that the session rules need.
func (c Config) rules() session.Config {
	return session.Config{
		Store:              c.Store,
		StoreTimeout:       c.StoreTimeout,
		TTL:                c.TTL,
		RefreshTTL:         c.RefreshTTL,
		IdleTTL:            c.IdleTTL,
		Grace:              c.Grace,
		Leeway:             c.Leeway,
		Pair:               c.Pair,
		KeepSessionOnReuse: c.KeepSessionOnReuse,
		MaxSessions:        c.MaxSessions,
		RequireProof:       c.Bind == BindRequired,
	}
}

// headerSources returns the headers among the sources. Refresh and logout do not use the others.
func (c Config) headerSources() []Source {
	return slices.DeleteFunc(slices.Clone(c.Sources), func(s Source) bool { return s.kind != headerSource })
}

// withDefaults returns the configuration with its zero fields filled in.
func (c Config) withDefaults() Config {
	setDefault(&c.TTL, DefaultTTL)
	setDefault(&c.RefreshTTL, DefaultRefreshTTL)
	setDefault(&c.Grace, DefaultGrace)
	timeout := DefaultStoreTimeout
	if c.Grace > 0 {
		timeout = min(timeout, c.Grace/2)
	}
	setDefault(&c.StoreTimeout, timeout)
	setDefault(&c.Realm, defaultRealm)
	setDefault(&c.TokenCache, DefaultTokenCache)
	if c.Sources == nil {
		c.Sources = []Source{FromHeader("Authorization", "Bearer")}
	}
	return c
}

// setDefault sets a zero field.
func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// validate returns the keys and the origin check, or one error that lists every mistake (R15). It expects the defaults
// to be filled in.
func (c Config) validate() (*jose.KeySet, *http.CrossOriginProtection, error) {
	mistakes := append(c.storeMistakes(), c.durationMistakes()...)
	mistakes = append(mistakes, c.textMistakes()...)
	mistakes = append(mistakes, c.bindMistakes()...)
	mistakes = append(mistakes, c.sessionMistakes()...)
	if c.Cookie != nil {
		mistakes = append(mistakes, c.Cookie.mistakes(c.Pair)...)
	}
	protection := http.NewCrossOriginProtection()
	for _, origin := range c.TrustedOrigins {
		if protection.AddTrustedOrigin(origin) != nil {
			mistakes = append(mistakes, fmt.Errorf("TrustedOrigins contains %q, which is not an origin such as https://app.example.org", origin))
		}
	}
	keys, wrong := c.keySet()
	if mistakes = append(mistakes, wrong...); keys != nil {
		mistakes = append(mistakes, c.keyMistakes(keys.CanSign())...)
	}
	return keys, protection, joinMistakes(mistakes)
}

// keySet returns the keys, of which KeysFrom has none yet, or every mistake.
func (c Config) keySet() (*jose.KeySet, []error) {
	if c.KeysFrom == nil {
		return newKeySet(c.Keys)
	}
	m := c.KeysFrom.mistakes()
	m.check(len(c.Keys) == 0, "Keys and KeysFrom are both set: a service that issues tokens has Keys, and one that only verifies them needs just one of the two")
	return jose.EmptyKeySet(), m
}

// joinMistakes returns nil if there are none.
func joinMistakes(mistakes []error) error {
	named := make([]error, len(mistakes))
	for i, err := range mistakes {
		named[i] = fmt.Errorf("middleware: %w", err)
	}
	return errors.Join(named...)
}

// mistakes collects what is wrong in a configuration.
type mistakes []error

func (m *mistakes) check(ok bool, format string, args ...any) {
	if !ok {
		*m = append(*m, fmt.Errorf(format, args...))
	}
}

// storeMistakes checks that there is a store, or that revocations are ignored on purpose.
func (c Config) storeMistakes() (m mistakes) {
	ignored := c.Store == nil && c.DangerouslyIgnoreRevocation
	m.check(ignored || !isNil(c.Store), "Store is missing: use store.NewMemory() for a single process, store/boltstore or store/redisstore to survive a restart")
	return m
}

// isNil also recognizes the nil pointer that a constructor returned alongside an unchecked error.
func isNil(store Store) bool {
	if store == nil {
		return true
	}
	v := reflect.ValueOf(store)
	return v.Kind() == reflect.Pointer && v.IsNil()
}

// durationMistakes checks each duration, and those that depend on each other.
func (c Config) durationMistakes() (m mistakes) {
	m.check(c.TTL >= time.Second && c.TTL%time.Second == 0, "TTL is %v: it must be whole seconds, at least one", c.TTL)
	m.check(c.RefreshTTL%time.Second == 0, "RefreshTTL is %v: it must be whole seconds", c.RefreshTTL)
	m.check(c.RefreshTTL > c.TTL, "RefreshTTL is %v and TTL %v: RefreshTTL must be longer, or an expired token could not be refreshed", c.RefreshTTL, c.TTL)
	m.check(c.IdleTTL == 0 || c.IdleTTL > c.TTL, "IdleTTL is %v and TTL %v: IdleTTL must be longer, or an expired token could not be refreshed", c.IdleTTL, c.TTL)
	m.check(c.Grace <= maxGrace, "Grace is %v: it must not exceed %v, because a stolen token is accepted for that long", c.Grace, maxGrace)
	m.check(c.Leeway >= 0, "Leeway is %v: it must not be negative", c.Leeway)
	const tooLong = "%s is %v: it must not exceed 50 years"
	m.check(c.RefreshTTL <= maxLifetime, tooLong, "RefreshTTL", c.RefreshTTL)
	m.check(c.IdleTTL <= maxLifetime, tooLong, "IdleTTL", c.IdleTTL)
	m.check(c.Leeway <= maxLifetime, tooLong, "Leeway", c.Leeway)
	m.check(c.StoreTimeout > 0, "StoreTimeout is %v: it must be positive", c.StoreTimeout)
	m.check(c.Grace < 0 || c.StoreTimeout < c.Grace, "StoreTimeout is %v and Grace %v: StoreTimeout must be shorter, or a slow store looks like reuse", c.StoreTimeout, c.Grace)
	return m
}

// textMistakes checks what is written into tokens and headers.
func (c Config) textMistakes() (m mistakes) {
	m.check(utf8.ValidString(c.Issuer), "Issuer is not valid UTF-8")
	m.check(utf8.ValidString(c.Audience), "Audience is not valid UTF-8")
	m.check(isQuotable(c.Realm), "Realm is %q: it must be printable ASCII without quotes and backslashes", c.Realm)
	for i, source := range c.Sources {
		m.check(source.name != "", "Sources[%d] has no name", i)
	}
	return m
}

// isQuotable reports whether s can be part of a quoted header parameter without escapes (RFC 9110 §5.6.4).
func isQuotable(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }) < 0
}

// keyMistakes returns the fields that do not fit a first key that can, or cannot, sign.
func (c Config) keyMistakes(canSign bool) (m mistakes) {
	m.check(canSign || c.Authenticate == nil, "Authenticate is set, but public keys cannot sign: a verify-only service has no login")
	m.check(canSign || c.Reload == nil, "Reload is set, but public keys cannot sign: a verify-only service has no refresh")
	m.check(!c.DangerouslyIgnoreRevocation || !canSign && c.Store == nil, "DangerouslyIgnoreRevocation is for public keys without a Store: remove it")
	return m
}
