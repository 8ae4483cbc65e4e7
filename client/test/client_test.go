// Package test runs the tests of client.js, which are scripts for node.
//
//	npm ci && go test ./...
//
// They need node and npm. Without these tools the tests are skipped, or fail if CI is set.
package test

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// Go caches a result by the log of what the test read, which does not include what node reads. Without the log it
	// caches nothing.
	if err := flag.Set("test.testlogfile", ""); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// need skips the test if a tool is missing, or fails it if CI is set.
func need(t *testing.T, there bool, what string) {
	t.Helper()
	switch {
	case there:
	case os.Getenv("CI") != "":
		t.Fatalf("%s is missing", what)
	default:
		t.Skipf("%s is missing", what)
	}
}

// runNode runs a file of tests with node, with more variables in its environment.
func runNode(t *testing.T, file string, variables ...string) {
	t.Helper()
	node, err := exec.LookPath("node")
	need(t, err == nil, "node")
	command := exec.CommandContext(t.Context(), node, "--test", "--test-timeout=60000", file)
	command.Env = append(os.Environ(), variables...)
	if output, err := command.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, output)
	}
}

// needPackages skips the test if a package of package.json is not installed, or fails it if CI is set.
func needPackages(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		_, err := os.Stat(filepath.Join("node_modules", name))
		need(t, err == nil, name+" (npm ci)")
	}
}

func TestClient(t *testing.T) {
	t.Parallel()
	needPackages(t, "axios")
	runNode(t, "client.test.js")
}

func TestPackage(t *testing.T) {
	t.Parallel()
	_, err := exec.LookPath("npm")
	need(t, err == nil, "npm")
	needPackages(t, "typescript")
	runNode(t, "package.test.js")
}

// TestRecipes runs the recipes of docs/client.md with the libraries that they are for.
func TestRecipes(t *testing.T) {
	t.Parallel()
	needPackages(t, "axios", "ginrefresh", "happy-dom", "react", "react-dom", "vue")
	runNode(t, "recipes.test.js", "SERVER="+startExample(t))
}

// startExample runs the example's server until the test ends, and returns its URL.
func startExample(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "example")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./example")
	build.Dir = filepath.Join("..", "..")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the example: %v\n%s", err, output)
	}
	server := exec.CommandContext(t.Context(), binary, "-addr", "127.0.0.1:0", "-ttl", "2s", "-max-sessions", "0")
	server.Env = append(os.Environ(), "JWT_SECRET=") // a random key
	output, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Wait() }) // t.Context ends it before the cleanup
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		if url, found := strings.CutPrefix(lines.Text(), "listening on "); found {
			return url
		}
	}
	t.Fatal("the example did not start")
	return ""
}
