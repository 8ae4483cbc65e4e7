package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

// Every test that the page names exists in the package that it names.
func TestNamedTestsExist(t *testing.T) {
	for _, r := range rows {
		for _, j := range r.jobs {
			files, err := filepath.Glob(filepath.Join(root, j.dir, "*_test.go"))
			if err != nil {
				t.Fatal(err)
			}
			var sources strings.Builder
			for _, file := range files {
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				sources.Write(text)
			}
			for _, name := range j.tests {
				if !regexp.MustCompile(`(?m)^func ` + name + `\(\w+ \*testing\.[TF]\)`).MatchString(sources.String()) {
					t.Errorf("%s: there is no %s in %s", r.means, name, j.dir)
				}
			}
		}
	}
}

// The page has the table of this program, and a run has counted something for every row.
func TestPage(t *testing.T) {
	text, err := os.ReadFile("../proof.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	counts := countsOf(page)
	want, err := withTable(page, counts)
	if err != nil {
		t.Fatal(err)
	}
	if page != want {
		t.Errorf("the table of docs/proof.md is not the one of this program: run it for the rows that changed\n%s", region.FindString(want))
	}
	for _, r := range rows {
		if counts[r.means] == "" {
			t.Errorf("no run has counted anything for %q: go run ./docs/proof -run '%s'", r.means, r.means)
		}
	}
}

func TestSum(t *testing.T) {
	for _, test := range []struct {
		output string
		tests  bool
		want   string
	}{
		{"ok\n", false, ""},
		{"    x_test.go:1: proof: 3 calls, 0 forks\n        y_test.go:2: proof: 1997 calls, 1 kills\n", false, "2,000 calls, 0 forks, 1 kills"},
		{"a: proof: with PyJWT 2\nb: proof: with jose 6\nc: proof: with jose 6\n", false, "with PyJWT 2, with jose 6"},
		{"proof: 97.0 % of the statements\n", false, "97.0 % of the statements"},
		{
			"fuzz: elapsed: 3s, execs: 5 (1/sec), new interesting: 0 (total: 2)\nfuzz: elapsed: 4s, execs: 9 (1/sec), new interesting: 0 (total: 2)\n" +
				"--- PASS: FuzzX (4.00s)\nPASS\nfuzz: elapsed: 0s, execs: 20 (1/sec), new interesting: 0 (total: 2)\nPASS\n",
			false, "29 inputs",
		},
		{"    x_test.go:1: proof: 3 calls\n--- PASS: TestX (0.00s)\n    --- PASS: TestX/y (0.00s)\n--- SKIP: TestZ (0.00s)\n", true, "2 tests"},
	} {
		if got := sum(test.output, test.tests); got != test.want {
			t.Errorf("%q: %q, want %q", test.output, got, test.want)
		}
	}
}

func TestSkippedTestsHaveNotPassed(t *testing.T) {
	const output = "--- PASS: TestA (0.00s)\n--- SKIP: TestB (0.00s)\n--- PASS: TestCD (0.00s)\n    --- PASS: TestE/f (0.00s)\n"
	for name, want := range map[string]bool{"TestA": true, "TestB": false, "TestC": false, "TestE": false} {
		if err := allPassed(output, []string{name}); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}
