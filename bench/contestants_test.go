package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"strings"

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

// path is the only route of every server. It answers "ok".
const path = "/protected"

// contestant is one guard to compare.
type contestant struct {
	who string // its name in the benchmarks

	// guard returns an http.Handler or a fasthttp.RequestHandler. Only ginrefresh uses the store.
	guard func(k key, store middleware.Store) any

	// tokens returns n tokens that the guard accepts. If it is nil, the guard gets the tokens of ginrefresh.
	tokens func(k key, n int) []string
}

var contestants = []contestant{
	{"gin", bare, nil},
	{"gin-header-set", headerAndSet, nil},
	{"ginrefresh", ginrefresh, nil},
	{"ginrefresh-always-peek", alwaysPeek, nil},
	{"gin-jwt", ginJWT, nil},
	{"gin-jwt-own-tokens", ginJWT, ginJWTTokens},
	{"echo-jwt", echoJWT, nil},
	{"fiber-jwt", fiberJWT, nil},
	{"jwtauth", chiJWTAuth, nil},
	{"auth0", auth0, auth0Tokens},
	{"golang-jwt", golangJWT, nil},
}

func find(who string) contestant {
	for _, c := range contestants {
		if c.who == who {
			return c
		}
	}
	panic("no contestant is called " + who)
}

func guarded(guards ...gin.HandlerFunc) any {
	engine := newEngine()
	engine.Use(guards...)
	engine.GET(path, func(c *gin.Context) { c.String(http.StatusOK, "ok") })
	return engine
}

// post marks a handler of POST requests.
type post struct{ http.Handler }

func posting(handler gin.HandlerFunc) any {
	engine := newEngine()
	engine.POST(path, handler)
	return post{engine}
}

func newEngine() *gin.Engine {
	gin.SetMode(gin.ReleaseMode)
	return gin.New()
}

func bare(key, middleware.Store) any { return guarded() }

// headerAndSet does the minimum of any guard: it reads the header and passes a value to the handler.
func headerAndSet(key, middleware.Store) any {
	return guarded(func(c *gin.Context) { c.Set("user", c.GetHeader("Authorization")) })
}

func ginrefresh(k key, store middleware.Store) any { return guarded(newAuth(k, store).Required()) }

// alwaysPeek hides the change counters of the store, so the guard reads the blacklist on every request.
func alwaysPeek(k key, store middleware.Store) any {
	return ginrefresh(k, struct {
		middleware.Store
		middleware.Peeker
	}{store, store.(middleware.Peeker)})
}

func ginJWT(k key, _ middleware.Store) any { return guarded(newGinJWT(k).MiddlewareFunc()) }

func newGinJWT(k key) *ginjwt.GinJWTMiddleware {
	config := &ginjwt.GinJWTMiddleware{
		Realm: "api", SigningAlgorithm: string(k.algorithm), MaxRefresh: middleware.DefaultRefreshTTL,
		Authenticator: func(*gin.Context) (any, error) { return subject, nil },
		PayloadFunc:   func(any) ginjwt.MapClaims { return ginjwt.MapClaims{ginjwt.IdentityKey: subject} },
	}
	switch k.algorithm {
	case middleware.HS256:
		config.Key = k.signing.([]byte)
	case middleware.RS256:
		config.PrivKeyBytes = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(k.signing))})
		config.PubKeyBytes = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(k.verifying))})
	default: // gin-jwt supports HMAC and RSA; it verifies other algorithms through KeyFunc
		config.KeyFunc = func(*jwtv4.Token) (any, error) { return k.verifying, nil }
	}
	return must(ginjwt.New(config))
}

func echoJWT(k key, _ middleware.Store) any {
	e := echo.New()
	e.Use(echojwt.WithConfig(echojwt.Config{SigningMethod: string(k.algorithm), SigningKey: k.verifying}))
	e.GET(path, func(c echo.Context) error { return c.String(http.StatusOK, "ok") })
	return e
}

func fiberJWT(k key, _ middleware.Store) any {
	app := fiber.New(fiber.Config{DisableStartupMessage: true})
	app.Use(fiberjwt.New(fiberjwt.Config{SigningKey: fiberjwt.SigningKey{JWTAlg: string(k.algorithm), Key: k.verifying}}))
	app.Get(path, func(c *fiber.Ctx) error { return c.SendString("ok") })
	return app.Handler()
}

func chiJWTAuth(k key, _ middleware.Store) any {
	auth := jwtauth.New(string(k.algorithm), k.signing, k.verifying)
	r := chi.NewRouter()
	r.Use(jwtauth.Verifier(auth), jwtauth.Authenticator(auth))
	r.Get(path, plainOK)
	return r
}

func auth0(k key, _ middleware.Store) any {
	verifying := func(context.Context) (any, error) { return k.verifying, nil }
	v := must(validator.New(verifying, validator.SignatureAlgorithm(k.algorithm), auth0Issuer, []string{auth0Audience}))
	mux := http.NewServeMux()
	mux.Handle("GET "+path, jwtmiddleware.New(v.ValidateToken).CheckJWT(http.HandlerFunc(plainOK)))
	return mux
}

var (
	plainText = []string{"text/plain; charset=utf-8"}
	okBody    = []byte("ok")
)

func plainOK(w http.ResponseWriter, _ *http.Request) {
	w.Header()["Content-Type"] = plainText
	_, _ = w.Write(okBody)
}

// golangJWT is the guard that an application would write itself to be fast: one parser, and claims with types.
func golangJWT(k key, _ middleware.Store) any {
	type claims struct {
		jwt.RegisteredClaims
		Session  string `json:"sid"`
		AuthTime int64  `json:"auth_time"`
		Identity string `json:"identity"`
	}
	parser := jwt.NewParser(jwt.WithValidMethods([]string{string(k.algorithm)}), jwt.WithExpirationRequired())
	verifying := func(*jwt.Token) (any, error) { return k.verifying, nil }
	return guarded(func(c *gin.Context) {
		token, _ := strings.CutPrefix(c.GetHeader("Authorization"), scheme)
		decoded := &claims{}
		if _, err := parser.ParseWithClaims(token, decoded, verifying); err != nil {
			c.AbortWithStatusJSON(http.StatusUnauthorized, gin.H{"error": "invalid_token"})
			return
		}
		c.Set("claims", decoded)
	})
}
