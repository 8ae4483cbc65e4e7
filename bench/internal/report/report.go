// Package report writes the figures into the documents.
package report

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Machine says what the figures were measured on.
func Machine() string {
	model, cores := processor()
	return fmt.Sprintf("%s, %s, %d cores, %s %s/%s",
		time.Now().UTC().Format(time.DateOnly), model, cores, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// processor counts all cores, also those that this process is kept off.
func processor() (model string, cores int) {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown processor", runtime.NumCPU()
	}
	model = "unknown processor"
	for line := range strings.Lines(string(info)) {
		name, value, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(name) {
		case "processor":
			cores++
		case "model name":
			model = strings.Join(strings.Fields(value), " ")
		}
	}
	return model, max(cores, 1)
}

// Section replaces one section of a document, which several commands write to. A document that is not there
// yet begins with the introduction; sections are in the order given.
func Section(file, introduction string, order []string, name, content string) error {
	document, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	sections := map[string]string{name: content}
	for _, other := range order {
		if other != name {
			sections[other] = between(document, begin(other), end(other))
		}
	}
	var b strings.Builder
	b.WriteString(introduction)
	for _, section := range order {
		if sections[section] != "" {
			fmt.Fprintf(&b, "\n%s\n%s\n%s\n", begin(section), strings.TrimSpace(sections[section]), end(section))
		}
	}
	return Write(file, b.String())
}

func begin(section string) string { return "<!-- begin " + section + " -->" }
func end(section string) string   { return "<!-- end " + section + " -->" }

func between(document []byte, begin, end string) string {
	_, rest, _ := bytes.Cut(document, []byte(begin))
	inside, _, _ := bytes.Cut(rest, []byte(end))
	return string(inside)
}

// Write writes a document, and the directory if need be.
func Write(file, content string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, []byte(content), 0o644)
}

// Table is a table in Markdown. All columns but the first are numbers.
type Table struct {
	Head []string
	Rows [][]string
}

// Row adds a line.
func (t *Table) Row(cells ...string) { t.Rows = append(t.Rows, cells) }

func (t *Table) String() string {
	widths := make([]int, len(t.Head))
	for _, row := range append([][]string{t.Head}, t.Rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], len([]rune(cell)), 3)
		}
	}
	var b strings.Builder
	writeRow(&b, t.Head, widths)
	for i, width := range widths {
		if i == 0 {
			b.WriteString("|" + strings.Repeat("-", width+2))
		} else {
			b.WriteString("|" + strings.Repeat("-", width+1) + ":")
		}
	}
	b.WriteString("|\n")
	for _, row := range t.Rows {
		writeRow(&b, row, widths)
	}
	return b.String()
}

func writeRow(b *strings.Builder, row []string, widths []int) {
	for i, cell := range row {
		padding := strings.Repeat(" ", widths[i]-len([]rune(cell)))
		if i == 0 {
			b.WriteString("| " + cell + padding)
		} else {
			b.WriteString(" | " + padding + cell)
		}
	}
	b.WriteString(" |\n")
}

// Goal is what the project wants of itself.
type Goal struct {
	Text  string
	Got   float64
	Limit float64
	Least bool // Limit is the least that will do, and not the most
}

// Met reports whether the goal is met.
func (g Goal) Met() bool {
	if g.Least {
		return g.Got >= g.Limit
	}
	return g.Got <= g.Limit
}

// Goals is a table of the goals, and reports whether all are met.
func Goals(goals []Goal) (string, bool) {
	table := Table{Head: []string{"goal", "wanted", "measured", ""}}
	all := true
	for _, g := range goals {
		sign, verdict := "≤", "met"
		if g.Least {
			sign = "≥"
		}
		if !g.Met() {
			verdict, all = "**missed**", false
		}
		table.Row(g.Text, sign+" "+Number(g.Limit), Number(g.Got), verdict)
	}
	return table.String(), all
}

// Number writes three digits that count, and no more decimals than two.
func Number(f float64) string {
	switch {
	case f >= 100:
		return Thousands(f)
	case f >= 10:
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.2f", f)
}

// Thousands writes a whole number with separators.
func Thousands(f float64) string {
	s := fmt.Sprintf("%.0f", f)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Median is the middle one, or the mean of the two in the middle.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
