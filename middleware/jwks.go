package middleware

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/MicahParks/jwkset"
	"github.com/gin-gonic/gin"
)

// JWKSHandler publishes the public keys as a JWK Set (RFC 7517 §5), so that other services can verify the
// tokens. A secret is never in it. Mount it as GET /.well-known/jwks.json; clients may keep the answer for
// five minutes, so let a new key verify for that long before it signs.
func (a *Auth) JWKSHandler(c *gin.Context) {
	c.Header("Cache-Control", "public, max-age=300")
	c.Data(http.StatusOK, "application/jwk-set+json", a.verifier.Load().keys.jwks)
}

func encodeJWKS(keys []json.RawMessage) []byte {
	set, _ := json.Marshal(map[string]any{"keys": keys}) // JSON made of JSON
	return set
}

// publish writes the public key as a JWK and gives it the ID that it lacks.
func (k *key) publish(algorithm Algorithm) error {
	if _, secret := k.opening.([]byte); secret {
		return nil
	}
	jwk, err := jwkset.NewJWKFromKey(k.opening, jwkset.JWKOptions{
		Metadata: jwkset.JWKMetadataOptions{ALG: jwkset.ALG(algorithm), KID: k.id, USE: jwkset.UseSig},
	})
	if err != nil {
		return fmt.Errorf("the public key cannot be written as a JWK: %w", err)
	}
	public := jwk.Marshal()
	if k.id == "" {
		k.id = thumbprint(public)
		public.KID = k.id
	}
	k.jwk, err = json.Marshal(public)
	return err
}

// thumbprint is the SHA-256 of the members that make the key, in alphabetical order and nothing between
// them (RFC 7638 §3). They are base64url or registered names, so they need no escapes.
func thumbprint(k jwkset.JWKMarshal) string {
	var members string
	switch k.KTY {
	case jwkset.KtyRSA:
		members = `{"e":"` + k.E + `","kty":"RSA","n":"` + k.N + `"}`
	case jwkset.KtyEC:
		members = `{"crv":"` + string(k.CRV) + `","kty":"EC","x":"` + k.X + `","y":"` + k.Y + `"}`
	case jwkset.KtyOKP:
		members = `{"crv":"` + string(k.CRV) + `","kty":"OKP","x":"` + k.X + `"}`
	}
	sum := sha256.Sum256([]byte(members))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
