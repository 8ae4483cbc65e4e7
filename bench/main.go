// Command bench makes the tables of docs/performance.md and docs/scale.md from the output of the benchmarks in this
// module:
//
//	go run . [-w ../docs] results.txt
//
// It prints the tables, or writes them into the documents. A table for which there are no results stays as it is. Each
// figure is the median of all runs in the files.
package main

import (
	"flag"
	"fmt"
	"log"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"

	"golang.org/x/perf/benchfmt"
	"golang.org/x/perf/benchmath"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("bench: ")
	docs := flag.String("w", "", "replace the tables in the documents of this `directory`")
	flag.Parse()
	r, err := read(flag.Args())
	if err != nil {
		log.Fatal(err)
	}
	for _, t := range r.tables() {
		if *docs == "" {
			fmt.Printf("%s\n\n%s\n", t.name, t)
		} else if err := t.replace(*docs); err != nil {
			log.Fatal(err)
		}
	}
}

// results are the values of each benchmark and unit.
type results struct {
	names  []string // in the order of the files
	values map[string]map[string][]float64
}

func read(paths []string) (results, error) {
	r := results{values: map[string]map[string][]float64{}}
	files := benchfmt.Files{Paths: paths, AllowStdin: true}
	for files.Scan() {
		result, ok := files.Result().(*benchfmt.Result)
		if !ok {
			continue
		}
		name := regexp.MustCompile(`-\d+$`).ReplaceAllString(string(result.Name), "") // without GOMAXPROCS
		if r.values[name] == nil {
			r.names = append(r.names, name)
			r.values[name] = map[string][]float64{}
		}
		for _, v := range result.Values {
			r.values[name][v.Unit] = append(r.values[name][v.Unit], v.Value)
		}
	}
	return r, files.Err()
}

// median returns 0 if there is no result.
func (r results) median(name, unit string) float64 { return median(r.values[name][unit]) }

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	return benchmath.AssumeNothing.Summary(benchmath.NewSample(slices.Clone(values), &benchmath.DefaultThresholds), 0.95).Center
}

// column is one figure of each row.
type column struct {
	head  string
	name  string // of the benchmark, with * for the name of the row
	unit  string
	base  string // if set, the figure is divided by that of this benchmark; otherwise it is multiplied by scale
	scale float64
}

// tables returns the tables for which there are results, and the load, which is computed.
func (r results) tables() (all []table) {
	add := func(name, head string, columns ...column) {
		if t := r.table(name, head, columns); len(t.rows) > 1 {
			all = append(all, t)
		}
	}
	const cpu, header = "cpu-sec/op", "Guard/alg=HS256/who=gin-header-set"
	var guard, refuse []column
	for _, alg := range []string{"HS256", "RS256", "ES256", "EdDSA"} {
		guard = append(guard, column{alg, "Guard/alg=" + alg + "/who=*", cpu, "Guard/alg=" + alg + "/who=gin-header-set", 0})
	}
	add("guard", "", append(guard,
		column{"HS256, ns", "Guard/alg=HS256/who=*", cpu, "", 1e9},
		column{"HS256, B", "Guard/alg=HS256/who=*", "B/op", "", 1},
		column{"HS256, allocations", "Guard/alg=HS256/who=*", "allocs/op", "", 1})...)
	for _, kind := range []string{"expired", "forged", "malformed", "revoked"} {
		refuse = append(refuse, column{kind, "Refuse/kind=" + kind + "/who=*", cpu, header, 0})
	}
	add("refuse", "", refuse...)
	add("login", "",
		column{"refresh, µs", "Refresh/alg=*/who=ginrefresh", cpu, "", 1e6},
		column{"× gin-jwt", "Refresh/alg=*/who=ginrefresh", cpu, "Refresh/alg=*/who=gin-jwt", 0},
		column{"allocations", "Refresh/alg=*/who=ginrefresh", "allocs/op", "", 1},
		column{"login, µs", "Login/alg=*/who=ginrefresh", cpu, "", 1e6},
		column{"× gin-jwt", "Login/alg=*/who=ginrefresh", cpu, "Login/alg=*/who=gin-jwt", 0},
		column{"allocations", "Login/alg=*/who=ginrefresh", "allocs/op", "", 1})
	for _, alg := range []string{"HS256", "RS256"} {
		name := "Loopback/alg=" + alg + "/who="
		add("loopback-"+alg, alg,
			column{"× gin-header-set", name + "*", "requests/s", name + "gin-header-set", 0},
			column{"× gin-jwt", name + "*", "requests/s", name + "gin-jwt", 0},
			column{"requests/s", name + "*", "requests/s", "", 1},
			column{"server's CPU, µs/request", name + "*", "server-cpu-us/request", "", 1},
			column{"p50, µs", name + "*", "p50-us", "", 1},
			column{"p99, µs", name + "*", "p99-us", "", 1},
			column{"p99.9, µs", name + "*", "p99.9-us", "", 1})
	}
	add("million", "order of the tokens",
		column{"× without the cache", "MillionTokens/order=*", "x-without-cache", "", 1},
		column{"requests/s", "MillionTokens/order=*", "requests/s", "", 1},
		column{"requests/s without the cache", "MillionTokens/order=*", "requests/s-without-cache", "", 1},
		column{"cache, MiB", "MillionTokens/order=*", "cache-MiB", "", 1})
	add("stores", "store",
		column{"memory, B/record", "Store/store=*", "B/record", "", 1},
		column{"disk, B/record", "Store/store=*", "disk-B/record", "", 1},
		column{"checks/s", "Store/store=*", "checks/s", "", 1},
		column{"swaps/s", "Store/store=*", "swaps/s", "", 1},
		column{"checks per CPU second of the server", "Store/store=*", "checks/cpu-s", "", 1},
		column{"swaps per CPU second of the server", "Store/store=*", "swaps/cpu-s", "", 1})
	if r.median("Store/store=Redis", "checks/cpu-s") > 0 {
		all = append(all, limitTable(r))
	}
	return append(all, loadTable())
}

// table has a row for each result that fits the first column.
func (r results) table(name, head string, columns []column) table {
	t := table{name: name, rows: [][]string{{head}}}
	for _, c := range columns {
		t.rows[0] = append(t.rows[0], c.head)
	}
	before, after, _ := strings.Cut(columns[0].name, "*")
	for _, full := range r.names {
		row, ok := strings.CutPrefix(full, before)
		row, fits := strings.CutSuffix(row, after)
		if !ok || !fits {
			continue
		}
		cells := []string{row}
		if strings.HasPrefix(row, "ginrefresh") {
			cells[0] = "**" + row + "**"
		}
		for _, c := range columns {
			cells = append(cells, r.cell(c, row))
		}
		t.rows = append(t.rows, cells)
	}
	return t
}

func (r results) cell(c column, row string) string {
	factor, sign := c.scale, ""
	values := r.values[strings.Replace(c.name, "*", row, 1)][c.unit]
	if c.base != "" {
		base := r.values[strings.Replace(c.base, "*", row, 1)][c.unit]
		values, factor, sign = ratios(values, base), 1, "×"
	}
	if len(values) == 0 {
		return "–"
	}
	return sign + number(median(values)*factor)
}

// ratios divides the values of each round by those of the same round, because the machine's speed changes with time.
func ratios(values, base []float64) (divided []float64) {
	for i := range min(len(values), len(base)) {
		divided = append(divided, values[i]/base[i])
	}
	return divided
}

// number writes up to two decimals of a small number, and none of a large one.
func number(f float64) string {
	decimals := 2
	if f >= 100 || f == math.Trunc(f) {
		decimals = 0
	} else if f >= 10 {
		decimals = 1
	}
	return message.NewPrinter(language.English).Sprintf("%.*f", decimals, f)
}

// table is a table in Markdown. The first row is its head.
type table struct {
	name string
	rows [][]string
}

func (t table) String() string {
	rule := append([]string{"---"}, strings.Split(strings.Repeat("---: ", len(t.rows[0])-1), " ")...)
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 1, ' ', 0)
	for _, row := range append([][]string{t.rows[0], rule[:len(t.rows[0])]}, t.rows[1:]...) {
		fmt.Fprintf(w, "| %s\t|\n", strings.Join(row, "\t| "))
	}
	w.Flush()
	return b.String()
}

var documents = []string{"performance.md", "scale.md"}

// replace writes the table between its two comments in each document that has them.
func (t table) replace(docs string) error {
	region := regexp.MustCompile(`(?s)(<!-- table ` + t.name + ` -->\n).*?(<!-- end -->)`)
	for _, name := range documents {
		file := filepath.Join(docs, name)
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if changed := region.ReplaceAll(text, []byte("${1}"+t.String()+"${2}")); string(changed) != string(text) {
			if err := os.WriteFile(file, changed, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}
