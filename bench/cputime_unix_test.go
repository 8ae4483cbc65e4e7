//go:build unix

package main

import (
	"syscall"
	"time"
)

// processorTime is what this process has had so far. Unlike the clock it leaves out what others on the machine
// had in between.
func processorTime() time.Duration {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
