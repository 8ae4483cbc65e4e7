package browsertest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

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

// TestLooks takes the pictures for people to look at, and checks what a program can of how the page looks: that
// it does not scroll sideways, and the rules of axe (contrast, names, roles, …).
func TestLooks(t *testing.T) {
	t.Parallel()
	axe, err := os.ReadFile(filepath.Join("node_modules", "axe-core", "axe.min.js"))
	need(t, err == nil, "axe-core (npm ci)")
	url := serve(t, "-ttl", "3s", "-refresh-ttl", "120s", "-grace", "5s")
	for _, l := range looks {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			tb := newProfile(t, url).open(l.look)
			shoot := func(state string) {
				t.Helper()
				tb.screenshot(l.name+"-"+state, true)
				if l.axe {
					tb.checkAxe(string(axe))
				}
				if tb.eval(`document.scrollingElement.scrollWidth > innerWidth`) == "true" {
					t.Errorf("%s: the page scrolls sideways: %s", state, tb.eval(`document.scrollingElement.scrollWidth`))
				}
			}
			shoot("1-start")
			tb.login("admin")
			tb.click("do-refresh")
			tb.waitResult("refreshed")
			tb.click("do-parallel")
			tb.waitResult("parallelOne")
			tb.waitState("expired")
			if l.axe {
				shoot("2-expired")
			}
			tb.click("do-protected")
			tb.waitResult("saidHelloRefreshed")
			tb.click("do-refresh")
			tb.waitResult("refreshed")
			shoot("3-session")
			tb.click("do-replay")
			tb.waitState("ended")
			shoot("4-reuse")
		})
	}
}

// checkAxe runs axe in the page as it stands.
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
		`axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }).then((r) => r.violations)`,
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

// TestLanguage changes it by the switch, and keeps it.
func TestLanguage(t *testing.T) {
	t.Parallel()
	p := newProfile(t, serve(t))
	tb := p.open(look{language: "zh-CN"})
	tb.wait("the page is Chinese", `document.documentElement.lang === "zh-CN" && document.getElementById("title").textContent === "看一枚令牌的一生"`)
	tb.eval(`document.querySelector("[data-language=en]").click()`)
	tb.wait("the page is English", `document.documentElement.lang === "en" && document.getElementById("title").textContent === "Watch a token live"`)
	again := p.open(look{language: "zh-CN"})
	again.wait("it is kept", `document.documentElement.lang === "en"`)
}

// TestTranslations has every text in both languages, with the same values in it.
func TestTranslations(t *testing.T) {
	source, err := os.ReadFile(filepath.Join("..", "page", "i18n.js"))
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]map[string]string{}
	language := ""
	for line := range strings.Lines(string(source)) {
		line = strings.TrimSpace(line)
		switch name, rest, found := strings.Cut(line, ": '"); {
		case strings.HasPrefix(line, "const ") && strings.HasSuffix(line, "= {"):
			language = strings.Fields(line)[1]
			texts[language] = map[string]string{}
		case line == "}":
			language = ""
		case found && language != "":
			texts[language][name] = strings.TrimSuffix(rest, "',")
		}
	}
	if len(texts["en"]) < 100 {
		t.Fatalf("found %d English texts", len(texts["en"]))
	}
	for key, english := range texts["en"] {
		chinese, found := texts["zh"][key]
		if !found {
			t.Errorf("%s is not in Chinese", key)
		}
		for _, value := range []string{"{n}", "{ok}", "{distinct}", "{time}", "{msg}", "{status}", "{code}", "{mode}", "{total}", "{state}"} {
			if strings.Contains(english, value) != strings.Contains(chinese, value) {
				t.Errorf("%s: %s is in one language only", key, value)
			}
		}
	}
	for key := range texts["zh"] {
		if _, found := texts["en"][key]; !found {
			t.Errorf("%s is not in English", key)
		}
	}
}
