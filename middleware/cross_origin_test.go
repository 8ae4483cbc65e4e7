package middleware_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// Cookies and cross-origin requests (CSRF).

// A cross-origin request that could change something is rejected and has no effect.
func TestCrossOrigin(t *testing.T) {
	t.Parallel()
	for mode, row := range cookieModes {
		for _, trusting := range []bool{false, true} {
			auth := newAuth(t, row.change, withCookie(middleware.Cookie{}), func(c *middleware.Config) {
				if trusting {
					c.TrustedOrigins = []string{"https://app.example.org"}
				}
			})
			b := browse(t, auth, mode)
			b.send("POST", "/login?user=admin").cookieAnswer(t)
			unsafe := []string{"/login?user=mallory", "/refresh", "/logout", "/logout/all", "/required", "/optional", "/fresh"}
			if mode == "one token" {
				unsafe = append(unsafe, "/autorefresh")
			}
			for name, origin := range origins {
				t.Run(fmt.Sprintf("%s, trusting %v, %s", mode, trusting, name), func(t *testing.T) {
					b.t = t
					from := func(r *http.Request) {
						for name, value := range origin.headers {
							r.Header.Set(name, value)
						}
					}
					refused := origin.refused && !(trusting && origin.trusting)
					if refused {
						for _, path := range unsafe {
							r := b.send("POST", path, from)
							if r.rejected(t, middleware.CodeCrossOrigin); r.header.Get("Set-Cookie") != "" || t.Failed() {
								t.Fatalf("POST %s: response %d %s %v", path, r.status, r.body, r.header)
							}
						}
						for _, method := range []string{"PUT", "PATCH", "DELETE"} {
							b.send(method, "/required", from).rejected(t, middleware.CodeCrossOrigin)
						}
						// A browser does not add a bearer token by itself, so guards accept it. Refresh and logout do not.
						text := refreshable(issueTokens(t, auth, middleware.Identity{}))
						for _, path := range []string{"/refresh", "/logout", "/logout/all"} {
							b.send("POST", path, from, bearer(text)).rejected(t, middleware.CodeCrossOrigin)
							b.send("POST", path, from, body(form, "refresh_token="+text)).rejected(t, middleware.CodeCrossOrigin)
						}
					} else {
						b.send("POST", "/login?user=admin", from).cookieAnswer(t)
						b.send("POST", "/refresh", from).cookieAnswer(t)
						for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
							b.send(method, "/required", from).passed(t, "admin")
						}
						b.send("POST", "/logout", from).accepted(t, "/logout")
						b.send("POST", "/login?user=admin", from).cookieAnswer(t)
					}
					for _, path := range []string{"/required", "/optional", "/fresh"} {
						b.send("GET", path, from).passed(t, "admin")
						if r := b.send("HEAD", path, from); r.status != http.StatusOK {
							t.Errorf("HEAD %s: %d", path, r.status)
						}
						b.send("POST", path, from, bearer(issueTokens(t, auth, middleware.Identity{Subject: "alice"}).AccessToken)).passed(t, "alice")
					}
				})
			}
		}
	}
}

// The check also protects a cookie that another server sets.
func TestCrossOriginOfOtherCookies(t *testing.T) {
	for _, trusting := range []bool{false, true} {
		auth := newAuth(t, sources(tokenPlaces), func(c *middleware.Config) {
			if trusting {
				c.TrustedOrigins = []string{"https://app.example.org"}
			}
		})
		s := direct(t, oneTokenRoutes(auth))
		text := login(t, auth)
		for name, origin := range origins {
			for _, path := range []string{"/required", "/optional", "/autorefresh", "/fresh", "/allow"} {
				for _, method := range []string{"GET", "POST", "DELETE"} {
					edits := []edit{func(r *http.Request) { r.Host = "example.com" }}
					for name, value := range origin.headers {
						edits = append(edits, header(name, value))
					}
					r := s.send(method, path, append(edits, header("Cookie", "jwt="+text))...)
					if origin.refused && !(trusting && origin.trusting) && method != "GET" {
						r.rejected(t, middleware.CodeCrossOrigin)
					} else {
						r.passed(t, "admin")
					}
					s.send(method, path, append(edits, bearer(text))...).passed(t, "admin")
					if t.Failed() {
						t.Fatalf("%s %s from %s, trusting %v", method, path, name, trusting)
					}
				}
			}
			// Without Config.Cookie a login does not set cookies, so it is not checked.
			for name, value := range origin.headers {
				s.send("POST", "/login?user=admin", header(name, value)).token(t)
			}
		}
	}
}

// A WebSocket handshake is a GET that any site can make a browser send, with its cookies.
func TestAWebSocketFromAnotherSite(t *testing.T) {
	auth := newAuth(t, withCookie(middleware.Cookie{}))
	s := direct(t, cookieRoutes(auth, "one token"))
	inCookie := header("Cookie", "__Host-access_token="+login(t, auth))
	host := func(r *http.Request) { r.Host = "example.com" }
	upgrade := []edit{inCookie, host, header("Connection", "Upgrade"), header("Upgrade", "websocket")}
	for name, origin := range origins {
		edits := slices.Clone(upgrade)
		for name, value := range origin.headers {
			edits = append(edits, header(name, value))
		}
		for _, path := range []string{"/required", "/optional", "/fresh"} {
			r := s.send("GET", path, edits...)
			if origin.refused {
				r.rejected(t, middleware.CodeCrossOrigin)
			} else {
				r.passed(t, "admin")
			}
			if t.Failed() {
				t.Fatalf("%s, %s", name, path)
			}
		}
		s.send("GET", "/required", inCookie, host).passed(t, "admin")
	}
}
