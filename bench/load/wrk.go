package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"regexp"
	"strconv"
	"strings"

	"github.com/ginrefresh/ginrefresh/bench/internal/contest"
)

// wrk measures what a server without a store or with one in memory answers, of one and the same request again and again.
// It is everybody's generator of load, where it is installed, and not ours.
type wrk struct {
	path        string
	connections int
	turns       int // a second each: wrk has no shorter ones
}

// findWrk returns nil if there is none.
func findWrk(o options) *wrk {
	path, err := exec.LookPath("wrk")
	if err != nil {
		return nil
	}
	return &wrk{path: path, connections: o.connections, turns: max(1, int(o.limit.duration.Seconds()))}
}

// measure adds a round to each of the servers that wrk is for.
func (w *wrk) measure(ctx context.Context, servers []*server) error {
	if w == nil {
		return nil
	}
	sums := make([]float64, len(servers))
	for range w.turns {
		for _, i := range rand.Perm(len(servers)) {
			s := servers[i]
			if s.Store != noStore && s.Store != memory {
				continue
			}
			perSecond, err := w.drive(ctx, s)
			if err != nil {
				return err
			}
			sums[i] += perSecond
		}
	}
	for i, s := range servers {
		if sums[i] > 0 {
			s.byWrk = append(s.byWrk, sums[i]/float64(w.turns))
		}
	}
	return nil
}

func (w *wrk) drive(ctx context.Context, s *server) (perSecond float64, err error) {
	args := []string{"-t1", fmt.Sprint("-c", w.connections), "-d1s", "-H", "Authorization: " + s.authorization, "http://" + s.address + contest.Path}
	report, err := exec.CommandContext(ctx, w.path, args...).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("wrk: %w: %s", err, report)
	}
	return readWrk(string(report))
}

var wrkRate = regexp.MustCompile(`(?m)^Requests/sec:\s+([0-9.]+)$`)

// readWrk takes the requests per second from wrk's report, if all were answered as they should.
func readWrk(report string) (float64, error) {
	for _, trouble := range []string{"Non-2xx", "Socket errors"} {
		if strings.Contains(report, trouble) {
			return 0, fmt.Errorf("wrk: not all requests were answered: %s", report)
		}
	}
	rate := wrkRate.FindStringSubmatch(report)
	if rate == nil {
		return 0, fmt.Errorf("wrk: no rate in %q", report)
	}
	return strconv.ParseFloat(rate[1], 64)
}
