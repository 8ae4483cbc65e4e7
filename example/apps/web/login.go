package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/oauth2"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// users has the password hashes, in place of a database. unknown is compared with if there is no such user, so that the time
// does not tell which users exist.
var (
	users   = map[string][]byte{"ann": hash("open sesame")}
	unknown = hash(rand.Text())
)

func hash(password string) []byte {
	h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost)
	if err != nil {
		panic(err) // only for a password longer than 72 bytes
	}
	return h
}

func (a *app) loginPage(c *gin.Context) {
	c.HTML(http.StatusOK, "login.html", gin.H{"Next": c.Query("next"), "Failed": c.Query("failed") != "", "OAuth": a.oauth.ClientID != ""})
}

// authenticate checks the form. After a wrong password the browser sees the form again.
func (a *app) authenticate(c *gin.Context) (middleware.Identity, error) {
	user := c.PostForm("user")
	hash, known := users[user]
	if !known {
		hash = unknown
	}
	if bcrypt.CompareHashAndPassword(hash, []byte(c.PostForm("password"))) != nil || !known {
		c.Redirect(http.StatusSeeOther, "/login?failed=1&next="+url.QueryEscape(c.PostForm("next")))
		return middleware.Identity{}, middleware.ErrRefused
	}
	id := middleware.Identity{Subject: user}
	if c.PostForm("remember") == "" {
		id.RefreshTTL = 12 * time.Hour
	}
	return id, nil
}

// oauthLogin sends the browser to the provider. The cookie ties the login to this browser: state, so that nobody can log it
// in to another account (RFC 6749 §10.12), and the verifier, without which a stolen code is worthless (RFC 7636).
func (a *app) oauthLogin(c *gin.Context) {
	state, verifier := rand.Text(), oauth2.GenerateVerifier()
	a.setOAuthCookie(c, state+"."+verifier, 600)
	c.Redirect(http.StatusSeeOther, a.oauth.AuthCodeURL(state, oauth2.S256ChallengeOption(verifier)))
}

var errOAuth = &middleware.Error{Code: "oauth_failed", Status: http.StatusBadRequest, Description: "the login with GitHub failed"}

func (a *app) oauthCallback(c *gin.Context) {
	cookie, _ := c.Cookie(a.oauthCookie())
	a.setOAuthCookie(c, "", -1) // it is good for one login
	state, verifier, _ := strings.Cut(cookie, ".")
	if state == "" || c.Query("state") != state {
		a.auth.AnswerError(c, errOAuth) // this browser has not begun the login
		return
	}
	subject, err := a.oauthSubject(c.Request.Context(), c.Query("code"), verifier)
	if err != nil {
		a.auth.AnswerError(c, fmt.Errorf("%w: %w", errOAuth, err))
		return
	}
	tokens, err := a.auth.Issue(c.Request.Context(), middleware.Identity{Subject: subject, RefreshTTL: 12 * time.Hour})
	if err != nil {
		a.auth.AnswerError(c, err)
		return
	}
	a.auth.Answer(c, tokens) // sets the cookies and redirects, as after a login by form
}

// oauthSubject exchanges the code and asks the provider who has logged in.
func (a *app) oauthSubject(ctx context.Context, code, verifier string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	token, err := a.oauth.Exchange(ctx, code, oauth2.VerifierOption(verifier))
	if err != nil {
		return "", err
	}
	client := a.oauth.Client(ctx, token)
	client.Timeout = 10 * time.Second
	response, err := client.Get(a.userURL)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	var user struct{ ID int64 }
	if err := json.NewDecoder(response.Body).Decode(&user); err != nil || user.ID == 0 {
		return "", errors.Join(errors.New("the provider names no user"), err)
	}
	return fmt.Sprintf("github:%d", user.ID), nil // an id that cannot be one of users
}

// oauthCookie is the name of the cookie. No subdomain can set one with the prefix __Host-.
func (a *app) oauthCookie() string {
	if a.insecure() {
		return "oauth"
	}
	return "__Host-oauth"
}

func (a *app) setOAuthCookie(c *gin.Context, value string, maxAge int) {
	http.SetCookie(c.Writer, &http.Cookie{Name: a.oauthCookie(), Value: value, Path: "/", MaxAge: maxAge,
		Secure: !a.insecure(), HttpOnly: true, SameSite: http.SameSiteLaxMode})
}
