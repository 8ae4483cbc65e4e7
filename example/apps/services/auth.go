package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/gin-gonic/gin"
	"golang.org/x/crypto/bcrypt"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// The issuer and the audience are in every token. A service accepts only tokens with both, so a token of another system,
// or of the same one in staging, is not valid here.
const (
	issuer   = "https://auth.example.org"
	audience = "orders"
)

// loadKeys reads all *.pem files, ordered by name.
func loadKeys(dir string) (keys []middleware.Key, err error) {
	if dir == "" {
		log.Print("-keys is not set: signing with a random key, so a restart ends all sessions")
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return []middleware.Key{{Algorithm: middleware.EdDSA, Key: key}}, err
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.pem"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		key, err := middleware.ParsePEM(pem)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		keys = append(keys, middleware.Key{Algorithm: middleware.EdDSA, Key: key}) // its thumbprint is the kid
	}
	return keys, nil
}

// reloadKeys rotates keys without a restart. A new key must verify everywhere before it signs, so add it as the last file, wait
// ten minutes for the services to fetch it, and then rename it to be the first. Remove the old one after RefreshTTL.
func reloadKeys(auth *middleware.Auth, dir string) error {
	keys, err := loadKeys(dir)
	if err != nil {
		return err
	}
	return auth.SetKeys(keys)
}

// newAuth returns the issuer of the tokens: it has the private key and knows the passwords.
func newAuth(blacklist middleware.Store, keys []middleware.Key) (*middleware.Auth, error) {
	return middleware.New(middleware.Config{
		Keys:         keys,
		Store:        blacklist,
		Pair:         true,
		TTL:          10 * time.Minute,
		Issuer:       issuer,
		Audience:     audience,
		Authenticate: authenticate,
		OnEvent: func(_ context.Context, e middleware.Event) {
			log.Printf("auth: %s %s subject=%q client=%s", e.Kind, e.Code, e.Subject, e.ClientIP)
		},
	})
}

func authRoutes(auth *middleware.Auth) http.Handler {
	r := gin.New()
	r.Use(gin.Recovery())
	// Only the proxy tells the client's address. Anyone else could invent one for each guess of a password.
	if err := r.SetTrustedProxies([]string{"127.0.0.1"}); err != nil {
		panic(err) // a mistake in the list
	}
	r.POST("/auth/login", auth.LoginHandler)
	r.POST("/auth/refresh", auth.RefreshHandler)
	r.POST("/auth/logout", auth.LogoutHandler)
	r.GET("/.well-known/jwks.json", auth.JWKSHandler)
	return r
}

// users has the password hashes, in place of a database. unknown is compared with if there is no such user, so that the time
// does not tell which users exist.
var (
	users   = map[string][]byte{"ann": hash("open sesame")}
	unknown = hash(rand.Text())
)

func hash(password string) []byte {
	h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost)
	if err != nil {
		panic(err) // only for a password longer than 72 bytes
	}
	return h
}

func authenticate(c *gin.Context) (middleware.Identity, error) {
	user := c.PostForm("user")
	hash, known := users[user]
	if !known {
		hash = unknown
	}
	if bcrypt.CompareHashAndPassword(hash, []byte(c.PostForm("password"))) != nil || !known {
		return middleware.Identity{}, middleware.ErrRefused
	}
	return middleware.Identity{Subject: user}, nil
}
