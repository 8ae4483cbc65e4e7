// These tests check the code blocks of the documents. The first word after the backquotes names the language, and the word
// sketch after it marks code that does not compile by itself. A sketch must still parse.
package ginrefresh_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gin-gonic/gin/binding"
)

// preludeImports can be used by fragments without an import of their own.
const preludeImports = `import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/redis/rueidis"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
	"github.com/ginrefresh/ginrefresh/store/boltstore"
	"github.com/ginrefresh/ginrefresh/store/redisstore"
	"github.com/ginrefresh/ginrefresh/store/sqlstore"
	"github.com/ginrefresh/ginrefresh/store/storetest"
)
`

// prelude declares the names that fragments use and leave to the reader's program.
const prelude = "package fragment\n" + preludeImports + `
var (
	auth      *middleware.Auth
	r         *gin.Engine
	ctx       context.Context
	blacklist middleware.Store
	keys      []middleware.Key
	secret    []byte
	db        *sql.DB
	hello     gin.HandlerFunc
	isAdmin   func(*gin.Context, middleware.Claims) bool
	login     func(*gin.Context) (middleware.Identity, error)

	checkPassword func(*gin.Context) (middleware.Identity, error)

	attempts interface{ Allow(client string) bool }
	mystore  struct{ New func(*sql.DB) interface { storetest.Store; Close() error } }

	authenticate func(*gin.Context) (middleware.Identity, error)
	newKeeping   func(keys []middleware.Key, blacklist middleware.Store, ttl time.Duration) (*middleware.Auth, error)
	keptToken    func(*middleware.Auth) gin.HandlerFunc
)
`

// frames are what a fragment can be: statements, declarations, fields of a Config, methods of an interface.
var frames = [][2]string{
	{"func _() {", "}"},
	{"", ""},
	{"var _ = middleware.Config{", "}"},
	{"type _ interface {", "}"},
}

// exempt are the languages that no test parses: transcripts, which other tests run, and code for other programs.
var exempt = []string{"", "console", "diff", "html", "http", "jsx", "php", "python", "sql", "text", "toml", "ts", "tsx", "vue"}

// checker collects what is wrong with code blocks.
type checker struct {
	files    *token.FileSet
	importer types.Importer
}

// newChecker reads the export data of the packages from the build cache: nothing is built anew.
func newChecker(t *testing.T, paths []string) *checker {
	t.Helper()
	list := exec.Command("go", append([]string{"list", "-e", "-export", "-deps", "-f", "{{.ImportPath}}\t{{.Export}}"}, paths...)...)
	var problems bytes.Buffer
	list.Stderr = &problems
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &problems)
	}
	exports := map[string]string{}
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), "\t")
		exports[path] = file
	}
	files := token.NewFileSet()
	return &checker{files, importer.ForCompiler(files, "gc", func(path string) (io.ReadCloser, error) {
		if exports[path] == "" {
			return nil, fmt.Errorf("no package %s in this module or its dependencies", path)
		}
		return os.Open(exports[path])
	})}
}

// parseGo parses a program, or a fragment in the first frame that fits. A line that is just an ellipsis stands for code that the
// reader knows.
func (c *checker) parseGo(b block) (file *ast.File, fragment bool, err error) {
	var text strings.Builder
	for line := range strings.Lines(b.text) {
		if strings.TrimSpace(line) == "…" {
			line = "\n"
		}
		text.WriteString(line)
	}
	place := fmt.Sprintf("//line %s:%d:1\n", b.path, b.line)
	if strings.HasPrefix(b.text, "package ") {
		file, err = parser.ParseFile(c.files, "", place+text.String(), parser.SkipObjectResolution)
		return file, false, err
	}
	for _, frame := range frames {
		source := "package fragment\n" + preludeImports + frame[0] + "\n" + place + text.String() + frame[1] + "\n"
		parsed, wrong := parser.ParseFile(c.files, "", source, parser.SkipObjectResolution)
		if wrong == nil {
			return parsed, true, nil
		}
		err = cmp.Or(err, wrong)
	}
	return nil, true, err
}

// yieldTo removes the variables of the prelude that a fragment declares as functions of its own.
func yieldTo(prelude, fragment *ast.File) {
	own := map[string]bool{}
	for _, declaration := range fragment.Decls {
		if f, ok := declaration.(*ast.FuncDecl); ok {
			own[f.Name.Name] = true
		}
	}
	for _, declaration := range prelude.Decls {
		if variables, ok := declaration.(*ast.GenDecl); ok && variables.Tok == token.VAR {
			variables.Specs = slices.DeleteFunc(variables.Specs, func(spec ast.Spec) bool {
				return own[spec.(*ast.ValueSpec).Names[0].Name]
			})
		}
	}
}

// checkGo type-checks a block. A fragment may leave imports and variables unused.
func (c *checker) checkGo(b block) error {
	file, fragment, err := c.parseGo(b)
	if err != nil || b.sketch() {
		return err
	}
	parsed := []*ast.File{file}
	if fragment {
		names, err := parser.ParseFile(c.files, "prelude", prelude, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		yieldTo(names, file)
		parsed = append(parsed, names)
	}
	var problems []error
	config := types.Config{Importer: c.importer, Error: func(err error) {
		if e := (types.Error{}); !errors.As(err, &e) || !e.Soft || !fragment {
			problems = append(problems, err)
		}
	}}
	_, _ = config.Check("fragment", c.files, parsed, nil) // its error is the first of those
	return errors.Join(problems...)
}

// checkWith lets another program read a block as a file.
func checkWith(t *testing.T, b block, name string, command ...string) error {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(b.text), 0o600); err != nil {
		return err
	}
	out, err := exec.Command(command[0], append(command[1:], path)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s:%d: %w\n%s", b.path, b.line, err, out)
	}
	return nil
}

// check returns an error if the block is not what its language says.
func (c *checker) check(t *testing.T, b block) (err error) {
	t.Helper()
	switch b.name() {
	case "go":
		return c.checkGo(b)
	case "js":
		return checkWith(t, b, "block.mjs", "node", "--check")
	case "sh":
		return checkWith(t, b, "block.sh", "bash", "-n")
	case "json":
		err = json.Unmarshal([]byte(b.text), new(any))
	case "yaml":
		err = binding.YAML.BindBody([]byte(b.text), new(any))
	default:
		if !slices.Contains(exempt, b.name()) {
			err = fmt.Errorf("no test checks the language %q: teach this one how", b.name())
		}
	}
	if err != nil {
		return fmt.Errorf("%s:%d: %w", b.path, b.line, err)
	}
	return nil
}

// The code in the documents compiles, or is marked as a sketch.
func TestCodeBlocks(t *testing.T) {
	t.Parallel()
	needTools(t, "node", "bash")
	blocks := documentBlocks(t)
	c := newChecker(t, importsOf(blocks))
	t.Run("mistakes are found", func(t *testing.T) { findMistakes(t, c) })
	checked := map[string]int{}
	for _, b := range blocks {
		checked[b.name()]++
		if err := c.check(t, b); err != nil {
			t.Error(err)
		}
	}
	for _, language := range []string{"go", "js", "sh"} {
		if checked[language] == 0 {
			t.Errorf("the documents have no code in %s: do the tests still recognize it? %v", language, checked)
		}
	}
}

// The programs in the documents are files of this module, whose tests run.
func TestListings(t *testing.T) {
	t.Parallel()
	for page, path := range map[string]string{
		"docs/testing.md":       "example/orders/orders_test.go",
		"docs/testing.zh-CN.md": "example/orders/orders_test.go",
	} {
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		blocks := readDocument(t, page).blocks
		if !slices.ContainsFunc(blocks, func(b block) bool { return b.text == string(source) }) {
			t.Errorf("%s does not show %s as it is", page, path)
		}
	}
}

// documentBlocks returns the fenced code blocks of all documents.
func documentBlocks(t *testing.T) (blocks []block) {
	t.Helper()
	var paths []string
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, found...)
	}
	for _, path := range paths {
		for _, b := range readDocument(t, path).blocks {
			if b.line > 0 {
				blocks = append(blocks, b)
			}
		}
	}
	return blocks
}

// importsOf returns what the prelude and the programs import.
func importsOf(blocks []block) []string {
	paths := map[string]bool{}
	for _, source := range append(blocks, block{text: prelude}) {
		file, err := parser.ParseFile(token.NewFileSet(), "", source.text, parser.ImportsOnly)
		if err != nil {
			continue // a fragment
		}
		for _, spec := range file.Imports {
			path, _ := strconv.Unquote(spec.Path.Value)
			paths[path] = true
		}
	}
	return slices.Sorted(maps.Keys(paths))
}

// findMistakes checks blocks with a mistake, of which the error names the line.
func findMistakes(t *testing.T, c *checker) {
	for _, test := range []struct{ language, text, want string }{
		{"go", "auth.NoSuchMethod()\n", "page.md:7:6: auth.NoSuchMethod undefined"},
		{"go", "x := 1\n…\n\nr.POST(\"/login\", auth)\n", "page.md:10:18: cannot use auth"},
		{"go", "Keys: keys,\nStorage: blacklist,\n", "page.md:8:1: unknown field Storage"},
		{"go", "func f() int { return nobody }\n", "page.md:7:23: undefined: nobody"},
		{"go", "package main\n\nimport \"os\"\n\nfunc main() {}\n", `page.md:9:8: "os" imported and not used`},
		{"go", "package main\n\nimport \"example.org/none\"\n\nfunc main() { none.F() }\n", "page.md:9:8: could not import example.org/none"},
		{"go", "if auth {\n", "page.md:"},
		{"go sketch", "if auth {\n", "page.md:"},
		{"go sketch", "auth.NoSuchMethod()\n", ""},
		{"go", "auth, err := middleware.New(middleware.Config{\n\t…\n\tPair: true,\n})\n", ""},
		{"js", "const a = ;\n", "page.md:7: exit status 1"},
		{"js axios", "const a = await client.fetch('/')\n", ""},
		{"sh", "if true; then\n", "page.md:7: exit status 2"},
		{"json", "{\"a\":1,}\n", "page.md:7: invalid character"},
		{"yaml", "a: [1\n", "page.md:7: "},
		{"yaml", "a: [1]\n", ""},
		{"jsn", "{}\n", "page.md:7: no test checks the language"},
	} {
		err := c.check(t, block{path: "page.md", line: 7, language: test.language, text: test.text})
		if got := fmt.Sprint(err); err == nil && test.want != "" || err != nil && (test.want == "" || !strings.Contains(got, test.want)) {
			t.Errorf("```%s\n%s```\ngot %v, want %q", test.language, test.text, err, test.want)
		}
	}
}
