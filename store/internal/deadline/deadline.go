// Package deadline tells the stores whether a swap may still take effect.
package deadline

import (
	"context"
	"time"
)

// Ended returns the error of a context that has ended, or nil. It compares the deadline with the clock and does not
// rely on the timer of ctx, which fires late in a process that was stopped.
func Ended(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	return nil
}
