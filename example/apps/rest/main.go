// Command rest is a REST API with users in a database (GORM): registration, login, roles, a list of sessions, and a change
// of the password that ends all other sessions. The blacklist is a table in the same database.
//
//	go run ./rest
//	curl 127.0.0.1:8080/register --json '{"email":"ann@example.org","password":"open sesame"}'
package main

import (
	"context"
	"crypto/rand"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/glebarez/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store/sqlstore"
)

// database is a SQLite file. synchronous(FULL): a logout is on disk before it is answered.
const database = "rest.db?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(10000)&_txlock=immediate"

func main() {
	secret := []byte(os.Getenv("JWT_SECRET"))
	if len(secret) == 0 {
		secret = []byte(rand.Text() + rand.Text())
		log.Print("JWT_SECRET is not set: signing with a random key, so a restart ends all sessions")
	}
	app, err := newApp(context.Background(), database, secret)
	if err != nil {
		log.Fatal(err)
	}
	server := http.Server{Addr: "127.0.0.1:8080", Handler: app.routes(), ReadHeaderTimeout: 5 * time.Second}
	log.Printf("listening on http://%s", server.Addr)
	log.Fatal(server.ListenAndServe())
}

// app is what the handlers share.
type app struct {
	db   *gorm.DB
	auth *middleware.Auth
}

func newApp(ctx context.Context, database string, secret []byte) (*app, error) {
	db, err := gorm.Open(sqlite.Open(database), &gorm.Config{
		TranslateError: true,
		// Without ParameterizedQueries, GORM logs slow queries with the password hashes in them.
		Logger: logger.New(log.Default(), logger.Config{LogLevel: logger.Warn, ParameterizedQueries: true}),
	})
	if err != nil {
		return nil, err
	}
	if err := db.AutoMigrate(&User{}); err != nil {
		return nil, err
	}
	blacklist, err := newBlacklist(ctx, db)
	if err != nil {
		return nil, err
	}
	a := &app{db: db}
	a.auth, err = middleware.New(middleware.Config{
		Keys:         []middleware.Key{{Algorithm: middleware.HS256, Key: secret}},
		Store:        blacklist,
		Authenticate: a.authenticate,
		Reload:       a.reload,

		TTL:         15 * time.Minute, // a change of a role takes effect within it
		MaxSessions: 10,
	})
	return a, err
}

// newBlacklist keeps the blacklist in the application's own database.
func newBlacklist(ctx context.Context, db *gorm.DB) (*sqlstore.Store, error) {
	pool, err := db.DB()
	if err != nil {
		return nil, err
	}
	blacklist, err := sqlstore.New(pool, sqlstore.SQLite, sqlstore.Options{})
	if err != nil {
		return nil, err
	}
	if err := blacklist.CreateTable(ctx); err != nil {
		return nil, err
	}
	go func() { // delete expired records
		for range time.Tick(time.Hour) {
			if _, err := blacklist.Sweep(ctx); err != nil {
				log.Print(err)
			}
		}
	}()
	return blacklist, blacklist.Check(ctx) // would this database lose revocations?
}

func (a *app) routes() http.Handler {
	r := gin.Default()
	_ = r.SetTrustedProxies(nil) // behind a proxy, its address
	r.POST("/register", a.handle(a.register))
	r.POST("/login", a.auth.LoginHandler)
	r.POST("/refresh", a.auth.RefreshHandler)
	r.POST("/logout", a.auth.LogoutHandler)

	user := r.Group("/", a.auth.Required())
	user.GET("/me", func(c *gin.Context) { c.JSON(http.StatusOK, middleware.MustClaims(c)) })
	user.PUT("/password", a.handle(a.changePassword))
	user.GET("/sessions", a.auth.SessionsHandler)
	user.DELETE("/sessions/:id", a.auth.EndSessionHandler)
	user.POST("/logout/others", a.auth.LogoutOthersHandler)

	r.PUT("/users/:id/role", a.auth.Allow(isAdmin), a.handle(a.changeRole))
	return r
}

// handle answers the error of a handler as the library answers its own.
func (a *app) handle(h func(*gin.Context) error) gin.HandlerFunc {
	return func(c *gin.Context) {
		if err := h(c); err != nil {
			a.auth.AnswerError(c, err)
		}
	}
}
