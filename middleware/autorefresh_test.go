package middleware_test

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// A token that has expired or is about to is refreshed, and the new one is in the response's Authorization header.
func TestAutoRefresh(t *testing.T) {
	for name, age := range map[string]time.Duration{"expired": 2 * time.Hour, "almost expired": almostExpired} {
		t.Run(name, func(t *testing.T) {
			d := newServer(t)
			old := aged(t, d.text, age)
			r := d.send("GET", "/autorefresh", bearer(old))
			r.passed(t, "admin")
			r.notStored(t)
			text, found := strings.CutPrefix(r.header.Get("Authorization"), "Bearer ")
			if !found || r.header.Get("Access-Control-Expose-Headers") != "Authorization" {
				t.Fatalf("the headers are %v", r.header)
			}
			claims := verify(t, d.auth, text)
			if _, seen, _ := strings.Cut(r.body, " "); seen != claims.ID {
				t.Errorf("the handler sees %s, want the new token's claims %s", seen, claims.ID)
			}
			if got, want := claims.AuthTime.Unix(), membersOf(t, old).integer("auth_time"); got != want {
				t.Errorf("R9: auth_time is %d, want %d", got, want)
			}
			if again := d.send("GET", "/autorefresh", bearer(old)); again.header.Get("Authorization") != "Bearer "+text {
				t.Errorf("R7: the second request within the grace period gets another token: %v", again.header)
			}
			if next := d.send("GET", "/autorefresh", bearer(text)); next.header.Get("Authorization") != "" {
				t.Error("AutoRefresh refreshes a new token")
			}
		})
	}
}

func TestAutoRefreshLeavesAlone(t *testing.T) {
	d := newServer(t)
	for name, text := range map[string]string{"new": d.text, "half of its TTL is over": aged(t, d.text, 30*time.Minute)} {
		r := d.send("GET", "/autorefresh", bearer(text))
		r.passed(t, "admin")
		if r.header.Get("Authorization") != "" || r.header.Get("Access-Control-Expose-Headers") != "" {
			t.Errorf("AutoRefresh refreshes a token too early (%s): %v", name, r.header)
		}
	}
}

// AutoRefresh(0) refreshes only expired tokens. It keeps a CORS header that the application has set.
func TestAutoRefreshZero(t *testing.T) {
	auth := newAuth(t)
	text := login(t, auth)
	r := gin.New()
	r.GET("/", func(c *gin.Context) { c.Header("Access-Control-Expose-Headers", "X-Total") }, auth.AutoRefresh(0), whoami)
	s := listen(t, r)
	if r := s.send("GET", "/", bearer(aged(t, text, almostExpired))); r.header.Get("Authorization") != "" {
		t.Error("AutoRefresh(0) refreshes a token that has not expired")
	}
	renewed := s.send("GET", "/", bearer(aged(t, text, 2*time.Hour)))
	if got := strings.Join(renewed.header.Values("Access-Control-Expose-Headers"), ","); got != "X-Total,Authorization" {
		t.Errorf("the exposed headers are %q", got)
	}
}

// A handler may take longer than the grace period. Until it responds, the client has only the old token, which must
// stay usable.
func TestAutoRefreshWithASlowHandler(t *testing.T) {
	for name, row := range map[string]struct {
		takes time.Duration
		code  middleware.Code // for the old token, nine seconds after the response
	}{
		"within the grace":  {time.Second, ""},
		"beyond the grace":  {64 * time.Second, ""},
		"beyond all bounds": {6 * time.Minute, middleware.CodeTokenReused},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				auth := newAuth(t, func(c *middleware.Config) { c.TTL, c.RefreshTTL = 10*time.Minute, time.Hour })
				r := gin.New()
				takes := row.takes
				r.GET("/slow", auth.AutoRefresh(0), func(c *gin.Context) {
					wait(takes)
					whoami(c)
				})
				s := direct(t, r)
				old := issue(t, auth, middleware.Identity{Subject: "admin"})
				wait(11 * time.Minute)
				var wg sync.WaitGroup
				answers := make([]reply, 3)
				for i := range answers { // more requests of the page arrive while the first is in progress
					wg.Go(func() {
						wait(time.Duration(i) * 8 * time.Second)
						answers[i] = s.send("GET", "/slow", bearer(old))
					})
				}
				wg.Wait()
				if row.takes == time.Second {
					answers = answers[:1] // by the time of the others, the client has the new token
				}
				next := strings.TrimPrefix(answers[0].header.Get("Authorization"), "Bearer ")
				for i, answer := range answers {
					if answer.passed(t, "admin"); strings.TrimPrefix(answer.header.Get("Authorization"), "Bearer ") != next {
						t.Errorf("R7: response %d has another token", i)
					}
				}
				if row.takes == time.Second {
					return
				}
				takes = 0
				wait(9 * time.Second)
				again := s.send("GET", "/slow", bearer(old))
				if row.code == "" {
					again.passed(t, "admin")
					s.send("GET", "/slow", bearer(next)).passed(t, "admin")
				} else {
					again.rejected(t, row.code)
				}
			})
		})
	}
}

// The grace period begins when the response is written, and is no longer than usual.
func TestAutoRefreshsGraceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auth := newAuth(t, func(c *middleware.Config) { c.TTL, c.RefreshTTL = 10*time.Minute, time.Hour })
		r := gin.New()
		r.GET("/slow", auth.AutoRefresh(0), func(c *gin.Context) {
			wait(64 * time.Second)
			whoami(c)
		})
		old := issue(t, auth, middleware.Identity{Subject: "admin"})
		wait(11 * time.Minute)
		direct(t, r).send("GET", "/slow", bearer(old)).passed(t, "admin")
		wait(10*time.Second + time.Millisecond)
		wantRefresh(t, "R8: after the grace period of a slow response", auth, old, middleware.CodeTokenReused)
	})
}

// A slow handler extends the grace period of its own swap, not that of the next one.
func TestAutoRefreshHoldsItsOwnSwapOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auth := newAuth(t, func(c *middleware.Config) { c.TTL, c.RefreshTTL = 30*time.Second, time.Hour })
		r := gin.New()
		r.GET("/slow", auth.AutoRefresh(0), func(c *gin.Context) {
			wait(time.Minute)
			whoami(c)
		})
		first := issue(t, auth, middleware.Identity{Subject: "admin"})
		wait(time.Minute)
		var wg sync.WaitGroup
		wg.Go(func() { direct(t, r).send("GET", "/slow", bearer(first)).passed(t, "admin") })
		wait(time.Second)
		second := refresh(t, auth, first)
		wait(40 * time.Second) // the second token has expired
		if third := refresh(t, auth, second); third == second {
			t.Fatal("R6a: an expired token is returned again")
		}
		wg.Wait()
		wantRefresh(t, "R8: the second token, 20 s after it was replaced", auth, second, middleware.CodeTokenReused)
	})
}

// A token from a cookie is replaced in the cookie, a token from a header in the header.
func TestAutoRefreshSetsTheCookie(t *testing.T) {
	for name, age := range map[string]time.Duration{"expired": 2 * time.Hour, "almost expired": almostExpired} {
		t.Run(name, func(t *testing.T) {
			auth := newAuth(t, withCookie(middleware.Cookie{}))
			b := browse(t, auth, "one token")
			b.send("POST", "/login?user=admin").cookieAnswer(t)
			b.alter("/", "__Host-access_token", func(text string) string { return aged(t, text, age) })
			old := b.cookie("/", "__Host-access_token")
			b.send("POST", "/autorefresh", header("Sec-Fetch-Site", "cross-site")).rejected(t, middleware.CodeCrossOrigin)

			r := b.send("POST", "/autorefresh", header("Sec-Fetch-Site", "same-origin"))
			r.passed(t, "admin")
			r.notStored(t)
			text := b.cookie("/", "__Host-access_token")
			if _, seen, _ := strings.Cut(r.body, " "); text == old || seen != verify(t, auth, text).ID {
				t.Errorf("the handler sees %s, the browser has %v", r.body, membersOf(t, text))
			}
			if r.header.Get("Authorization") != "" || r.header.Get("Access-Control-Expose-Headers") != "" {
				t.Errorf("the token came in a cookie, but the response has headers for it: %v", r.header)
			}
			if r := b.send("GET", "/autorefresh"); r.header.Get("Set-Cookie") != "" {
				t.Error("a new token is refreshed")
			}

			s := direct(t, cookieRoutes(auth, "one token"))
			r = s.send("GET", "/autorefresh", bearer(aged(t, login(t, auth), age)))
			if r.passed(t, "admin"); r.header.Get("Set-Cookie") != "" || !strings.HasPrefix(r.header.Get("Authorization"), "Bearer ") {
				t.Errorf("the token came in a header, but the response has %v", r.header)
			}
		})
	}
}

func TestPairHasNoAutoRefresh(t *testing.T) {
	mustPanic(t, "AutoRefresh in pair mode", func() { newAuth(t, pair).AutoRefresh(0) }, "AutoRefresh", "one-token mode", "no refresh token")
}
