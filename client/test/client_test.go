// Package test runs the tests of client.js, which are scripts for node.
//
//	npm ci && go test ./...
//
// They need node and npm. Without these tools the tests are skipped, or fail if CI is set.
package test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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

// runNode runs a file of tests with node.
func runNode(t *testing.T, file string) {
	t.Helper()
	node, err := exec.LookPath("node")
	need(t, err == nil, "node")
	if output, err := exec.CommandContext(t.Context(), node, "--test", "--test-timeout=60000", file).CombinedOutput(); err != nil {
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
