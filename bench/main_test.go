package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const sampleResults = `
BenchmarkGuard/alg=HS256/who=gin-header-set-2 1 90 ns/op 500 cpu-ns/op 4 allocs/op
BenchmarkGuard/alg=HS256/who=gin-header-set-2 1 90 ns/op 400 cpu-ns/op 4 allocs/op
BenchmarkGuard/alg=HS256/who=gin-header-set-2 1 90 ns/op 900 cpu-ns/op 4 allocs/op
BenchmarkGuard/alg=HS256/who=ginrefresh-2 1 90 ns/op 650 cpu-ns/op 3 allocs/op
BenchmarkGuard/alg=HS256/who=ginrefresh-2 1 90 ns/op 440 cpu-ns/op 3 allocs/op
BenchmarkGuard/alg=HS256/who=ginrefresh-2 1 90 ns/op 1350 cpu-ns/op 3 allocs/op
BenchmarkStore/store=memory-2 1 200 B/record 4000000 checks/s 2000000 swaps/s
BenchmarkStore/store=Redis-2 1 200 B/record 1000 checks/s 500 swaps/s 200000 checks/cpu-s 100000 swaps/cpu-s
`

// TestTables checks medians, the ratios of each round, units, missing results and limits.
func TestTables(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "results.txt")
	if err := os.WriteFile(file, []byte(sampleResults), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := read([]string{file})
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][][]string{}
	for _, table := range r.tables() {
		rows[table.name] = table.rows
	}
	for _, test := range []struct {
		table string
		row   int
		want  string
	}{
		{"guard", 1, "gin-header-set ×1 – – – 500 – 4"},
		{"guard", 2, "**ginrefresh** ×1.30 – – – 650 – 3"},
		{"stores", 2, "Redis 200 – 1,000 500 200,000 100,000"},
		{"limit", 3, "always on 0.38 (one process) – 1.79 (time)"},
	} {
		if got := strings.Join(rows[test.table][test.row], " "); got != test.want {
			t.Errorf("%s: got %q, want %q", test.table, got, test.want)
		}
	}
	if rows["million"] != nil {
		t.Error("there is a table without results")
	}
}

func TestReplace(t *testing.T) {
	dir := t.TempDir()
	for _, name := range documents {
		before := "a\n<!-- table x -->\nold\n<!-- end -->\n<!-- table y -->\nold\n<!-- end -->\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(before), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := (table{"y", [][]string{{"head", "B"}, {"row", "1"}}}).replace(dir); err != nil {
		t.Fatal(err)
	}
	const want = "a\n<!-- table x -->\nold\n<!-- end -->\n<!-- table y -->\n" +
		"| head | B    |\n| ---  | ---: |\n| row  | 1    |\n<!-- end -->\n"
	for _, name := range documents {
		if got := string(must(os.ReadFile(filepath.Join(dir, name)))); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}
