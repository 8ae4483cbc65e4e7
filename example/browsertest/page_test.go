package browsertest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// short has short lifetimes. The grace period is long enough for twenty requests on a busy machine.
var short = []string{"-ttl", "3s", "-refresh-ttl", "120s", "-grace", "5s"}

// modes are the ways to transport tokens.
var modes = []struct {
	name    string
	flags   []string
	cookies bool
}{
	{name: "single", flags: nil},
	{name: "pair", flags: []string{"-mode", "pair"}},
	{name: "single-cookies", flags: []string{"-cookies"}, cookies: true},
	{name: "pair-cookies", flags: []string{"-mode", "pair", "-cookies"}, cookies: true},
}

// TestStory follows a session in two tabs from login to logout, in all modes.
func TestStory(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			url := serve(t, append(short, mode.flags...)...)
			p := newProfile(t, url)
			one, two := p.open(desktop), p.open(desktop)
			one.waitState("none")
			one.login("admin")
			two.waitSignedIn() // the tabs share the session

			// The token expires, and a request refreshes it automatically.
			one.waitState("expired")
			one.click("do-protected")
			one.waitResult("saidHelloRefreshed")
			for _, tb := range []*tab{one, two} {
				tb.wait("the tab has the new token", `document.querySelectorAll("#timeline-table tbody tr").length === 2`)
			}
			if n := one.sent("POST /refresh"); n != 1 {
				t.Errorf("%d refreshes for one expired token, want 1", n)
			}

			// Twenty parallel refreshes return one successor.
			one.waitState("expired")
			before, sent := len(one.kept().Tokens), one.sent("POST /refresh")
			one.click("do-parallel")
			want := 20
			if mode.cookies {
				one.waitResult("parallelCookies")
				want = 1
			} else {
				one.waitResult("parallelOne")
				if distinct := one.eval(`document.getElementById("result").dataset.distinct`); distinct != "1" {
					t.Errorf("%s distinct jti", distinct)
				}
			}
			if n := one.sent("POST /refresh") - sent; n != want {
				t.Errorf("%d refreshes were sent, want %d", n, want)
			}
			one.wait("the timeline has one more", fmt.Sprintf(`JSON.parse(localStorage.getItem("ginrefresh.history")).tokens.length === %d`, before+1))

			// Within the grace period the server returns the same token again.
			one.click("do-refresh")
			one.waitResult("refreshedSame")
			if n := len(one.kept().Tokens); n != before+1 {
				t.Errorf("%d tokens after a refresh within the grace period, want %d", n, before+1)
			}

			// Two tabs refresh at once: one request is sent, and both tabs stay logged in.
			bothRefresh(t, one, two, 1)
			one.screenshot("mode-"+mode.name, true)

			// Reuse of a replaced token ends the session in both tabs.
			if mode.cookies {
				one.click("do-replay")
				one.waitResult("replayCookies")
				one.waitState("expired")
				oneSuccessor(t, one, url)
			} else {
				one.click("do-replay")
				one.waitState("ended")
				two.waitState("ended")
				if ended := one.kept().Ended; ended == nil || ended.Code != "token_reused" {
					t.Errorf("the session ended by %+v", ended)
				}
				one.wait("the log has the reuse and the revocation of the newest token",
					`document.querySelector("#log [data-code=token_reused]") && document.querySelector("#log [data-code=token_revoked]")`)
				one.login("alice")
				two.waitSignedIn()
			}

			// A logout revokes the token at once, in all tabs.
			token := one.kept().Tokens[len(one.kept().Tokens)-1]
			one.click("do-logout")
			one.waitState("ended")
			two.waitState("ended")
			if !mode.cookies {
				if code := codeFor(t, url, token.Access); code != "token_revoked" {
					t.Errorf("after the logout the code is %q, want token_revoked", code)
				}
			}
		})
	}
}

// oneSuccessor sends the cookies of the browser to /refresh twenty times in parallel, and expects one result. A single browser
// does not do that, but a server can still receive the same cookie twice.
func oneSuccessor(t *testing.T, tb *tab, url string) {
	t.Helper()
	jar, err := chromedp.Run(tb.ctx, func(ctx context.Context, target *chromedp.Target) (network.GetCookiesResult, error) {
		return cdp.Call(ctx, target, network.GetCookies, network.GetCookiesParams{URLs: []string{url + "/refresh"}})
	})
	if err != nil {
		t.Fatal(err)
	}
	var cookies []string
	for _, cookie := range jar.Cookies {
		if !cookie.HTTPOnly {
			t.Errorf("scripts can read the cookie %s", cookie.Name)
		}
		cookies = append(cookies, cookie.Name+"="+cookie.Value)
	}
	type result struct{ cookies, code string }
	results := make(chan result)
	for range 20 {
		go func() {
			request, _ := http.NewRequest(http.MethodPost, url+"/refresh", nil)
			request.Header.Set("Cookie", strings.Join(cookies, "; "))
			request.Header.Set("Sec-Fetch-Site", "same-origin")
			answer, err := http.DefaultClient.Do(request)
			if err != nil {
				results <- result{code: err.Error()}
				return
			}
			answer.Body.Close()
			var values []string
			for _, cookie := range answer.Cookies() {
				values = append(values, cookie.Name+"="+cookie.Value)
			}
			results <- result{cookies: strings.Join(values, "; "), code: answer.Status}
		}()
	}
	distinct := map[result]int{}
	for range 20 {
		distinct[<-results]++
	}
	if len(distinct) != 1 {
		t.Errorf("twenty refreshes with one cookie returned %d results: %v", len(distinct), distinct)
	}
}

// bothRefresh waits until the token expires, then clicks in two tabs at once. It expects one new token and at most so many
// refreshes.
func bothRefresh(t *testing.T, one, two *tab, most int) {
	t.Helper()
	one.waitState("expired")
	two.waitState("expired")
	before := one.sent("POST /refresh") + two.sent("POST /refresh")
	tokens := len(one.kept().Tokens)
	for _, tb := range []*tab{one, two} {
		tb.eval(`delete document.getElementById("result").dataset.key`)
		tb.wait("the page is idle", `!document.documentElement.hasAttribute("data-busy")`)
	}
	// Both tabs click at the same time of the same clock.
	at := one.eval(`Date.now() + 300`)
	for _, tb := range []*tab{one, two} {
		tb.eval(`setTimeout(() => document.getElementById("do-protected").click(), ` + at + ` - Date.now())`)
	}
	for _, tb := range []*tab{one, two} {
		tb.wait("the call succeeded", `document.getElementById("result").dataset.key === "saidHello" || document.getElementById("result").dataset.key === "saidHelloRefreshed"`)
		tb.waitSignedIn()
	}
	if n := one.sent("POST /refresh") + two.sent("POST /refresh") - before; n < 1 || n > most {
		t.Errorf("two tabs sent %d refreshes", n)
	}
	if n := len(one.kept().Tokens) - tokens; n != 1 {
		t.Errorf("two tabs got %d new tokens", n)
	}
}

// TestWithoutWebLocks tests the lease that client.js uses on plain HTTP, where browsers have no Web Locks. On a busy machine
// both tabs may take the lease; then the grace period gives them the same token.
func TestWithoutWebLocks(t *testing.T) {
	t.Parallel()
	p := newProfile(t, serve(t, short...))
	old := desktop
	old.script = `Object.defineProperty(Navigator.prototype, "locks", { get: () => undefined })`
	one := p.open(old)
	one.login("admin")
	two := p.open(old)
	if two.eval("navigator.locks") != "undefined" {
		t.Fatal("the page still has Web Locks")
	}
	two.waitSignedIn()
	bothRefresh(t, one, two, 2)
	bothRefresh(t, two, one, 2)
}

// TestLogoutEverywhere logs one user out in two browsers. Other users stay logged in.
func TestLogoutEverywhere(t *testing.T) {
	t.Parallel()
	url := serve(t, "-ttl", "60s", "-refresh-ttl", "120s")
	laptop, phone, other := newProfile(t, url).open(desktop), newProfile(t, url).open(desktop), newProfile(t, url).open(desktop)
	laptop.login("alice")
	phone.login("alice")
	other.login("admin")
	laptop.click("do-logout-all")
	laptop.waitState("ended")
	phone.click("do-protected")
	phone.waitState("ended")
	if ended := phone.kept().Ended; ended == nil || ended.Code != "token_revoked" {
		t.Errorf("the other browser's session ended by %+v", ended)
	}
	other.click("do-protected")
	other.waitResult("saidHello")
	laptop.login("alice") // immediately after
	laptop.click("do-protected")
	laptop.waitResult("saidHello")
}

// TestAutoRefresh checks that the page uses the token that a response brings, in a header or in an HttpOnly cookie.
func TestAutoRefresh(t *testing.T) {
	for name, flags := range map[string][]string{"header": short, "cookie": append([]string{"-cookies"}, short...)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tb := newProfile(t, serve(t, flags...)).open(desktop)
			tb.login("admin")
			tb.waitState("expired")
			tb.click("do-renewing")
			tb.waitResult("saidHelloRenewed")
			if n := tb.sent("POST /refresh"); n != 0 {
				t.Errorf("%d refreshes were sent", n)
			}
			tb.click("do-protected")
			tb.wait("the new token passes", `/^saidHello/.test(document.getElementById("result").dataset.key) && document.querySelectorAll("#log [data-path='/protected'][data-status='200']").length === 1`)
		})
	}
}

// TestWindowOver checks that the user must log in again after the deadline.
func TestWindowOver(t *testing.T) {
	t.Parallel()
	tb := newProfile(t, serve(t, "-ttl", "1s", "-refresh-ttl", "3s", "-grace", "1s")).open(desktop)
	tb.login("admin")
	tb.waitState("over")
	tb.click("do-protected")
	tb.waitState("ended")
	if ended := tb.kept().Ended; ended == nil || ended.Code != "refresh_expired" {
		t.Errorf("the session ended by %+v", ended)
	}
	tb.login("admin")
}

// TestNoGrace checks that without a grace period parallel refreshes count as reuse.
func TestNoGrace(t *testing.T) {
	t.Parallel()
	tb := newProfile(t, serve(t, "-ttl", "60s", "-grace", "0")).open(desktop)
	tb.login("admin")
	tb.click("do-parallel")
	tb.waitState("ended")
	if ended := tb.kept().Ended; ended == nil || ended.Code != "token_reused" {
		t.Errorf("the session ended by %+v", ended)
	}
}

// TestReload checks that a new tab has the session and its history.
func TestReload(t *testing.T) {
	t.Parallel()
	p := newProfile(t, serve(t, "-ttl", "60s"))
	tb := p.open(desktop)
	tb.login("admin")
	tb.click("do-refresh")
	tb.waitResult("refreshed")
	again := p.open(desktop)
	again.waitState("alive")
	again.wait("both tokens are in the table", `document.querySelectorAll("#timeline-table tbody tr").length === 2`)
	again.click("do-protected")
	again.waitResult("saidHello")
}

// TestBound checks that the browser keeps the key of a bound session across reloads, and that no script can read it.
func TestBound(t *testing.T) {
	t.Parallel()
	for _, flags := range [][]string{{"-bind", "offered"}, {"-bind", "required", "-cookies"}} {
		p := newProfile(t, serve(t, append(flags, "-mode", "pair", "-ttl", "60s", "-grace", "0")...))
		tb := p.open(desktop)
		tb.login("admin")
		const nonce = `JSON.parse(localStorage.getItem("ginrefresh")).nonce`
		for _, tb := range []*tab{tb, p.open(desktop)} {
			tb.waitState("alive")
			before := tb.eval(nonce)
			tb.click("do-refresh")
			tb.waitResult("refreshed")
			if after := tb.eval(nonce); before == "" || after == before {
				t.Errorf("%q: the nonce was %q and is %q", flags, before, after)
			}
			if n := tb.sent("POST /refresh"); n != 1 {
				t.Errorf("%q: %d requests for one refresh, want 1", flags, n)
			}
		}
		tb.wait("the session is shown as bound", seen("bound"))
		tb.click("do-replay")
		if slices.Contains(flags, "-cookies") {
			tb.waitResult("replayCookies")
		} else {
			tb.waitResult("replayBound")
		}
		tb.waitState("alive")
		tb.eval(`(() => {
			const open = indexedDB.open("ginrefresh")
			open.onsuccess = () => {
				const get = open.result.transaction("keys").objectStore("keys").get("ginrefresh")
				get.onsuccess = () => crypto.subtle.exportKey("jwk", get.result.privateKey).then(() => { window.exported = "yes" }, (error) => { window.exported = error.name })
			}
		})()`)
		tb.wait("the attempt to export the private key ends", "window.exported")
		if exported := tb.eval("window.exported"); exported != "InvalidAccessError" {
			t.Errorf("%q: the private key can be exported: %s", flags, exported)
		}
	}
}

// TestWrongPassword checks the message after a wrong password.
func TestWrongPassword(t *testing.T) {
	t.Parallel()
	tb := newProfile(t, serve(t)).open(desktop)
	tb.enter("admin", "wrong")
	tb.waitProblem("wrong user name or password")
	tb.waitState("none")
}

// TestServerGone checks that the session continues while the server does not respond, and that the login form shows the failure.
func TestServerGone(t *testing.T) {
	t.Parallel()
	url := serve(t, "-ttl", "60s")
	tb := newProfile(t, url).open(desktop)
	tb.login("admin")
	tb.eval(`window.fetch = async () => { throw new TypeError("Failed to fetch") }`)
	tb.click("do-protected")
	tb.waitResult("failed")
	tb.click("do-refresh")
	tb.waitResult("failed")
	tb.waitState("alive")
	tb.eval(`localStorage.removeItem("ginrefresh"), window.dispatchEvent(new StorageEvent("storage", { key: "ginrefresh" }))`) // logged out in another tab
	tb.waitState("ended")
	if text := tb.eval(`document.getElementById("login").textContent + document.getElementById("result").textContent`); strings.Contains(text, "still logged in") {
		t.Errorf("without a session the page says %q", text)
	}

	offline := newProfile(t, url).open(desktop)
	offline.eval(`window.fetch = async () => { throw new TypeError("Failed to fetch") }`)
	offline.enter("admin", "admin")
	offline.waitProblem("The server did not respond. Try again.")
	offline.waitState("none")
}

// pageFiles has the files of the page and their types.
var pageFiles = map[string]string{
	"/":            "text/html; charset=utf-8",
	"/app.js":      "text/javascript; charset=utf-8",
	"/app.go":      "text/plain; charset=utf-8",
	"/bound.js":    "text/javascript; charset=utf-8",
	"/client.js":   "text/javascript; charset=utf-8",
	"/code.js":     "text/javascript; charset=utf-8",
	"/curl.js":     "text/javascript; charset=utf-8",
	"/dom.js":      "text/javascript; charset=utf-8",
	"/gauges.js":   "text/javascript; charset=utf-8",
	"/history.js":  "text/javascript; charset=utf-8",
	"/i18n.js":     "text/javascript; charset=utf-8",
	"/next.js":     "text/javascript; charset=utf-8",
	"/requests.js": "text/javascript; charset=utf-8",
	"/sessions.js": "text/javascript; charset=utf-8",
	"/timeline.js": "text/javascript; charset=utf-8",
	"/token.js":    "text/javascript; charset=utf-8",
	"/style.css":   "text/css; charset=utf-8",
	"/icon.svg":    "image/svg+xml",
}

// TestFirstVisit checks that the page requests its files and the settings, and nothing else.
func TestFirstVisit(t *testing.T) {
	t.Parallel()
	tb := newProfile(t, serve(t)).open(desktop)
	tb.waitState("none")
	time.Sleep(300 * time.Millisecond) // for an unexpected request
	want := map[string]bool{"GET /settings": true}
	for path := range pageFiles {
		want["GET "+path] = true
	}
	tb.mu.Lock()
	defer tb.mu.Unlock()
	if got := set(tb.requests); !maps.Equal(got, want) {
		t.Errorf("the page requested %v, want %v", got, want)
	}
}

// TestHeaders checks the headers of the page, and GET /settings.
func TestHeaders(t *testing.T) {
	t.Parallel()
	url := serve(t, "-ttl", "90s", "-refresh-ttl", "10m", "-grace", "0")
	for path, contentType := range pageFiles {
		answer, _ := get(t, url+path, nil)
		if answer.StatusCode != http.StatusOK || answer.Header.Get("Content-Type") != contentType {
			t.Errorf("%s: %s, %s", path, answer.Status, answer.Header.Get("Content-Type"))
		}
		policy := answer.Header.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "script-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"} {
			if !strings.Contains(policy, want) {
				t.Errorf("%s: the policy lacks %s", path, want)
			}
		}
		if strings.Contains(policy, "unsafe") || strings.Contains(policy, "http") || strings.Contains(policy, "*") {
			t.Errorf("%s: the policy is too wide: %s", path, policy)
		}
		if answer.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: the header X-Content-Type-Options is not nosniff", path)
		}
		if again, _ := get(t, url+path, http.Header{"If-None-Match": {answer.Header.Get("ETag")}}); again.StatusCode != http.StatusNotModified {
			t.Errorf("%s: got %s for a matching ETag, want 304", path, again.Status)
		}
	}
	_, body := get(t, url+"/settings", nil)
	var settings map[string]any
	if err := json.Unmarshal(body, &settings); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{"mode": "single", "cookies": false, "ttl": 90.0, "refresh_ttl": 600.0, "grace": 0.0} {
		if settings[key] != want {
			t.Errorf("settings: %s is %v, want %v", key, settings[key], want)
		}
	}
}

func get(t *testing.T, url string, header http.Header) (*http.Response, []byte) {
	t.Helper()
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		request.Header = header
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, body
}

// codeFor sends a token from outside the browser and returns the error code.
func codeFor(t *testing.T, url, token string) string {
	t.Helper()
	_, body := get(t, url+"/protected", http.Header{"Authorization": {"Bearer " + token}})
	var refusal struct{ Code string }
	if err := json.Unmarshal(body, &refusal); err != nil {
		t.Fatal(err)
	}
	return refusal.Code
}
