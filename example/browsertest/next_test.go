package browsertest

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// next is the suggested next step: the button, whether it counts down, and the text.
type next struct {
	Button  string
	Waits   bool
	Text    string
	Time    string
	Marked  int // marked buttons
	Primary int // visible buttons that look like the next step
}

func (tb *tab) next() next {
	tb.t.Helper()
	return object[next](tb, `(() => {
		const marked = [...document.querySelectorAll("[data-next=now], [data-next=later]")]
		return {
			button: marked[0]?.id ?? "", waits: marked[0]?.dataset.next === "later", marked: marked.length,
			text: document.getElementById("next-text").textContent, time: document.getElementById("next-time").textContent,
			primary: [...document.querySelectorAll(".primary, [data-next=now]")].filter((button) => button.checkVisibility()).length,
		}
	})()`)
}

// waitNext waits until the page suggests a button, which can be clicked or not yet. It checks that no other is suggested.
func (tb *tab) waitNext(button string, waits bool) {
	tb.t.Helper()
	state := "now"
	if waits {
		state = "later"
	}
	tb.wait(fmt.Sprintf("%s is the next step, %s", button, state), fmt.Sprintf(`document.getElementById(%q).dataset.next === %q`, button, state))
	n := tb.next()
	if n.Marked != 1 || n.Text == "" || n.Button == button && n.Waits == waits && (n.Time != "") != waits {
		tb.t.Errorf("the next step is %+v", n)
	}
	if described := tb.eval(`document.querySelectorAll("[data-next][aria-describedby=next-text]").length`); described != "1" {
		tb.t.Errorf("%s buttons are described by the next step", described)
	}
}

// TestNext follows the suggestions from the login to the logout. Each leads to the next one.
func TestNext(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			tb := newProfile(t, serve(t, append([]string{"-ttl", "6s", "-refresh-ttl", "120s", "-grace", "4s"}, mode.flags...)...)).open(desktop)
			if n := tb.next(); n.Primary != 1 || n.Marked != 0 {
				t.Errorf("before the login the page suggests %+v", n)
			}
			tb.login("admin")
			follow := func(button, result string) {
				t.Helper()
				tb.waitNext(button, false)
				tb.click(button)
				tb.waitResult(result)
			}
			follow("do-protected", "saidHello")
			if mode.cookies {
				follow("do-parallel", "parallelCookies")
			} else {
				follow("do-parallel", "parallelOne")
			}
			tb.waitNext("do-protected", true)
			if n := tb.next(); n.Primary != 0 || !regexp.MustCompile(`^ in 0:0[1-6]$`).MatchString(n.Time) {
				t.Errorf("while the token is valid the page suggests %+v", n)
			}
			follow("do-protected", "saidHelloRefreshed")
			if strings.HasPrefix(mode.name, "single") {
				tb.waitNext("do-renewing", true)
				follow("do-renewing", "saidHelloRenewed")
			}
			if mode.cookies {
				follow("do-replay", "replayCookies")
			} else {
				tb.waitNext("do-replay", false)
				tb.click("do-replay")
				tb.waitState("ended")
				if n := tb.next(); n.Primary != 1 {
					t.Errorf("after the end of the session the page suggests %+v", n)
				}
				tb.login("admin")
			}
			tb.waitNext("do-logout-all", false)
			tb.click("do-logout-all")
			tb.waitState("ended")
		})
	}
}

// TestNextOver checks the suggestion after the refresh window, and that one long wait does not stop the tour.
func TestNextOver(t *testing.T) {
	t.Parallel()
	tb := newProfile(t, serve(t, "-ttl", "1s", "-refresh-ttl", "2s")).open(desktop)
	tb.login("admin")
	tb.waitState("over")
	tb.waitNext("do-protected", false)
	if n := tb.next(); !strings.Contains(n.Text, "refresh window") {
		t.Errorf("the next step is %+v", n)
	}
	tb = newProfile(t, serve(t, "-ttl", "1h", "-refresh-ttl", "24h", "-grace", "0")).open(desktop)
	tb.login("admin")
	tb.click("do-protected")
	tb.waitResult("saidHello")
	tb.waitNext("do-replay", false) // not the expiry in an hour, and not a parallel refresh, which needs a grace period
}
