package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// A tally is what a scenario counts.
type tally struct {
	name     string
	faultAt  time.Time
	restored time.Time // the instant of the state that the fault brought back, or zero
	isolated bool      // server 0 is cut off from the others for some time

	logouts, refreshes atomic.Int64 // that were answered with success
	forks              atomic.Int64
	steps, unavailable atomic.Int64          // all steps, and those whose answer was 503
	passes             [servers]atomic.Int64 // revoked tokens that pass while the load runs, each counted once

	// Revoked tokens that pass, or are refreshed, when all is well again. A witness was made by a refresh that the store
	// has forgotten: that is proof enough to reject it (R21). The others were revoked by a logout or by a refresh.
	endedPass, replacedPass, refreshed, witnesses atomic.Int64

	// In nanoseconds: the instants of the last success, 503 and pass, and the longest time without a success.
	lastSuccess, lastUnavailable, lastPass, outage atomic.Int64

	mu       sync.Mutex
	rejected map[middleware.Code]int // living sessions
}

// count counts the answer to a step.
func (t *tally) count(code middleware.Code) {
	now := time.Now().UnixNano()
	t.steps.Add(1)
	if code == middleware.CodeStoreUnavailable {
		t.unavailable.Add(1)
		t.lastUnavailable.Store(now)
	} else if gap := now - t.lastSuccess.Swap(now); gap > t.outage.Load() {
		t.outage.Store(gap) // only one step ends a long gap
	}
}

// accepted counts an honest client who is rejected.
func (t *tally) accepted(code middleware.Code) bool {
	if code == "" {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rejected[code]++
	return false
}

const header = `| event | logouts | refreshes | pass during the fault | … until | pass again | … made by a refresh (since the backup) | replaced tokens that pass again | refreshed again | forks | live sessions rejected | 503, of all steps | longest outage | last 503 |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
`

// String returns a row of the table.
func (t *tally) String() string {
	rejections := []string{"0"}
	if len(t.rejected) > 0 {
		rejections = nil
		for code, count := range t.rejected {
			rejections = append(rejections, fmt.Sprintf("%s %s", thousands(int64(count)), code))
		}
		slices.Sort(rejections)
	}
	there, elsewhere := t.passes[0].Load(), t.passes[1].Load()+t.passes[2].Load()
	passes := thousands(there + elsewhere)
	if t.isolated {
		passes = fmt.Sprintf("%s at the isolated server, %s elsewhere", thousands(there), thousands(elsewhere))
	}
	count := func(n *atomic.Int64) string { return thousands(n.Load()) }
	return "| " + strings.Join([]string{
		t.name, count(&t.logouts), count(&t.refreshes), passes, t.sinceFault(&t.lastPass), count(&t.endedPass),
		count(&t.witnesses), count(&t.replacedPass), count(&t.refreshed), count(&t.forks), strings.Join(rejections, ", "),
		count(&t.unavailable) + " of " + count(&t.steps), seconds(time.Duration(t.outage.Load())), t.sinceFault(&t.lastUnavailable),
	}, " | ") + " |"
}

func (t *tally) sinceFault(nanoseconds *atomic.Int64) string {
	return seconds(time.Unix(0, nanoseconds.Load()).Sub(t.faultAt))
}

func seconds(d time.Duration) string {
	if d <= 0 {
		return "–"
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

func thousands(n int64) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return thousands(n/1000) + fmt.Sprintf(",%03d", n%1000)
}
