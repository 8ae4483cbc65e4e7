package middleware_test

import (
	"context"
	"crypto/rand"
	"errors"
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

// With Config.Cookie the tokens are in cookies that scripts cannot read. Cross-origin requests are rejected.
func Example_cookies() {
	auth, err := middleware.New(middleware.Config{
		Keys:   []middleware.Key{{Algorithm: middleware.HS256, Key: []byte(rand.Text() + rand.Text())}},
		Store:  store.NewMemory(),
		Cookie: &middleware.Cookie{},
		Authenticate: func(c *gin.Context) (middleware.Identity, error) {
			return middleware.Identity{Subject: c.PostForm("username")}, nil // check the password here
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	r := gin.New()
	r.POST("/login", auth.LoginHandler)
	r.POST("/orders", auth.Required(), func(c *gin.Context) { c.String(http.StatusCreated, "ordered") })
	site := httptest.NewTLSServer(r) // a browser accepts these cookies only over https
	defer site.Close()

	browser := site.Client()
	browser.Jar, _ = cookiejar.New(nil)
	answer, err := browser.PostForm(site.URL+"/login", url.Values{"username": {"ann"}})
	if err != nil {
		log.Fatal(err)
	}
	answer.Body.Close()
	for _, cookie := range answer.Cookies() {
		fmt.Println(cookie.Name, cookie.HttpOnly, cookie.Secure, cookie.SameSite == http.SameSiteLaxMode)
	}

	for _, origin := range []string{site.URL, "https://evil.example"} {
		order, err := http.NewRequest("POST", site.URL+"/orders", nil)
		if err != nil {
			log.Fatal(err)
		}
		order.Header.Set("Origin", origin)
		answer, err := browser.Do(order)
		if err != nil {
			log.Fatal(err)
		}
		answer.Body.Close()
		fmt.Println(answer.Status)
	}
	// Output:
	// __Host-access_token true true true
	// 201 Created
	// 403 Forbidden
}

// AutoRefresh is for clients that cannot call RefreshHandler. The response to any request may contain the next token.
func ExampleAuth_AutoRefresh() {
	auth, err := middleware.New(middleware.Config{
		Keys:  []middleware.Key{{Algorithm: middleware.HS256, Key: []byte(rand.Text() + rand.Text())}},
		Store: store.NewMemory(),
	})
	if err != nil {
		log.Fatal(err)
	}
	r := gin.New()
	r.GET("/hello", auth.AutoRefresh(5*time.Minute), func(c *gin.Context) { c.String(http.StatusOK, "Hello!") })

	for _, ttl := range []time.Duration{time.Hour, time.Minute} {
		tokens, err := auth.Issue(context.Background(), middleware.Identity{Subject: "ann", TTL: ttl})
		if err != nil {
			log.Fatal(err)
		}
		request := httptest.NewRequest("GET", "/hello", nil)
		request.Header.Set("Authorization", "Bearer "+tokens.AccessToken)
		answer := httptest.NewRecorder()
		r.ServeHTTP(answer, request)
		next := answer.Header().Get("Authorization") // if there is one, the client must use it from now on
		fmt.Println(answer.Body, "A token of", ttl, "is refreshed:", next != "")
	}
	// Output:
	// Hello! A token of 1h0m0s is refreshed: false
	// Hello! A token of 1m0s is refreshed: true
}

// Optional lets guests through as well.
func ExampleAuth_Optional() {
	auth, err := middleware.New(middleware.Config{
		Keys:  []middleware.Key{{Algorithm: middleware.HS256, Key: []byte(rand.Text() + rand.Text())}},
		Store: store.NewMemory(),
	})
	if err != nil {
		log.Fatal(err)
	}
	r := gin.New()
	r.GET("/", auth.Optional(), func(c *gin.Context) {
		name := "guest"
		if claims, ok := middleware.ClaimsFrom(c); ok {
			name = claims.Subject
		}
		c.String(http.StatusOK, "Hello, %s!", name)
	})

	tokens, err := auth.Issue(context.Background(), middleware.Identity{Subject: "ann"})
	if err != nil {
		log.Fatal(err)
	}
	for _, authorization := range []string{"", "Bearer " + tokens.AccessToken, "Bearer forged"} {
		request := httptest.NewRequest("GET", "/", nil)
		request.Header.Set("Authorization", authorization)
		answer := httptest.NewRecorder()
		r.ServeHTTP(answer, request)
		fmt.Println(answer.Code, answer.Body)
	}
	// Output:
	// 200 Hello, guest!
	// 200 Hello, ann!
	// 401 {"error":"invalid_token","error_description":"the token is not valid","code":"token_invalid"}
}

// Allow checks a condition on the claims, such as a role.
func ExampleAuth_Allow() {
	auth, err := middleware.New(middleware.Config{
		Keys:  []middleware.Key{{Algorithm: middleware.HS256, Key: []byte(rand.Text() + rand.Text())}},
		Store: store.NewMemory(),
	})
	if err != nil {
		log.Fatal(err)
	}
	type mine struct {
		Role string `json:"role"`
	}
	role := func(wanted string) gin.HandlerFunc {
		return auth.Allow(func(_ *gin.Context, claims middleware.Claims) bool {
			var m mine
			return claims.Decode(&m) == nil && m.Role == wanted
		})
	}
	r := gin.New()
	r.DELETE("/users/:id", role("admin"), func(c *gin.Context) { c.Status(http.StatusNoContent) })

	for _, id := range []middleware.Identity{
		{Subject: "ann", Claims: mine{Role: "admin"}},
		{Subject: "bob", Claims: mine{Role: "reader"}},
	} {
		tokens, err := auth.Issue(context.Background(), id)
		if err != nil {
			log.Fatal(err)
		}
		request := httptest.NewRequest("DELETE", "/users/7", nil)
		request.Header.Set("Authorization", "Bearer "+tokens.AccessToken)
		answer := httptest.NewRecorder()
		r.ServeHTTP(answer, request)
		fmt.Println(id.Subject, answer.Code)
	}
	// Output:
	// ann 204
	// bob 403
}

// Fresh requires a recent login for sensitive actions. A refresh does not make the login more recent.
func ExampleAuth_Fresh() {
	auth, err := middleware.New(middleware.Config{
		Keys:  []middleware.Key{{Algorithm: middleware.HS256, Key: []byte(rand.Text() + rand.Text())}},
		Store: store.NewMemory(),
	})
	if err != nil {
		log.Fatal(err)
	}
	r := gin.New()
	r.POST("/password", auth.Fresh(10*time.Minute), func(c *gin.Context) { c.Status(http.StatusNoContent) })

	tokens, err := auth.Issue(context.Background(), middleware.Identity{Subject: "ann"})
	if err != nil {
		log.Fatal(err)
	}
	request := httptest.NewRequest("POST", "/password", nil)
	request.Header.Set("Authorization", "Bearer "+tokens.AccessToken)
	answer := httptest.NewRecorder()
	r.ServeHTTP(answer, request)
	fmt.Println(answer.Code) // eleven minutes later it would be 401 login_too_old
	// Output: 204
}

// A browser's EventSource cannot set a header, so for server-sent events the token is in the URL, on this route only. The
// second Auth has the same keys and store as the first, so it accepts its tokens.
func ExampleFromQuery() {
	config := middleware.Config{
		Keys:  []middleware.Key{{Algorithm: middleware.HS256, Key: []byte(rand.Text() + rand.Text())}},
		Store: store.NewMemory(),
	}
	auth, err := middleware.New(config)
	if err != nil {
		log.Fatal(err)
	}
	config.Sources = []middleware.Source{middleware.FromQuery("token")}
	streams, err := middleware.New(config)
	if err != nil {
		log.Fatal(err)
	}
	r := gin.New() // without gin.Logger, which would log URLs with their tokens
	r.GET("/events", streams.Required(), func(c *gin.Context) {
		c.SSEvent("greeting", "Hello, "+middleware.MustClaims(c).Subject+"!")
	})
	site := httptest.NewServer(r)
	defer site.Close()

	// A URL may end up in a log, so its token lasts only for a minute.
	tokens, err := auth.Issue(context.Background(), middleware.Identity{Subject: "ann", TTL: time.Minute})
	if err != nil {
		log.Fatal(err)
	}
	answer, err := http.Get(site.URL + "/events?token=" + tokens.AccessToken)
	if err != nil {
		log.Fatal(err)
	}
	defer answer.Body.Close()
	events, err := io.ReadAll(answer.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(string(events))
	// Output:
	// event:greeting
	// data:Hello, ann!
}

// A login with OAuth ends in a callback, which issues tokens, sets the cookies and redirects to the site.
func ExampleAuth_SetCookies() {
	auth, err := middleware.New(middleware.Config{
		Keys:   []middleware.Key{{Algorithm: middleware.HS256, Key: []byte(rand.Text() + rand.Text())}},
		Store:  store.NewMemory(),
		Cookie: &middleware.Cookie{},
	})
	if err != nil {
		log.Fatal(err)
	}
	// Use golang.org/x/oauth2 and an OpenID Connect library here. Compare state with the value that this browser got
	// at the start of the login, or an attacker could log it in to the attacker's account. Then exchange the code and
	// verify the ID token.
	userOf := func(c *gin.Context) (string, error) {
		if c.Query("code") == "" {
			return "", errors.New("no code")
		}
		return "ann", nil
	}
	r := gin.New()
	r.GET("/callback", func(c *gin.Context) {
		subject, err := userOf(c)
		if err != nil {
			c.String(http.StatusBadRequest, "the login failed")
			return
		}
		tokens, err := auth.Issue(c.Request.Context(), middleware.Identity{Subject: subject})
		if err != nil {
			c.String(http.StatusServiceUnavailable, "try again later")
			return
		}
		if err := auth.SetCookies(c, tokens); err != nil { // the browser's previous session could not be ended
			c.String(http.StatusServiceUnavailable, "try again later")
			return
		}
		c.Redirect(http.StatusSeeOther, "/")
	})

	answer := httptest.NewRecorder()
	r.ServeHTTP(answer, httptest.NewRequest("GET", "/callback?code=abc&state=xyz", nil))
	fmt.Println(answer.Code, answer.Header().Get("Location"), answer.Result().Cookies()[0].Name)
	// Output: 303 / __Host-access_token
}

// A handler in front of LogoutHandler can tell the browser to delete the page's data as well. It waits for the outcome, because
// an answer to a refused request must not clear anything. "cookies" would also log the user out of sibling subdomains;
// LogoutHandler expires its own cookies.
func ExampleAuth_LogoutHandler() {
	auth, err := middleware.New(middleware.Config{
		Keys:   []middleware.Key{{Algorithm: middleware.HS256, Key: []byte(rand.Text() + rand.Text())}},
		Store:  store.NewMemory(),
		Cookie: &middleware.Cookie{},
	})
	if err != nil {
		log.Fatal(err)
	}
	clearSiteData := func(c *gin.Context) {
		c.Next()
		if c.Writer.Status() == http.StatusNoContent {
			c.Header("Clear-Site-Data", `"cache", "storage"`)
		}
	}
	r := gin.New()
	r.POST("/logout", clearSiteData, auth.LogoutHandler)

	tokens, err := auth.Issue(context.Background(), middleware.Identity{Subject: "ann"})
	if err != nil {
		log.Fatal(err)
	}
	for _, site := range []string{"cross-site", "same-origin"} {
		request := httptest.NewRequest("POST", "/logout", nil)
		request.AddCookie(&http.Cookie{Name: "__Host-access_token", Value: tokens.AccessToken})
		request.Header.Set("Sec-Fetch-Site", site)
		answer := httptest.NewRecorder()
		r.ServeHTTP(answer, request)
		fmt.Println(answer.Code, answer.Header().Values("Clear-Site-Data"))
	}
	// Output:
	// 403 []
	// 204 ["cache", "storage"]
}
