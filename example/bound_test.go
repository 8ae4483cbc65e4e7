package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"testing"
)

// TestBound binds a session over TLS, like a browser with DBSC.
func TestBound(t *testing.T) {
	t.Parallel()
	s := start(t, "-tls", "-cookies", "-mode", "pair", "-bind", "offered")
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	s.client.Jar = jar
	s.client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{
		InsecureSkipVerify:    true, // the next function verifies the certificate as Chromium does
		VerifyPeerCertificate: s.hasPrintedKey,
	}
	s.is(s.get("/settings", ""), http.StatusOK, `"bind":"offered"`)
	response, err := s.client.Post(s.url+"/login", "application/json", strings.NewReader(`{"username":"alice","password":"alice"}`))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	_, challenge, found := strings.Cut(response.Header.Get("Secure-Session-Registration"), `;path="/session/bind";challenge="`)
	if !found {
		t.Fatalf("the login is answered %s %v", response.Status, response.Header)
	}
	s.is(s.get("/bound", ""), http.StatusOK, `{"bound":false}`)
	r, _ := http.NewRequest(http.MethodPost, s.url+"/session/bind", nil)
	r.Header.Set("Secure-Session-Response", registration(t, strings.TrimSuffix(challenge, `"`)))
	if response, err = s.client.Do(r); err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("the registration is answered %s", response.Status)
	}
	s.is(s.get("/bound", ""), http.StatusOK, `{"bound":true}`)
	s.is(s.get("/protected", ""), http.StatusOK, "Hello, alice!")
}

// hasPrintedKey checks that the key of the certificate is the one whose hash the example has printed.
func (s server) hasPrintedKey(certificates [][]byte, _ [][]*x509.Certificate) error {
	certificate, err := x509.ParseCertificate(certificates[0])
	if err != nil {
		return err
	}
	hash := sha256.Sum256(certificate.RawSubjectPublicKeyInfo)
	if !strings.Contains(s.printed, "--ignore-certificate-errors-spki-list="+base64.StdEncoding.EncodeToString(hash[:])+"\n") {
		return errors.New("the key is not the one that was printed: " + s.printed)
	}
	return certificate.VerifyHostname("localhost")
}

// registration returns the proof of a browser that binds its session to a new key.
func registration(t *testing.T, challenge string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	segment := func(object any) string {
		text, err := json.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		return encode(text)
	}
	jwk := map[string]string{"kty": "EC", "crv": "P-256", "x": encode(point[1:33]), "y": encode(point[33:])}
	text := segment(map[string]any{"typ": "dbsc+jwt", "alg": "ES256", "jwk": jwk}) + "." + segment(map[string]string{"jti": challenge})
	hash := sha256.Sum256([]byte(text))
	a, b, err := ecdsa.Sign(rand.Reader, key, hash[:])
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + encode(append(a.FillBytes(make([]byte, 32)), b.FillBytes(make([]byte, 32))...))
}
