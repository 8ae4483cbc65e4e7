package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// newApp builds the server: the store, the key, the Auth and the routes. closeApp closes the store.
func newApp(s settings, log *slog.Logger) (app http.Handler, closeApp func() error, err error) {
	blacklist, closeApp, err := openStore(s, log)
	if err != nil {
		return nil, nil, err
	}
	m := newMetrics()
	auth, err := newAuth(s, m.observe(blacklist), log, m)
	if err != nil {
		return nil, nil, errors.Join(err, closeApp())
	}
	m.watch(auth)
	return routes(auth, s, m), closeApp, nil
}

func newAuth(s settings, blacklist middleware.Store, log *slog.Logger, m *metrics) (*middleware.Auth, error) {
	key, err := signingKey(s, log)
	if err != nil {
		return nil, err
	}
	if s.mode != "single" && s.mode != "pair" {
		return nil, fmt.Errorf("example: unknown -mode %q: use single or pair", s.mode)
	}
	if s.bind != "off" && s.bind != string(middleware.BindOffered) && s.bind != string(middleware.BindRequired) {
		return nil, fmt.Errorf("example: unknown -bind %q: use off, offered or required", s.bind)
	}
	if s.grace == 0 {
		s.grace = -1 // Config: 0 selects the default, a negative value turns the grace period off
	}
	config := middleware.Config{
		Keys:         []middleware.Key{key},
		Store:        blacklist,
		Authenticate: newUsers().authenticate,
		Pair:         s.mode == "pair",
		TTL:          s.ttl,
		RefreshTTL:   s.refreshTTL,
		IdleTTL:      s.idleTTL,
		Grace:        s.grace,
		Leeway:       s.leeway,
		MaxSessions:  s.maxSessions,
		Issuer:       s.issuer,
		Audience:     s.audience,
		OnEvent: func(ctx context.Context, e middleware.Event) {
			m.count(e)
			if e.Kind == middleware.EventStoreForgot {
				log.WarnContext(ctx, "the store has lost records: it was emptied, restarted or rolled back", "reason", errors.Unwrap(e.Err))
			}
			log.InfoContext(ctx, "auth", "event", e.Kind, "code", e.Code, "subject", e.Subject, "session", e.SessionID, "client", e.ClientIP)
		},
	}
	if s.bind != "off" {
		config.Bind = middleware.Binding(s.bind)
	}
	if s.cookies {
		config.Cookie = &middleware.Cookie{Insecure: !s.tls} // behind a proxy with TLS, leave Insecure out
	}
	return middleware.New(config)
}

func routes(auth *middleware.Auth, s settings, m *metrics) http.Handler {
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	r.Use(gin.Recovery())
	r.HandleMethodNotAllowed = true // GET /login is answered 405: only POST changes state
	if err := r.SetTrustedProxies(nil); err != nil {
		panic(err) // cannot fail for nil, which trusts no proxy: the client's address is the peer address of the connection
	}

	r.POST("/login", auth.LoginHandler)
	r.POST("/refresh", auth.RefreshHandler)
	r.POST("/logout", auth.LogoutHandler)
	r.POST("/logout/all", auth.LogoutAllHandler)
	if s.maxSessions > 0 {
		r.GET("/sessions", auth.Required(), auth.SessionsHandler)
		r.DELETE("/sessions/:id", auth.Required(), auth.EndSessionHandler)
		r.POST("/logout/others", auth.Required(), auth.LogoutOthersHandler)
	}
	if s.cookies && s.bind != "off" {
		r.POST("/session/bind", auth.BindHandler) // browsers with DBSC call it by themselves
		r.GET("/bound", bound)
	}

	r.GET("/protected", auth.Required(), hello)
	r.GET("/me", auth.Required(), me)
	r.GET("/renewing", renewing(auth, s), hello)
	r.GET("/optional", auth.Optional(), hello)
	r.POST("/sensitive", auth.Fresh(30*time.Second), hello)
	r.GET("/admin", auth.Allow(isAdmin), hello)

	r.GET("/.well-known/jwks.json", auth.JWKSHandler)
	r.GET("/metrics", m.handler())
	r.GET("/healthz", func(c *gin.Context) { c.JSON(http.StatusOK, gin.H{"status": "ok"}) })
	registerPage(r, pageSettings{mode: s.mode, bind: s.bind, cookies: s.cookies, sessions: s.maxSessions > 0, ttl: s.ttl, refreshTTL: s.refreshTTL, grace: s.grace})
	return r
}

// renewing returns the guard that refreshes a token that is about to expire. In pair mode requests carry no refresh token,
// so there it only verifies.
func renewing(auth *middleware.Auth, s settings) gin.HandlerFunc {
	if s.mode == "pair" {
		return auth.Required()
	}
	return auth.AutoRefresh(s.ttl / 4)
}

// credentials is the body of POST /login, as JSON or as a form.
type credentials struct {
	Username string `json:"username" form:"username" binding:"required"`
	Password string `json:"password" form:"password" binding:"required"`
}

// appClaims are the claims that this application adds to the token.
type appClaims struct {
	Role string `json:"role"`
}

func (u users) authenticate(c *gin.Context) (middleware.Identity, error) {
	var login credentials
	if err := c.ShouldBind(&login); err != nil {
		return middleware.Identity{}, fmt.Errorf("%w: %w", middleware.ErrBadRequest, err)
	}
	role, ok := u.check(login.Username, login.Password)
	if !ok {
		return middleware.Identity{}, middleware.ErrRefused
	}
	return middleware.Identity{Subject: login.Username, Claims: appClaims{Role: role}, Label: device(c.Request.UserAgent())}, nil
}

func isAdmin(_ *gin.Context, claims middleware.Claims) bool {
	var own appClaims
	return claims.Decode(&own) == nil && own.Role == "admin"
}

func hello(c *gin.Context) {
	name := "guest"
	if claims, ok := middleware.ClaimsFrom(c); ok {
		name = claims.Subject
	}
	c.JSON(http.StatusOK, gin.H{"msg": "Hello, " + name + "!"})
}

func me(c *gin.Context) { c.JSON(http.StatusOK, middleware.MustClaims(c)) }
