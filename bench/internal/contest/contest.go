// Package contest has what is measured: ginrefresh, its peers, and Gin without any of them, each as a server
// with one guarded route that answers "ok".
package contest

import (
	"context"
	"net/http"
	"runtime/debug"
	"slices"
	"sync/atomic"

	ginjwt "github.com/appleboy/gin-jwt/v2"
	jwtmiddleware "github.com/auth0/go-jwt-middleware/v2"
	"github.com/auth0/go-jwt-middleware/v2/validator"
	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	"github.com/go-chi/jwtauth/v5"
	fiberjwt "github.com/gofiber/contrib/jwt"
	"github.com/gofiber/fiber/v2"
	jwtv4 "github.com/golang-jwt/jwt/v4"
	"github.com/golang-jwt/jwt/v5"
	echojwt "github.com/labstack/echo-jwt/v4"
	"github.com/labstack/echo/v4"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// Path is the guarded route.
const Path = "/protected"

// The contestants that others are compared with.
const (
	Bare   = "gin"
	Header = "gin-header-set"
	Ours   = "ginrefresh"
	// OursLooking is ginrefresh on a blacklist that changes before every request.
	OursLooking = "ginrefresh-looking"
	GinJWT      = "gin-jwt"
	// GinJWTOwn is gin-jwt with the shorter tokens that it makes itself.
	GinJWTOwn = "gin-jwt-own-tokens"
)

// Contestant is one line of the table.
type Contestant struct {
	ID     string // in the name of the benchmark
	Label  string // in the table
	module string

	// Guarded returns a new server. Only ginrefresh looks at the store.
	Guarded func(k Key, store middleware.Store) Server

	// Tokens makes n tokens that it accepts; nil: those of ginrefresh.
	Tokens func(k Key, n int) []string
}

// Contestants are all, the two without a guard first.
var Contestants = []Contestant{
	{ID: Bare, Label: "Gin alone", module: "github.com/gin-gonic/gin", Guarded: bare},
	{ID: Header, Label: "Gin + header + c.Set", module: "github.com/gin-gonic/gin", Guarded: headerAndSet},
	{ID: Ours, Label: "**ginrefresh**", Guarded: ours},
	{ID: OursLooking, Label: "**ginrefresh**, blacklist changed since", Guarded: oursLooking},
	{ID: GinJWT, Label: "appleboy/gin-jwt", module: "github.com/appleboy/gin-jwt/v2", Guarded: ginJWT},
	{ID: GinJWTOwn, Label: "appleboy/gin-jwt, its own tokens", module: "github.com/appleboy/gin-jwt/v2", Guarded: ginJWT, Tokens: ginJWTTokens},
	{ID: "echo-jwt", Label: "labstack/echo-jwt", module: "github.com/labstack/echo-jwt/v4", Guarded: echoJWT},
	{ID: "fiber-jwt", Label: "gofiber/contrib/jwt", module: "github.com/gofiber/contrib/jwt", Guarded: fiberJWT},
	{ID: "jwtauth", Label: "go-chi/jwtauth", module: "github.com/go-chi/jwtauth/v5", Guarded: chiJWTAuth},
	{ID: "auth0", Label: "auth0/go-jwt-middleware", module: "github.com/auth0/go-jwt-middleware/v2", Guarded: auth0, Tokens: auth0Tokens},
	{ID: "golang-jwt", Label: "golang-jwt, parser reused, typed claims", module: "github.com/golang-jwt/jwt/v5", Guarded: golangJWT},
}

// Find returns the contestant with the id.
func Find(id string) Contestant {
	i := slices.IndexFunc(Contestants, func(c Contestant) bool { return c.ID == id })
	if i < 0 {
		panic("contest: no contestant is called " + id)
	}
	return Contestants[i]
}

// Version is the version of the contestant that this program is built with, "" for ours.
func (c Contestant) Version() string {
	info, _ := debug.ReadBuildInfo()
	for _, dep := range info.Deps {
		if dep.Path == c.module {
			return dep.Version
		}
	}
	return ""
}

func newEngine() *gin.Engine {
	gin.SetMode(gin.ReleaseMode)
	return gin.New()
}

func answerOK(c *gin.Context) { c.String(http.StatusOK, "ok") }

func guardedBy(guards ...gin.HandlerFunc) Server {
	engine := newEngine()
	engine.Use(guards...)
	engine.GET(Path, answerOK)
	return newHTTP(engine, http.MethodGet, Path)
}

func bare(Key, middleware.Store) Server { return guardedBy() }

// headerAndSet is the least that any guard does: it reads the header and leaves something for the handler.
func headerAndSet(Key, middleware.Store) Server {
	return guardedBy(func(c *gin.Context) { c.Set("user", c.GetHeader("Authorization")) })
}

func ours(k Key, store middleware.Store) Server { return guardedBy(NewAuth(k, store).Required()) }

// restless is a blacklist of which nobody can know that it has not changed.
type restless struct {
	middleware.Store
	middleware.Peeker
}

var odd = func() *atomic.Uint64 {
	var n atomic.Uint64
	n.Store(1)
	return &n
}()

func (restless) Version(string) *atomic.Uint64 { return odd }

func (r restless) Self() any { return r }

func oursLooking(k Key, store middleware.Store) Server {
	return ours(k, restless{store, store.(middleware.Peeker)})
}

func ginJWT(k Key, _ middleware.Store) Server { return guardedBy(newGinJWT(k).MiddlewareFunc()) }

func newGinJWT(k Key) *ginjwt.GinJWTMiddleware {
	config := &ginjwt.GinJWTMiddleware{
		Realm: "api", SigningAlgorithm: string(k.Algorithm), MaxRefresh: middleware.DefaultRefreshTTL,
		Authenticator: func(*gin.Context) (any, error) { return subject, nil },
		PayloadFunc:   func(any) ginjwt.MapClaims { return ginjwt.MapClaims{ginjwt.IdentityKey: subject} },
	}
	switch k.Algorithm {
	case middleware.HS256:
		config.Key = k.Signing.([]byte)
	case middleware.RS256:
		config.PrivKeyBytes, config.PubKeyBytes = k.pems()
	default: // it knows HMAC and RSA itself, and takes others through this
		config.KeyFunc = func(*jwtv4.Token) (any, error) { return k.Verifying, nil }
	}
	return must(ginjwt.New(config))
}

func echoJWT(k Key, _ middleware.Store) Server {
	e := echo.New()
	e.Use(echojwt.WithConfig(echojwt.Config{SigningMethod: string(k.Algorithm), SigningKey: k.Verifying}))
	e.GET(Path, func(c echo.Context) error { return c.String(http.StatusOK, "ok") })
	return newHTTP(e, http.MethodGet, Path)
}

func fiberJWT(k Key, _ middleware.Store) Server {
	app := fiber.New(fiber.Config{DisableStartupMessage: true})
	app.Use(fiberjwt.New(fiberjwt.Config{SigningKey: fiberjwt.SigningKey{JWTAlg: string(k.Algorithm), Key: k.Verifying}}))
	app.Get(Path, func(c *fiber.Ctx) error { return c.SendString("ok") })
	return newFast(app.Handler(), Path)
}

func chiJWTAuth(k Key, _ middleware.Store) Server {
	auth := jwtauth.New(string(k.Algorithm), k.Signing, k.Verifying)
	r := chi.NewRouter()
	r.Use(jwtauth.Verifier(auth), jwtauth.Authenticator(auth))
	r.Get(Path, plainOK)
	return newHTTP(r, http.MethodGet, Path)
}

func plainOK(w http.ResponseWriter, _ *http.Request) {
	w.Header()["Content-Type"] = plainText
	_, _ = w.Write(okBody)
}

var (
	plainText = []string{"text/plain; charset=utf-8"}
	okBody    = []byte("ok")
)

func auth0(k Key, _ middleware.Store) Server {
	key := func(context.Context) (any, error) { return k.Verifying, nil }
	v := must(validator.New(key, validator.SignatureAlgorithm(k.Algorithm), auth0Issuer, []string{auth0Audience}))
	mux := http.NewServeMux()
	mux.Handle("GET "+Path, jwtmiddleware.New(v.ValidateToken).CheckJWT(http.HandlerFunc(plainOK)))
	return newHTTP(mux, http.MethodGet, Path)
}

// typedClaims is what an application that counts nanoseconds would decode into.
type typedClaims struct {
	jwt.RegisteredClaims
	Session  string `json:"sid"`
	AuthTime int64  `json:"auth_time"`
	Identity string `json:"identity"`
}

func golangJWT(k Key, _ middleware.Store) Server {
	parser := jwt.NewParser(jwt.WithValidMethods([]string{string(k.Algorithm)}), jwt.WithExpirationRequired())
	key := func(*jwt.Token) (any, error) { return k.Verifying, nil }
	return guardedBy(func(c *gin.Context) {
		text, found := bearer(c)
		claims := &typedClaims{}
		if !found {
			c.AbortWithStatus(http.StatusUnauthorized)
		} else if _, err := parser.ParseWithClaims(text, claims, key); err != nil {
			c.AbortWithStatusJSON(http.StatusUnauthorized, gin.H{"error": "invalid_token"})
		} else {
			c.Set("claims", claims)
		}
	})
}
