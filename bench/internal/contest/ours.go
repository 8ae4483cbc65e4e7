package contest

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/golang-jwt/jwt/v5"

	"github.com/ginrefresh/ginrefresh/middleware"
)

const (
	subject = "user 4711"

	// auth0's middleware refuses to do without these.
	auth0Issuer   = "https://issuer.example/"
	auth0Audience = "bench"
)

// scheme is what a token is sent with.
const scheme = "Bearer "

func bearer(c *gin.Context) (string, bool) {
	return strings.CutPrefix(c.GetHeader("Authorization"), scheme)
}

// Bearer returns the values of the Authorization headers that carry the tokens.
func Bearer(tokens []string) []string {
	values := make([]string, len(tokens))
	for i, token := range tokens {
		values[i] = scheme + token
	}
	return values
}

// ownClaims is what an application might put into a token. gin-jwt gives it to the handler as well.
type ownClaims struct {
	Identity string `json:"identity"`
}

// NewAuth returns an Auth with its defaults, changed by the options.
func NewAuth(k Key, store middleware.Store, options ...func(*middleware.Config)) *middleware.Auth {
	config := middleware.Config{
		Keys:         []middleware.Key{{Algorithm: k.Algorithm, Key: k.Signing}},
		Store:        store,
		Authenticate: func(*gin.Context) (middleware.Identity, error) { return identity(subject), nil },
	}
	for _, option := range options {
		option(&config)
	}
	return must(middleware.New(config))
}

// WithoutCache makes an Auth look at every token anew.
func WithoutCache(config *middleware.Config) { config.TokenCache = -1 }

// Guarded returns the server of an Auth of the caller's.
func Guarded(auth *middleware.Auth) Server { return guardedBy(auth.Required()) }

func identity(subject string) middleware.Identity {
	return middleware.Identity{Subject: subject, Claims: ownClaims{Identity: subject}}
}

// Issue logs n subjects in and returns their tokens.
func Issue(auth *middleware.Auth, n int) []string {
	return many(n, func(i int) string {
		return must(auth.Issue(context.Background(), identity(fmt.Sprintf("user %d", i)))).AccessToken
	})
}

// RefreshHalf replaces every other token by its successor, so that the blacklist has a record of its session.
func RefreshHalf(auth *middleware.Auth, tokens []string) {
	for i := 0; i < len(tokens); i += 2 {
		tokens[i] = must(auth.Refresh(context.Background(), tokens[i])).AccessToken
	}
}

// EndSessions logs the tokens' sessions out.
func EndSessions(auth *middleware.Auth, tokens []string) {
	for _, token := range tokens {
		if err := auth.Logout(context.Background(), token); err != nil {
			panic("contest: " + err.Error())
		}
	}
}

// FillStore puts n records of other sessions into the blacklist: an empty one is found out too easily. Many
// at once, as a store on disk commits those together.
func FillStore(store middleware.Store, n int) error {
	const workers = 256
	expires := time.Now().Add(middleware.DefaultRefreshTTL)
	errs := make(chan error, workers)
	for w := range workers {
		go func() {
			for i := w; i < n; i += workers {
				key := fmt.Sprintf("s:background%012d", i)
				if _, err := store.CompareAndSwap(context.Background(), key, "", "hk2p0c9xqo.hk2p0c8aaa", expires); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	var failed error
	for range workers {
		if err := <-errs; err != nil {
			failed = err
		}
	}
	return failed
}

// Expired returns n tokens that were genuine until a minute ago.
func Expired(k Key, n int) []string {
	header := must(sampleHeader(k))
	return many(n, func(i int) string {
		now := time.Now()
		return k.signLike(header, sessionClaims(i, now.Add(-61*time.Minute), now.Add(-time.Minute)))
	})
}

// sessionClaims are those that ginrefresh writes.
func sessionClaims(i int, issued, expires time.Time) jwt.MapClaims {
	session := fmt.Sprintf("expired%015d", i)
	user := fmt.Sprintf("user %d", i)
	return jwt.MapClaims{
		"sub": user, "iat": issued.Unix(), "exp": expires.Unix(), "sid": session, "jti": session + ".hk2p0c9xqo",
		"auth_time": issued.Unix(), "refresh_exp": issued.Add(middleware.DefaultRefreshTTL).Unix(), "identity": user,
	}
}

// sampleHeader is the header segment of the tokens that ginrefresh issues.
func sampleHeader(k Key) (string, error) {
	tokens, err := NewAuth(k, nothing{}).Issue(context.Background(), identity(subject))
	header, _, _ := strings.Cut(tokens.AccessToken, ".")
	return header, err
}

// signLike signs claims under a header that is given.
func (k Key) signLike(header string, claims jwt.MapClaims) string {
	token := jwt.NewWithClaims(jwt.GetSigningMethod(string(k.Algorithm)), claims)
	_, payload, _ := strings.Cut(must(token.SigningString()), ".")
	signature := must(token.Method.Sign(header+"."+payload, k.Signing))
	return header + "." + payload + "." + token.EncodeSegment(signature)
}

// nothing is a store without records, for what needs none.
type nothing struct{}

func (nothing) Get(_ context.Context, keys ...string) ([]string, error) {
	return make([]string, len(keys)), nil
}

func (nothing) CompareAndSwap(context.Context, string, string, string, time.Time) (bool, error) {
	return true, nil
}

// Forged returns the tokens, each with the signature of another: of the right length and form, and wrong.
func Forged(tokens []string) []string {
	forged := make([]string, len(tokens))
	for i, token := range tokens {
		other := tokens[(i+1)%len(tokens)]
		forged[i] = token[:strings.LastIndexByte(token, '.')] + other[strings.LastIndexByte(other, '.'):]
	}
	return forged
}

// Malformed returns the tokens without their signatures.
func Malformed(tokens []string) []string {
	malformed := make([]string, len(tokens))
	for i, token := range tokens {
		malformed[i] = token[:strings.LastIndexByte(token, '.')]
	}
	return malformed
}

// ginJWTTokens makes the tokens that gin-jwt makes.
func ginJWTTokens(k Key, n int) []string {
	return many(n, func(i int) string {
		now := time.Now()
		return k.sign(jwt.MapClaims{"identity": fmt.Sprintf("user %d", i), "exp": now.Add(time.Hour).Unix(), "orig_iat": now.Unix()})
	})
}

// auth0Tokens makes tokens with the issuer and the audience, and otherwise like those of ginrefresh.
func auth0Tokens(k Key, n int) []string {
	return many(n, func(i int) string {
		now := time.Now()
		claims := sessionClaims(i, now, now.Add(time.Hour))
		claims["iss"], claims["aud"] = auth0Issuer, auth0Audience
		return k.sign(claims)
	})
}

func many(n int, token func(i int) string) []string {
	tokens := make([]string, n)
	for i := range tokens {
		tokens[i] = token(i)
	}
	return tokens
}

// Refreshing returns a server of the refresh route of ours, or of gin-jwt.
func Refreshing(id string, k Key, store middleware.Store) Server {
	if id == Ours {
		return posting(NewAuth(k, store).RefreshHandler)
	}
	return posting(newGinJWT(k).RefreshHandler)
}

// LoggingIn returns a server of the login route; whose login it is is known without a password.
func LoggingIn(id string, k Key, store middleware.Store) Server {
	if id == Ours {
		return posting(NewAuth(k, store).LoginHandler)
	}
	return posting(newGinJWT(k).LoginHandler)
}

func posting(handler gin.HandlerFunc) Server {
	engine := newEngine()
	engine.POST(Path, handler)
	return newHTTP(engine, http.MethodPost, Path)
}

// CanIssue reports whether the contestant logs in and refreshes with the algorithm: gin-jwt only signs with
// secrets and RSA.
func CanIssue(id string, algorithm middleware.Algorithm) bool {
	return id == Ours || id == GinJWT && (algorithm == middleware.HS256 || algorithm == middleware.RS256)
}
