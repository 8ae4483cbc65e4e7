package interleaving

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.ReleaseMode)
	debug.SetGCPercent(800) // a schedule leaves garbage behind, and next to nothing else
	os.Exit(m.Run())
}

// combination is a set of operations that run concurrently, and the conditions under which they run.
type combination struct {
	setup
	operations  []operation
	sameServer  bool // otherwise they alternate between the two servers
	twice       bool // see scheduler
	disturbance disturbance
}

// String names the group under which the report counts the combination.
func (c combination) String() string {
	names := make([]string, len(c.operations))
	for i, o := range c.operations {
		names[i] = o.name
	}
	return strings.Join(names, " ∥ ") + ", " + c.setup.String()
}

// result counts the schedules of combinations.
type result struct {
	schedules, violations int
	byRule                map[string]int
	example               string
}

func (r *result) add(other result) {
	r.schedules += other.schedules
	r.violations += other.violations
	r.example = cmp.Or(r.example, other.example)
	for rule, n := range other.byRule {
		r.count(rule, n)
	}
}

func (r *result) count(rule string, n int) {
	if r.byRule == nil {
		r.byRule = map[string]int{}
	}
	r.byRule[rule] += n
}

// endless is more than the number of schedules of any combination. Only calls that retry for ever reach it.
const endless = 100_000

// explore runs every schedule of the combination.
func (c combination) explore() (r result) {
	w := &world{setup: c.setup}
	explore(func(choose func(int) int) bool {
		c.play(w, choose)
		if c.disturbance != undisturbed && !w.disturbed {
			return true // the undisturbed combination counts this schedule
		}
		r.schedules++
		w.history.lostAt, w.rolledBack = w.scheduler.lostAt, c.disturbance == rollingBack
		w.conclude()
		w.probe()
		found := w.violations()
		if r.schedules == endless {
			found = append(found, "R14: the number of schedules is not bounded")
		}
		r.judge(found, func() string { return fmt.Sprintf("%v\n%s", c, w.schedule()) })
		return r.schedules < endless
	})
	return r
}

// judge counts a schedule's violations.
func (r *result) judge(found []string, describe func() string) {
	if len(found) == 0 {
		return
	}
	r.violations++
	rules := map[string]bool{}
	for _, f := range found {
		rule, _, _ := strings.Cut(f, ":")
		rules[rule] = true
	}
	for rule := range rules {
		r.count(rule, 1)
	}
	if r.example == "" {
		r.example = describe() + "   " + strings.Join(found, "\n   ") + "\n"
	}
}

// play runs one schedule.
func (c combination) play(w *world, choose func(int) int) {
	w.begin(&scheduler{disturbance: c.disturbance, twice: c.twice, choose: choose})
	for i, o := range c.operations {
		call := &call{operation: o, index: i, presented: w.current}
		if o.old {
			call.presented = w.previous
		}
		if !c.sameServer {
			call.server = i % 2
		}
		call.ctx, call.cancel = context.WithCancel(context.WithValue(context.Background(), callKey{}, call))
		w.calls = append(w.calls, call)
	}
	w.run(w.calls, func(c *call) { c.answer = c.operation.run(w, c, w.servers[c.server]) })
}

// probe verifies and refreshes every issued token on the servers. It undoes its changes to the store.
func (w *world) probe() {
	ctx := context.Background()
	refreshes := func(s *server, t *token) (a answer) {
		for _, key := range keyNames {
			var got answer
			if w.offered || key == noKey {
				w.store.undoing(func() { got = fromTokens(s.Refresh(ctx, t.refresh, proofs(key, t.refresh)...)) })
			}
			switch {
			case key == t.session.key:
				a = got
			case t.session.key != noKey && got.code == "":
				t.stolen = true
			}
		}
		return a
	}
	w.restAt = time.Now()
	if w.limited {
		w.limit = 2
		sessions, err := w.servers[0].Sessions(ctx, subject)
		if err != nil {
			panic(err)
		}
		for _, s := range sessions {
			w.listed = append(w.listed, s.ID)
		}
	}
	for i, s := range w.servers {
		for _, t := range w.tokens {
			_, err := s.Verify(ctx, t.access)
			t.verified[i] = fromError(err).code
		}
	}
	for i, s := range w.servers {
		for _, t := range w.tokens {
			a := refreshes(s, t)
			t.refreshed[i], t.successor[i] = a.code, contents(a.access).ID
		}
	}
	time.Sleep(grace + time.Second)
	for _, t := range w.tokens {
		t.later = refreshes(w.servers[0], t).code
	}
}

// pairs returns all unordered pairs of an operation of a and one of b.
func pairs(s setup, a, b []operation) (all []combination) {
	seen := map[string]bool{}
	for _, x := range a {
		for _, y := range b {
			if seen[y.name+x.name] || s.pair && (x.oneToken || y.oneToken) {
				continue
			}
			seen[x.name+y.name] = true
			all = append(all, combination{setup: s, operations: []operation{x, y}})
		}
	}
	return all
}

// triples returns all unordered triples of the operations.
func triples(s setup, from ...operation) (all []combination) {
	for i, x := range from {
		for j, y := range from[i:] {
			for _, z := range from[i+j:] {
				all = append(all, combination{setup: s, operations: ops{x, y, z}})
			}
		}
	}
	return all
}

type ops = []operation

// allPairs returns the pairs of operations, in every setup in which they make sense.
func allPairs(pair bool) (all []combination) {
	add := func(s setup, a, b ops) {
		s.pair = pair
		all = append(all, pairs(s, a, b)...)
	}
	first := ops{refresh, verify, logout, endSession, logoutAll, login, signIn, change, replaceKeys, autoEarly, auto}
	add(setup{}, first, first)
	second := ops{refresh, refreshOld, verify, verifyOld, logout, logoutOld, logoutAll, autoEarly, autoOld}
	add(setup{refreshed: true}, second, second)
	add(setup{aged: true}, ops{refreshOld, autoOld}, ops{refreshOld, autoOld, refresh, verify, logout, logoutAll, signIn, replaceKeys})
	add(setup{peek: true}, ops{verify, auto}, ops{verify, auto, refresh, logout, endSession, logoutAll, login, replaceKeys, autoEarly})
	add(setup{peek: true, refreshed: true}, ops{verify, verifyOld}, ops{verify, verifyOld, refresh, refreshOld, logout, logoutAll})
	add(setup{peek: true, aged: true}, ops{refreshOld}, ops{verify, auto})
	add(setup{reload: true}, ops{refresh}, ops{refresh, verify, logout, logoutAll, change, replaceKeys, autoEarly})
	add(setup{reload: true, refreshed: true}, ops{refresh, refreshOld}, ops{refresh, refreshOld, logout})
	add(setup{cookies: true}, ops{signInAgain, signInWrong}, ops{signInAgain, signInWrong, refresh, verify, logout, logoutAll, change})
	add(setup{limited: true}, ops{login, signIn, logoutOthers, changeOthers},
		ops{login, signIn, logoutOthers, changeOthers, refresh, verify, logout, endSession, logoutAll})
	if pair {
		add(setup{offered: true}, ops{prove, proveOther}, ops{prove, proveOther, refresh, verify, logout, logoutAll})
		add(setup{offered: true, bound: true}, ops{prove, proveOther}, ops{prove, proveOther, refresh, verify, logout, logoutAll, replaceKeys})
		add(setup{offered: true, bound: true, refreshed: true}, ops{prove, proveOld}, ops{prove, proveOld, proveOther, refreshOld, logout})
		add(setup{offered: true, bound: true, aged: true}, ops{proveOld, refreshOld}, ops{prove, verify, proveOld, logout})
	}
	if !pair {
		add(setup{expired: true}, ops{auto}, ops{auto, refresh, verify, logout, logoutAll, replaceKeys})
		add(setup{expired: true, refreshed: true}, ops{autoOld}, ops{autoOld, auto, refreshOld, logout})
	}
	return all
}

// allTriples returns the triples of operations that change a session or need it alive, and some others.
func allTriples(pair bool) (all []combination) {
	some := func(s setup, operations ...operation) {
		all = append(all, combination{setup: s, operations: operations})
	}
	all = triples(setup{pair: pair}, refresh, verify, logout, logoutAll, login)
	all = append(all, triples(setup{pair: pair, refreshed: true}, refresh, refreshOld, verifyOld, logout)...)
	some(setup{pair: pair, aged: true}, refreshOld, refresh, verify)
	some(setup{pair: pair, peek: true}, verify, verify, logout)
	some(setup{pair: pair, peek: true}, verify, verify, logoutAll)
	some(setup{pair: pair, peek: true}, verify, logout, logout)
	some(setup{pair: pair}, signIn, change, login)
	some(setup{pair: pair}, signIn, change, logoutAll)
	some(setup{pair: pair}, refresh, refresh, replaceKeys)
	some(setup{pair: pair}, refresh, logout, replaceKeys)
	if !pair {
		some(setup{}, autoEarly, autoEarly, refresh)
		some(setup{}, autoEarly, autoEarly, logout)
		some(setup{}, autoEarly, refresh, logoutAll)
	}
	return all
}

// everything returns the combinations of the long form.
func everything() (all []combination) {
	for _, pair := range []bool{false, true} {
		for _, c := range allPairs(pair) {
			for _, sameServer := range []bool{false, true} {
				if sameServer && c.logins() {
					continue
				}
				c.sameServer = sameServer
				calm := c
				calm.twice = !c.reload && !c.cookies && !c.aged && !c.limited && !c.offered
				all = append(all, calm)
				for _, d := range disturbancesOf(c.setup) {
					if c.limited && c.startsSession() || (d == forgetting || d == rollingBack) && (sameServer || c.isLong()) {
						continue // a login with a limit takes many steps, and a loss of records is the same for both servers
					}
					disturbed := c
					disturbed.disturbance = d
					disturbed.twice = calm.twice && d == slow && c.endsAll() && !sameServer
					all = append(all, disturbed)
				}
			}
		}
		all = append(all, allTriples(pair)...)
	}
	return all
}

// someOfIt returns the combinations of the short form: nearly every pair without a disturbance, and in one of the modes also
// with one, two losses of records, and two triples.
func someOfIt() (all []combination) {
	for _, pair := range []bool{false, true} {
		for i, c := range allPairs(pair) {
			passwords := slices.ContainsFunc(c.operations, func(o operation) bool { return o.password })
			if c.limited && (passwords || pair && c.logins()) {
				continue
			}
			c.twice = c.peek
			all = append(all, c)
			if possible := disturbancesOf(c.setup); pair == (i%2 == 0) && !c.limited && !(c.cookies && passwords) {
				c.disturbance, c.twice = possible[i/2%len(possible)], false
				all = append(all, c)
			}
		}
		all = append(all,
			combination{setup: setup{pair: pair}, operations: ops{signIn, change}, disturbance: forgetting},
			combination{setup: setup{pair: pair}, operations: ops{refresh, logout}, disturbance: rollingBack},
			combination{setup: setup{pair: pair}, operations: ops{refresh, refresh, logoutAll}},
			combination{setup: setup{pair: pair, refreshed: true}, operations: ops{refresh, refreshOld, logout}})
	}
	return all
}

// endsAll reports whether one of the operations sets a subject's cutoff, which is ahead of the clock by a fixed time.
func (c combination) endsAll() bool {
	return slices.ContainsFunc(c.operations, func(o operation) bool { return o.ends == allSessions })
}

// logins reports whether all operations are logins. With a limit these take many steps.
func (c combination) logins() bool {
	return c.limited && !slices.ContainsFunc(c.operations, func(o operation) bool { return !o.startsSession })
}

// startsSession reports whether one of the operations is a login.
func (c combination) startsSession() bool {
	return slices.ContainsFunc(c.operations, func(o operation) bool { return o.startsSession })
}

// isLong reports whether the operations take so many steps that a loss of records at each of them is too much.
func (c combination) isLong() bool {
	passwords := slices.ContainsFunc(c.operations, func(o operation) bool { return o.password })
	revocations := 0
	for _, o := range c.operations {
		if o.ends == allSessions {
			revocations++
		}
	}
	return c.reload || c.cookies && passwords || revocations > 1
}

// disturbancesOf returns the disturbances that are possible in the setup. A store in memory is not slow, ignores the
// context, and forgets nothing while its process lives.
func disturbancesOf(s setup) []disturbance {
	switch {
	case s.peek || s.limited:
		return []disturbance{fault}
	case s.offered: // each refresh takes a signature
		return []disturbance{fault, hangUp, forgetting}
	}
	return []disturbance{fault, hangUp, slow, gracePasses, ttlPasses, forgetting, rollingBack}
}

// report prints one line for each group of combinations, and the total.
func report(t *testing.T, combinations []combination, results []result) {
	lines := map[string]*result{}
	var order []string
	var sum result
	for i, c := range combinations {
		name := c.String()
		if lines[name] == nil {
			lines[name] = &result{}
			order = append(order, name)
		}
		lines[name].add(results[i])
		sum.add(results[i])
	}
	for _, name := range order {
		r := lines[name]
		fmt.Fprintf(t.Output(), "%s: %d schedules, %d violations\n", name, r.schedules, r.violations)
		if r.violations != 0 {
			t.Errorf("%s\n%s", name, r.example)
		}
	}
	for _, rule := range slices.Sorted(maps.Keys(sum.byRule)) {
		fmt.Printf("%s: %d schedules\n", rule, sum.byRule[rule])
	}
	t.Logf("proof: %d combinations, %d schedules, %d violations", len(combinations), sum.schedules, sum.violations)
}

// runAll explores the combinations in parallel.
func runAll(t *testing.T, combinations []combination) []result {
	results := make([]result, len(combinations))
	var next atomic.Int64
	t.Run("workers", func(t *testing.T) {
		for i := range runtime.GOMAXPROCS(0) {
			t.Run(strconv.Itoa(i), func(t *testing.T) {
				t.Parallel()
				for n := next.Add(1) - 1; n < int64(len(combinations)); n = next.Add(1) - 1 {
					synctest.Test(t, func(*testing.T) { results[n] = combinations[n].explore() })
				}
			})
		}
	})
	return results
}

func TestInterleavings(t *testing.T) {
	combinations := someOfIt()
	if os.Getenv("GINREFRESH_FULL") != "" {
		combinations = everything()
	}
	report(t, combinations, runAll(t, combinations))
}

// TestBrokenStoresAreNoticed shows that the reference detects violations: with a broken store there are some.
func TestBrokenStoresAreNoticed(t *testing.T) {
	defects := []combination{
		{operations: ops{refresh, refresh}, setup: setup{defect: swapsBlindly}},
		{operations: ops{refresh, logout}, setup: setup{defect: forgets}},
		{operations: ops{refresh, logout}, setup: setup{defect: hidesLoss}, disturbance: forgetting},
		{operations: ops{verify, logout}, setup: setup{defect: countsEarly, peek: true}},
		{operations: ops{verify, refresh, logout}, setup: setup{defect: countsLate, peek: true}},
	}
	for _, broken := range defects {
		synctest.Test(t, func(t *testing.T) {
			r := broken.explore()
			t.Logf("%v, %s: %d schedules, %d violations", broken, broken.defect, r.schedules, r.violations)
			if r.violations == 0 {
				t.Error("no violation is detected")
			}
		})
	}
	t.Logf("proof: %d broken stores found", len(defects))
}
