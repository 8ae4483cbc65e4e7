package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
)

// TestSQLite logs in, and out again, with a blacklist in a file.
func TestSQLite(t *testing.T) {
	gin.SetMode(gin.ReleaseMode)
	blacklist, err := openStore(t.Context(), "sqlite:"+t.TempDir()+"/blacklist.db")
	if err != nil {
		t.Fatal(err)
	}
	routes, err := newRoutes(blacklist, []byte("a secret of 32 bytes or more, and random"))
	if err != nil {
		t.Fatal(err)
	}
	send := func(method, path, token, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		w := httptest.NewRecorder()
		routes.ServeHTTP(w, r)
		return w
	}
	var answer struct {
		Token string `json:"access_token"`
	}
	w := send("POST", "/login", "", url.Values{"user": {"ann"}, "password": {"secret"}}.Encode())
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != http.StatusOK {
		t.Fatalf("login: %d %s", w.Code, w.Body)
	}
	for _, step := range []struct {
		method, path string
		want         int
	}{{"GET", "/me", 200}, {"POST", "/logout", 204}, {"GET", "/me", 401}} {
		if w := send(step.method, step.path, answer.Token, ""); w.Code != step.want {
			t.Errorf("%s: %d %s, want %d", step.path, w.Code, w.Body, step.want)
		}
	}
	if _, err := openStore(t.Context(), "oracle:x"); err == nil {
		t.Error("an unknown store is opened")
	}
}
