package redisstore

import "time"

// maxReadingAge is how long a swap relies on a reading. It limits how far the two clocks drift apart: even a clock that is
// being slewed gains or loses no more than 30 ms in a minute.
const maxReadingAge = time.Minute

// A reading is the clock of Redis as shown in a reply. Redis read it before the reply arrived, so at the instant of arrival
// its clock showed at least as much. Readings of two servers, or from before and after a step of the clock, are not
// comparable.
type reading struct {
	micros  int64     // Unix microseconds, by the clock of Redis
	arrived time.Time // by the clock of this process
}

// limit converts a deadline to Unix microseconds by the clock of Redis. A command that Redis runs before the limit runs
// before the deadline. The limit is too early by the time that the reply took to arrive. That does no harm: the answer to
// a swap in this last moment would miss the deadline as well.
//
// Without a usable reading limit returns 0, which has always passed.
func (r *reading) limit(deadline, now time.Time) int64 {
	if r == nil || now.Sub(r.arrived) > maxReadingAge {
		return 0
	}
	// deadline.Sub(r.arrived) would be wrong if deadline has no monotonic clock reading and the time of day was set
	// after the arrival.
	return r.micros + now.Sub(r.arrived).Microseconds() + deadline.Sub(now).Microseconds()
}
