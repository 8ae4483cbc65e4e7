package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/ginrefresh/ginrefresh/bench/internal/report"
)

// figures are what one benchmark came to, per request.
type figures struct {
	ns     float64 // of processor time, which is what is compared: others' work on the machine is not in it
	clock  float64 // ns/op as go test has it
	bytes  float64
	allocs float64
}

// processorUnit is the unit of the processor time in the output of the benchmarks.
const processorUnit = "cpu-ns/op"

// result is one benchmark over all rounds.
type result struct {
	name   string // without "Benchmark": Warm/HS256/gin-jwt
	rounds []figures
}

// median is taken of each figure by itself.
func (r result) median() figures {
	of := func(get func(figures) float64) float64 {
		values := make([]float64, len(r.rounds))
		for i, f := range r.rounds {
			values[i] = get(f)
		}
		return report.Median(values)
	}
	return figures{
		ns:     of(func(f figures) float64 { return f.ns }),
		clock:  of(func(f figures) float64 { return f.clock }),
		bytes:  of(func(f figures) float64 { return f.bytes }),
		allocs: of(func(f figures) float64 { return f.allocs }),
	}
}

// measure builds the benchmarks once and runs them in rounds, each time in a process of its own, as the
// layout of a process's memory has its say as well.
func measure(o options) ([]result, error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "bench.test")
	if out, err := exec.Command("go", "test", "-c", "-o", binary, ".").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go test -c: %w\n%s", err, out)
	}
	var results []result
	for round := range o.count {
		log.Printf("round %d of %d", round+1, o.count)
		// One processor: the collector's work, and a cache's, is to count and not to hide on another core.
		command := exec.Command(binary, "-test.run=^$", "-test.bench="+o.filter, "-test.benchtime="+o.benchtime,
			"-test.cpu=1", "-test.timeout=1h", fmt.Sprintf("-small=%t", o.quick))
		if results, err = collect(command, results); err != nil {
			return nil, err
		}
	}
	if len(results) == 0 {
		return nil, errors.New("no benchmark has run")
	}
	return results, nil
}

func collect(command *exec.Cmd, results []result) ([]result, error) {
	command.Stderr = os.Stderr
	stdout, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	var other strings.Builder
	results = parse(stdout, results, &other)
	if err := command.Wait(); err != nil {
		return nil, fmt.Errorf("the benchmarks: %w\n%s", err, other.String())
	}
	return results, nil
}

// parse adds a round of go test's output to the results. What is no result goes to other.
func parse(output io.Reader, results []result, other io.Writer) []result {
	index := map[string]int{}
	for i, r := range results {
		index[r.name] = i
	}
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		name, f, ok := parseLine(lines.Text())
		if !ok {
			fmt.Fprintln(other, lines.Text())
			continue
		}
		i, found := index[name]
		if !found {
			i = len(results)
			index[name] = i
			results = append(results, result{name: name})
		}
		results[i].rounds = append(results[i].rounds, f)
	}
	return results
}

// parseLine reads a line like "BenchmarkNone/gin  1000  230.1 ns/op  228.0 cpu-ns/op  48 B/op  1 allocs/op".
func parseLine(line string) (name string, f figures, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
		return "", figures{}, false
	}
	for i := 2; i+1 < len(fields); i += 2 {
		value, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			return "", figures{}, false
		}
		switch fields[i+1] {
		case processorUnit:
			f.ns = value
		case "ns/op":
			f.clock = value
		case "B/op":
			f.bytes = value
		case "allocs/op":
			f.allocs = value
		}
	}
	return strings.TrimPrefix(fields[0], "Benchmark"), f, f.ns > 0
}
