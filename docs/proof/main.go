// Command proof runs the tests that docs/proof.md names, and writes what they have counted into its table:
//
//	go run ./docs/proof [-run text]
//
// With -run it runs only the rows whose first column contains the text, and keeps the other counts. It fails, and keeps
// the counts of a row, if one of the row's tests fails or is skipped. All rows take about a quarter of an hour. Run it in the
// directory of this repository, with the tools that the gate installs and after npm install in interop and
// example/browsertest.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("proof: ")
	only := flag.String("run", "", "run only the rows whose first column contains `text`")
	flag.Parse()
	failed := false
	for _, r := range rows {
		if !strings.Contains(r.means, *only) {
			continue
		}
		got, err := r.run()
		if err == nil {
			fmt.Printf("%s: %s\n", r.means, got)
			err = r.write(got)
		}
		if err != nil {
			log.Printf("%s: %v", r.means, err)
			failed = true
		}
	}
	if failed {
		os.Exit(1)
	}
}

// write writes the counts of a row into the page. The other rows keep theirs.
func (r row) write(got string) error {
	const path = "docs/proof.md"
	page, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	counts := countsOf(string(page))
	counts[r.means] = got
	written, err := withTable(string(page), counts)
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(written), 0o644)
}

// run runs the tests of a row and returns what they have counted.
func (r row) run() (string, error) {
	var outputs strings.Builder
	for _, j := range r.jobs {
		command := exec.Command(j.command[0], j.command[1:]...)
		command.Dir = j.dir
		command.Env = append(os.Environ(), "CI=true", "GINREFRESH_FULL=1")
		out, err := command.CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("%s: %w\n%s", command, err, out)
		}
		if err := allPassed(string(out), j.tests); err != nil {
			return "", fmt.Errorf("%s: %w", command, err)
		}
		outputs.Write(out)
	}
	got := sum(outputs.String(), r.tests)
	if got == "" || strings.HasPrefix(got, "0 ") {
		return "", errors.New("the tests have counted nothing")
	}
	return got, nil
}

// allPassed returns an error if one of the tests is not in the output of go test -v as passed.
func allPassed(output string, tests []string) error {
	for _, test := range tests {
		if !strings.Contains(output, "--- PASS: "+test+" ") {
			return fmt.Errorf("%s has not passed", test)
		}
	}
	return nil
}

var (
	proofLine  = regexp.MustCompile(`(?m)\bproof: (.+)$`)
	fuzzLine   = regexp.MustCompile(`(?m)^fuzz: elapsed: .* execs: (\d+) .*\n(?:PASS|--- PASS)`) // the last line of a fuzz test
	passedTest = regexp.MustCompile(`(?m)^\s*--- PASS: `)
)

// sum adds up the counts in the output of tests: "proof: 3 calls, 1 swaps made" and "proof: 4 calls" are 7 calls and 1 swaps made.
// A text without a number is listed once. With tests it counts the passed tests instead.
func sum(output string, tests bool) string {
	if tests {
		return thousands(len(passedTest.FindAllString(output, -1))) + " tests"
	}
	var units []string
	numbers := map[string]int{}
	add := func(text string) {
		number, unit, _ := strings.Cut(text, " ")
		n, err := strconv.Atoi(number)
		if err != nil {
			n, unit = 0, text
		}
		if !slices.Contains(units, unit) {
			units = append(units, unit)
			if err != nil {
				n = -1 // shows that there is no number
			}
		} else if err != nil {
			return
		}
		numbers[unit] += n
	}
	for _, match := range proofLine.FindAllStringSubmatch(output, -1) {
		for _, text := range strings.Split(match[1], ", ") {
			add(text)
		}
	}
	for _, match := range fuzzLine.FindAllStringSubmatch(output, -1) {
		add(match[1] + " inputs")
	}
	for i, unit := range units {
		if n := numbers[unit]; n >= 0 {
			units[i] = thousands(n) + " " + unit
		}
	}
	return strings.Join(units, ", ")
}

func thousands(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

var region = regexp.MustCompile(`(?s)(<!-- proof -->\n).*(<!-- end -->)`)

// withTable returns the page with a new table.
func withTable(page string, counts map[string]string) (string, error) {
	if !region.MatchString(page) {
		return "", errors.New("the page has no place for the table")
	}
	var table strings.Builder
	table.WriteString("| means | what it shows | tests | counted |\n|---|---|---|---|\n")
	for _, r := range rows {
		fmt.Fprintf(&table, "| %s | %s | %s | %s |\n", r.means, r.shows, r.names(), counts[r.means])
	}
	at := region.FindStringSubmatchIndex(page)
	return page[:at[3]] + table.String() + page[at[4]:], nil
}

// countsOf returns the counts in the table of the page by the means.
func countsOf(page string) map[string]string {
	counts := map[string]string{}
	for line := range strings.Lines(region.FindString(page)) {
		if cells := strings.Split(strings.TrimSpace(line), " | "); len(cells) == 4 {
			counts[strings.TrimPrefix(cells[0], "| ")] = strings.TrimSuffix(cells[3], " |")
		}
	}
	return counts
}

// names lists the tests of a row with their packages.
func (r row) names() string {
	var all []string
	for _, j := range r.jobs {
		if len(j.tests) == 0 {
			all = append(all, "`"+strings.Join(j.command, " ")+"`")
		}
		for i, test := range j.tests {
			text := "`" + test + "`"
			if i == len(j.tests)-1 {
				text += " in `" + j.dir + "`"
			}
			all = append(all, text)
		}
	}
	return strings.Join(all, ", ")
}
