package main

import (
	"flag"
	"io"
	"os"
	"testing"

	"github.com/ginrefresh/ginrefresh/bench/internal/report"
)

var runMillion = flag.Bool("million", false, "send a million live tokens through the cache, which takes minutes and 2 GB")

// TestMillionTokens shows that the cache stays bounded, and costs nothing where it cannot help:
//
//	go test -run Million -v -timeout 30m -million
func TestMillionTokens(t *testing.T) {
	n, rounds, progress := 20_000, 1, io.Writer(io.Discard)
	if *runMillion {
		n, rounds, progress = 1_000_000, 6, os.Stderr
	}
	m := measureMillion(n, rounds, progress)
	goals, met := report.Goals(m.goals())
	t.Logf("\n%s\n%s", m, goals)
	if *runMillion && !met {
		t.Error("a goal is missed")
	}
	for _, w := range m.workloads { // the memory is bounded whatever the machine is doing
		if w.heapMiB > maxCacheMiB {
			t.Errorf("%s: the cache holds %.1f MiB", w.name, w.heapMiB)
		}
	}
}
