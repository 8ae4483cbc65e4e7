package browsertest

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// The features of Chromium that keep keys in software and do not limit the number of refreshes.
var (
	withDBSC    = chromedp.Flag("enable-features", "DeviceBoundSessions:RefreshQuota/false,EnableBoundSessionCredentialsSoftwareKeysForManualTesting")
	withoutDBSC = chromedp.Flag("disable-features", "DeviceBoundSessions,EnableBoundSessionCredentialsSoftwareKeysForManualTesting")
)

// bindingFlags are those of an example whose sessions can be bound by a browser with DBSC.
func bindingFlags(more ...string) []string {
	return append([]string{"-tls", "-cookies", "-mode", "pair", "-bind", "offered", "-grace", "1s"}, more...)
}

// newBindingProfile starts the example, and a Chromium of its own that trusts the example's certificate.
func newBindingProfile(t *testing.T, features chromedp.ExecAllocatorOption, flags ...string) *profile {
	t.Helper()
	chromium := findChromium()
	need(t, chromium != "", "Chromium")
	url, printed := servePrinting(t, flags...)
	_, hash, found := strings.Cut(strings.TrimSpace(printed), "--ignore-certificate-errors-spki-list=")
	if !found {
		t.Fatalf("the example printed %q", printed)
	}
	ctx, stop, err := startChromium(chromium, filepath.Join(t.TempDir(), "profile"), features, chromedp.Flag("ignore-certificate-errors-spki-list", hash))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return &profile{t: t, ctx: ctx, url: url}
}

// events returns the number of events of the server by their kind and code, such as "rejected proof_required".
func (p *profile) events() map[string]int {
	p.t.Helper()
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	answer, err := client.Get(p.url + "/metrics")
	if err != nil {
		p.t.Fatal(err)
	}
	defer answer.Body.Close()
	counts := map[string]int{}
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		var code, kind string
		line, value, _ := strings.Cut(lines.Text(), "} ")
		if _, err := fmt.Sscanf(line, "ginrefresh_events_total{code=%q,event=%q", &code, &kind); err != nil {
			continue
		}
		if n, _ := strconv.Atoi(value); n > 0 {
			counts[strings.TrimSpace(kind+" "+code)] = n
		}
	}
	return counts
}

// expectEvents waits until the server has had exactly these events.
func (p *profile) expectEvents(what string, want map[string]int) {
	p.t.Helper()
	deadline := time.Now().Add(patience)
	for tick := time.Tick(50 * time.Millisecond); ; <-tick {
		got := p.events()
		if maps.Equal(got, want) {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%s: the events are %v, want %v", what, got, want)
		}
	}
}

// expire deletes the cookie of the access token, as the browser does when it expires. It first lets the grace period of
// the last refresh pass, so that the next refresh is another one.
func (tb *tab) expire(origin string) {
	tb.t.Helper()
	time.Sleep(1100 * time.Millisecond)
	tb.do(command(network.DeleteCookies, network.DeleteCookiesParams{Name: "__Host-access_token", URL: origin + "/"}))
}

// fetch sends requests at once and returns their statuses, such as "200 200".
func (tb *tab) fetch(n int, path string) string {
	tb.t.Helper()
	script := fmt.Sprintf(`Promise.all(Array.from({ length: %d }, () => fetch(%q).then((r) => r.status))).then((s) => s.join(" "))`, n, path)
	statuses, err := chromedp.Run(tb.ctx, chromedp.Evaluate[string](script, chromedp.EvalAwaitPromise))
	if err != nil {
		tb.t.Fatal(err)
	}
	return statuses
}

// TestDBSCPage follows a session that the browser binds, on the page and with tokens that really expire.
func TestDBSCPage(t *testing.T) {
	t.Parallel()
	p := newBindingProfile(t, withDBSC, bindingFlags("-ttl", "3s")...)
	tb := p.open(desktop)
	tb.login("admin")
	tb.wait("the session is bound", seen("bound"))
	for range 2 {
		tb.waitState("expired")
		tb.click("do-protected")
		tb.waitResult("saidHelloBound")
	}
	tb.click("do-replay")
	tb.waitResult("stolenWorthless")
	tb.screenshot("bound", true)
	time.Sleep(1100 * time.Millisecond) // after the grace period, a refresh by a script has nothing to do either
	tb.click("do-refresh")
	tb.wait("the page tells so", `["refreshedBound", "refreshed"].includes(document.getElementById("result").dataset.key)`)
	if n := tb.sent("POST /refresh"); n != 1 {
		t.Errorf("the page sent %d refreshes, want only the one that was clicked", n)
	}
	again := p.open(look{language: "zh-CN"})
	again.wait("a new tab shows it as well", seen("bound")+` && document.getElementById("bound").textContent === "已绑定此浏览器"`)
	tb.click("do-logout")
	tb.waitState("ended")
	if tb.eval(`document.getElementById("bound").hidden`) != "true" {
		t.Error("after the logout the session is still shown as bound")
	}
	tb.login("alice")
	tb.wait("the next session is bound as well", seen("bound"))
}

// TestDBSCRoundTrips counts requests. Every refresh takes one round trip, because the challenge came with the response before
// it, and ten requests that find the cookie expired wait for the same refresh.
func TestDBSCRoundTrips(t *testing.T) {
	t.Parallel()
	p := newBindingProfile(t, withDBSC, bindingFlags("-ttl", "1h", "-refresh-ttl", "2h")...)
	tb := p.open(desktop)
	tb.login("admin")
	tb.wait("the session is bound", seen("bound"))
	want := map[string]int{"login": 1, "refresh": 1}
	p.expectEvents("login and registration", want)
	for range 3 {
		tb.expire(p.url)
		if got := tb.fetch(1, "/protected"); got != "200" {
			t.Errorf("a request with an expired cookie is answered %s", got)
		}
		want["refresh"]++
		p.expectEvents("a refresh", want)
	}
	tb.expire(p.url)
	if got := tb.fetch(10, "/protected"); got != strings.TrimSpace(strings.Repeat("200 ", 10)) {
		t.Errorf("ten requests with an expired cookie are answered %s", got)
	}
	want["refresh"]++
	p.expectEvents("ten requests", want)

	// The next login ends the session. The browser still has the old one, and gives it up without harm to the new one.
	tb.eval(`fetch("/login", { method: "POST", headers: { "Content-Type": "application/json" }, body: '{"username":"alice","password":"alice"}' })`)
	want["login"], want["logout"] = 2, 1
	want["refresh"]++
	p.expectEvents("the next login and its registration", want)
	tb.expire(p.url)
	if got := tb.fetch(10, "/protected"); got != strings.TrimSpace(strings.Repeat("200 ", 10)) {
		t.Errorf("after the next login, ten requests are answered %s", got)
	}
	want["refresh"]++
	want["rejected token_missing"] = 1
	p.expectEvents("the old session and the new one", want)
}

// TestDBSCEnds logs out here, and everywhere from another browser. The browser asks once and then gives the session up.
func TestDBSCEnds(t *testing.T) {
	t.Parallel()
	p := newBindingProfile(t, withDBSC, bindingFlags("-ttl", "1h", "-refresh-ttl", "2h")...)
	tb := p.open(desktop)
	for name, end := range map[string]struct{ script, code string }{
		"logout":            {`fetch("/logout", { method: "POST" })`, "token_missing"},
		"logout everywhere": {`fetch("/logout/all", { method: "POST", credentials: "omit", headers: { Authorization: "Bearer " + token } })`, "token_revoked"},
	} {
		tb.login("admin")
		tb.wait("the session is bound", seen("bound"))
		script := strings.Replace(end.script, "token", `"`+tb.cookie(p.url, "__Host-access_token")+`"`, 1)
		if status, err := chromedp.Run(tb.ctx, chromedp.Evaluate[string](script+`.then((r) => String(r.status))`, chromedp.EvalAwaitPromise)); err != nil || status != "204" {
			t.Fatalf("%s: %s, %v", name, status, err)
		}
		tb.expire(p.url)
		before := p.events()
		for _, want := range []int{1, 1} { // the first request makes the browser ask, the second one does not
			if got := tb.fetch(1, "/optional"); got != "401" && got != "200" {
				t.Errorf("%s: a request is answered %s", name, got)
			}
			if asked := p.events()["rejected "+end.code] - before["rejected "+end.code]; asked != want {
				t.Errorf("%s: the browser asked %d times, want %d; the events are %v", name, asked, want, p.events())
			}
		}
		tb.click("do-protected")
		tb.waitState("ended")
	}
}

// cookie returns the value of a cookie, also of one that scripts cannot read.
func (tb *tab) cookie(url, name string) string {
	tb.t.Helper()
	jar, err := chromedp.Run(tb.ctx, func(ctx context.Context, target *chromedp.Target) (network.GetCookiesResult, error) {
		return cdp.Call(ctx, target, network.GetCookies, network.GetCookiesParams{URLs: []string{url + "/"}})
	})
	if err != nil {
		tb.t.Fatal(err)
	}
	for _, cookie := range jar.Cookies {
		if cookie.Name == name {
			return cookie.Value
		}
	}
	tb.t.Fatalf("there is no cookie %s", name)
	return ""
}

// TestDBSCWithoutIt checks that a browser without DBSC works as if nothing were offered.
func TestDBSCWithoutIt(t *testing.T) {
	t.Parallel()
	p := newBindingProfile(t, withoutDBSC, bindingFlags("-ttl", "3s")...)
	tb := p.open(desktop)
	tb.login("admin")
	tb.waitState("expired")
	tb.click("do-protected")
	tb.waitResult("saidHelloRefreshed")
	if n := tb.sent("POST /refresh"); n != 1 {
		t.Errorf("%d refreshes for one expired token, want 1", n)
	}
	tb.click("do-replay")
	tb.waitResult("replayCookies")
	if tb.eval(`document.getElementById("bound").hidden`) != "true" {
		t.Error("the session is shown as bound")
	}
	p.expectEvents("no registration", map[string]int{"login": 1, "refresh": 1, "rejected token_expired": 1})
}
