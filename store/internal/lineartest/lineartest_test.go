package lineartest

import (
	"testing"

	"github.com/anishathalye/porcupine"
)

// TestForksAreFound proves that the model rejects histories that are not linearizable.
func TestForksAreFound(t *testing.T) {
	op := func(client int, at int64, in call, out outcome) porcupine.Operation {
		in.key = "key"
		return porcupine.Operation{ClientId: client, Input: in, Call: at, Output: out, Return: at + 5}
	}
	swap := func(old, new string) call { return call{swap: true, old: old, new: new} }
	forks := map[string]History{
		"two winners": {op(0, 1, swap("", "a"), outcome{done: true}), op(1, 2, swap("", "b"), outcome{done: true})},
		"lost swap":   {op(0, 1, swap("", "a"), outcome{done: true}), op(1, 10, call{}, outcome{value: ""})},
		"old answer": {
			op(0, 1, swap("", "a"), outcome{done: true}), op(0, 10, swap("a", "b"), outcome{done: true}),
			op(1, 20, call{}, outcome{value: "a"}),
		},
	}
	for name, history := range forks {
		if porcupine.CheckOperations(register.ToModel(), history) {
			t.Errorf("%s: the history passes as linearizable", name)
		}
	}
	t.Logf("proof: %d forged histories found", len(forks))
}
