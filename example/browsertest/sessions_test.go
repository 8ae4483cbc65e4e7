package browsertest

import (
	"fmt"
	"testing"
)

// waitSessions waits until the list of sessions is up to date after an action.
func (tb *tab) waitSessions() {
	tb.t.Helper()
	tb.wait("the list of sessions is there", `!document.documentElement.hasAttribute("data-busy") && document.getElementById("sessions").checkVisibility()`)
}

// waitListed waits until the list has so many sessions. One of them is this one, and each other one has a button.
func (tb *tab) waitListed(n int) {
	tb.t.Helper()
	tb.waitSessions()
	tb.wait(fmt.Sprintf("%d sessions are listed", n), fmt.Sprintf(`document.querySelectorAll("#session-list li").length === %d
		&& document.querySelectorAll("#session-list .pill").length === 1 && document.querySelectorAll("#session-list .ends").length === %d`, n, n-1))
}

// TestSessions ends sessions of one user from another browser.
func TestSessions(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			url := serve(t, append([]string{"-ttl", "60s", "-refresh-ttl", "120s"}, mode.flags...)...)
			laptop, phone, tablet, other := newProfile(t, url).open(desktop), newProfile(t, url).open(desktop), newProfile(t, url).open(desktop), newProfile(t, url).open(desktop)
			laptop.login("alice")
			laptop.waitListed(1)
			if label := laptop.eval(`document.querySelector("#session-list .mono").textContent`); label != "Chrome on Linux" {
				t.Errorf("the label is %q, want Chrome on Linux", label)
			}
			if laptop.eval(`document.getElementById("do-logout-others").disabled`) != "true" {
				t.Error("the others can be logged out, but there are none")
			}
			other.login("admin")
			phone.login("alice")
			phone.waitListed(2)
			tablet.login("alice")
			tablet.waitListed(3)
			phone.eval(`document.dispatchEvent(new Event("visibilitychange"))`) // the user comes back to the tab
			phone.waitListed(3)

			laptop.click("update-sessions")
			laptop.waitListed(3)
			laptop.click("end-" + phone.kept().SID)
			laptop.waitResult("endedSession")
			laptop.waitListed(2)
			phone.click("do-protected")
			phone.waitState("ended")
			if ended := phone.kept().Ended; ended == nil || ended.Code != "token_revoked" {
				t.Errorf("the session of the phone ended by %+v", ended)
			}
			phone.wait("the list is hidden", `document.getElementById("sessions").hidden`)

			laptop.click("do-logout-others")
			laptop.waitResult("endedOthers")
			laptop.waitListed(1)
			tablet.click("do-protected")
			tablet.waitState("ended")
			for _, tb := range []*tab{laptop, other} {
				tb.click("do-protected")
				tb.waitResult("saidHello")
			}
		})
	}
}

// TestSessionsOff checks that there is no list if the server keeps none.
func TestSessionsOff(t *testing.T) {
	t.Parallel()
	tb := newProfile(t, serve(t, "-max-sessions", "0")).open(desktop)
	tb.login("alice")
	tb.click("do-protected")
	tb.waitResult("saidHello")
	tb.wait("the page is idle", `!document.documentElement.hasAttribute("data-busy")`)
	if tb.eval(`document.getElementById("sessions").hidden`) != "true" || tb.sent("GET /sessions") > 0 {
		t.Error("the page shows a list of sessions, or requested it")
	}
}
