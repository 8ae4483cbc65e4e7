// Command bench measures ginrefresh beside its peers and writes docs/performance.md with a chart:
//
//	go run . [-count 6] [-benchtime 300ms] [-check] [-million]
//	go run . -quick
//
// The benchmarks are those of go test -bench in this module. They run once per round, all of them, so that
// noise on the machine hits all alike; the figures are medians of the rounds.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/ginrefresh/ginrefresh/bench/internal/report"
)

// options are the command line.
type options struct {
	count     int
	benchtime string
	filter    string
	docs      string
	quick     bool
	check     bool
	million   bool
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("bench: ")
	var o options
	flag.IntVar(&o.count, "count", 6, "rounds")
	flag.StringVar(&o.benchtime, "benchtime", "300ms", "how long each benchmark runs in a round, as go test has it")
	flag.StringVar(&o.filter, "bench", ".", "which benchmarks, as go test has it; with any but all, no documents are written")
	flag.StringVar(&o.docs, "docs", "../docs", "where the documents go")
	flag.BoolVar(&o.quick, "quick", false, "one short round, to see that everything works; no documents are written")
	flag.BoolVar(&o.check, "check", false, "exit with status 1 if a goal is missed")
	flag.BoolVar(&o.million, "million", false, "send a million live tokens through the cache as well, which takes minutes and 2 GB")
	flag.Parse()
	met, err := run(o)
	if err != nil {
		log.Fatal(err)
	}
	if o.check && !met {
		log.Fatal("a goal is missed")
	}
}

func run(o options) (met bool, err error) {
	if o.quick {
		o.count, o.benchtime = 1, "200x"
	}
	start := time.Now()
	results, err := measure(o)
	if err != nil {
		return false, err
	}
	d := document{results: results, rounds: o.count, benchtime: o.benchtime}
	fmt.Print(d.everything())
	goals, met := report.Goals(d.goals())
	fmt.Printf("\n%s\n", goals)
	log.Printf("took %v", time.Since(start).Round(time.Second))
	if o.quick || o.filter != "." {
		return met, nil
	}
	if err := d.write(o.docs); err != nil {
		return met, err
	}
	if !o.million {
		return met, nil
	}
	millionMet, err := writeMillion(o.docs, o.count)
	return met && millionMet, err
}

// write writes the chart and this command's section.
func (d document) write(docs string) error {
	if err := report.Write(filepath.Join(docs, "performance.svg"), d.chart().SVG()); err != nil {
		return err
	}
	return report.Performance(docs, report.BenchSection, d.section())
}

func writeMillion(docs string, rounds int) (met bool, err error) {
	m := measureMillion(1_000_000, rounds, os.Stderr)
	fmt.Print(m.String())
	goals, met := report.Goals(m.goals())
	fmt.Print(goals)
	return met, report.Performance(docs, report.CacheSection, m.section())
}
