// Package deadlinetest provides a context for the tests of the stores.
package deadlinetest

import (
	"context"
	"time"
)

type silent struct {
	context.Context
	deadline time.Time
}

func (s silent) Deadline() (time.Time, bool) { return s.deadline, true }

// Silent returns parent with another deadline, and without the timer for it: the deadline passes, but Err stays nil and
// Done stays open. That is how a context looks in a process that was stopped and has just resumed.
func Silent(parent context.Context, deadline time.Time) context.Context {
	return silent{parent, deadline}
}
