package main

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
)

// The page at GET / is static: what it shows it learns from the API, by page/client.js, like any other client.
//
//go:embed page
var pageFiles embed.FS

// pageSettings are the flags that the page draws its bars by.
type pageSettings struct {
	mode                   string
	cookies                bool
	ttl, refreshTTL, grace time.Duration // grace 0: none
}

// contentTypes has every kind of file in page/. The system's own table (package mime) differs between systems.
var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// contentSecurityPolicy lets the page load its own files and call its own server, and nothing else: a script
// that somebody got into the page neither runs nor has anywhere to send a token.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// registerPage serves the page at GET /, each of its files under its own name, and GET /settings.
func registerPage(r *gin.Engine, s pageSettings) {
	files, err := fs.Sub(pageFiles, "page")
	if err != nil {
		panic(err) // the folder is compiled in
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
		route := "/" + strings.TrimSuffix(name, "index.html")
		file := pageFile(name, content)
		r.GET(route, file)
		r.HEAD(route, file)
	}
	r.GET("/settings", func(c *gin.Context) {
		c.Header("Cache-Control", "no-store")
		c.JSON(http.StatusOK, gin.H{
			"mode":        s.mode,
			"cookies":     s.cookies,
			"ttl":         s.ttl.Seconds(),
			"refresh_ttl": s.refreshTTL.Seconds(),
			"grace":       max(0, s.grace.Seconds()),
		})
	})
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
		"Cache-Control":                "no-cache", // ask again, and hear 304
		"ETag":                         `"` + hex.EncodeToString(sum[:8]) + `"`,
	}
	return func(c *gin.Context) {
		for key, value := range headers {
			c.Header(key, value)
		}
		http.ServeContent(c.Writer, c.Request, name, time.Time{}, bytes.NewReader(content))
	}
}
