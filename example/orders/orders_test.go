package orders

import (
	"crypto/rand"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
)

// routes is the application under test. It takes the Auth as a parameter.
func routes(auth *middleware.Auth) http.Handler {
	r := gin.New()
	r.GET("/orders", auth.Required(), func(c *gin.Context) {
		c.String(http.StatusOK, "orders of %s", middleware.MustClaims(c).Subject)
	})
	r.DELETE("/orders/:id", auth.Allow(isAdmin), func(c *gin.Context) { c.Status(http.StatusNoContent) })
	return r
}

func isAdmin(_ *gin.Context, claims middleware.Claims) bool {
	var mine struct{ Role string }
	return claims.Decode(&mine) == nil && mine.Role == "admin"
}

// newAuth returns an Auth for one test, with a key and a blacklist of its own.
func newAuth(t *testing.T) *middleware.Auth {
	t.Helper()
	blacklist := store.NewMemory()
	t.Cleanup(func() { _ = blacklist.Close() })
	auth, err := middleware.New(middleware.Config{
		Keys:  []middleware.Key{{Algorithm: middleware.HS256, Key: []byte(rand.Text() + rand.Text())}},
		Store: blacklist,
	})
	if err != nil {
		t.Fatal(err)
	}
	return auth
}

// login returns a token, without a password.
func login(t *testing.T, auth *middleware.Auth, id middleware.Identity) string {
	t.Helper()
	tokens, err := auth.Issue(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return tokens.AccessToken
}

func send(t *testing.T, app http.Handler, method, path, token string) *httptest.ResponseRecorder {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response := httptest.NewRecorder()
	app.ServeHTTP(response, request)
	return response
}

func TestRoles(t *testing.T) {
	auth := newAuth(t)
	app := routes(auth)
	ann := login(t, auth, middleware.Identity{Subject: "ann"})
	boss := login(t, auth, middleware.Identity{Subject: "boss", Claims: gin.H{"role": "admin"}})
	for _, test := range []struct {
		method, path, token string
		status              int
	}{
		{"GET", "/orders", "", http.StatusUnauthorized},
		{"GET", "/orders", "forged", http.StatusUnauthorized},
		{"GET", "/orders", ann, http.StatusOK},
		{"DELETE", "/orders/7", ann, http.StatusForbidden},
		{"DELETE", "/orders/7", boss, http.StatusNoContent},
	} {
		if got := send(t, app, test.method, test.path, test.token); got.Code != test.status {
			t.Errorf("%s %s: got %d %s, want %d", test.method, test.path, got.Code, got.Body, test.status)
		}
	}
}

// In a bubble an hour takes no time.
func TestExpiryAndLogout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auth := newAuth(t) // inside the bubble, like everything that looks at the clock
		app := routes(auth)
		token := login(t, auth, middleware.Identity{Subject: "ann"})
		time.Sleep(time.Hour - time.Second)
		if got := send(t, app, "GET", "/orders", token); got.Body.String() != "orders of ann" {
			t.Errorf("after 59 minutes: got %d %s", got.Code, got.Body)
		}
		time.Sleep(time.Second)
		if got := send(t, app, "GET", "/orders", token); got.Code != http.StatusUnauthorized {
			t.Errorf("after an hour: got %d %s", got.Code, got.Body)
		}
		next, err := auth.Refresh(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		if err := auth.Logout(t.Context(), next.AccessToken); err != nil {
			t.Fatal(err)
		}
		if got := send(t, app, "GET", "/orders", next.AccessToken); got.Code != http.StatusUnauthorized {
			t.Errorf("after a logout: got %d %s", got.Code, got.Body)
		}
	})
}
