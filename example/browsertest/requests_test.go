package browsertest

import (
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// jwt matches a whole token.
var jwt = regexp.MustCompile(`eyJ[\w-]+\.[\w-]+\.[\w-]+`)

// withClipboard is a desktop whose page writes to window.copied instead of the clipboard.
func withClipboard() look {
	l := desktop
	l.script = `Object.defineProperty(Navigator.prototype, "clipboard", { get: () => ({ writeText: async (text) => { window.copied = text } }) })`
	return l
}

// openEntry opens the newest entry of the log for a path, and returns its text.
func (tb *tab) openEntry(path string) string {
	tb.t.Helper()
	entry := `document.querySelector("#log [data-path='` + path + `']")`
	tb.eval(entry + `.querySelector("summary").click()`)
	tb.wait("the entry is open", entry+`.open && `+entry+`.querySelector("pre")`)
	return object[string](tb, entry+`.innerText`)
}

// copyAsCurl copies the open entry for a path as a curl command.
func (tb *tab) copyAsCurl(path string) string {
	tb.t.Helper()
	tb.eval(`document.querySelector("#log [data-path='` + path + `'] .copy button").click()`)
	tb.wait("the command is copied", `window.copied`)
	return object[string](tb, `(() => { const text = window.copied; delete window.copied; return text })()`)
}

// shell runs a command in a folder and returns what it prints.
func shell(t *testing.T, folder, command string) string {
	t.Helper()
	for _, tool := range []string{"bash", "curl", "jq"} {
		_, err := exec.LookPath(tool)
		need(t, err == nil, tool)
	}
	shell := exec.CommandContext(t.Context(), "bash", "-c", command)
	shell.Dir = folder
	output, err := shell.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, command, output)
	}
	return string(output)
}

// TestRequests opens requests in the log, and runs the curl commands that they copy.
func TestRequests(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			p := newProfile(t, serve(t, append([]string{"-ttl", "60s"}, mode.flags...)...))
			tb := p.open(withClipboard())
			tb.login("admin")
			tb.click("do-protected")
			tb.waitResult("saidHello")

			login := tb.openEntry("/login")
			wants := []string{"POST /login", "content-type: application/json", `"username": "admin"`, `"password": "…"`, "200", "cache-control: no-store", `"expires_in": 60`}
			if !mode.cookies {
				wants = append(wants, `"access_token": "eyJ`)
			}
			for _, want := range wants {
				if !strings.Contains(login, want) {
					t.Errorf("the login lacks %s:\n%s", want, login)
				}
			}
			protected := tb.openEntry("/protected")
			if !mode.cookies && !regexp.MustCompile(`authorization: Bearer eyJ\w+…[\w-]+\n`).MatchString(protected) || !strings.Contains(protected, `"msg": "Hello, admin!"`) {
				t.Errorf("the request is shown as\n%s", protected)
			}
			if token := jwt.FindString(login + protected); token != "" {
				t.Errorf("the log shows the token %s", token)
			}

			folder := t.TempDir()
			if answer := shell(t, folder, tb.copyAsCurl("/login")); !strings.Contains(answer, `"expires_in":60`) {
				t.Errorf("the copied login is answered %s", answer)
			}
			if answer := shell(t, folder, tb.copyAsCurl("/protected")); answer != `{"msg":"Hello, admin!"}` {
				t.Errorf("the copied request is answered %s", answer)
			}
		})
	}
}

// TestRequestsQuoted checks that a password cannot end the quotes of a copied command.
func TestRequestsQuoted(t *testing.T) {
	t.Parallel()
	tb := newProfile(t, serve(t)).open(withClipboard())
	tb.enter("admin", `a'; echo "broken" #`)
	tb.waitProblem("wrong user name or password")
	tb.openEntry("/login")
	if answer := shell(t, t.TempDir(), tb.copyAsCurl("/login")); strings.Contains(answer, "broken") || !strings.Contains(answer, "invalid_credentials") {
		t.Errorf("the copied login is answered %s", answer)
	}
}

// TestRequestsNoClipboard checks that the command is shown where a page cannot write to the clipboard.
func TestRequestsNoClipboard(t *testing.T) {
	t.Parallel()
	l := desktop
	l.script = `Object.defineProperty(Navigator.prototype, "clipboard", { get: () => undefined })`
	p := newProfile(t, serve(t))
	tb := p.open(l)
	tb.login("admin")
	tb.openEntry("/login")
	tb.eval(`document.querySelector("#log .copy button").click()`)
	tb.wait("the command is shown", `document.querySelector("#log .copy code")?.textContent.includes(`+strconv.Quote(p.url+"/login")+`)`)
}
