package middleware_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
)

// In one-token mode the same token is used on requests, refreshed, and ended by a logout.
func Example() {
	auth, err := middleware.New(middleware.Config{
		// A secret for this run only. A program reads its secret from the environment or a file.
		Keys:  []middleware.Key{{Algorithm: middleware.HS256, Key: []byte(rand.Text() + rand.Text())}},
		Store: store.NewMemory(),
		Authenticate: func(c *gin.Context) (middleware.Identity, error) {
			if c.PostForm("username") != "ann" || c.PostForm("password") != "open sesame" {
				return middleware.Identity{}, middleware.ErrRefused
			}
			return middleware.Identity{Subject: "ann"}, nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	r := gin.New()
	r.POST("/login", auth.LoginHandler)
	r.POST("/refresh", auth.RefreshHandler)
	r.POST("/logout", auth.LogoutHandler)
	api := r.Group("/api", auth.Required())
	api.GET("/hello", func(c *gin.Context) {
		c.String(http.StatusOK, "Hello, %s!", middleware.MustClaims(c).Subject)
	})

	// The client.
	send := func(method, path, token string, form url.Values) (int, string) {
		request := httptest.NewRequest(method, path, strings.NewReader(form.Encode()))
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.Header.Set("Authorization", "Bearer "+token)
		answer := httptest.NewRecorder()
		r.ServeHTTP(answer, request)
		return answer.Code, answer.Body.String()
	}
	var tokens struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"`
	}
	_, body := send("POST", "/login", "", url.Values{"username": {"ann"}, "password": {"open sesame"}})
	if err := json.Unmarshal([]byte(body), &tokens); err != nil {
		log.Fatal(err)
	}
	fmt.Println(tokens.ExpiresIn, "seconds")
	fmt.Println(send("GET", "/api/hello", tokens.AccessToken, nil))

	_, body = send("POST", "/refresh", tokens.AccessToken, nil) // expired or not
	if err := json.Unmarshal([]byte(body), &tokens); err != nil {
		log.Fatal(err)
	}
	fmt.Println(send("GET", "/api/hello", tokens.AccessToken, nil))

	status, _ := send("POST", "/logout", tokens.AccessToken, nil)
	fmt.Println(status)
	fmt.Println(send("GET", "/api/hello", tokens.AccessToken, nil))
	// Output:
	// 3600 seconds
	// 200 Hello, ann!
	// 200 Hello, ann!
	// 204
	// 401 {"error":"invalid_token","error_description":"the token was revoked, log in","code":"token_revoked"}
}

// In pair mode a short-lived access token is used on requests, and a refresh token only for refreshing.
func Example_pair() {
	auth, err := middleware.New(middleware.Config{
		Keys:  []middleware.Key{{Algorithm: middleware.HS256, Key: []byte(rand.Text() + rand.Text())}},
		Store: store.NewMemory(),
		Pair:  true,
		TTL:   10 * time.Minute,
	})
	if err != nil {
		log.Fatal(err)
	}
	r := gin.New()
	r.POST("/refresh", auth.RefreshHandler)
	r.GET("/hello", auth.Required(), func(c *gin.Context) { c.String(http.StatusOK, "Hello!") })

	// LoginHandler responds with these two tokens.
	tokens, err := auth.Issue(context.Background(), middleware.Identity{Subject: "ann"})
	if err != nil {
		log.Fatal(err)
	}
	for _, token := range []string{tokens.AccessToken, tokens.RefreshToken} {
		request := httptest.NewRequest("GET", "/hello", nil)
		request.Header.Set("Authorization", "Bearer "+token)
		answer := httptest.NewRecorder()
		r.ServeHTTP(answer, request)
		fmt.Println(answer.Code)
	}

	// The refresh token is sent in the body, as here, or in the Authorization header.
	request := httptest.NewRequest("POST", "/refresh", strings.NewReader(`{"refresh_token":"`+tokens.RefreshToken+`"}`))
	request.Header.Set("Content-Type", "application/json")
	answer := httptest.NewRecorder()
	r.ServeHTTP(answer, request)
	var next struct {
		AccessToken  string `json:"access_token"`
		RefreshToken string `json:"refresh_token"`
		ExpiresIn    int    `json:"expires_in"`
	}
	if err := json.Unmarshal(answer.Body.Bytes(), &next); err != nil {
		log.Fatal(err)
	}
	fmt.Println(next.RefreshToken != tokens.RefreshToken, next.ExpiresIn)
	// Output:
	// 200
	// 401
	// true 600
}
