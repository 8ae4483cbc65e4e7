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
)

// The defaults of the zero [Config].
const (
	DefaultTTL          = time.Hour
	DefaultRefreshTTL   = 14 * 24 * time.Hour
	DefaultGrace        = 10 * time.Second
	DefaultStoreTimeout = time.Second
	defaultRealm        = "api"
)

// maxGrace is the longest grace: for that long a stolen token passes for its owner's (R15).
const maxGrace = 5 * time.Minute

// maxLifetime keeps the sum of all lifetimes inside time.Duration: past it a record would be forgotten at once.
const maxLifetime = 50 * 365 * 24 * time.Hour

// Config is what [New] makes an [Auth] of. Keys and Store must be said, all else has a safe default.
type Config struct {
	_ [0]func() // no unkeyed literals

	// Keys sign and verify. The first one signs, all verify, chosen by kid. If all are public, the Auth
	// verifies what another server issues, and issues nothing.
	Keys []Key

	// Store is the blacklist. There is no default: the choice decides what survives a restart and which
	// servers hear of a logout. See the package store.
	Store Store

	// Pair makes a login return two tokens, an access token for requests and a refresh token that does
	// nothing but refresh. Default: one token, which does both.
	Pair bool

	// Authenticate checks the credentials of a login request for LoginHandler. It returns who logs in, or
	// [ErrRefused], [ErrBadRequest], or any other error if it could not tell. Where it has answered the
	// request itself (429, a second factor), that answer stands. Without it LoginHandler answers 500; use
	// [Auth.Issue] after a login of another kind.
	Authenticate func(c *gin.Context) (Identity, error)

	// Reload looks at the subject again at each refresh and returns the application's claims for the new
	// token, all of them: to keep some of the old ones, read them with claims.Decode. [ErrRefused] means
	// that the session may not go on; any other error means 503. In both cases the presented token is not
	// used up (R9). nil: the claims are carried over.
	Reload func(ctx context.Context, claims Claims) (any, error)

	// TTL is how long a token is good for requests. Whole seconds, default 1 hour.
	TTL time.Duration

	// RefreshTTL is how long after the login a session can be refreshed; it is not extended by a refresh.
	// Whole seconds, longer than TTL, default 14 days.
	RefreshTTL time.Duration

	// IdleTTL ends a session that was not refreshed for this long, counted from the last token's issue.
	// Longer than TTL. 0: sessions may idle until RefreshTTL.
	IdleTTL time.Duration

	// Grace is how long a replaced token still passes and is swapped for the same successor, and how long that
	// successor is not swapped again, so that parallel requests and a lost answer log nobody out. At most 5
	// minutes. 0 means the default of 10 seconds, a negative value none: then of two parallel refreshes one
	// counts as reuse.
	Grace time.Duration

	// Leeway is how far the clocks of the servers may differ where a token's end is checked: each token
	// is accepted for that much longer. Default 0.
	Leeway time.Duration

	// StoreTimeout is how long one request waits for the store before it is answered 503. It must be shorter than
	// Grace: a swap that takes effect later than that would look like reuse to its own client (R10a). Default 1
	// second, or half of a Grace that is shorter than two.
	StoreTimeout time.Duration

	// Issuer and Audience are written into each token and demanded of it. "": neither.
	Issuer   string
	Audience string

	// Realm is shown in WWW-Authenticate. Default "api".
	Realm string

	// Sources are where a request's token may be; the first that is there counts, and a bad token in it is
	// refused and not passed over. Default: FromHeader("Authorization", "Bearer"). With Cookie, the cookie
	// comes after them. Refresh and logout look into the headers among them, then into the body, then into
	// the cookies.
	Sources []Source

	// Cookie puts the tokens into cookies instead of the answers' bodies. &Cookie{} has safe defaults.
	// nil: no cookies.
	Cookie *Cookie

	// TrustedOrigins are other origins whose pages may send requests that a cookie authenticates, as
	// scheme://host[:port].
	TrustedOrigins []string

	// TokenCache is how many verified tokens are remembered, so that their signature is checked once; the
	// time and the blacklist are checked on each request all the same. Each takes about 1 KiB. Default
	// 10,000; negative: none.
	TokenCache int

	// KeepSessionOnReuse refuses a token that comes back after it was replaced without ending its session.
	// Then a thief's use of it goes unpunished (R8).
	KeepSessionOnReuse bool

	// DangerouslyIgnoreRevocation lets a service that only verifies do without a Store. It accepts every
	// token until it expires, also after a logout, and in one-token mode after a refresh.
	DangerouslyIgnoreRevocation bool

	// OnError writes the answer for a refused request in place of the default JSON. The status and the
	// headers WWW-Authenticate and Retry-After are set before; the handlers behind do not run.
	OnError func(c *gin.Context, err *Error)

	// OnEvent hears of each login, refresh, logout and refusal. It runs before the answer is sent, so that
	// the request waits for it, and for many requests at once.
	OnEvent func(ctx context.Context, e Event)
}

// Identity is who logs in.
type Identity struct {
	// Subject is the user's lasting id, never empty. It is what [Auth.RevokeSubject] takes.
	Subject string

	// Claims are the application's own claims: a struct or map that encoding/json makes an object of, or
	// nil. They are not secret, and a token of more than 8 KiB is refused.
	Claims any

	// TTL and RefreshTTL are shorter lifetimes for this session. 0 or longer than configured: the
	// configured ones. Fractions of a second are cut.
	TTL        time.Duration
	RefreshTTL time.Duration
}

// headerSources are the headers among the sources, as the others are for requests alone.
func (c Config) headerSources() []Source {
	return slices.DeleteFunc(slices.Clone(c.Sources), func(s Source) bool { return s.kind != headerSource })
}

// withDefaults fills in what is zero.
func (c Config) withDefaults() Config {
	setDefault(&c.TTL, DefaultTTL)
	setDefault(&c.RefreshTTL, DefaultRefreshTTL)
	setDefault(&c.Grace, DefaultGrace)
	timeout := DefaultStoreTimeout
	if c.Grace > 0 {
		timeout = min(timeout, c.Grace/2)
	}
	setDefault(&c.StoreTimeout, timeout)
	if c.Realm == "" {
		c.Realm = defaultRealm
	}
	if c.TokenCache == 0 {
		c.TokenCache = DefaultTokenCache
	}
	if c.Sources == nil {
		c.Sources = []Source{FromHeader("Authorization", "Bearer")}
	}
	if c.Store == nil && c.DangerouslyIgnoreRevocation {
		c.Store = noStore{}
	}
	return c
}

func setDefault(d *time.Duration, value time.Duration) {
	if *d == 0 {
		*d = value
	}
}

// mistakes returns all that is wrong but the keys (R15). It expects the defaults to be filled in.
func (c Config) mistakes() []error {
	var wrong []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			wrong = append(wrong, fmt.Errorf(format, args...))
		}
	}
	check(!isNil(c.Store), "Store is missing: use store.NewMemory() for a single process, store/boltstore or store/redisstore to survive a restart")
	check(c.TTL >= time.Second && c.TTL%time.Second == 0, "TTL is %v: it must be whole seconds, at least one", c.TTL)
	check(c.RefreshTTL%time.Second == 0, "RefreshTTL is %v: it must be whole seconds", c.RefreshTTL)
	check(c.RefreshTTL > c.TTL, "RefreshTTL is %v and TTL %v: RefreshTTL must be longer, or an expired token could not be refreshed", c.RefreshTTL, c.TTL)
	check(c.IdleTTL == 0 || c.IdleTTL > c.TTL, "IdleTTL is %v and TTL %v: IdleTTL must be longer, or an expired token could not be refreshed", c.IdleTTL, c.TTL)
	check(c.Grace <= maxGrace, "Grace is %v: it must not be over %v, as a stolen token passes for that long", c.Grace, maxGrace)
	check(c.Leeway >= 0, "Leeway is %v: it must not be negative", c.Leeway)
	const tooLong = "%s is %v: it must not be over 50 years"
	check(c.RefreshTTL <= maxLifetime, tooLong, "RefreshTTL", c.RefreshTTL)
	check(c.IdleTTL <= maxLifetime, tooLong, "IdleTTL", c.IdleTTL)
	check(c.Leeway <= maxLifetime, tooLong, "Leeway", c.Leeway)
	check(c.StoreTimeout > 0, "StoreTimeout is %v: it must not be 0 or negative", c.StoreTimeout)
	check(c.Grace < 0 || c.StoreTimeout < c.Grace, "StoreTimeout is %v and Grace %v: StoreTimeout must be shorter, or a slow store looks like reuse", c.StoreTimeout, c.Grace)
	check(utf8.ValidString(c.Issuer), "Issuer is not valid UTF-8")
	check(utf8.ValidString(c.Audience), "Audience is not valid UTF-8")
	check(isQuotable(c.Realm), "Realm is %q: it must be printable ASCII without quotes and backslashes", c.Realm)
	for i, source := range c.Sources {
		check(source.name != "", "Sources[%d] has no name", i)
	}
	if c.Cookie != nil {
		wrong = append(wrong, c.Cookie.mistakes(c.Pair)...)
	}
	if _, err := c.protection(); err != nil {
		wrong = append(wrong, err)
	}
	return wrong
}

// isNil also sees the nil pointer that a constructor returned beside an error that nobody looked at.
func isNil(store Store) bool {
	if store == nil {
		return true
	}
	v := reflect.ValueOf(store)
	return v.Kind() == reflect.Pointer && v.IsNil()
}

func (c Config) protection() (*http.CrossOriginProtection, error) {
	protection := http.NewCrossOriginProtection()
	for _, origin := range c.TrustedOrigins {
		if err := protection.AddTrustedOrigin(origin); err != nil {
			return nil, fmt.Errorf("TrustedOrigins has %q, which is no origin like https://app.example.org", origin)
		}
	}
	return protection, nil
}

// verifyOnlyMistakes are what does not go with keys that issue nothing, or with keys that do.
func (c Config) verifyOnlyMistakes(keys *keySet) []error {
	var wrong []error
	_, blind := c.Store.(noStore)
	if keys.signer == nil && c.Authenticate != nil {
		wrong = append(wrong, errors.New("there is an Authenticate, but Keys[0] is public only and cannot sign: a service that only verifies has no login"))
	}
	if keys.signer == nil && c.Reload != nil {
		wrong = append(wrong, errors.New("there is a Reload, but Keys[0] is public only and cannot sign: a service that only verifies has no refresh"))
	}
	if c.DangerouslyIgnoreRevocation && (keys.signer != nil || !blind) {
		wrong = append(wrong, errors.New("DangerouslyIgnoreRevocation is for public keys without a Store: leave it out"))
	}
	return wrong
}

// isQuotable reports whether s can stand in a quoted header parameter as it is (RFC 9110 §5.6.4).
func isQuotable(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }) < 0
}

// validate returns the keys, or one error that lists every mistake.
func (c Config) validate() (*keySet, error) {
	keys, wrong := newKeySet(c.Keys)
	wrong = append(c.mistakes(), wrong...)
	if keys != nil {
		wrong = append(wrong, c.verifyOnlyMistakes(keys)...)
	}
	return keys, joinMistakes(wrong)
}

func joinMistakes(wrong []error) error {
	named := make([]error, len(wrong))
	for i, err := range wrong {
		named[i] = fmt.Errorf("middleware: %w", err)
	}
	return errors.Join(named...)
}
