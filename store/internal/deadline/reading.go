package deadline

import "time"

// maxReadingAge is how long a swap relies on a reading. It limits how far the two clocks drift apart: even a clock that is
// being slewed gains or loses no more than 30 ms in a minute.
const maxReadingAge = time.Minute

// A Reading is the clock of a server as shown in an answer. The server read it before the answer arrived, so at the
// instant of arrival its clock showed at least as much. Readings of two servers, or from before and after a step of the
// clock, are not comparable.
type Reading struct {
	Micros  int64     // Unix microseconds, by the clock of the server
	Arrived time.Time // by the clock of this process
}

// Limit converts a deadline to Unix microseconds by the clock of the server. A statement that the server runs before the
// limit runs before the deadline. The limit is too early by the time that the answer took to arrive. That does no harm:
// the answer to a swap in this last moment would miss the deadline as well.
//
// Without a usable reading Limit returns 0, which has always passed.
func (r *Reading) Limit(deadline, now time.Time) int64 {
	if r == nil || now.Sub(r.Arrived) > maxReadingAge {
		return 0
	}
	// deadline.Sub(r.Arrived) would be wrong if deadline has no monotonic clock reading and the time of day was set
	// after the arrival.
	return r.Micros + now.Sub(r.Arrived).Microseconds() + deadline.Sub(now).Microseconds()
}
