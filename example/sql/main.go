// Command sql is the quick start with a blacklist in a SQL database. It is a module of its own, so that the drivers do not
// become dependencies of whoever imports ginrefresh. Your application needs one of them:
//
//	go run . -store postgres://user:password@localhost/app
//	go run . -store 'mysql://user:password@tcp(localhost:3306)/app'
//	go run . -store sqlite:blacklist.db
package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store/sqlstore"
)

func main() {
	name := flag.String("store", "sqlite:blacklist.db", "postgres://…, mysql://… or sqlite:FILE")
	addr := flag.String("addr", "localhost:8080", "address to listen on")
	flag.Parse()
	ctx := context.Background()
	blacklist, err := openStore(ctx, *name)
	if err != nil {
		log.Fatal(err)
	}
	go sweep(ctx, blacklist)
	secret := []byte(os.Getenv("JWT_SECRET"))
	if len(secret) == 0 {
		secret = []byte(rand.Text() + rand.Text()) // ends all sessions at a restart
	}
	routes, err := newRoutes(blacklist, secret)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe(*addr, routes))
}

// openStore opens the database and creates the blacklist's table.
func openStore(ctx context.Context, name string) (*sqlstore.Store, error) {
	scheme, rest, _ := strings.Cut(name, ":")
	var driver string
	var dialect sqlstore.Dialect
	switch scheme {
	case "postgres":
		driver, dialect, rest = "pgx", sqlstore.PostgreSQL, name
	case "mysql":
		driver, dialect, rest = "mysql", sqlstore.MySQL, strings.TrimPrefix(rest, "//")
	case "sqlite":
		// synchronous(FULL): a logout is on the disk before it is answered. busy_timeout: writers wait for each other.
		driver, dialect = "sqlite", sqlstore.SQLite
		rest = "file:" + rest + "?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(10000)&_txlock=immediate"
	default:
		return nil, fmt.Errorf("unknown -store %q", name)
	}
	db, err := sql.Open(driver, rest)
	if err != nil {
		return nil, err
	}
	blacklist, err := sqlstore.New(db, dialect, sqlstore.Options{})
	if err != nil {
		return nil, err
	}
	if err := blacklist.CreateTable(ctx); err != nil {
		return nil, err
	}
	return blacklist, blacklist.Check(ctx) // would this database lose revocations?
}

// sweep deletes expired records once a minute.
func sweep(ctx context.Context, blacklist *sqlstore.Store) {
	for ; ; time.Sleep(time.Minute) {
		if _, err := blacklist.Sweep(ctx); err != nil {
			log.Print(err)
		}
	}
}

func newRoutes(blacklist *sqlstore.Store, secret []byte) (http.Handler, error) {
	auth, err := middleware.New(middleware.Config{
		Keys:  []middleware.Key{{Algorithm: middleware.HS256, Key: secret}},
		Store: blacklist,
		Authenticate: func(c *gin.Context) (middleware.Identity, error) {
			if c.PostForm("password") != "secret" { // look the user up here
				return middleware.Identity{}, middleware.ErrRefused
			}
			return middleware.Identity{Subject: c.PostForm("user")}, nil
		},
	})
	if err != nil {
		return nil, err
	}
	r := gin.New()
	r.POST("/login", auth.LoginHandler)
	r.POST("/refresh", auth.RefreshHandler)
	r.POST("/logout", auth.LogoutHandler)
	r.GET("/me", auth.Required(), func(c *gin.Context) { c.JSON(http.StatusOK, middleware.MustClaims(c)) })
	return r, nil
}
