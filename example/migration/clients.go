package main

import (
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// The functions in this file let clients of the old server go on as they are. docs/coming-from.md shows how to mount them.

// oldAnswer answers a login or refresh as gin-jwt 2 does: Config.OnTokens.
func oldAnswer(c *gin.Context, tokens middleware.Tokens) {
	c.JSON(http.StatusOK, gin.H{
		"code":   http.StatusOK,
		"token":  tokens.AccessToken,
		"expire": tokens.ExpiresAt.Format(time.RFC3339),
	})
}

// queryToken comes before RefreshHandler and LogoutHandler, which do not read the token from the URL.
func queryToken(c *gin.Context) {
	if token := c.Query("token"); token != "" && c.GetHeader("Authorization") == "" {
		c.Request.Header.Set("Authorization", "Bearer "+token)
	}
}

// refreshByGet is RefreshHandler for clients that refresh with GET.
func refreshByGet(auth *middleware.Auth) gin.HandlerFunc {
	return func(c *gin.Context) {
		if c.GetHeader("Sec-Purpose") != "" { // a prefetched link must not replace the token
			c.AbortWithStatus(http.StatusForbidden)
			return
		}
		c.Request.Method = http.MethodPost // a GET is exempt from the check of the origin
		auth.RefreshHandler(c)
	}
}

// newKeeping returns an Auth for clients that keep one refresh token: it is the access token as well, and lives as long. The keys and
// the blacklist are those of the Auth for all other clients, whose guards accept these tokens. Its RefreshTTL must not be shorter
// than ttl, or RevokeSubject would be forgotten too early.
func newKeeping(keys []middleware.Key, blacklist middleware.Store, ttl time.Duration) (*middleware.Auth, error) {
	return middleware.New(middleware.Config{
		Keys:         keys,
		Store:        blacklist,
		Authenticate: authenticate,
		TTL:          ttl,
		RefreshTTL:   ttl + time.Second, // there is no route that refreshes
		OnTokens: func(c *gin.Context, tokens middleware.Tokens) {
			c.JSON(http.StatusOK, gin.H{"access_token": tokens.AccessToken, "refresh_token": tokens.AccessToken})
		},
	})
}

// keptToken comes after Required and answers a refresh with the same token.
func keptToken(auth *middleware.Auth) gin.HandlerFunc {
	return func(c *gin.Context) {
		c.Header("Cache-Control", "no-store")
		c.JSON(http.StatusOK, gin.H{"access_token": auth.PresentedToken(c)})
	}
}
