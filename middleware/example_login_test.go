package middleware_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
)

// Register, then log in: Answer responds as LoginHandler does.
func ExampleAuth_Answer() {
	auth, err := middleware.New(middleware.Config{
		Keys:  []middleware.Key{{Algorithm: middleware.HS256, Key: []byte(rand.Text() + rand.Text())}},
		Store: store.NewMemory(),
	})
	if err != nil {
		log.Fatal(err)
	}
	r := gin.New()
	r.POST("/register", func(c *gin.Context) {
		user := c.PostForm("user") // create the account here
		tokens, err := auth.Issue(c.Request.Context(), middleware.Identity{Subject: user})
		if err != nil {
			_ = c.AbortWithError(http.StatusServiceUnavailable, err)
			return
		}
		auth.Answer(c, tokens)
	})

	server := httptest.NewServer(r)
	defer server.Close()
	response, err := http.PostForm(server.URL+"/register", url.Values{"user": {"ann"}})
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	fmt.Println(response.Status)
	// Output: 200 OK
}

// A server-rendered application: the login form ends in a redirect, and so does a page that needs a login.
func ExampleConfig_OnTokens() {
	auth, err := middleware.New(middleware.Config{
		Keys:   []middleware.Key{{Algorithm: middleware.HS256, Key: []byte(rand.Text() + rand.Text())}},
		Store:  store.NewMemory(),
		Cookie: &middleware.Cookie{Insecure: true}, // for this example; leave Insecure out behind TLS
		Authenticate: func(c *gin.Context) (middleware.Identity, error) {
			if c.PostForm("password") != "secret" {
				return middleware.Identity{}, middleware.ErrRefused
			}
			return middleware.Identity{Subject: c.PostForm("user")}, nil
		},
		OnTokens: func(c *gin.Context, _ middleware.Tokens) { c.Redirect(http.StatusSeeOther, "/home") },
		OnError: func(c *gin.Context, e *middleware.Error) {
			c.Redirect(http.StatusSeeOther, "/login?problem="+string(e.Code))
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	r := gin.New()
	r.GET("/login", func(c *gin.Context) { c.String(http.StatusOK, "the form, problem: %s", c.Query("problem")) })
	r.POST("/login", auth.LoginHandler)
	r.GET("/home", auth.Required(), func(c *gin.Context) { c.String(http.StatusOK, "hello %s", middleware.MustClaims(c).Subject) })

	server := httptest.NewServer(r)
	defer server.Close()
	jar, _ := cookiejar.New(nil)
	browser := &http.Client{Jar: jar}
	for _, password := range []string{"wrong", "secret"} {
		response, err := browser.PostForm(server.URL+"/login", url.Values{"user": {"ann"}, "password": {password}})
		if err != nil {
			log.Fatal(err)
		}
		page, _ := io.ReadAll(response.Body)
		response.Body.Close()
		fmt.Println(string(page))
	}
	// Output:
	// the form, problem: invalid_credentials
	// hello ann
}

// Clients of gin-jwt 2 read "token" and "expire". OnTokens writes them.
func ExampleConfig_onTokensOldClients() {
	auth, err := middleware.New(middleware.Config{
		Keys:  []middleware.Key{{Algorithm: middleware.HS256, Key: []byte(rand.Text() + rand.Text())}},
		Store: store.NewMemory(),
		Authenticate: func(c *gin.Context) (middleware.Identity, error) {
			return middleware.Identity{Subject: c.PostForm("username")}, nil // check the password here
		},
		OnTokens: func(c *gin.Context, tokens middleware.Tokens) {
			c.JSON(http.StatusOK, gin.H{
				"code":   http.StatusOK,
				"token":  tokens.AccessToken,
				"expire": tokens.ExpiresAt.Format(time.RFC3339),
			})
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	r := gin.New()
	r.POST("/login", auth.LoginHandler)

	server := httptest.NewServer(r)
	defer server.Close()
	response, err := http.PostForm(server.URL+"/login", url.Values{"username": {"ann"}})
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	var answer struct {
		Code   int       `json:"code"`
		Token  string    `json:"token"`
		Expire time.Time `json:"expire"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer.Code, "expires in", time.Until(answer.Expire).Round(time.Hour))

	_, err = auth.Verify(context.Background(), answer.Token)
	fmt.Println(err)
	// Output:
	// 200 expires in 1h0m0s
	// <nil>
}
