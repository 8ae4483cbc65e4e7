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

// signingKey is the key of the flags. One made at start is good for trying things out: tokens signed with it
// end with this process.
func signingKey(alg middleware.Algorithm, file string, log *slog.Logger) (middleware.Key, error) {
	if strings.HasPrefix(string(alg), "HS") {
		return secretKey(alg, file, log)
	}
	if file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return middleware.Key{}, fmt.Errorf("example: -key: %w", err)
		}
		key, err := middleware.ParsePEM(data)
		if err != nil {
			return middleware.Key{}, fmt.Errorf("example: -key %s: %w", file, err)
		}
		return middleware.Key{Algorithm: alg, Key: key}, nil
	}
	key, err := generate(alg)
	if err != nil {
		return middleware.Key{}, err
	}
	log.Warn("no -key is given: signing with a random key, so tokens end with this process")
	return middleware.Key{Algorithm: alg, Key: key}, nil
}

// secretKey takes the secret from the environment, so that it is in no command line and in no repository.
func secretKey(alg middleware.Algorithm, file string, log *slog.Logger) (middleware.Key, error) {
	if file != "" {
		return middleware.Key{}, fmt.Errorf("example: -key does not go with %s: put the secret into JWT_SECRET", alg)
	}
	secret := []byte(os.Getenv("JWT_SECRET"))
	if len(secret) == 0 {
		secret = make([]byte, 64)
		_, _ = rand.Read(secret) // never fails
		log.Warn("JWT_SECRET is not set: signing with a random key, so tokens end with this process")
	}
	return middleware.Key{Algorithm: alg, Key: secret}, nil
}

func generate(alg middleware.Algorithm) (any, error) {
	switch alg {
	case middleware.RS256, middleware.RS384, middleware.RS512, middleware.PS256, middleware.PS384, middleware.PS512:
		return rsa.GenerateKey(rand.Reader, 2048)
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
