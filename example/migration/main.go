// Command migration is the basic example of gin-jwt (github.com/appleboy/gin-jwt, _example/basic), ported: the same users
// and routes. With OLD_JWT_SECRET it also exchanges the tokens of the old server for sessions, see exchange.go.
//
//	JWT_SECRET=$(openssl rand -hex 32) go run ./example/migration
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
)

func main() {
	blacklist := store.NewMemory() // for several processes, or to survive a restart: see docs/stores.md
	auth, err := newAuth([]byte(os.Getenv("JWT_SECRET")), blacklist)
	if err != nil {
		log.Fatal(err)
	}
	r := gin.Default()
	register(r, auth)
	if secret := os.Getenv("OLD_JWT_SECRET"); secret != "" {
		old := ginJWT(auth, blacklist, []byte(secret), time.Now()) // with another store: the date of the migration
		if err := old.check(context.Background()); err != nil {
			log.Fatal(err)
		}
		r.POST("/exchange", old.exchange)
	}
	server := &http.Server{Addr: "127.0.0.1:8000", Handler: r, ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.ListenAndServe())
}

func newAuth(secret []byte, blacklist middleware.Store) (*middleware.Auth, error) {
	return middleware.New(middleware.Config{
		Realm:        "test zone",
		Keys:         []middleware.Key{{Algorithm: middleware.HS256, Key: secret}},
		Store:        blacklist,
		TTL:          time.Hour,      // Timeout
		RefreshTTL:   24 * time.Hour, // MaxRefresh; counts from the login and is longer than TTL
		Authenticate: authenticate,
		Sources: []middleware.Source{ // TokenLookup; leave out those that no client uses
			middleware.FromHeader("Authorization", "Bearer"), middleware.FromQuery("token"), middleware.FromCookie("jwt"),
		},
		OnError: func(c *gin.Context, err *middleware.Error) { // Unauthorized
			c.JSON(err.Status, gin.H{"code": err.Status, "message": err.Description})
		},
	})
}

func register(r *gin.Engine, auth *middleware.Auth) {
	admin := auth.Allow(isAdmin)
	r.POST("/login", auth.LoginHandler)
	r.POST("/refresh", auth.RefreshHandler)
	r.POST("/auth/logout", logout(auth)) // outside the group: its guard would reject an expired token
	r.Group("/auth", admin).GET("/hello", hello)
	r.NoRoute(admin, func(c *gin.Context) {
		c.JSON(http.StatusNotFound, gin.H{"code": "PAGE_NOT_FOUND", "message": "Page not found"})
	})
}

// authenticate replaces Authenticator and PayloadFunc.
func authenticate(c *gin.Context) (middleware.Identity, error) {
	var login struct {
		Username string `form:"username" json:"username" binding:"required"`
		Password string `form:"password" json:"password" binding:"required"`
	}
	if err := c.ShouldBind(&login); err != nil {
		return middleware.Identity{}, fmt.Errorf("%w: %w", middleware.ErrBadRequest, err)
	}
	if login.Username != login.Password || login.Username != "admin" && login.Username != "test" {
		return middleware.Identity{}, middleware.ErrRefused
	}
	return middleware.Identity{Subject: login.Username}, nil
}

// isAdmin replaces Authorizator.
func isAdmin(_ *gin.Context, claims middleware.Claims) bool { return claims.Subject == "admin" }

func hello(c *gin.Context) {
	user := middleware.MustClaims(c).Subject // IdentityHandler and ExtractClaims
	c.JSON(http.StatusOK, gin.H{"userID": user, "userName": user, "text": "Hello World."})
}

// logout answers 200 with a body, as LogoutResponse did, and not 204.
func logout(auth *middleware.Auth) gin.HandlerFunc {
	return func(c *gin.Context) {
		auth.LogoutHandler(c)
		if !c.IsAborted() {
			c.JSON(http.StatusOK, gin.H{"code": http.StatusOK, "message": "Successfully logged out"})
		}
	}
}
