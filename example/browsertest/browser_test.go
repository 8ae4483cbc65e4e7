// Package browsertest tests the page of the example in a real Chromium.
//
//	npm ci && go test ./...
//
// The tests need Chromium and npm. CHROMIUM is the path of Chromium if it is not in PATH. Without these tools the tests are
// skipped, or fail if CI is set. ARTEFACTS is a folder for the screenshots.
package browsertest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// patience is the time limit for conditions that become true soon, on a busy machine.
const patience = 15 * time.Second

var (
	exampleBinary string          // the server under test
	browser       context.Context // one Chromium for all tests, nil if it is not installed
)

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	flag.Parse()
	err := errors.Join(
		// The tests mostly wait for tokens to expire, so more of them can run than there are processors.
		flag.Set("test.parallel", "4"),
		// The tests build and run the server and its page. Go caches a result by the log of what the test read,
		// which does not include those. Without the log it caches nothing.
		flag.Set("test.testlogfile", ""),
	)
	if err != nil {
		return 0, err
	}
	folder, err := os.MkdirTemp("", "browsertest")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(folder)

	exampleBinary = os.Getenv("EXAMPLE_BINARY") // a binary that was built before
	if exampleBinary == "" {
		exampleBinary = filepath.Join(folder, "example")
		build := exec.Command("go", "build", "-o", exampleBinary, "./example")
		build.Dir = filepath.Join("..", "..")
		if output, err := build.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("building the example: %w\n%s", err, output)
		}
	}
	if chromium := findChromium(); chromium != "" {
		ctx, stop, err := startChromium(chromium, filepath.Join(folder, "profile"))
		if err != nil {
			return 0, fmt.Errorf("starting %s: %w", chromium, err)
		}
		defer stop()
		browser = ctx
	}
	return m.Run(), nil
}

func findChromium() string {
	for _, name := range []string{os.Getenv("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// startChromium starts Chromium with a profile and more flags.
func startChromium(path, profile string, flags ...chromedp.ExecAllocatorOption) (context.Context, func(), error) {
	fonts, err := filepath.Abs(filepath.Join("testdata", "fonts.conf"))
	if err != nil {
		return nil, nil, err
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.UserDataDir(profile),
		chromedp.Env("FONTCONFIG_FILE="+fonts),
		chromedp.Flag("headless", "new"),
		chromedp.NoSandbox, // CI runs as root
		chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
	)
	options = append(options, flags...)
	allocator, stopAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, stopBrowser := chromedp.NewContext(allocator)
	stop := func() {
		_ = chromedp.Cancel(ctx) // waits for the process
		stopBrowser()
		stopAllocator()
	}
	if err := chromedp.Do(ctx); err != nil {
		stop()
		return nil, nil, err
	}
	return ctx, stop, nil
}

// need skips the test if a tool is missing, or fails it in CI.
func need(t *testing.T, there bool, what string) {
	t.Helper()
	if there {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is missing", what)
	}
	t.Skipf("%s is missing", what)
}

// serve starts the example with flags and returns its URL.
func serve(t *testing.T, flags ...string) string {
	t.Helper()
	url, _ := servePrinting(t, flags...)
	return url
}

// servePrinting is serve that also returns what the example printed before it listened.
func servePrinting(t *testing.T, flags ...string) (url, printed string) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	server := exec.CommandContext(ctx, exampleBinary, append([]string{"-addr", "127.0.0.1:0"}, flags...)...)
	server.Env = append(os.Environ(), "JWT_SECRET=") // a random key, whatever the environment of the user
	server.Cancel = func() error { return server.Process.Signal(os.Interrupt) }
	server.WaitDelay = 5 * time.Second
	var diagnosis strings.Builder
	server.Stderr = &diagnosis
	output, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = server.Wait()
		if t.Failed() {
			lines := strings.Split(diagnosis.String(), "\n")
			t.Logf("the end of the server's log:\n%s", strings.Join(lines[max(0, len(lines)-12):], "\n"))
		}
	})
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		if url, found := strings.CutPrefix(lines.Text(), "listening on "); found {
			return url, printed
		}
		printed += lines.Text() + "\n"
	}
	stop()
	_ = server.Wait()
	t.Fatalf("the example did not start with %q: %s", flags, diagnosis.String())
	return "", ""
}

// profile is a browser profile with its own cookies and storage, which its tabs share.
type profile struct {
	t   *testing.T
	ctx context.Context
	url string
}

func newProfile(t *testing.T, url string) *profile {
	t.Helper()
	need(t, browser != nil, "Chromium")
	ctx, stop := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(stop)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	return &profile{t: t, ctx: ctx, url: url}
}

// look configures the display of a tab.
type look struct {
	width, height int64
	scale         float64
	mobile, dark  bool
	moving        bool // without prefers-reduced-motion
	language      string
	script        string // runs before the page's
}

var desktop = look{width: 1360, height: 900}

// tab is a tab with the page. It records errors and requests to another origin, which fail the test.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	problems []string
	requests []string // "POST /refresh"
}

// open opens the page in a new tab.
func (p *profile) open(l look) *tab {
	p.t.Helper()
	if l.width == 0 {
		l.width, l.height = desktop.width, desktop.height
	}
	if l.scale == 0 {
		l.scale = 1
	}
	if l.language == "" {
		l.language = "en-GB"
	}
	tb := &tab{t: p.t}
	ctx, stop := chromedp.NewContext(p.ctx, chromedp.WithListener(func(event any) { tb.note(p.url, event) }))
	tb.ctx = ctx
	p.t.Cleanup(func() {
		tb.mu.Lock()
		defer tb.mu.Unlock()
		for _, problem := range tb.problems {
			p.t.Error(problem)
		}
		stop()
	})
	scheme := "light"
	if l.dark {
		scheme = "dark"
	}
	motion := "reduce"
	if l.moving {
		motion = "no-preference"
	}
	agent := tb.eval("navigator.userAgent")
	tb.do(
		command(network.Enable, network.EnableParams{}),
		command(log.Enable, cdp.Empty{}),
		command(emulation.SetUserAgentOverride, emulation.SetUserAgentOverrideParams{
			UserAgent: strings.Replace(agent, "Headless", "", 1), AcceptLanguage: l.language,
		}),
		command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme},
			{Name: "prefers-reduced-motion", Value: motion}, // reduces the load on the machine
		}}),
		command(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
			Width: l.width, Height: l.height, DeviceScaleFactor: l.scale, Mobile: l.mobile,
		}),
		command(page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: l.script}),
		chromedp.Navigate(p.url),
	)
	tb.wait("the page starts", `!document.documentElement.classList.contains("starting")`)
	return tb
}

func command[P, R any](c cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, c, params)
		return err
	})
}

// note records an event of the browser.
func (tb *tab) note(origin string, event any) {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		tb.problems = append(tb.problems, "exception: "+e.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		tb.problems = append(tb.problems, fmt.Sprintf("console.%s was called", e.Type))
	case *log.EventEntryAdded:
		// The browser logs every 401. A 401 is not an error of the page. Neither is a thief who is rejected.
		if e.Entry.Source == log.EntrySourceNetwork && (strings.Contains(e.Entry.Text, "401") ||
			strings.HasSuffix(e.Entry.URL, "/session/bind") || strings.Contains(e.Entry.Text, "400") && strings.HasSuffix(e.Entry.URL, "/refresh")) {
			return
		}
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			tb.problems = append(tb.problems, fmt.Sprintf("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL))
		}
	case *network.EventRequestWillBeSent:
		path, same := strings.CutPrefix(e.Request.URL, origin)
		if !same && e.Request.URL != "about:blank" {
			tb.problems = append(tb.problems, "a request to another origin: "+e.Request.URL)
		}
		tb.requests = append(tb.requests, e.Request.Method+" "+path)
	}
}

// sent returns the number of requests so far, such as "POST /refresh".
func (tb *tab) sent(request string) int {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	n := 0
	for _, r := range tb.requests {
		if r == request {
			n++
		}
	}
	return n
}

func (tb *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	tb.t.Helper()
	if err := chromedp.Do(tb.ctx, steps...); err != nil {
		tb.t.Fatal(err)
	}
}

// eval evaluates JavaScript and returns the value as a string.
func (tb *tab) eval(script string) string {
	tb.t.Helper()
	value, err := chromedp.Run(tb.ctx, chromedp.Evaluate[string]("String("+script+")"))
	if err != nil {
		tb.t.Fatalf("%s: %v", script, err)
	}
	return value
}

// object reads a JSON value from the page.
func object[T any](tb *tab, script string) T {
	tb.t.Helper()
	var value T
	if err := json.Unmarshal([]byte(tb.eval("JSON.stringify("+script+")")), &value); err != nil {
		tb.t.Fatalf("%s: %v", script, err)
	}
	return value
}

// wait waits until a condition is true in the page. It polls from outside, because the policy of the page forbids eval.
func (tb *tab) wait(what, condition string) {
	tb.t.Helper()
	deadline := time.Now().Add(patience)
	for tick := time.Tick(20 * time.Millisecond); tb.eval("Boolean("+condition+")") != "true"; <-tick {
		if time.Now().After(deadline) {
			tb.t.Fatalf("timeout waiting until %s; the page shows: %s", what, tb.eval(`document.documentElement.dataset.state + " | " + document.getElementById("result").textContent + " | " + document.getElementById("problem").textContent + " | " + document.getElementById("log").textContent`))
		}
	}
}

// click clicks at the position of the element, like a user does: an element that covers it receives the click.
func (tb *tab) click(id string) {
	tb.t.Helper()
	tb.wait(id+" can be used", `!document.getElementById("`+id+`").disabled && !document.documentElement.hasAttribute("data-busy")`)
	tb.do(chromedp.Click(chromedp.ID(id), chromedp.NodeVisible))
}

// seen returns a condition: the element is visible and has a text.
func seen(id string) string {
	return `document.getElementById("` + id + `").checkVisibility({ opacityProperty: true, visibilityProperty: true }) && document.getElementById("` + id + `").textContent !== ""`
}

func (tb *tab) waitState(state string) {
	tb.t.Helper()
	shown := seen("state")
	if state == "none" || state == "ended" {
		shown = seen("lead")
	}
	tb.wait("the session is "+state, `document.documentElement.dataset.state === "`+state+`" && `+shown)
}

func (tb *tab) waitResult(key string) {
	tb.t.Helper()
	tb.wait("the page shows "+key, `document.getElementById("result").dataset.key === "`+key+`" && `+seen("result"))
}

// waitProblem waits for the message of the login form.
func (tb *tab) waitProblem(text string) {
	tb.t.Helper()
	tb.wait("the page shows "+text, seen("problem")+` && document.getElementById("problem").textContent.includes("`+text+`")`)
}

// login logs in with the keyboard alone.
func (tb *tab) login(name string) {
	tb.t.Helper()
	tb.enter(name, name)
	tb.waitSignedIn()
}

// enter fills in the login form and submits it with the keyboard alone.
func (tb *tab) enter(name, password string) {
	tb.t.Helper()
	tb.wait("the form is there", `document.getElementById("login").getClientRects().length > 0`)
	tb.do(
		chromedp.SetValue(chromedp.ID("username"), name),
		chromedp.SetValue(chromedp.ID("password"), password),
		chromedp.Focus(chromedp.ID("password")),
		chromedp.KeyEvent("\r"),
	)
}

// waitSignedIn waits for a session. Its token may have expired already, on a busy machine.
func (tb *tab) waitSignedIn() {
	tb.t.Helper()
	tb.wait("there is a session", `document.documentElement.classList.contains("signed-in")`)
}

// kept is the history that the page stores.
type kept struct {
	SID    string `json:"sid"`
	Tokens []struct {
		ID      string `json:"id"`
		Access  string `json:"access"`
		Refresh string `json:"refresh"`
	} `json:"tokens"`
	Ended *struct {
		Code string `json:"code"`
	} `json:"ended"`
}

func (tb *tab) kept() kept {
	tb.t.Helper()
	return object[kept](tb, `JSON.parse(localStorage.getItem("ginrefresh.history"))`)
}

// screenshot saves a picture of the whole page, or of the window.
func (tb *tab) screenshot(name string, whole bool) {
	tb.t.Helper()
	folder := os.Getenv("ARTEFACTS")
	if folder == "" {
		folder = tb.t.TempDir()
	}
	result, err := chromedp.Run(tb.ctx, func(ctx context.Context, t *chromedp.Target) ([]byte, error) {
		params := page.CaptureScreenshotParams{CaptureBeyondViewport: &whole}
		if whole {
			metrics, err := cdp.Call(ctx, t, page.GetLayoutMetrics, cdp.Empty{})
			if err != nil {
				return nil, err
			}
			size := metrics.CSSContentSize
			params.Clip = &page.Viewport{Width: size.Width, Height: size.Height, Scale: 1}
		}
		picture, err := cdp.Call(ctx, t, page.CaptureScreenshot, params)
		return picture.Data, err
	})
	err = errors.Join(err, os.MkdirAll(folder, 0o755), os.WriteFile(filepath.Join(folder, name+".png"), result, 0o644))
	if err != nil {
		tb.t.Fatal(err)
	}
}
