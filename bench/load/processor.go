package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// tick is the unit of /proc's times: USER_HZ, which is 100 on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// processorTime is what a process has had so far, 0 where /proc does not tell. Beside requests per second it
// shows what a server cost while others had its processor.
func processorTime(pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name of the program, in brackets, may hold spaces; utime and stime are the 12th and 13th field after it.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0
	}
	var ticks time.Duration
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(string(field))
		if err != nil {
			return 0
		}
		ticks += time.Duration(n)
	}
	return ticks * tick
}
