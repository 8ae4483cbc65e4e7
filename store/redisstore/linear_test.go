//go:build unix

package redisstore_test

import (
	"context"
	"math"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/ginrefresh/ginrefresh/store/internal/redistest"
	"github.com/ginrefresh/ginrefresh/store/redisstore"
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

// history makes random calls of each store, all stores at the same time, and returns the calls with their outcomes.
func history(stores []*redisstore.Store, calls int) []porcupine.Operation {
	var mu sync.Mutex
	var ops []porcupine.Operation
	start := time.Now()
	var wg sync.WaitGroup
	for client, s := range stores {
		wg.Go(func() {
			seen := map[string]string{}
			for i := range calls {
				key := "key " + strconv.Itoa(rand.IntN(3))
				in := call{swap: rand.IntN(2) == 0, key: key, old: seen[key], new: strconv.Itoa(client) + "/" + strconv.Itoa(i)}
				op := porcupine.Operation{ClientId: client, Input: in, Call: int64(time.Since(start))}
				out, ok := perform(s, in)
				op.Output, op.Return = out, int64(time.Since(start))
				if out.unknown {
					op.Return = math.MaxInt64
				}
				switch {
				case !in.swap && ok:
					seen[key] = out.value
				case out.done:
					seen[key] = in.new
				}
				if ok || out.unknown {
					mu.Lock()
					ops = append(ops, op)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return ops
}

// perform makes a call and reports whether it was answered.
func perform(s *redisstore.Store, in call) (outcome, bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if !in.swap {
		values, _, err := s.Get(ctx, in.key)
		if err != nil {
			return outcome{}, false
		}
		return outcome{value: values[0]}, true
	}
	done, err := s.CompareAndSwap(ctx, in.key, in.old, in.new, inAnHour())
	return outcome{done: done, unknown: err != nil}, err == nil
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

// eightClients returns stores with clients of their own, as in eight processes.
func eightClients(t *testing.T, server *redistest.Server) []*redisstore.Store {
	stores := make([]*redisstore.Store, 8)
	for i := range stores {
		stores[i] = connect(t, server, redisstore.Options{})
	}
	return stores
}

func TestLinearizable(t *testing.T) {
	server := redistest.Start(t)
	mustBeLinearizable(t, history(eightClients(t, server), 500))
}

// TestLinearizableThroughCrashes kills the server repeatedly. With appendfsync always it must not lose an answered swap, and
// a swap whose answer was lost must not be made twice.
func TestLinearizableThroughCrashes(t *testing.T) {
	server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	stores := eightClients(t, server)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(100 * time.Millisecond):
				server.Kill()
				server.Restart()
			}
		}
	})
	ops := history(stores, rounds(3000, 1000))
	close(done)
	wg.Wait()
	mustBeLinearizable(t, ops)
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
