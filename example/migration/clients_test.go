package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
)

// configured returns an Auth with a store of its own.
func configured(t *testing.T, config middleware.Config) *middleware.Auth {
	t.Helper()
	blacklist := store.NewMemory()
	t.Cleanup(func() { _ = blacklist.Close() })
	config.Keys = []middleware.Key{{Algorithm: middleware.HS256, Key: []byte(newSecret)}}
	config.Store = blacklist
	auth, err := middleware.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return auth
}

// request sends a request with headers, given as name, value, name, value.
func request(t *testing.T, r http.Handler, method, target string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	sent := httptest.NewRequestWithContext(t.Context(), method, target, nil)
	for i := 0; i < len(headers); i += 2 {
		sent.Header.Set(headers[i], headers[i+1])
	}
	answer := httptest.NewRecorder()
	r.ServeHTTP(answer, sent)
	return answer
}

func issue(t *testing.T, auth *middleware.Auth) middleware.Tokens {
	t.Helper()
	tokens, err := auth.Issue(t.Context(), middleware.Identity{Subject: "admin"})
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

func TestOldAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // the clock starts in 2000
		auth := configured(t, middleware.Config{OnTokens: oldAnswer})
		r := gin.New()
		r.POST("/refresh", auth.RefreshHandler)
		tokens := issue(t, auth)
		answer := request(t, r, "POST", "/refresh", "Authorization", "Bearer "+tokens.AccessToken)
		var body struct {
			Code          int
			Token, Expire string
		}
		if err := json.Unmarshal(answer.Body.Bytes(), &body); err != nil {
			t.Fatalf("got %s: %v", answer.Body, err)
		}
		if _, err := auth.Verify(t.Context(), body.Token); err != nil || body.Code != 200 {
			t.Errorf("got %s: %v", answer.Body, err)
		}
		if expire, err := time.Parse(time.RFC3339, body.Expire); err != nil || !expire.Equal(time.Now().Add(time.Hour)) {
			t.Errorf("got %s at %v", answer.Body, time.Now())
		}
	})
}

// Refresh and logout do not read ?token=, unless queryToken comes first.
func TestQueryToken(t *testing.T) {
	t.Parallel()
	auth := configured(t, middleware.Config{Sources: []middleware.Source{middleware.FromHeader("Authorization", "Bearer"), middleware.FromQuery("token")}})
	r := gin.New()
	r.GET("/me", auth.Required(), func(c *gin.Context) {})
	r.POST("/plain", auth.LogoutHandler)
	r.POST("/refresh", queryToken, auth.RefreshHandler)
	r.POST("/logout", queryToken, auth.LogoutHandler)
	token := "?token=" + issue(t, auth).AccessToken
	for _, step := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/me", 200}, {"POST", "/plain", 401}, {"GET", "/me", 200}, {"POST", "/refresh", 200}, {"POST", "/logout", 204}, {"GET", "/me", 401},
	} {
		if answer := request(t, r, step.method, step.path+token); answer.Code != step.status {
			t.Errorf("%s: got %d %s, want %d", step.path, answer.Code, answer.Body, step.status)
		}
	}
	if answer := request(t, r, "POST", "/refresh?token=a", "Authorization", "Bearer "+issue(t, auth).AccessToken); answer.Code != http.StatusOK {
		t.Errorf("the header does not come first: %d %s", answer.Code, answer.Body)
	}
}

// A GET that is mounted as it is lets another site refresh the session of a cookie.
func TestRefreshByGet(t *testing.T) {
	t.Parallel()
	auth := configured(t, middleware.Config{Cookie: &middleware.Cookie{}})
	r := gin.New()
	r.GET("/plain", auth.RefreshHandler)
	r.GET("/refresh_token", refreshByGet(auth))
	server := httptest.NewTLSServer(r)
	t.Cleanup(server.Close)
	cookie := "__Host-access_token=" + issue(t, auth).AccessToken
	for _, test := range []struct {
		path    string
		headers map[string]string
		status  int
	}{
		{"/plain", map[string]string{"Sec-Fetch-Site": "cross-site"}, 200}, // which is why it must not be mounted so
		{"/refresh_token", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		{"/refresh_token", map[string]string{"Sec-Fetch-Site": "same-site"}, 403},
		{"/refresh_token", map[string]string{"Origin": "https://evil.example"}, 403},
		{"/refresh_token", map[string]string{"Sec-Fetch-Site": "same-origin", "Sec-Purpose": "prefetch"}, 403},
		{"/refresh_token", map[string]string{"Sec-Fetch-Site": "same-origin"}, 200},
		{"/refresh_token", nil, 200}, // not a browser
	} {
		sent, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+test.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		sent.Header.Set("Cookie", cookie)
		for name, value := range test.headers {
			sent.Header.Set(name, value)
		}
		answer, err := server.Client().Do(sent)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != test.status || answer.Header.Get("Cache-Control") != "no-store" && test.status == 200 {
			t.Errorf("%s %v: got %s %v, want %d", test.path, test.headers, answer.Status, answer.Header, test.status)
		}
	}
}

// In pair mode a client that keeps its first refresh token is logged out by its second refresh, whatever the settings.
func TestKeptRefreshTokenInPairMode(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]middleware.Config{
		"the defaults":          {Pair: true},
		"the longest Grace":     {Pair: true, Grace: 5 * time.Minute},
		"KeepSessionOnReuse":    {Pair: true, KeepSessionOnReuse: true},
		"a TTL of five minutes": {Pair: true, TTL: 5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				auth := configured(t, config)
				tokens := issue(t, auth)
				ttl := time.Until(tokens.ExpiresAt)
				time.Sleep(ttl)
				if _, err := auth.Refresh(t.Context(), tokens.RefreshToken); err != nil {
					t.Error(err)
				}
				time.Sleep(ttl + time.Second)
				if _, err := auth.Refresh(t.Context(), tokens.RefreshToken); err == nil || !strings.Contains(err.Error(), "token_reused") {
					t.Errorf("the second refresh with the same token: got %v, want token_reused", err)
				}
			})
		})
	}
}

// Under AutoRefresh a client that keeps its first token, and does not read the next one from the header, is logged out as well.
func TestKeptTokenUnderAutoRefresh(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		auth := configured(t, middleware.Config{})
		r := gin.New()
		r.GET("/me", auth.AutoRefresh(0), func(c *gin.Context) {})
		token := "Bearer " + issue(t, auth).AccessToken
		for _, want := range []int{http.StatusOK, http.StatusOK, http.StatusUnauthorized} {
			if answer := request(t, r, "GET", "/me", "Authorization", token); answer.Code != want {
				t.Errorf("got %d %s, want %d", answer.Code, answer.Body, want)
			}
			time.Sleep(time.Hour)
		}
	})
}

// Clients that keep one refresh token go on with an Auth of their own.
func TestKeptRefreshToken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const lifetime = 5 * 24 * time.Hour // longer ones would only let the store sweep more often
		blacklist := store.NewMemory()
		defer blacklist.Close()
		keys := []middleware.Key{{Algorithm: middleware.HS256, Key: []byte(newSecret)}}
		auth, err := middleware.New(middleware.Config{Keys: keys, Store: blacklist, Pair: true, TTL: 15 * time.Minute, RefreshTTL: lifetime})
		if err != nil {
			t.Fatal(err)
		}
		keeping, err := newKeeping(keys, blacklist, lifetime)
		if err != nil {
			t.Fatal(err)
		}
		r := gin.New()
		r.POST("/login", keeping.LoginHandler)
		r.POST("/refresh", keeping.Required(), keptToken(keeping))
		r.POST("/logout", auth.LogoutHandler)
		r.GET("/me", auth.Required(), func(c *gin.Context) {})
		r.POST("/v2/refresh", auth.RefreshHandler)

		login := func() (token string) {
			sent := httptest.NewRequestWithContext(t.Context(), "POST", "/login", strings.NewReader(url.Values{"username": {"admin"}, "password": {"admin"}}.Encode()))
			sent.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			answer := httptest.NewRecorder()
			r.ServeHTTP(answer, sent)
			var body struct {
				Access  string `json:"access_token"`
				Refresh string `json:"refresh_token"`
			}
			if err := json.Unmarshal(answer.Body.Bytes(), &body); err != nil || body.Access == "" || body.Access != body.Refresh {
				t.Errorf("got %d %s, want one token twice", answer.Code, answer.Body)
			}
			return body.Refresh
		}
		is := func(method, path, token string, want int) {
			t.Helper()
			if answer := request(t, r, method, path, "Authorization", "Bearer "+token); answer.Code != want {
				t.Errorf("%s %s: got %d %s, want %d", method, path, answer.Code, answer.Body, want)
			}
		}
		phone, laptop := login(), login()
		for range 3 { // a day, a refresh with the token of the login
			time.Sleep(24 * time.Hour)
			is("POST", "/refresh", phone, http.StatusOK)
			is("GET", "/me", phone, http.StatusOK)
		}
		is("POST", "/v2/refresh", phone, http.StatusUnauthorized) // a new client's route does not renew it
		is("POST", "/logout", phone, http.StatusNoContent)
		is("POST", "/refresh", phone, http.StatusUnauthorized)
		is("GET", "/me", phone, http.StatusUnauthorized)
		is("GET", "/me", laptop, http.StatusOK)
		time.Sleep(48*time.Hour + time.Second)
		is("GET", "/me", laptop, http.StatusUnauthorized) // five days after the login

		// The other Auth logs its users out everywhere, until their tokens have expired.
		laptop = login()
		if err := auth.RevokeSubject(t.Context(), "admin"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(lifetime - 2*time.Second)
		is("GET", "/me", laptop, http.StatusUnauthorized)
		if c, err := keeping.Verify(context.WithoutCancel(t.Context()), laptop); err == nil {
			t.Errorf("%v is accepted", c)
		}
	})
}

// The functions in the documents are those that these tests run.
func TestDocumentsShowThisCode(t *testing.T) {
	t.Parallel()
	var code strings.Builder
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		code.Write(text)
	}
	for _, page := range []string{"coming-from.md", "coming-from.zh-CN.md"} {
		text, err := os.ReadFile("../../docs/" + page)
		if err != nil {
			t.Fatal(err)
		}
		shown := 0
		for _, block := range strings.Split(strings.ReplaceAll(string(text), "```go sketch\n", "```go\n"), "```go\nfunc ")[1:] {
			block, _, _ = strings.Cut("func "+block, "```\n")
			if shown++; !strings.Contains(code.String(), block) {
				t.Errorf("%s shows code that is not in this directory:\n%s", page, block)
			}
		}
		if shown < 6 {
			t.Errorf("%s shows %d functions, want 6 or more", page, shown)
		}
	}
}
