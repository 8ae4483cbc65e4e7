package main

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// newOrders returns a service that only verifies tokens. It fetches the public keys from the auth service, and asks the
// blacklist that both share, so a logout takes effect at once.
func newOrders(blacklist middleware.Store, keys *middleware.JWKS) (http.Handler, error) {
	auth, err := middleware.New(middleware.Config{
		KeysFrom: keys,
		Store:    blacklist,
		Pair:     true,
		Issuer:   issuer,
		Audience: audience,
	})
	if err != nil {
		return nil, err
	}
	r := gin.New()
	r.Use(gin.Recovery())
	if err := r.SetTrustedProxies([]string{"127.0.0.1"}); err != nil {
		return nil, err
	}
	r.GET("/orders", auth.Required(), func(c *gin.Context) {
		c.JSON(http.StatusOK, gin.H{"orders_of": middleware.MustClaims(c).Subject, "client": c.ClientIP()})
	})
	return r, nil
}
