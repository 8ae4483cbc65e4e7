package report

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSectionKeepsTheOthers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "docs", "x.md")
	order := []string{"first", "second"}
	for _, section := range []struct{ name, content string }{{"second", "2"}, {"first", "1"}, {"second", "two"}} {
		if err := Section(file, "# X\n", order, section.name, section.content); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := "# X\n\n<!-- begin first -->\n1\n<!-- end first -->\n\n<!-- begin second -->\ntwo\n<!-- end second -->\n"
	if string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNumbers(t *testing.T) {
	for _, test := range []struct{ got, want string }{
		{Number(1.234), "1.23"}, {Number(12.34), "12.3"}, {Number(1234.5), "1,234"}, {Number(0.954), "0.95"},
		{Thousands(999), "999"}, {Thousands(1e6), "1,000,000"}, {Thousands(100000), "100,000"},
	} {
		if test.got != test.want {
			t.Errorf("got %s, want %s", test.got, test.want)
		}
	}
	if got := Median([]float64{9, 1, 4, 2}); got != 3 {
		t.Errorf("the median is %v, want 3", got)
	}
}

func TestGoals(t *testing.T) {
	table, all := Goals([]Goal{{Text: "a", Got: 1, Limit: 2}, {Text: "b", Got: 1, Limit: 2, Least: true}})
	if all || strings.Count(table, "missed") != 1 {
		t.Errorf("all %v:\n%s", all, table)
	}
}

func TestChart(t *testing.T) {
	svg := Chart{Title: "a < b", Panels: []Panel{{Title: "x", Bars: []Bar{{Label: "y", Value: 3}, {Label: "z", Value: 300}}}}}.SVG()
	for _, want := range []string{"a &lt; b", "prefers-color-scheme", "</svg>", "×300"} {
		if !strings.Contains(svg, want) {
			t.Errorf("no %q in the chart", want)
		}
	}
}
