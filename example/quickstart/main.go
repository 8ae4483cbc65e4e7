// Command quickstart is the program from the README.
package main

import (
	"log"
	"os"

	"github.com/gin-gonic/gin"
	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
)

func main() {
	auth, err := middleware.New(middleware.Config{
		Keys:         []middleware.Key{{Algorithm: middleware.HS256, Key: []byte(os.Getenv("JWT_SECRET"))}},
		Store:        store.NewMemory(),
		Authenticate: authenticate,
	})
	if err != nil {
		log.Fatal(err)
	}
	r := gin.Default()
	r.POST("/login", auth.LoginHandler)
	r.POST("/refresh", auth.RefreshHandler)
	r.POST("/logout", auth.LogoutHandler)
	api := r.Group("/api", auth.Required())
	api.GET("/me", func(c *gin.Context) { c.JSON(200, middleware.MustClaims(c)) })
	log.Fatal(r.Run("127.0.0.1:8080"))
}

func authenticate(c *gin.Context) (middleware.Identity, error) {
	if c.PostForm("username") != "admin" || c.PostForm("password") != "admin" { // your own check goes here
		return middleware.Identity{}, middleware.ErrRefused
	}
	return middleware.Identity{Subject: "admin"}, nil
}
