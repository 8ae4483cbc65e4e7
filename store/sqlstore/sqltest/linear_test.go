//go:build linux

package sqltest

import (
	"context"
	"math"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/ginrefresh/ginrefresh/store/sqlstore"
)

// A call is a Get (swap is false) or a CompareAndSwap.
type call struct {
	swap     bool
	key      string
	old, new string
}

type outcome struct {
	value   string
	done    bool
	unknown bool // a swap whose call failed: it may be made at any later time, or never
}

// register is the sequential model of a key: its value, "" at first.
var register = porcupine.NondeterministicModel{
	Partition: func(history []porcupine.Operation) (parts [][]porcupine.Operation) {
		byKey := map[string][]porcupine.Operation{}
		for _, op := range history {
			key := op.Input.(call).key
			byKey[key] = append(byKey[key], op)
		}
		for _, part := range byKey {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() []any { return []any{""} },
	Step: func(state, input, output any) []any {
		in, out, value := input.(call), output.(outcome), state.(string)
		fits := value == in.old
		switch {
		case !in.swap && out.value != value:
			return nil
		case !in.swap:
			return []any{value}
		case out.unknown && fits:
			return []any{value, in.new}
		case out.unknown:
			return []any{value}
		case out.done != fits:
			return nil
		case fits:
			return []any{in.new}
		}
		return []any{value}
	},
}

// A recorder makes random calls of stores and records them with their outcomes.
type recorder struct {
	start time.Time
	mu    sync.Mutex
	ops   []porcupine.Operation
}

// record makes calls of all stores at the same time while more returns true.
func record(stores []*sqlstore.Store, more func(calls int) bool) []porcupine.Operation {
	r := &recorder{start: time.Now()}
	var wg sync.WaitGroup
	for client, s := range stores {
		wg.Go(func() {
			seen := map[string]string{}
			for i := 0; more(i); i++ {
				key := "key " + strconv.Itoa(rand.IntN(3))
				in := call{swap: rand.IntN(2) == 0, key: key, old: seen[key], new: strconv.Itoa(client) + "/" + strconv.Itoa(i)}
				out, ok := r.perform(client, s, in)
				switch {
				case !ok: // wait for the server, so that not too many outcomes are unknown
					for more(i) && !answers(s) {
					}
				case !in.swap:
					seen[key] = out.value
				case out.done:
					seen[key] = in.new
				}
			}
		})
	}
	wg.Wait()
	return r.ops
}

func answers(s *sqlstore.Store) bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, _, err := s.Get(ctx)
	if err != nil {
		<-time.After(20 * time.Millisecond)
	}
	return err == nil
}

// perform makes and records a call, and reports whether it was answered.
func (r *recorder) perform(client int, s *sqlstore.Store, in call) (out outcome, ok bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	op := porcupine.Operation{ClientId: client, Input: in, Call: int64(time.Since(r.start))}
	var err error
	if in.swap {
		out.done, err = s.CompareAndSwap(ctx, in.key, in.old, in.new, inAnHour())
		out.unknown = err != nil
	} else {
		var values []string
		if values, _, err = s.Get(ctx, in.key); err != nil {
			return out, false
		}
		out.value = values[0]
	}
	op.Output, op.Return = out, int64(time.Since(r.start))
	if out.unknown {
		op.Return = math.MaxInt64
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, op)
	return out, err == nil
}

// mustBeLinearizable checks that each call took effect at one instant between its start and its end.
func mustBeLinearizable(t *testing.T, ops []porcupine.Operation) {
	t.Helper()
	swaps, unknown := 0, 0
	for _, op := range ops {
		if out := op.Output.(outcome); out.done {
			swaps++
		} else if out.unknown {
			unknown++
		}
	}
	t.Logf("proof: %d calls, %d swaps made, %d with an unknown outcome", len(ops), swaps, unknown)
	if swaps < len(ops)/20 {
		t.Error("too few swaps were made for the history to be meaningful")
	}
	if result := porcupine.CheckOperationsTimeout(register.ToModel(), ops, time.Minute); result != porcupine.Ok {
		t.Errorf("the history is not linearizable: %v", result)
	}
}

// stores returns eight stores, as in eight processes.
func (d database) stores(t testing.TB) []*sqlstore.Store {
	stores := make([]*sqlstore.Store, 8)
	for i := range stores {
		stores[i] = d.store(t)
	}
	return stores
}

func TestLinearizable(t *testing.T) {
	for _, d := range databases(t) {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			mustBeLinearizable(t, record(d.stores(t), func(calls int) bool { return calls < 300 }))
		})
	}
}

// TestLinearizableThroughCrashes kills the server repeatedly. It must not lose an answered swap, and a swap whose
// answer was lost must not be reported as lost. MariaDB needs a binary log: without one, it shows a swap to readers
// before it has written it to disk, and the history is not linearizable.
func TestLinearizableThroughCrashes(t *testing.T) {
	for _, d := range []database{
		open(t, postgres.startServer(t)),
		open(t, mariadb.startServer(t, "--log-bin=binlog", "--sync-binlog=1")),
	} {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			stores := d.stores(t)
			_, since := mustGet(t, stores[0], "key")
			over := make(chan struct{})
			go func() {
				defer close(over)
				for range 3 {
					<-time.After(200 * time.Millisecond)
					d.server.kill()
					d.server.restart()
				}
			}()
			ops := record(stores, func(int) bool {
				select {
				case <-over:
					return false
				default:
					return true
				}
			})
			mustBeLinearizable(t, ops)
			if _, later := mustGet(t, stores[0], "key"); !later.Equal(since) {
				t.Errorf("since moved from %v to %v in a crash", since, later)
			}
		})
	}
}

// TestAnsweredSwapsSurvive kills the server during swaps. Afterwards each key must have the value of its last
// answered swap, or of the swap after it, whose answer was lost.
func TestAnsweredSwapsSurvive(t *testing.T) {
	for _, d := range servers(t) {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			s := d.store(t)
			kills, swaps := 0, int64(0)
			for range 2 {
				const keys = 16
				answered := make([]int, keys)
				var total atomic.Int64
				var wg sync.WaitGroup
				for k := range keys {
					wg.Go(func() {
						key, old := strconv.Itoa(k), ""
						for n := 1; ; n++ {
							next := strconv.Itoa(n)
							ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
							done, err := s.CompareAndSwap(ctx, key, old, next, inAnHour())
							cancel()
							if err != nil {
								return
							}
							if !done {
								t.Errorf("the swap of %q from %q is reported as lost", key, old)
								return
							}
							answered[k], old = n, next
							total.Add(1)
						}
					})
				}
				until(t, "swaps are answered", func() bool { return total.Load() >= 100 })
				d.server.kill()
				wg.Wait()
				kills, swaps = kills+1, swaps+total.Load()
				d.server.restart()
				for k, n := range answered {
					got, _ := mustGet(t, s, strconv.Itoa(k))
					if last, _ := strconv.Atoi(got); last != n && last != n+1 {
						t.Errorf("key %d: the value is %q after a crash, and the last answered swap was to %d", k, got, n)
					}
					mustSwap(t, s, strconv.Itoa(k), got, "0")
					if done, err := s.CompareAndSwap(within(t, 5*time.Second), strconv.Itoa(k), "0", "", inAnHour()); !done || err != nil {
						t.Errorf("CompareAndSwap to none = %v, %v", done, err)
					}
				}
			}
			t.Logf("proof: %d kills, %d answered swaps", kills, swaps)
		})
	}
}

// TestForksAreFound proves that the model rejects histories that are not linearizable.
func TestForksAreFound(t *testing.T) {
	op := func(client int, at int64, in call, out outcome) porcupine.Operation {
		in.key = "key"
		return porcupine.Operation{ClientId: client, Input: in, Call: at, Output: out, Return: at + 5}
	}
	swap := func(old, new string) call { return call{swap: true, old: old, new: new} }
	forks := map[string][]porcupine.Operation{
		"two winners": {op(0, 1, swap("", "a"), outcome{done: true}), op(1, 2, swap("", "b"), outcome{done: true})},
		"lost swap":   {op(0, 1, swap("", "a"), outcome{done: true}), op(1, 10, call{}, outcome{value: ""})},
		"old answer": {
			op(0, 1, swap("", "a"), outcome{done: true}), op(0, 10, swap("a", "b"), outcome{done: true}),
			op(1, 20, call{}, outcome{value: "a"}),
		},
	}
	for name, ops := range forks {
		if porcupine.CheckOperations(register.ToModel(), ops) {
			t.Errorf("%s: the history passes as linearizable", name)
		}
	}
	t.Logf("proof: %d forged histories found", len(forks))
}
