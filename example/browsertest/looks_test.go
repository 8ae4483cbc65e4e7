package browsertest

import (
	"cmp"
	_ "embed"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

//go:embed checks.js
var checks string

var looks = []struct {
	name string
	look
	axe bool // slow
}{
	{"desktop", look{width: 1360, height: 900, moving: true}, true},
	{"desktop-dark", look{width: 1360, height: 900, dark: true}, true},
	{"desktop-chinese", look{width: 1360, height: 900, language: "zh-CN"}, false},
	{"wide", look{width: 1920, height: 1080}, false},
	{"tablet", look{width: 820, height: 1180}, false},
	{"phone", look{width: 390, height: 844, scale: 2, mobile: true}, false},
	{"phone-dark-chinese", look{width: 320, height: 640, scale: 2, mobile: true, dark: true, language: "zh-CN"}, true},
}

// TestLooks takes screenshots for review. It checks the rules of axe (contrast, names, roles, …), those of checks.js (no text
// is cut off or untranslated, …), and navigation by the Tab key.
func TestLooks(t *testing.T) {
	t.Parallel()
	axe, err := os.ReadFile(filepath.Join("node_modules", "axe-core", "axe.min.js"))
	need(t, err == nil, "axe-core (npm ci)")
	url := serve(t, "-ttl", "3s", "-refresh-ttl", "120s", "-grace", "5s", "-max-sessions", "50") // all looks log in as one user
	for _, l := range looks {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			tb := newProfile(t, url).open(l.look)
			check := func(state string) {
				t.Helper()
				if l.axe {
					tb.checkAxe(string(axe))
				}
				for _, problem := range object[[]string](tb, fmt.Sprintf("%s.look(%d, %q)", checks, l.width, cmp.Or(l.language, "en"))) {
					t.Errorf("%s: %s", state, problem)
				}
			}
			shoot := func(state string) {
				t.Helper()
				tb.screenshot(l.name+"-"+state, true)
				check(state)
			}
			shoot("1-start")
			tb.checkTab()
			tb.enter("admin", "wrong")
			tb.waitProblem("")
			check("wrong password")
			tb.login("admin")
			tb.waitSessions()
			tb.toggleAll()
			tb.wait("all is open", `[...document.querySelectorAll(".entry, .actions .source, .sessions .source")].every((element) => element.querySelector("pre")?.checkVisibility())`)
			shoot("2-code")
			tb.checkTab()
			tb.toggleAll()
			tb.click("do-refresh")
			tb.waitResult("refreshed")
			tb.click("do-parallel")
			tb.waitResult("parallelOne")
			tb.waitState("expired")
			shoot("3-expired")
			tb.click("do-protected")
			tb.waitResult("saidHelloRefreshed")
			tb.click("do-refresh")
			tb.waitResult("refreshedSame")
			shoot("4-session")
			tb.click("do-replay")
			tb.waitState("ended")
			shoot("5-reuse")
		})
	}
}

// toggleAll opens or closes the code of all buttons and all requests of the log.
func (tb *tab) toggleAll() {
	tb.t.Helper()
	tb.eval(`document.querySelectorAll("[data-shows], .entry summary").forEach((element) => element.click())`)
}

// checkAxe runs axe in the page.
func (tb *tab) checkAxe(axe string) {
	tb.t.Helper()
	type violation struct {
		ID    string `json:"id"`
		Help  string `json:"help"`
		Nodes []struct {
			HTML    string `json:"html"`
			Summary string `json:"failureSummary"`
		} `json:"nodes"`
	}
	if tb.eval("typeof axe") == "undefined" {
		tb.do(chromedp.Evaluate[chromedp.Void](axe))
	}
	violations, err := chromedp.Run(tb.ctx, chromedp.Evaluate[[]violation](
		`axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"], rules: { "target-size": { enabled: true } } })
			.then((r) => r.violations)`,
		chromedp.EvalAwaitPromise))
	if err != nil {
		tb.t.Fatal(err)
	}
	for _, v := range violations {
		for _, node := range v.Nodes {
			tb.t.Errorf("axe: %s: %s\n%s\n%s", v.ID, v.Help, node.HTML, node.Summary)
		}
	}
}

// checkTab presses Tab until it has visited the whole page. It must reach every control, and every control must show its focus.
func (tb *tab) checkTab() {
	tb.t.Helper()
	type element struct{ Name, Problem string }
	reached := map[string]bool{}
	for around := 0; around < 3; {
		tb.do(chromedp.KeyEvent("\t"))
		focused := object[*element](tb, checks+".focused()")
		if focused == nil { // the focus is between the last and the first control
			around++
			continue
		}
		if reached[focused.Name] {
			break
		}
		reached[focused.Name] = true
		if focused.Problem != "" {
			tb.t.Errorf("focused by the Tab key: %s %s", focused.Name, focused.Problem)
		}
	}
	for _, name := range object[[]string](tb, checks+".reachable()") {
		if !reached[name] {
			tb.t.Errorf("the Tab key does not reach %s", name)
		}
	}
	tb.eval(`document.activeElement.blur()`)
}

// TestLanguage changes the language by the switch. A new tab keeps it.
func TestLanguage(t *testing.T) {
	t.Parallel()
	p := newProfile(t, serve(t))
	tb := p.open(look{language: "zh-CN"})
	tb.wait("the page is Chinese", `document.documentElement.lang === "zh-CN" && document.getElementById("title").textContent === "观察会话中的每个令牌"`)
	tb.eval(`document.querySelector("[data-language=en]").click()`)
	tb.wait("the page is English", `document.documentElement.lang === "en" && document.getElementById("title").textContent === "Watch a session, token by token"`)
	again := p.open(look{language: "zh-CN"})
	again.wait("a new tab is English as well", `document.documentElement.lang === "en"`)
}

// TestTranslations checks that both languages have all texts that the page uses, with the same placeholders, and no others.
func TestTranslations(t *testing.T) {
	sources := pageSources(t)
	texts := map[string]map[string]string{}
	language := ""
	for line := range strings.Lines(sources["i18n.js"]) {
		line = strings.TrimSpace(line)
		switch name, rest, found := strings.Cut(line, ": '"); {
		case strings.HasPrefix(line, "const ") && strings.HasSuffix(line, "= {"):
			language = strings.Fields(line)[1]
			texts[language] = map[string]string{}
		case line == "}":
			language = ""
		case found && language != "":
			texts[language][name] = strings.TrimSuffix(rest, "',")
		case language != "" && line != "":
			t.Errorf("not a text: %s", line)
		}
	}
	if len(texts["en"]) < 100 {
		t.Fatalf("found %d English texts", len(texts["en"]))
	}
	values := regexp.MustCompile(`\{\w+\}`)
	for key, english := range texts["en"] {
		chinese, found := texts["zh"][key]
		if !found {
			t.Errorf("%s has no Chinese text", key)
			continue
		}
		if e, c := set(values.FindAllString(english, -1)), set(values.FindAllString(chinese, -1)); !maps.Equal(e, c) {
			t.Errorf("%s has the placeholders %v in English and %v in Chinese", key, e, c)
		}
		if !regexp.MustCompile(`\p{Han}`).MatchString(chinese) || regexp.MustCompile(`\p{Han}`).MatchString(english) {
			t.Errorf("%s: %q and %q are not English and Chinese", key, english, chinese)
		}
	}
	for key := range texts["zh"] {
		if _, found := texts["en"][key]; !found {
			t.Errorf("%s has no English text", key)
		}
	}
	checkUses(t, texts["en"], sources)
}

// pageSources returns the text files of the page by their names.
func pageSources(t *testing.T) map[string]string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join("..", "page", "*.*"))
	if err != nil || len(names) == 0 {
		t.Fatalf("the page has no files: %v", err)
	}
	sources := map[string]string{}
	for _, name := range names {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		sources[filepath.Base(name)] = string(source)
	}
	return sources
}

func set(list []string) map[string]bool {
	all := map[string]bool{}
	for _, one := range list {
		all[one] = true
	}
	return all
}

// families are texts whose keys the page composes from a prefix and one of these names.
var families = map[string][]string{
	"over_":  ended,
	"mark_":  ended,
	"short_": {"alive", "expired", "over", "grace", "replaced", "revoked"},
	"":       {"alive", "expired", "over", "grace", "replaced", "revoked", "ended", "single", "pair", "accessToken", "refreshToken"},
}

// ended has the reasons for the end of a session: a logout, a code after which client.js removes the session, or that the
// store forgot.
var ended = []string{"logout", "logout_all", "token_missing", "token_invalid", "token_revoked", "store_forgot", "token_reused", "refresh_expired", "subject_refused"}

// checkUses compares the texts that the page uses with those that exist, and their placeholders with the values it passes.
func checkUses(t *testing.T, texts map[string]string, sources map[string]string) {
	t.Helper()
	used := map[string]bool{}
	for _, match := range regexp.MustCompile(`data-i18n(?:-label)?="([^"]*)"`).FindAllStringSubmatch(sources["index.html"], -1) {
		used[match[1]] = true
	}
	scripts := ""
	for name, source := range sources {
		if strings.HasSuffix(name, ".js") && name != "i18n.js" {
			scripts += source
		}
	}
	for _, match := range regexp.MustCompile(`\b(?:t|say)\((?:'(?:good|bad|)', )?'(\w+)'(?:\)|, \{([^}]*)\})`).FindAllStringSubmatch(scripts, -1) {
		key, given := match[1], map[string]bool{}
		used[key] = true
		for _, value := range regexp.MustCompile(`(?:^|,)\s*(\w+)`).FindAllStringSubmatch(match[2], -1) {
			given["{"+value[1]+"}"] = true
		}
		for _, value := range regexp.MustCompile(`\{\w+\}`).FindAllString(texts[key], -1) {
			if !given[value] {
				t.Errorf("%s is used without %s", key, value)
			}
		}
	}
	for prefix, names := range families {
		for _, name := range names {
			used[prefix+name] = true
		}
	}
	for key := range used {
		if _, found := texts[key]; !found {
			t.Errorf("the page uses %s, which does not exist", key)
		}
	}
	for key := range texts {
		// Other texts are used by their full key, or are optional, such as claim_exp.
		if !used[key] && !strings.Contains(scripts, "'"+key+"'") && !strings.HasPrefix(key, "claim_") && !strings.HasPrefix(key, "hint_") {
			t.Errorf("the page does not use %s", key)
		}
	}
}
