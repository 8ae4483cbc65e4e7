package redisstore

import "time"

// maxReadingAge bounds how far the two clocks can drift apart before a swap relies on a reading: even a clock that is
// being slewed gains or loses no more than 30 ms in a minute.
const maxReadingAge = time.Minute

// A reading is what Redis's clock showed in a reply. Redis read it before the reply arrived, so at the instant of arrival
// its clock showed at least as much. Readings of two servers, or from before and after a step of the clock, have nothing
// in common.
type reading struct {
	micros  int64     // Unix microseconds, by Redis's clock
	arrived time.Time // by ours
}

// limit returns the earliest instant, in Unix microseconds by Redis's clock, that may be as late as deadline: whatever
// Redis does before it, it does before the deadline. The limit is early by the time that the reply took to arrive, which
// costs nothing: the answer to a swap in that last moment would miss the deadline too.
//
// Without a usable reading the limit is 0, and every instant is past it.
func (r *reading) limit(deadline, now time.Time) int64 {
	if r == nil || now.Sub(r.arrived) > maxReadingAge {
		return 0
	}
	// Through now, as a deadline without a monotonic clock reading can only be compared with the time of day.
	return r.micros + now.Sub(r.arrived).Microseconds() + deadline.Sub(now).Microseconds()
}
