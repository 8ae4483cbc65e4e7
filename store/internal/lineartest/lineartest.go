// Package lineartest checks that the calls of a store are linearizable: that each takes effect at one instant between
// its start and its end.
package lineartest

import (
	"context"
	"math"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/ginrefresh/ginrefresh/store/storetest"
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

// A History is calls with their outcomes.
type History []porcupine.Operation

// Record makes random calls of all stores at the same time, while more returns true, and returns the calls with their
// outcomes. A call fails after the patience.
func Record[S storetest.Store](stores []S, patience time.Duration, more func(calls int) bool) History {
	r := &recorder{start: time.Now(), patience: patience}
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
	return r.history
}

func answers(s storetest.Store) bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, _, err := s.Get(ctx, "key 0")
	if err != nil {
		<-time.After(20 * time.Millisecond)
	}
	return err == nil
}

type recorder struct {
	start    time.Time
	patience time.Duration
	mu       sync.Mutex
	history  History
}

// perform makes and records a call, and reports whether it was answered.
func (r *recorder) perform(client int, s storetest.Store, in call) (out outcome, ok bool) {
	ctx, cancel := context.WithTimeout(context.Background(), r.patience)
	defer cancel()
	op := porcupine.Operation{ClientId: client, Input: in, Call: int64(time.Since(r.start))}
	var err error
	if in.swap {
		out.done, err = s.CompareAndSwap(ctx, in.key, in.old, in.new, time.Now().Add(time.Hour))
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
	r.history = append(r.history, op)
	return out, err == nil
}

// MustBeLinearizable fails the test if the calls are not linearizable, or if too few swaps were made to tell.
func (h History) MustBeLinearizable(t testing.TB) {
	t.Helper()
	swaps, unknown := 0, 0
	for _, op := range h {
		if out := op.Output.(outcome); out.done {
			swaps++
		} else if out.unknown {
			unknown++
		}
	}
	t.Logf("proof: %d calls, %d swaps made, %d with an unknown outcome", len(h), swaps, unknown)
	if swaps < len(h)/20 {
		t.Error("too few swaps were made for the history to be meaningful")
	}
	if result := porcupine.CheckOperationsTimeout(register.ToModel(), h, time.Minute); result != porcupine.Ok {
		t.Errorf("the history is not linearizable: %v", result)
	}
}
