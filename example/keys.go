package main

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// signingKey returns the key that the settings name. Without one it generates a key, which is enough to try the example:
// a restart makes every token invalid.
func signingKey(s settings, log *slog.Logger) (middleware.Key, error) {
	alg := middleware.Algorithm(s.alg)
	if strings.HasPrefix(s.alg, "HS") {
		return secretKey(alg, s, log)
	}
	if s.key != "" {
		data, err := os.ReadFile(s.key)
		if err != nil {
			return middleware.Key{}, fmt.Errorf("example: -key: %w", err)
		}
		key, err := middleware.ParsePEM(data)
		if err != nil {
			return middleware.Key{}, fmt.Errorf("example: -key %s: %w", s.key, err)
		}
		return middleware.Key{Algorithm: alg, Key: key}, nil
	}
	key, err := generate(alg)
	if err != nil {
		return middleware.Key{}, err
	}
	log.Warn("-key is not set: signing with a random key, so a restart makes all tokens invalid")
	return middleware.Key{Algorithm: alg, Key: key}, nil
}

func secretKey(alg middleware.Algorithm, s settings, log *slog.Logger) (middleware.Key, error) {
	if s.key != "" {
		return middleware.Key{}, fmt.Errorf("example: -key is not supported with %s: set the environment variable JWT_SECRET instead", alg)
	}
	secret := []byte(s.secret)
	if len(secret) == 0 {
		secret = make([]byte, 64)
		_, _ = rand.Read(secret) // never fails
		log.Warn("JWT_SECRET is not set: signing with a random key, so a restart makes all tokens invalid")
	}
	return middleware.Key{Algorithm: alg, Key: secret}, nil
}

func generate(alg middleware.Algorithm) (any, error) {
	switch alg {
	case middleware.RS256, middleware.RS384, middleware.RS512, middleware.PS256, middleware.PS384, middleware.PS512:
		return rsa.GenerateKey(rand.Reader, 3072) // 128 bits of security
	case middleware.ES256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case middleware.ES384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case middleware.ES512:
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case middleware.EdDSA:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	return nil, fmt.Errorf("example: -alg %s is not supported", strconv.Quote(string(alg)))
}
