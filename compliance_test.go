package ginrefresh_test

import (
	"fmt"
	"go/ast"
	"go/build"
	"go/doc"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// These tests check docs/compliance.md: every requirement that it calls satisfied or optional has a test, and that test runs.

const compliancePage = "docs/compliance.md"

// statuses are the words of the column "status", and whether such a row needs a test.
var statuses = map[string]bool{"✔ satisfied": true, "⚙ optional": true, "application": false, "✘ not": false}

// complianceHeader starts each table of requirements.
var complianceHeader = []string{"requirement", "in short", "status", "how", "test"}

func TestCompliance(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(compliancePage)
	if err != nil {
		t.Fatal(err)
	}
	c, named := testFinder{}, map[string]bool{}
	for _, table := range complianceTables(string(page)) {
		for _, problem := range tableProblems(c, "docs", table) {
			t.Error(problem)
		}
		for _, row := range table {
			for _, link := range testLinks(row[4]) {
				named[link.name] = true
			}
		}
	}
	if len(named) < 50 { // a table that is not recognized must not pass
		t.Errorf("%s names only %d tests", compliancePage, len(named))
	}
}

// The presets on the page are the lines that a test runs.
func TestCompliancePresets(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("middleware/compliance_test.go")
	if err != nil {
		t.Fatal(err)
	}
	presets := 0
	for _, b := range readDocument(t, compliancePage).blocks {
		if b.language != "go" {
			continue
		}
		presets++
		if !strings.Contains(string(source), b.text) {
			t.Errorf("no test runs the presets\n%s", b.text)
		}
	}
	if presets != 1 {
		t.Errorf("%s has %d go blocks, want one", compliancePage, presets)
	}
}

// complianceTables returns the rows of each table of requirements, without its header.
func complianceTables(page string) (tables [][][]string) {
	inside := false
	for line := range strings.Lines(page) {
		cells := tableCells(line)
		switch {
		case cells == nil:
			inside = false
		case slices.Equal(cells, complianceHeader):
			inside, tables = true, append(tables, nil)
		case inside && strings.Trim(strings.Join(cells, ""), "-:") != "":
			last := len(tables) - 1
			tables[last] = append(tables[last], cells)
		}
	}
	return tables
}

// tableCells returns the cells of a table's row, or nil for another line.
func tableCells(line string) (cells []string) {
	line = strings.TrimSpace(line)
	if !strings.HasPrefix(line, "|") || !strings.HasSuffix(line, "|") {
		return nil
	}
	for cell := range strings.SplitSeq(strings.Trim(line, "|"), "|") {
		cells = append(cells, strings.TrimSpace(cell))
	}
	return cells
}

// tableProblems checks the rows of one table. Links are relative to dir.
func tableProblems(c testFinder, dir string, rows [][]string) (problems []string) {
	seen := map[string]bool{}
	for _, row := range rows {
		report := func(format string, args ...any) {
			problems = append(problems, fmt.Sprintf("%s: %s", row[0], fmt.Sprintf(format, args...)))
		}
		if len(row) != len(complianceHeader) {
			report("the row has %d cells, want %d", len(row), len(complianceHeader))
			continue
		}
		if seen[row[0]] {
			report("the requirement has two rows")
		}
		seen[row[0]] = true
		needsTest, known := statuses[row[2]]
		links := testLinks(row[4])
		switch {
		case !known:
			report("the status is %q", row[2])
		case needsTest && len(links) == 0:
			report("the status is %q, but the row names no test", row[2])
		case len(links) == 0 && row[4] != "":
			report("%q is not a link to a test", row[4])
		}
		for _, link := range links {
			if err := c.check(filepath.Join(dir, filepath.FromSlash(link.file)), link.name); err != nil {
				report("%v", err)
			}
		}
	}
	return problems
}

type testLink struct{ name, file string }

var testLinkPattern = regexp.MustCompile("\\[`(\\w+)`\\]\\(([^)\\s]+)\\)")

func testLinks(cell string) (links []testLink) {
	for _, match := range testLinkPattern.FindAllStringSubmatch(cell, -1) {
		links = append(links, testLink{match[1], match[2]})
	}
	return links
}

// A testFinder finds out which tests run. It remembers the functions of each directory's test files.
type testFinder map[string]map[string]*ast.FuncDecl // by directory, and by package and name

// check returns why go test ./... does not run a test, a fuzz test's seeds or an example of this file.
func (c testFinder) check(path, name string) error {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
	if err != nil {
		return err
	}
	matches, err := builtInCI(path)
	switch {
	case err != nil:
		return err
	case !strings.HasSuffix(path, "_test.go"):
		return fmt.Errorf("%s is not a file with tests", path)
	case !matches:
		return fmt.Errorf("%s is excluded by a build constraint", path)
	case ignoredPath(path):
		return fmt.Errorf("%s is in a directory that go test ./... ignores", path)
	case !moduleInCI(path):
		return fmt.Errorf("%s is in a module that .ci/run does not test", path)
	case strings.HasPrefix(name, "Example"):
		return checkExample(file, path, name)
	}
	for _, declaration := range file.Decls {
		f, ok := declaration.(*ast.FuncDecl)
		if !ok || f.Recv != nil || f.Name.Name != name {
			continue
		}
		if !isTest(f) {
			return fmt.Errorf("%s in %s is not a test", name, path)
		}
		if skip := c.skip(filepath.Dir(path), file.Name.Name, f, map[*ast.FuncDecl]bool{}); skip != "" {
			return fmt.Errorf("%s in %s: %s skips it, also in CI", name, path, skip)
		}
		return nil
	}
	return fmt.Errorf("%s has no test %s", path, name)
}

// builtInCI reports whether the build constraints of a file hold in CI, whatever this machine is.
func builtInCI(path string) (bool, error) {
	linux := build.Default
	linux.GOOS, linux.GOARCH, linux.CgoEnabled, linux.BuildTags = "linux", "amd64", true, nil
	return linux.MatchFile(filepath.Split(path))
}

// moduleInCI reports whether .ci/run enters the module of a file, if that is a module of its own.
func moduleInCI(path string) bool {
	script, err := os.ReadFile(filepath.Join(".ci", "run"))
	if err != nil {
		return false
	}
	for dir := filepath.Dir(path); dir != "." && dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return regexp.MustCompile(`(?m)cd ` + regexp.QuoteMeta(filepath.ToSlash(dir)) + `( |$)`).Match(script)
		}
	}
	return true
}

// functions returns the functions in the test files of a directory that CI builds.
func (c testFinder) functions(dir string) map[string]*ast.FuncDecl {
	if known, ok := c[dir]; ok {
		return known
	}
	found := map[string]*ast.FuncDecl{}
	paths, _ := filepath.Glob(filepath.Join(dir, "*_test.go")) // the pattern is well-formed
	for _, path := range paths {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if matches, _ := builtInCI(path); err != nil || !matches {
			continue
		}
		for _, declaration := range file.Decls {
			if f, ok := declaration.(*ast.FuncDecl); ok && f.Recv == nil && f.Body != nil {
				found[file.Name.Name+"."+f.Name.Name] = f
			}
		}
	}
	c[dir] = found
	return found
}

// skip returns the name of a function that can skip the test: the test itself, or a function of its package that it uses. A
// function that asks for the environment variable CI fails there instead.
func (c testFinder) skip(dir, pkg string, f *ast.FuncDecl, seen map[*ast.FuncDecl]bool) (name string) {
	if seen[f] {
		return ""
	}
	seen[f] = true
	skips, asks := false, false
	var used []*ast.FuncDecl
	ast.Inspect(f.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			skips = skips || slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, n.Sel.Name)
		case *ast.BasicLit:
			asks = asks || n.Value == `"CI"`
		case *ast.Ident:
			if other := c.functions(dir)[pkg+"."+n.Name]; other != nil {
				used = append(used, other)
			}
		}
		return true
	})
	if skips && !asks {
		return f.Name.Name
	}
	for _, other := range used {
		if name := c.skip(dir, pkg, other, seen); name != "" {
			return name
		}
	}
	return ""
}

// ignoredPath reports whether go leaves a directory out of ./... .
func ignoredPath(path string) bool {
	for element := range strings.SplitSeq(filepath.ToSlash(path), "/") {
		if element == "testdata" || strings.HasPrefix(element, "_") || strings.HasPrefix(element, ".") && element != ".." {
			return true
		}
	}
	return false
}

// checkExample returns why an example does not run: go test only compiles one without an output.
func checkExample(file *ast.File, path, name string) error {
	for _, example := range doc.Examples(file) {
		if "Example"+example.Name == name {
			if example.Output == "" && !example.EmptyOutput {
				return fmt.Errorf("%s in %s has no output, so it does not run", name, path)
			}
			return nil
		}
	}
	return fmt.Errorf("%s has no example %s", path, name)
}

// isTest reports whether go test runs a function as a test, or with its seeds as a fuzz test.
func isTest(f *ast.FuncDecl) bool {
	name := f.Name.Name
	return strings.HasPrefix(name, "Test") && name != "TestMain" && takesTesting(f, "T") || strings.HasPrefix(name, "Fuzz") && takesTesting(f, "F")
}

// takesTesting reports whether the function's only parameter is a *testing.T, or another type of package testing.
func takesTesting(f *ast.FuncDecl, name string) bool {
	if f.Body == nil || f.Type.Results != nil || len(f.Type.Params.List) != 1 || len(f.Type.Params.List[0].Names) > 1 {
		return false
	}
	pointer, ok := f.Type.Params.List[0].Type.(*ast.StarExpr)
	if !ok {
		return false
	}
	selector, ok := pointer.X.(*ast.SelectorExpr)
	if !ok || selector.Sel.Name != name {
		return false
	}
	pkg, ok := selector.X.(*ast.Ident)
	return ok && pkg.Name == "testing"
}

// The check notices each kind of row that proves nothing.
func TestComplianceNoticesWhatDoesNotRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const head = "package p\n\nimport \"testing\"\n\n"
	for name, content := range map[string]string{
		"good_test.go":         head + "func TestGood(t *testing.T) { t.Run(\"x\", func(t *testing.T) {}) }\n\nfunc FuzzGood(f *testing.F) {}\n\nfunc ExampleGood() {\n\t// Output: x\n}\n\nfunc ExampleSilent() {}\n\n// func TestComment(t *testing.T) {}\n\nfunc TestHelper(t *testing.T, n int) {}\n\ntype x struct{}\n\nfunc (x) TestMethod(t *testing.T) {}\n",
		"skip_test.go":         head + "func TestSkip(t *testing.T) { t.Skip() }\n\nfunc TestInner(t *testing.T) { t.Run(\"x\", func(t *testing.T) { t.Skipf(\"x\") }) }\n\nfunc TestOuter(t *testing.T) { outer(t) }\n\nfunc outer(t *testing.T) { inner(t); outer(t) }\n\nfunc inner(t *testing.T) { t.SkipNow() }\n\nfunc TestTool(t *testing.T) { need(t) }\n\nfunc need(t *testing.T) {\n\tif os.Getenv(\"CI\") != \"\" {\n\t\tt.Fatal()\n\t}\n\tt.Skip()\n}\n",
		"tag_test.go":          "//go:build never\n\n" + head + "func TestTag(t *testing.T) {}\n",
		"system_plan9_test.go": head + "func TestSystem(t *testing.T) {}\n",
		"plain.go":             head + "func TestPlain(t *testing.T) {}\n",
		"broken_test.go":       "func",
		"own/go.mod":           "module own\n",
		"own/own_test.go":      head + "func TestOwn(t *testing.T) {}\n",
	} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := func(name, file string) string { return "[`" + name + "`](" + file + ")" }
	for what, row := range map[string]struct{ status, test, want string }{
		"a test":                    {"✔ satisfied", link("TestGood", "good_test.go"), ""},
		"two tests":                 {"⚙ optional", link("TestGood", "good_test.go") + ", " + link("FuzzGood", "good_test.go"), ""},
		"an example":                {"✔ satisfied", link("ExampleGood", "good_test.go"), ""},
		"the application's":         {"application", "", ""},
		"no test":                   {"✔ satisfied", "", "names no test"},
		"optional, no test":         {"⚙ optional", "", "names no test"},
		"no link":                   {"application", "`TestGood`", "not a link"},
		"another status":            {"✔", link("TestGood", "good_test.go"), "the status is"},
		"no such test":              {"✔ satisfied", link("TestGone", "good_test.go"), "no test TestGone"},
		"no such file":              {"✔ satisfied", link("TestGood", "gone_test.go"), "gone_test.go"},
		"the second does not run":   {"✔ satisfied", link("TestGood", "good_test.go") + " " + link("TestSkip", "skip_test.go"), "TestSkip skips it"},
		"a comment":                 {"✔ satisfied", link("TestComment", "good_test.go"), "no test TestComment"},
		"a method":                  {"✔ satisfied", link("TestMethod", "good_test.go"), "no test TestMethod"},
		"another signature":         {"✔ satisfied", link("TestHelper", "good_test.go"), "not a test"},
		"an example with no output": {"✔ satisfied", link("ExampleSilent", "good_test.go"), "no output"},
		"a skipped test":            {"✔ satisfied", link("TestSkip", "skip_test.go"), "TestSkip skips it"},
		"a skipped subtest":         {"✔ satisfied", link("TestInner", "skip_test.go"), "TestInner skips it"},
		"a helper that skips":       {"✔ satisfied", link("TestOuter", "skip_test.go"), "inner skips it"},
		"a tool that CI has":        {"✔ satisfied", link("TestTool", "skip_test.go"), ""},
		"a build tag":               {"✔ satisfied", link("TestTag", "tag_test.go"), "build constraint"},
		"another system":            {"✔ satisfied", link("TestSystem", "system_plan9_test.go"), "build constraint"},
		"not a file of tests":       {"✔ satisfied", link("TestPlain", "plain.go"), "not a file with tests"},
		"does not compile":          {"✔ satisfied", link("TestGood", "broken_test.go"), "broken_test.go"},
		"a module without CI":       {"✔ satisfied", link("TestOwn", "own/own_test.go"), "does not test"},
	} {
		page := "| requirement | in short | status | how | test |\n|---|---|:-:|---|---|\n| 1.1 | x | " + row.status + " | x | " + row.test + " |\n"
		tables := complianceTables(page)
		if len(tables) != 1 || len(tables[0]) != 1 {
			t.Fatalf("%s: the page has the tables %q", what, tables)
		}
		got := strings.Join(tableProblems(testFinder{}, dir, tables[0]), "\n")
		if got == "" && row.want != "" || !strings.Contains(got, row.want) || row.want == "" && got != "" {
			t.Errorf("%s: got the problems %q, want %q", what, got, row.want)
		}
	}
	if err := (testFinder{}).check("interop/interop_test.go", "TestInterop"); err != nil { // in a module of its own
		t.Error(err)
	}
}
