//go:build !unix

package main

import "time"

var began = time.Now()

// processorTime is the clock's, where the process's own is not to be had simply.
func processorTime() time.Duration { return time.Since(began) }
