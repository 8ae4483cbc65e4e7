package main

import (
	"flag"
	"strings"
	"sync"
	"testing"
)

var useSmall = flag.Bool("small", false, "few tokens, for a quick look: the figures mean nothing")

var measuredScenarios = sync.OnceValue(func() []scenario {
	if *useSmall {
		return scenarios(small)
	}
	return scenarios(measured)
})

// benchmarkAll runs the scenarios whose names begin with the group.
func benchmarkAll(b *testing.B, group string) {
	for _, s := range measuredScenarios() {
		if name, ok := strings.CutPrefix(s.name, group+"/"); ok {
			b.Run(name, s.benchmark)
		}
	}
}

// BenchmarkNone is Gin without a guard: what all else is compared with.
func BenchmarkNone(b *testing.B) { benchmarkAll(b, "None") }

// BenchmarkWarm uses the same 1,000 tokens again and again.
func BenchmarkWarm(b *testing.B) { benchmarkAll(b, "Warm") }

// BenchmarkCold uses each token once.
func BenchmarkCold(b *testing.B) { benchmarkAll(b, "Cold") }

// BenchmarkRefused uses the same 1,000 bad tokens again and again.
func BenchmarkRefused(b *testing.B) { benchmarkAll(b, "Refused") }

// BenchmarkRefusedOnce uses each bad token once.
func BenchmarkRefusedOnce(b *testing.B) { benchmarkAll(b, "RefusedOnce") }

func BenchmarkRefresh(b *testing.B) { benchmarkAll(b, "Refresh") }

// BenchmarkLogin is without the password: bcrypt would take a hundred times as long as all else.
func BenchmarkLogin(b *testing.B) { benchmarkAll(b, "Login") }
