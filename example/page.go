package main

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/client"
)

// pageFiles are the files of the page at GET /, except client.js. The page is static: it calls the API through client.js,
// like any client.
//
//go:embed page
var pageFiles embed.FS

// pageSettings are the flags that the page shows and scales its bars by.
type pageSettings struct {
	mode, bind             string
	cookies, sessions      bool
	ttl, refreshTTL, grace time.Duration // a grace of 0 turns the grace period off
}

// contentTypes has the type of every file of the page. The table of package mime differs between systems.
var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".go":   "text/plain; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// contentSecurityPolicy lets the page load its own files and call its own server, and nothing else: an injected script does
// not run, and cannot send a token anywhere.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// appSource is the code that the page shows behind its buttons.
//
//go:embed app.go
var appSource []byte

// registerPage registers GET / for the page, a route for each of its files, GET /app.go and GET /settings.
func registerPage(r *gin.Engine, s pageSettings) {
	files, err := fs.Sub(pageFiles, "page")
	if err != nil {
		panic(err) // cannot happen: the folder is embedded
	}
	names, err := fs.Glob(files, "*.*")
	if err != nil {
		panic(err)
	}
	for _, name := range names {
		content, err := fs.ReadFile(files, name)
		if err != nil {
			panic(err)
		}
		registerFile(r, "/"+strings.TrimSuffix(name, "index.html"), pageFile(name, content))
	}
	registerFile(r, "/app.go", pageFile("app.go", appSource))
	registerFile(r, "/client.js", pageFile("client.js", []byte(client.Script)))
	r.GET("/settings", func(c *gin.Context) {
		c.Header("Cache-Control", "no-store")
		c.JSON(http.StatusOK, gin.H{
			"mode":        s.mode,
			"cookies":     s.cookies,
			"bind":        s.bind,
			"sessions":    s.sessions,
			"ttl":         s.ttl.Seconds(),
			"refresh_ttl": s.refreshTTL.Seconds(),
			"grace":       max(0, s.grace.Seconds()),
		})
	})
}

func registerFile(r *gin.Engine, route string, file gin.HandlerFunc) {
	r.GET(route, file)
	r.HEAD(route, file)
}

func pageFile(name string, content []byte) gin.HandlerFunc {
	sum := sha256.Sum256(content)
	headers := map[string]string{
		"Content-Type":                 contentTypes[path.Ext(name)],
		"Content-Security-Policy":      contentSecurityPolicy,
		"X-Content-Type-Options":       "nosniff",
		"Referrer-Policy":              "no-referrer",
		"Cross-Origin-Opener-Policy":   "same-origin",
		"Cross-Origin-Resource-Policy": "same-origin",
		"Cache-Control":                "no-cache", // revalidate; the answer is usually 304
		"ETag":                         `"` + hex.EncodeToString(sum[:8]) + `"`,
	}
	return func(c *gin.Context) {
		for key, value := range headers {
			c.Header(key, value)
		}
		http.ServeContent(c.Writer, c.Request, name, time.Time{}, bytes.NewReader(content))
	}
}

// bound tells the page whether its session is bound to a key, because scripts cannot read the refresh token in an HttpOnly
// cookie. The signature is not checked: the answer goes only to the client that sent the cookie, and decides nothing.
func bound(c *gin.Context) {
	var claims struct {
		Key json.RawMessage `json:"cnf"`
	}
	for _, name := range []string{"__Host-refresh_token", "refresh_token"} {
		text, _ := c.Cookie(name)
		if parts := strings.Split(text, "."); len(parts) == 3 {
			payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
			_ = json.Unmarshal(payload, &claims) // a token that cannot be decoded is not bound
		}
	}
	c.Header("Cache-Control", "no-store")
	c.JSON(http.StatusOK, gin.H{"bound": claims.Key != nil})
}
