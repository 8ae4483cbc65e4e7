package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/golang-jwt/jwt/v5"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
)

// clientKey signs proofs (RFC 9449).
type clientKey struct{ private *ecdsa.PrivateKey }

func newClientKey() clientKey {
	return clientKey{must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))}
}

func (k clientKey) proof(method, url, nonce string) string {
	point := must(k.private.PublicKey.Bytes())
	token := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
		"jti": rand.Text(), "htm": method, "htu": url, "iat": time.Now().Unix(), "nonce": nonce,
	})
	token.Header["typ"] = "dpop+jwt"
	token.Header["jwk"] = map[string]string{
		"kty": "EC", "crv": "P-256",
		"x": base64.RawURLEncoding.EncodeToString(point[1:33]), "y": base64.RawURLEncoding.EncodeToString(point[33:]),
	}
	return must(token.SignedString(k.private))
}

// BenchmarkBoundRequest compares a warm guard with one that also verifies the signature of a proof on every request, as it
// would have to if access tokens were bound. That is the least: reading the proof's JSON, comparing its members with the
// request and remembering its jti come on top.
func BenchmarkBoundRequest(b *testing.B) {
	key := newClientKey()
	var proofs []string
	for range 1000 {
		proofs = append(proofs, key.proof(http.MethodGet, "https://api.example.org"+path, ""))
	}
	next := 0
	verify := func(c *gin.Context) {
		proof := proofs[next%len(proofs)]
		next++
		i := strings.LastIndexByte(proof, '.')
		signature, err := base64.RawURLEncoding.DecodeString(proof[i+1:])
		if err != nil || jwt.SigningMethodES256.Verify(proof[:i], signature, &key.private.PublicKey) != nil {
			c.AbortWithStatus(http.StatusUnauthorized)
		}
	}
	f := newFixture(middleware.HS256, store.NewMemory(), sizes{warm: 1000})
	run := func(name string, guards ...gin.HandlerFunc) {
		s := scenario{name: name, status: http.StatusOK, requests: f.warm, handler: func(testing.TB) any { return guarded(guards...) }}
		b.Run(name, s.benchmark)
	}
	run("bearer", newAuth(f.key, f.store).Required())
	run("with-a-proof", verify, newAuth(f.key, f.store).Required())
}

// BenchmarkBoundRefresh refreshes sessions with and without a key, each once. Use -benchtime with a number of refreshes,
// because their proofs are signed first.
func BenchmarkBoundRefresh(b *testing.B) {
	const url = "https://api.example.org/refresh"
	for _, bound := range []bool{false, true} {
		name := "bearer"
		if bound {
			name = "with-a-proof"
		}
		b.Run(name, func(b *testing.B) {
			memory := store.NewMemory()
			defer memory.Close()
			auth := newAuth(newKey(middleware.HS256), memory, func(c *middleware.Config) { c.Pair, c.Bind = true, middleware.BindOffered })
			key, ctx := newClientKey(), context.Background()
			proof := func(nonce string) (proofs []middleware.Proof) {
				if bound {
					proofs = append(proofs, middleware.Proof{DPoP: key.proof(http.MethodPost, url, nonce), Method: http.MethodPost, URL: url})
				}
				return proofs
			}
			var tokens []middleware.Tokens
			var proofs [][]middleware.Proof
			for i := range b.N {
				tokens = append(tokens, must(auth.Issue(ctx, identity(subject), proof("")...)))
				proofs = append(proofs, proof(tokens[i].ProofChallenge))
			}
			b.ResetTimer()
			before := cpuTime()
			for i := range b.N {
				if _, err := auth.Refresh(ctx, tokens[i].RefreshToken, proofs[i]...); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((cpuTime()-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
		})
	}
}
