package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// A result is what a scenario has counted.
type result struct {
	name               string
	logouts, refreshes int64 // that were answered with success

	passes    [servers]int64 // revoked tokens that passed while the load ran
	isolated  bool           // server 0 was cut off from the others
	passesFor time.Duration  // the time from the fault to the last of the passes

	// Revoked tokens that pass, or are refreshed, when all is well again. A witness was made by a refresh that the store
	// has forgotten: that is proof enough to reject it (R21).
	passAgain, refreshAgain, witnesses atomic.Int64
	replacedAgain                      atomic.Int64 // tokens that a refresh has revoked, and that pass again

	forks       int64
	rejected    map[middleware.Code]int
	steps       int64
	unavailable int64
	outage      time.Duration // the longest time without any success
	steady      time.Duration // the time from the fault to the last 503
}

// finish ends the load and lets the thief try every token once.
func (l *load) finish(name string) *result {
	l.stop()
	r := &result{
		name:    name,
		logouts: l.logouts.Load(), refreshes: l.refreshes.Load(), steps: l.steps.Load(),
		forks: l.forks.Load(), rejected: l.rejected, unavailable: l.unavailable.Load(),
		outage: time.Duration(l.outage.Load()), isolated: l.lab.isolated,
		passesFor: l.sinceFault(l.lastPass.Load()), steady: l.sinceFault(l.lastFailure.Load()),
	}
	for i := range l.passes {
		r.passes[i] = l.passes[i].Load()
	}
	for i := range servers {
		l.lab.until("every server works again", func() bool { return l.works(i) })
	}
	work := make(chan *stolenToken)
	var thieves sync.WaitGroup
	for range 32 {
		thieves.Go(func() {
			for t := range work {
				l.tryEverywhere(t, r)
			}
		})
	}
	for _, t := range l.stolen {
		work <- t
	}
	close(work)
	thieves.Wait()
	return r
}

func (l *load) sinceFault(nanoseconds int64) time.Duration {
	return max(0, time.Unix(0, nanoseconds).Sub(l.faultAt))
}

// works reports whether a login and a logout succeed.
func (l *load) works(server int) bool {
	return l.step(server, func(ctx context.Context, a *middleware.Auth) error {
		tokens, err := a.Issue(ctx, middleware.Identity{Subject: "works"})
		if err != nil {
			return err
		}
		return a.Logout(ctx, tokens.AccessToken)
	}) == ""
}

// tryEverywhere verifies a revoked token at every server, and then refreshes it at every server.
func (l *load) tryEverywhere(t *stolenToken, r *result) {
	succeeds := func(step func(context.Context, *middleware.Auth) error) (success bool) {
		for i := range servers {
			success = l.step(i, step) == "" || success
		}
		return success
	}
	passed := succeeds(func(ctx context.Context, a *middleware.Auth) error {
		_, err := a.Verify(ctx, t.text)
		return err
	})
	refreshed := succeeds(func(ctx context.Context, a *middleware.Auth) error {
		_, err := a.Refresh(ctx, t.text)
		return err
	})
	if refreshed {
		r.refreshAgain.Add(1)
	}
	if !passed && !refreshed {
		return
	}
	if t.replaced {
		r.replacedAgain.Add(1)
	} else {
		r.passAgain.Add(1)
	}
	if !t.made.IsZero() && t.made.After(l.lab.restored) {
		r.witnesses.Add(1)
	}
}

const header = `| event | logouts | refreshes | pass during the fault | … until | pass again | … made by a forgotten refresh | replaced tokens that pass again | refreshed again | forks | live sessions rejected | 503, of all steps | longest outage | last 503 |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
`

func (r *result) String() string {
	rejections := "0"
	if len(r.rejected) > 0 {
		var parts []string
		for code, count := range r.rejected {
			parts = append(parts, fmt.Sprintf("%s %s", thousands(int64(count)), code))
		}
		slices.Sort(parts)
		rejections = strings.Join(parts, ", ")
	}
	passes := thousands(r.passes[0] + r.passes[1] + r.passes[2])
	if r.isolated {
		passes = fmt.Sprintf("%s at the isolated server, %s elsewhere", thousands(r.passes[0]), thousands(r.passes[1]+r.passes[2]))
	}
	cells := []string{
		r.name, thousands(r.logouts), thousands(r.refreshes), passes, seconds(r.passesFor),
		thousands(r.passAgain.Load()), thousands(r.witnesses.Load()), thousands(r.replacedAgain.Load()),
		thousands(r.refreshAgain.Load()), thousands(r.forks), rejections,
		fmt.Sprintf("%s of %s", thousands(r.unavailable), thousands(r.steps)), seconds(r.outage), seconds(r.steady),
	}
	return "| " + strings.Join(cells, " | ") + " |"
}

func thousands(n int64) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return thousands(n/1000) + fmt.Sprintf(",%03d", n%1000)
}

func seconds(d time.Duration) string {
	if d <= 0 {
		return "–"
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
