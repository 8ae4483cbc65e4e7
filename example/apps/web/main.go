// Command web is a server-rendered application: a form login with "remember me", a login with GitHub (OAuth 2.0 with
// PKCE), pages that renew the token by themselves, and a WebSocket that ends with the session. The tokens are in cookies.
//
//	go run ./web
//
// It serves http://localhost:8080, with the user ann and the password "open sesame". The login with GitHub needs an OAuth
// app with the callback http://localhost:8080/oauth/callback: set GITHUB_CLIENT_ID and GITHUB_CLIENT_SECRET.
package main

import (
	"cmp"
	"crypto/rand"
	"embed"
	"html/template"
	"log"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/endpoints"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
)

func main() {
	secret := []byte(os.Getenv("JWT_SECRET"))
	if len(secret) == 0 {
		secret = []byte(rand.Text() + rand.Text())
		log.Print("JWT_SECRET is not set: signing with a random key, so a restart ends all sessions")
	}
	a := &app{
		publicURL: cmp.Or(os.Getenv("PUBLIC_URL"), "http://localhost:8080"),
		ttl:       time.Hour,
		tick:      time.Second,
		userURL:   "https://api.github.com/user",
		oauth: oauth2.Config{
			ClientID:     os.Getenv("GITHUB_CLIENT_ID"),
			ClientSecret: os.Getenv("GITHUB_CLIENT_SECRET"),
			Endpoint:     endpoints.GitHub,
		},
	}
	routes, err := a.routes(secret)
	if err != nil {
		log.Fatal(err)
	}
	server := http.Server{Addr: "localhost:8080", Handler: routes, ReadHeaderTimeout: 5 * time.Second}
	log.Printf("listening on %s", a.publicURL)
	log.Fatal(server.ListenAndServe())
}

// app is what the handlers share.
type app struct {
	publicURL string        // as the browser sees this server
	ttl       time.Duration // of a token
	tick      time.Duration // between two messages of the WebSocket
	oauth     oauth2.Config
	userURL   string // where the OAuth provider tells who has logged in
	auth      *middleware.Auth
}

//go:embed page
var files embed.FS

func (a *app) routes(secret []byte) (http.Handler, error) {
	var err error
	a.oauth.RedirectURL = a.publicURL + "/oauth/callback"
	a.auth, err = middleware.New(middleware.Config{
		Keys:         []middleware.Key{{Algorithm: middleware.HS256, Key: secret}},
		Store:        store.NewMemory(), // see docs/stores.md
		Cookie:       &middleware.Cookie{Insecure: a.insecure()},
		TTL:          a.ttl,
		RefreshTTL:   30 * 24 * time.Hour,
		Authenticate: a.authenticate,
		OnTokens:     func(c *gin.Context, _ middleware.Tokens) { c.Redirect(http.StatusSeeOther, local(c.PostForm("next"))) },
		OnError:      onError,
	})
	if err != nil {
		return nil, err
	}
	r := gin.Default()
	_ = r.SetTrustedProxies(nil) // behind a proxy, its address
	r.SetHTMLTemplate(template.Must(template.ParseFS(files, "page/*.html")))
	r.Use(func(c *gin.Context) {
		c.Header("Content-Security-Policy", "default-src 'self'")
		c.Header("Cache-Control", "no-store") // no page of a user stays in a cache, or behind the back button
	})
	r.StaticFileFS("/clock.js", "page/clock.js", http.FS(files))
	r.GET("/login", a.loginPage)
	r.POST("/login", a.auth.LoginHandler)
	r.POST("/logout", a.auth.LogoutHandler, func(c *gin.Context) { c.Redirect(http.StatusSeeOther, "/login") })
	r.GET("/oauth/login", a.oauthLogin)
	r.GET("/oauth/callback", a.oauthCallback)

	pages := r.Group("/", a.auth.AutoRefresh(a.ttl/4))
	pages.GET("/", func(c *gin.Context) { c.HTML(http.StatusOK, "home.html", middleware.MustClaims(c)) })
	pages.GET("/clock", func(c *gin.Context) { c.HTML(http.StatusOK, "clock.html", nil) })
	r.GET("/clock/socket", a.auth.Required(), a.socket)
	return r, nil
}

// insecure reports whether cookies must be sent over plain http: in development only.
func (a *app) insecure() bool { return strings.HasPrefix(a.publicURL, "http://") }

// onError sends a browser without a session to the login, and then back to the page.
func onError(c *gin.Context, e *middleware.Error) {
	switch {
	case e.Status != http.StatusUnauthorized:
		c.HTML(e.Status, "error.html", e)
	case c.Request.Method == http.MethodGet:
		c.Redirect(http.StatusSeeOther, "/login?next="+url.QueryEscape(c.Request.URL.RequestURI()))
	default:
		c.Redirect(http.StatusSeeOther, "/login")
	}
}

// local returns the path of a page of this site, so that a link to the login cannot lead to another one.
func local(next string) string {
	if u, err := url.Parse(next); err != nil || u.Host != "" || u.Scheme != "" || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, `/\`) {
		return "/"
	}
	return next
}
