package main

import (
	"fmt"

	"github.com/ginrefresh/ginrefresh/bench/internal/contest"
	"github.com/ginrefresh/ginrefresh/bench/internal/report"
	"github.com/ginrefresh/ginrefresh/middleware"
)

// What the project wants of itself.
const (
	maxWarmRatio  = 2.0 // to Gin with reading the header and one c.Set
	maxWarmAllocs = 5
	minFasterHMAC = 12.0 // than gin-jwt
	minFasterPair = 50.0
	maxColdRatio  = 0.5 // to gin-jwt
	maxColdAllocs = 20
)

// goals leaves out those whose benchmarks have not run.
func (d document) goals() []report.Goal {
	var goals []report.Goal
	add := func(text string, got, limit float64, least bool) {
		if got > 0 {
			goals = append(goals, report.Goal{Text: text, Got: got, Limit: limit, Least: least})
		}
	}
	for _, algorithm := range contest.Algorithms {
		warm := d.find("Warm", algorithm, contest.Ours)
		faster := minFasterPair
		if algorithm == middleware.HS256 {
			faster = minFasterHMAC
		}
		add(fmt.Sprintf("%s, warm: × Gin + header + `c.Set`", algorithm), d.toHeader(warm), maxWarmRatio, false)
		add(fmt.Sprintf("%s, warm: allocations", algorithm), warm.allocs, maxWarmAllocs, false)
		add(fmt.Sprintf("%s, warm: times faster than gin-jwt", algorithm), ratio(d.find("Warm", algorithm, contest.GinJWT), warm), faster, true)
	}
	cold := d.find("Cold", middleware.HS256, contest.Ours)
	add("HS256, cold: × gin-jwt", ratio(cold, d.find("Cold", middleware.HS256, contest.GinJWT)), maxColdRatio, false)
	add("HS256, cold: allocations", cold.allocs, maxColdAllocs, false)
	for _, kind := range refusalKinds {
		add(fmt.Sprintf("HS256, %s: × genuine and cold", kind), ratio(d.find("Refused", kind, contest.Ours), cold), 1, false)
		add(fmt.Sprintf("HS256, %s, each once: × genuine and cold", kind), ratio(d.find("RefusedOnce", kind, contest.Ours), cold), 1, false)
	}
	return goals
}

// ratio is 0 where one of the two was not measured.
func ratio(a, b figures) float64 {
	if a.ns == 0 || b.ns == 0 {
		return 0
	}
	return a.ns / b.ns
}
