package interleaving

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"
)

// verdict is the scheduler's decision about a store call.
type verdict int

const (
	proceed   verdict = iota
	failFirst         // the call fails without an effect
	failLast          // the call takes effect, but its answer is lost
)

// disturbance is an event that happens once in a schedule, at any point.
type disturbance string

const (
	undisturbed disturbance = ""
	fault       disturbance = "a store call fails"
	hangUp      disturbance = "a client hangs up"
	slow        disturbance = "the store is slow"
	gracePasses disturbance = "the grace passes"
	ttlPasses   disturbance = "the tokens expire"
	forgetting  disturbance = "the store forgets everything"
	rollingBack disturbance = "the store is rolled back to the state before the operations"
)

// pause is the time that passes in a disturbance.
var pause = map[disturbance]time.Duration{slow: slowStore, gracePasses: grace, ttlPasses: ttl}

// point is a place at which a call waits until the scheduler lets it continue.
type point struct {
	call   *call
	what   string
	store  bool        // it is a call to the store, which can fail
	free   func() bool // whether it can continue; nil means always
	resume chan verdict
}

// scheduler lets one call continue at a time. Between two steps all calls wait.
type scheduler struct {
	disturbance disturbance
	twice       bool // store calls wait a second time, before they return
	choose      func(options int) int
	lose        func() // makes the store lose records

	mu        sync.Mutex
	active    bool // if false, calls do not wait
	waiting   []*point
	running   *call // the call that continued last
	step      int
	disturbed bool
	lostAt    int // the step at which the store lost records, or 0
	log       []event
}

// event is one line of a schedule.
type event struct {
	call *call
	what string
}

type callKey struct{}

// caller returns the call that owns the context. A Peek has no context, but only one call runs at a time.
func (s *scheduler) caller(ctx context.Context) *call {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		return c
	}
	return s.running
}

// wait blocks a call until the scheduler chooses it, or until its context ends.
func (s *scheduler) wait(ctx context.Context, p point) (verdict, error) {
	s.mu.Lock()
	if !s.active {
		s.mu.Unlock()
		return proceed, nil
	}
	p.call, p.resume = s.caller(ctx), make(chan verdict)
	s.waiting = append(s.waiting, &p)
	s.mu.Unlock()
	select {
	case v := <-p.resume:
		return v, nil
	case <-ctx.Done():
		s.mu.Lock()
		defer s.mu.Unlock()
		s.remove(&p)
		s.log = append(s.log, event{p.call, p.what + " is cancelled"})
		return proceed, ctx.Err()
	}
}

func (s *scheduler) remove(p *point) {
	s.waiting = slices.DeleteFunc(s.waiting, func(other *point) bool { return other == p })
}

func (s *scheduler) now() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.step
}

// run runs the calls to completion, in the order that choose decides.
func (s *scheduler) run(calls []*call, do func(c *call)) {
	s.active = true
	for _, c := range calls {
		go func() {
			_, _ = s.wait(c.ctx, point{what: "begins"})
			c.began, c.beganAt = s.now(), time.Now()
			do(c)
			c.answered, c.answeredAt = s.now(), time.Now()
		}()
	}
	synctest.Wait()
	for {
		options := s.options(calls)
		if len(options) == 0 {
			break
		}
		options[s.choose(len(options))]()
		synctest.Wait()
		if c := s.running; c != nil && c.answered == s.step {
			s.log = append(s.log, event{c, "is answered " + c.outcome()})
		}
	}
	s.active = false
	for _, c := range calls {
		if c.answered == 0 {
			panic("a call never ended:\n" + s.schedule())
		}
		c.cancel()
	}
}

// options returns the possible next steps.
func (s *scheduler) options(calls []*call) (options []func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.SortStableFunc(s.waiting, func(a, b *point) int { return a.call.index - b.call.index })
	for _, p := range s.waiting {
		if p.free == nil || p.free() {
			options = append(options, func() { s.release(p, proceed, p.what) })
		}
	}
	if s.disturbed || len(options) == 0 {
		return options
	}
	switch s.disturbance {
	case undisturbed:
	case fault:
		for _, p := range s.waiting {
			if p.store && (p.free == nil || p.free()) {
				options = append(options,
					func() { s.fail(p, failFirst, p.what+" fails") },
					func() { s.fail(p, failLast, p.what+" takes effect, and its answer is lost") })
			}
		}
	case hangUp:
		for _, c := range calls {
			if c.began != 0 && c.answered == 0 {
				options = append(options, func() { s.hangUp(c) })
			}
		}
	case forgetting, rollingBack:
		options = append(options, s.loseRecords)
	default:
		options = append(options, func() { s.pass(pause[s.disturbance]) })
	}
	return options
}

// next begins a step. Time advances, so that every step has its own microsecond.
func (s *scheduler) next(c *call, what string) {
	time.Sleep(time.Microsecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.step++
	s.running = c
	s.log = append(s.log, event{c, what})
}

func (s *scheduler) release(p *point, v verdict, what string) {
	s.next(p.call, what)
	s.mu.Lock()
	s.remove(p)
	s.mu.Unlock()
	p.resume <- v
}

func (s *scheduler) fail(p *point, v verdict, what string) {
	s.disturbed, p.call.faulted = true, true
	s.release(p, v, what)
}

func (s *scheduler) hangUp(c *call) {
	s.disturbed, c.gone = true, true
	s.next(c, "the client hangs up")
	c.cancel()
}

// pass lets time pass. A store call that waits for StoreTimeout or longer fails.
func (s *scheduler) pass(d time.Duration) {
	s.disturbed = true
	for _, p := range s.waiting {
		p.call.faulted = p.call.faulted || p.store && d >= storeTimeout
	}
	s.next(nil, d.String()+" pass")
	time.Sleep(d)
}

// loseRecords makes the store forget, or restores a backup.
func (s *scheduler) loseRecords() {
	s.disturbed = true
	s.next(nil, string(s.disturbance))
	s.lose()
	s.lostAt = s.step
}

// schedule lists the steps.
func (s *scheduler) schedule() string {
	var b strings.Builder
	for i, e := range s.log {
		who := ""
		if e.call != nil {
			who = e.call.String() + ": "
		}
		fmt.Fprintf(&b, "%4d. %s%s\n", i+1, who, e.what)
	}
	return b.String()
}

// explore calls run once for every sequence of choices, depth first, until it returns false.
func explore(run func(choose func(options int) int) bool) {
	var path, widths []int
	for {
		depth := 0
		more := run(func(options int) int {
			switch {
			case depth == len(path):
				path, widths = append(path, 0), append(widths, options)
			case widths[depth] != options:
				panic(fmt.Sprintf("choice %d of a replay has %d options, and had %d before", depth, options, widths[depth]))
			}
			depth++
			return path[depth-1]
		})
		last := len(path) - 1
		for last >= 0 && path[last]+1 == widths[last] {
			last--
		}
		if last < 0 || !more {
			return
		}
		path, widths = path[:last+1], widths[:last+1]
		path[last]++
	}
}
