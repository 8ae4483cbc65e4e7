package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/golang-jwt/jwt/v5"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// The benchmarks use a shared secret and the three kinds of key pairs.
var algorithms = []middleware.Algorithm{middleware.HS256, middleware.RS256, middleware.ES256, middleware.EdDSA}

// key is the key that all contestants use.
type key struct {
	algorithm          middleware.Algorithm
	signing, verifying any
}

func newKey(algorithm middleware.Algorithm) key {
	var pair crypto.Signer
	switch algorithm {
	case middleware.HS256:
		secret := []byte(rand.Text() + rand.Text())
		return key{algorithm, secret, secret}
	case middleware.RS256:
		pair = must(rsa.GenerateKey(rand.Reader, 2048))
	case middleware.ES256:
		pair = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	case middleware.EdDSA:
		_, private, err := ed25519.GenerateKey(rand.Reader)
		pair = must(private, err)
	}
	return key{algorithm, pair, pair.Public()}
}

// must panics on an error that the inputs of the benchmarks cannot cause.
func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

const (
	subject = "user 4711"

	// auth0's middleware requires an issuer and an audience.
	auth0Issuer   = "https://issuer.example/"
	auth0Audience = "bench"
)

// ownClaims are the application's claims. gin-jwt passes its identity to the handler as well.
type ownClaims struct {
	Identity string `json:"identity"`
}

func identity(subject string) middleware.Identity {
	return middleware.Identity{Subject: subject, Claims: ownClaims{Identity: subject}}
}

// newAuth returns an Auth with the default configuration, changed by the options.
func newAuth(k key, store middleware.Store, options ...func(*middleware.Config)) *middleware.Auth {
	config := middleware.Config{
		Keys:         []middleware.Key{{Algorithm: k.algorithm, Key: k.signing}},
		Store:        store,
		Authenticate: func(*gin.Context) (middleware.Identity, error) { return identity(subject), nil },
	}
	for _, option := range options {
		option(&config)
	}
	return must(middleware.New(config))
}

func withoutCache(c *middleware.Config) { c.TokenCache = -1 }

// issue logs n subjects in and returns their tokens.
func issue(auth *middleware.Auth, n int) []string {
	return many(n, func(i int) string {
		return must(auth.Issue(context.Background(), identity(fmt.Sprintf("user %d", i)))).AccessToken
	})
}

func many(n int, token func(i int) string) []string {
	tokens := make([]string, n)
	for i := range tokens {
		tokens[i] = token(i)
	}
	return tokens
}

// refreshHalf replaces every other token by its successor, so the blacklist has a record of half of the sessions.
func refreshHalf(auth *middleware.Auth, tokens []string) []string {
	for i := 0; i < len(tokens); i += 2 {
		tokens[i] = must(auth.Refresh(context.Background(), tokens[i])).AccessToken
	}
	return tokens
}

// revoked returns the tokens of n sessions that were logged out.
func revoked(auth *middleware.Auth, n int) []string {
	tokens := issue(auth, n)
	for _, token := range tokens {
		if err := auth.Logout(context.Background(), token); err != nil {
			panic(err)
		}
	}
	return tokens
}

// expired returns n tokens that were valid until a minute ago.
func expired(k key, n int) []string {
	expires := time.Now().Add(-time.Minute)
	issued := expires.Add(-middleware.DefaultTTL)
	return many(n, func(i int) string {
		birth := strconv.FormatInt(issued.UnixMicro(), 36)
		session, user := fmt.Sprintf("%s-%022d", birth, i), fmt.Sprintf("user %d", i)
		return k.sign(jwt.MapClaims{
			"sub": user, "iat": issued.Unix(), "exp": expires.Unix(), "sid": session, "jti": session + "." + birth,
			"auth_time": issued.Unix(), "refresh_exp": issued.Add(middleware.DefaultRefreshTTL).Unix(), "identity": user,
		})
	})
}

// forged gives each token the signature of another one.
func forged(tokens []string) []string {
	return many(len(tokens), func(i int) string {
		other := tokens[(i+1)%len(tokens)]
		return unsigned(tokens[i]) + other[strings.LastIndexByte(other, '.'):]
	})
}

func unsigned(token string) string { return token[:strings.LastIndexByte(token, '.')] }

// malformed cuts the signatures off.
func malformed(tokens []string) []string {
	return many(len(tokens), func(i int) string { return unsigned(tokens[i]) })
}

// ginJWTTokens returns tokens with the claims that gin-jwt issues, which are fewer.
func ginJWTTokens(k key, n int) []string {
	return many(n, func(i int) string {
		now := time.Now()
		return k.sign(jwt.MapClaims{"identity": fmt.Sprintf("user %d", i), "exp": now.Add(time.Hour).Unix(), "orig_iat": now.Unix()})
	})
}

// auth0Tokens returns the tokens of ginrefresh with an issuer and an audience.
func auth0Tokens(k key, n int) []string {
	return issue(newAuth(k, emptyStore{}, func(c *middleware.Config) { c.Issuer, c.Audience = auth0Issuer, auth0Audience }), n)
}

// emptyStore accepts every record and keeps none.
type emptyStore struct{}

func (emptyStore) Get(_ context.Context, keys ...string) ([]string, time.Time, error) {
	return make([]string, len(keys)), time.UnixMicro(0), nil
}

func (emptyStore) CompareAndSwap(context.Context, string, string, string, time.Time) (bool, error) {
	return true, nil
}

func (k key) sign(claims jwt.MapClaims) string {
	return must(jwt.NewWithClaims(jwt.GetSigningMethod(string(k.algorithm)), claims).SignedString(k.signing))
}

const scheme = "Bearer "

// bearer returns the Authorization headers that carry the tokens.
func bearer(tokens []string) []string {
	return many(len(tokens), func(i int) string { return scheme + tokens[i] })
}
