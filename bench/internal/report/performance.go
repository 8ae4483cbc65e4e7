package report

import "path/filepath"

// The sections of docs/performance.md.
const (
	BenchSection = "bench"
	LoadSection  = "load"
	CacheSection = "cache"
)

const performanceIntroduction = `# Performance

What a guarded request costs, beside Gin without a guard and beside other JWT middleware for Go. Read the
ratios: they come from one run, with all contestants in turn in every round. The times are those of the machine that
is named, and another one's, or the same one's on another day, are others.

These pages are written by commands, in ` + "`bench/`" + `:

` + "```" + `
go run . -million    # the benchmarks, the chart, and a million tokens
go run ./load        # requests per second over loopback, by wrk as well where it is installed
go test ./...        # the allocation gates
go test -bench .     # the benchmarks alone, for benchstat
` + "```" + `
`

// Performance replaces one section of docs/performance.md.
func Performance(docs, section, content string) error {
	order := []string{BenchSection, LoadSection, CacheSection}
	return Section(filepath.Join(docs, "performance.md"), performanceIntroduction, order, section, content)
}
