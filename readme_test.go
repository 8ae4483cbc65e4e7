// These tests check the documents: programs compile, transcripts are accurate, links resolve, translations agree.
package ginrefresh_test

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// document is a parsed Markdown file.
type document struct {
	lines    int
	blocks   []block
	headings []heading
	links    []string // targets, in order
	spans    []string // `code` in the text
}

type block struct {
	path     string
	line     int // the number of its first line; 0 if the block is indented and not fenced
	language string
	text     string
	before   string // the paragraph above it
}

// name returns the language without the words after it.
func (b block) name() string {
	name, _, _ := strings.Cut(b.language, " ")
	return name
}

// sketch reports whether the block is marked as code that does not compile.
func (b block) sketch() bool { return slices.Contains(strings.Fields(b.language), "sketch") }

type heading struct {
	level int
	text  string
}

var (
	linkPattern = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	spanPattern = regexp.MustCompile("`([^`]+)`")
)

func readDocument(t *testing.T, path string) document {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var d document
	var open *block
	paragraph, last := "", ""
	for line := range strings.Lines(string(content)) {
		d.lines++
		text := strings.TrimRight(line, "\n")
		fence, isFence := strings.CutPrefix(text, "```")
		switch {
		case isFence && open == nil:
			open = &block{path: path, line: d.lines + 1, language: fence, before: cmp.Or(paragraph, last)}
		case isFence:
			d.blocks = append(d.blocks, *open)
			open, paragraph, last = nil, "", ""
		case open != nil:
			open.text += line
		case strings.HasPrefix(text, "    ") && paragraph == "":
			d.blocks = append(d.blocks, block{text: line})
		case text == "":
			if paragraph != "" {
				last, paragraph = paragraph, ""
			}
		default:
			paragraph += line
			d.readText(text)
		}
	}
	if open != nil {
		t.Fatalf("%s: unclosed code block", path)
	}
	return d
}

func (d *document) readText(text string) {
	if level := len(text) - len(strings.TrimLeft(text, "#")); level > 0 {
		d.headings = append(d.headings, heading{level, strings.TrimSpace(text[level:])})
	}
	for _, match := range spanPattern.FindAllStringSubmatch(text, -1) {
		d.spans = append(d.spans, match[1])
	}
	for _, match := range linkPattern.FindAllStringSubmatch(spanPattern.ReplaceAllString(text, "x"), -1) {
		d.links = append(d.links, match[1])
	}
}

// anchors returns the ids that GitHub gives the headings.
func (d document) anchors() []string {
	var names []string
	seen := map[string]int{}
	for _, h := range d.headings {
		text := linkPattern.ReplaceAllString(h.text, "")
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r), unicode.IsNumber(r), r == '-', r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, text)
		n := seen[name]
		seen[name]++
		if n > 0 {
			name += "-" + strconv.Itoa(n)
		}
		names = append(names, name)
	}
	return names
}

func TestReadmeIsShort(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"README.md", "README.zh-CN.md"} {
		if d := readDocument(t, path); d.lines >= 250 {
			t.Errorf("%s has %d lines, want fewer than 250", path, d.lines)
		}
	}
}

// program returns a command that runs a main package of this module, with this secret in its environment. go run keeps the
// linked program in the build cache, from which it is copied. go build would link it anew for each run of the tests.
func program(t *testing.T, path, secret string, args ...string) *exec.Cmd {
	t.Helper()
	file := filepath.Join(t.TempDir(), "program")
	build := exec.Command("go", "run", "-ldflags=-s", "-exec", `sh -c 'cp "$0" "$PROGRAM"'`, path)
	build.Env = append(os.Environ(), "PROGRAM="+file)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%s does not compile: %v\n%s", path, err, out)
	}
	command := exec.Command(file, args...)
	command.Env = append(os.Environ(), "JWT_SECRET="+secret)
	return command
}

// The program in the README is the quickstart, byte for byte. It compiles and starts.
func TestReadmeProgram(t *testing.T) {
	t.Parallel()
	var listings []string
	for _, b := range readDocument(t, "README.md").blocks {
		if b.language == "go" {
			listings = append(listings, b.text)
		}
	}
	source, err := os.ReadFile("example/quickstart/main.go")
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(source, []byte("package main\n")) // after the package comment
	if at < 0 || len(listings) != 1 || listings[0] != string(source[at:]) {
		t.Fatalf("the go block of README.md is not example/quickstart/main.go:\n%s", listings)
	}

	out, err := program(t, "./example/quickstart", "short").CombinedOutput()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || !strings.Contains(string(out), "32 bytes or more") {
		t.Errorf("with a short secret: got %v and the output %s", err, out)
	}
}

var exampleCommand = regexp.MustCompile("`go run ./example( [^`]*)?`")

// The transcripts in the README match a real session.
func TestReadmeTranscript(t *testing.T) {
	t.Parallel()
	needTools(t, "bash", "curl", "jq")
	transcripts := 0
	for _, b := range readDocument(t, "README.md").blocks {
		if b.language != "console" {
			continue
		}
		transcripts++
		match := exampleCommand.FindStringSubmatch(b.before)
		if match == nil {
			t.Errorf("the paragraph above a transcript does not name the command that starts the server:\n%s", b.before)
			continue
		}
		address := startExample(t, strings.Fields(match[1]))
		follow(t, strings.ReplaceAll(b.text, "127.0.0.1:8080", address))
	}
	if transcripts == 0 {
		t.Error("README.md has no console block")
	}
}

// needTools skips the test if a tool is missing, or fails it if CI is set.
func needTools(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
}

// startExample runs the example until the test ends, and returns its address.
func startExample(t *testing.T, flags []string) string {
	t.Helper()
	server := program(t, "./example", "", append(flags, "-addr", "127.0.0.1:0")...)
	stdout, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	server.Stderr = &log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Signal(os.Interrupt)
		_, _ = io.Copy(io.Discard, stdout)
		if err := server.Wait(); err != nil {
			t.Errorf("the server exited with %v\n%s", err, &log)
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	address, found := strings.CutPrefix(strings.TrimSpace(line), "listening on http://")
	if err != nil || !found {
		t.Fatalf("the server printed %q, %v", line, err)
	}
	return address
}

// follow runs the commands of a transcript in one shell and compares their output.
func follow(t *testing.T, transcript string) {
	t.Helper()
	const mark = "\n-- next --\n"
	var script strings.Builder
	var commands, want []string
	for line := range strings.Lines(transcript) {
		if command, is := strings.CutPrefix(line, "$ "); is {
			script.WriteString(command + "printf '" + strings.ReplaceAll(mark, "\n", `\n`) + "'\n")
			commands, want = append(commands, command), append(want, "")
		} else if len(want) > 0 {
			want[len(want)-1] += line
		}
	}
	shell := exec.Command("bash", "-euo", "pipefail", "-c", script.String())
	shell.Env = append(os.Environ(), "no_proxy=*", "NO_PROXY=*")
	out, err := shell.Output()
	if err != nil {
		t.Errorf("bash: %v, after %s", err, out)
	}
	got := strings.Split(string(out), mark)
	for i, command := range commands {
		if i >= len(got) || strings.TrimRight(got[i], "\n") != strings.TrimRight(want[i], "\n") {
			t.Fatalf("%sprinted:\n%s\nwant:\n%s", command, got[min(i, len(got)-1)], want[i])
		}
	}
}

// The Chinese README has the same code, headings and links as the English one.
func TestReadmeTranslation(t *testing.T) {
	t.Parallel()
	english, chinese := readDocument(t, "README.md"), readDocument(t, "README.zh-CN.md")
	for i := range max(len(english.blocks), len(chinese.blocks)) {
		e, c := at(english.blocks, i), at(chinese.blocks, i)
		if e.language != c.language || e.text != c.text {
			t.Errorf("code block %d: English\n%s\nChinese\n%s", i+1, e.text, c.text)
		}
	}
	for i := range max(len(english.headings), len(chinese.headings)) {
		if e, c := at(english.headings, i), at(chinese.headings, i); e.level != c.level {
			t.Errorf("heading %d: English %+v, Chinese %+v", i+1, e, c)
		}
	}
	differ := func(kind string, e, c []string) {
		t.Helper()
		for text, n := range counts(e, c) {
			if n != 0 {
				t.Errorf("%s %q: English has %d more than Chinese", kind, text, n)
			}
		}
	}
	switches := []string{"README.md", "README.zh-CN.md"}
	isSwitch := func(link string) bool { return slices.Contains(switches, link) }
	if !slices.Contains(english.links, switches[1]) || !slices.Contains(chinese.links, switches[0]) {
		t.Error("the READMEs do not link to each other")
	}
	for i, link := range chinese.links { // a page in docs counts as the English page of the same name
		chinese.links[i] = strings.Replace(link, ".zh-CN.md", ".md", 1)
	}
	differ("the link", slices.DeleteFunc(english.links, isSwitch), slices.DeleteFunc(chinese.links, isSwitch))
	differ("the code", english.spans, chinese.spans)
}

func at[T any](list []T, i int) (none T) {
	if i < len(list) {
		return list[i]
	}
	return none
}

func counts(more, less []string) map[string]int {
	n := map[string]int{}
	for _, text := range more {
		n[text]++
	}
	for _, text := range less {
		n[text]--
	}
	return n
}

var scriptComment = regexp.MustCompile(`(?m)\s*//.*$`)

// The recipes for client.js are the files that client/test runs. In the Chinese page their comments are translated.
func TestRecipes(t *testing.T) {
	t.Parallel()
	for path, normalize := range map[string]func(string) string{
		"docs/client.md":       func(code string) string { return code },
		"docs/client.zh-CN.md": func(code string) string { return scriptComment.ReplaceAllString(code, "") },
	} {
		recipes := 0
		for _, b := range readDocument(t, path).blocks {
			name, found := strings.CutPrefix(b.language, "js ")
			if !found {
				continue
			}
			recipes++
			file, err := os.ReadFile("client/test/recipes/" + name + ".js")
			if err != nil {
				t.Error(err)
			}
			if normalize(b.text) != normalize(string(file)) {
				t.Errorf("%s: the block %q is not %s.js in client/test/recipes:\n%s", path, b.language, name, b.text)
			}
		}
		if recipes != 4 {
			t.Errorf("%s has %d recipes, want 4", path, recipes)
		}
	}
}

// Every relative link has a target file, and its anchor a heading in that file.
func TestLinks(t *testing.T) {
	t.Parallel()
	documents := map[string]document{}
	for _, pattern := range []string{"*.md", "docs/*.md", "client/*.md"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			documents[path] = readDocument(t, path)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(documents)) {
		for _, link := range documents[path].links {
			if strings.Contains(link, "://") || strings.HasPrefix(link, "mailto:") {
				continue
			}
			file, anchor, hasAnchor := strings.Cut(link, "#")
			target := path
			if file != "" {
				target = filepath.Join(filepath.Dir(path), file)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", path, link, err)
				continue
			}
			if hasAnchor && !slices.Contains(documents[target].anchors(), anchor) {
				t.Errorf("%s links to %s: %s does not have this heading, only %q", path, link, target, documents[target].anchors())
			}
		}
	}
}
