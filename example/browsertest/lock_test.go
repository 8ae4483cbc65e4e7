package browsertest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
)

// holdBack returns the URL of a proxy for the example. The first answer to a path waits until release is called. arrived is
// closed when the server has given this answer.
func holdBack(t *testing.T, target, path string) (proxy string, arrived <-chan struct{}, release func()) {
	t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	given, released := make(chan struct{}), make(chan struct{})
	release = sync.OnceFunc(func() { close(released) })
	arrive := sync.OnceFunc(func() { close(given); <-released })
	server := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host // the server compares it with the origin of the page
		},
		ModifyResponse: func(answer *http.Response) error {
			if answer.Request.URL.Path == path {
				arrive()
			}
			return nil
		},
	})
	t.Cleanup(server.Close)
	t.Cleanup(release)
	return server.URL, given, release
}

// act runs an action with a client of this tab. ended is true when it has ended.
func (tb *tab) act(action string) {
	tb.t.Helper()
	tb.eval(fmt.Sprintf(`import("/client.js").then(async ({ createClient }) => {
		window.ended = false
		const client = createClient()
		window.answered = await client.%s.then((answer) => answer?.status ?? "done", (error) => error.message)
		window.ended = true
	})`, action))
}

// TestLateAnswer checks that a late answer to a refresh or a logout does not replace the cookies of a later login.
func TestLateAnswer(t *testing.T) {
	for kind, script := range map[string]string{
		"Web Locks": "",
		"lease":     `Object.defineProperty(Navigator.prototype, "locks", { get: () => undefined })`,
	} {
		for _, first := range []string{"refresh", "logout"} {
			t.Run(first+", "+kind, func(t *testing.T) {
				t.Parallel()
				url, arrived, release := holdBack(t, serve(t, "-cookies", "-ttl", "60s"), "/"+first)
				p := newProfile(t, url)
				old := desktop
				old.script = script
				one := p.open(old)
				one.login("admin")
				two := p.open(old)

				one.act(first + "()")
				select {
				case <-arrived:
				case <-time.After(patience):
					t.Fatal("the server was not asked")
				}
				two.act(`login("/login", { body: new URLSearchParams({ username: "alice", password: "alice" }) })`)
				for tick := range 40 { // without the lock, the login overtakes the first answer
					if tick > 0 && two.eval("window.ended") == "true" {
						break
					}
					time.Sleep(20 * time.Millisecond)
				}
				release()
				for _, tb := range []*tab{one, two} {
					tb.wait("the action ends", "window.ended")
				}
				if answered := two.eval("window.answered"); answered != "200" {
					t.Errorf("the login was answered %s", answered)
				}
				for _, tb := range []*tab{one, two} {
					tb.eval(`fetch("/me").then((answer) => answer.json()).then(({ sub, code }) => { window.user = sub ?? code })`)
					tb.wait("the server says who the user is", "window.user")
					if user := tb.eval("window.user"); user != "alice" {
						t.Errorf("the cookies are those of %s, want alice", user)
					}
				}
			})
		}
	}
}

// TestTabHoldsLock checks that a tab that has the lock delays a logout until it is closed, or until the lock is stolen.
func TestTabHoldsLock(t *testing.T) {
	for name, closed := range map[string]bool{"closed": true, "suspended": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProfile(t, serve(t, "-ttl", "60s"))
			one := p.open(desktop)
			one.login("admin")
			two := p.open(desktop)
			two.eval(`navigator.locks.request("ginrefresh", () => { window.held = true; return new Promise(() => {}) }).catch(() => {})`)
			two.wait("the tab has the lock", "window.held")
			one.act("logout()")
			time.Sleep(time.Second)
			if one.eval("window.ended") == "true" {
				t.Error("the logout did not wait")
			}
			if closed {
				two.do(command(page.Close, cdp.Empty{}))
			}
			begun := time.Now()
			one.wait("the logout ends", "window.ended")
			one.waitState("ended")
			if took := time.Since(begun); closed && took > 5*time.Second {
				t.Errorf("the logout took %v after the other tab was closed", took)
			}
		})
	}
}
