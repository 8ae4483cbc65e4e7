package browsertest

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// code is the code that the page shows for a group of buttons.
type code struct{ Go, Shell string }

// showCode opens the code of a group.
func (tb *tab) showCode(group string) code {
	tb.t.Helper()
	tb.click("show-" + group)
	box := `document.getElementById("code-` + group + `")`
	tb.wait("the code of "+group+" is shown", box+`.checkVisibility() && `+box+`.querySelector(".go")`)
	return object[code](tb, `({ go: `+box+`.querySelector(".go").textContent, shell: `+box+`.querySelector(".shell")?.textContent ?? "" })`)
}

// parts are what the Go code of a group must contain, so that it explains the buttons.
var parts = map[string][]string{
	"login":    {`r.POST("/login", auth.LoginHandler)`, "Authenticate: ", ") authenticate(c *gin.Context)"},
	"use":      {`r.GET("/protected", `, `r.GET("/renewing", `, "auth.AutoRefresh(", "func hello("},
	"renew":    {`r.POST("/refresh", auth.RefreshHandler)`, "TTL: ", "RefreshTTL: ", "Grace: "},
	"attack":   {`r.POST("/refresh", auth.RefreshHandler)`, "Grace: ", "OnEvent: "},
	"end":      {`r.POST("/logout", auth.LogoutHandler)`, `r.POST("/logout/all", auth.LogoutAllHandler)`, "Store: "},
	"sessions": {`r.GET("/sessions", `, `r.DELETE("/sessions/:id", `, `r.POST("/logout/others", `, "MaxSessions: "},
}

// TestGoCode checks that the code behind the buttons is the code of this server: every line is one of app.go.
func TestGoCode(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile(filepath.Join("..", "app.go"))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(source)) {
		lines = append(lines, strings.TrimSpace(line))
	}
	url := serve(t)
	if _, body := get(t, url+"/app.go", nil); string(body) != string(source) {
		t.Error("the server does not serve its own app.go")
	}
	tb := newProfile(t, url).open(desktop)
	check := func(group string) {
		shown := tb.showCode(group).Go
		for line := range strings.Lines(shown) {
			if !slices.Contains(lines, strings.TrimSpace(line)) {
				t.Errorf("%s: app.go has no line %q", group, line)
			}
		}
		for _, part := range parts[group] {
			if !strings.Contains(shown, part) {
				t.Errorf("%s: the code lacks %q:\n%s", group, part, shown)
			}
		}
		if n := strings.Count(shown, "\n"); n > 25 {
			t.Errorf("%s: the code has %d lines", group, n)
		}
		tb.click("show-" + group)
		tb.wait("the code of "+group+" is closed", `document.getElementById("code-`+group+`").hidden`)
	}
	check("login")
	tb.login("admin")
	tb.waitSessions()
	for group := range parts {
		if group != "login" {
			check(group)
		}
	}
}

// TestCurl runs the curl commands behind the buttons, one group after the other. They print what the server answers to the
// buttons.
func TestCurl(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			tb := newProfile(t, serve(t, append([]string{"-grace", "2s"}, mode.flags...)...)).open(desktop)
			login := tb.showCode("login").Shell
			tb.login("admin")
			tb.waitSessions()
			folder := t.TempDir()
			for _, c := range []struct {
				group string
				want  map[string]int // how often the output has a text
			}{
				{"use", map[string]int{`{"msg":"Hello, admin!"}`: 2}},
				{"renew", map[string]int{`"expires_in":`: 21}},
				{"attack", map[string]int{`"expires_in":`: 1, `"code":"token_reused"`: 1}},
				{"end", map[string]int{`"code":"token_`: 1}}, // the second logout: the first has ended the session
				{"sessions", map[string]int{`"label":"Chrome on Linux"`: 1, `"current":true`: 1, `"code":`: 0}},
			} {
				if c.group == "use" && strings.HasPrefix(mode.name, "pair") {
					c.want = map[string]int{`{"msg":"Hello, admin!"}`: 1}
				}
				output := shell(t, folder, "{ "+login+"\n} > login.json\n"+tb.showCode(c.group).Shell)
				for text, n := range c.want {
					if strings.Count(output, text) != n {
						t.Errorf("%s: %d times %s, want %d:\n%s", c.group, strings.Count(output, text), text, n, output)
					}
				}
			}
			tb.click("do-protected")
			tb.waitState("ended") // by the last command, which logs out the others
		})
	}
}

// TestLinks checks that the links lead to files of the repository, and open without access to the page.
func TestLinks(t *testing.T) {
	t.Parallel()
	const repository = "https://github.com/ginrefresh/ginrefresh/blob/main/"
	type link struct{ Href, Rel, Target string }
	links := func(tb *tab) []link {
		return object[[]link](tb, `[...document.querySelectorAll("footer a")].map(({ href, rel, target }) => ({ href, rel, target }))`)
	}
	url := serve(t)
	for language, readme := range map[string]string{"en-GB": "README.md", "zh-CN": "README.zh-CN.md"} {
		tb := newProfile(t, url).open(look{language: language})
		var files []string
		for _, l := range links(tb) {
			if path, found := strings.CutPrefix(l.Href, url); found {
				if answer, _ := get(t, url+path, nil); answer.StatusCode != http.StatusOK {
					t.Errorf("%s: %s", path, answer.Status)
				}
				continue
			}
			path, found := strings.CutPrefix(l.Href, repository)
			_, err := os.Stat(filepath.Join("..", "..", filepath.FromSlash(path)))
			if !found || err != nil {
				t.Errorf("%s: %s is no file of the repository: %v", language, l.Href, err)
			}
			if l.Rel != "noopener" || l.Target != "_blank" {
				t.Errorf("%s: %s opens with rel=%q and target=%q", language, l.Href, l.Rel, l.Target)
			}
			files = append(files, path)
		}
		if !slices.Contains(files, readme) || len(files) < 4 {
			t.Errorf("%s: the links are %q", language, files)
		}
		tb.eval(`document.querySelector("[data-language=zh-CN]").click()`)
		tb.eval(`document.querySelector("[data-language=en]").click()`)
		if again := fmt.Sprint(links(tb)); strings.Contains(again, "zh-CN") || !strings.Contains(again, repository+"README.md") {
			t.Errorf("in English the links are %s", again)
		}
	}
}
