// Package unixms converts the expiry of a record to Unix milliseconds, the form in which the stores outside this
// process keep it.
package unixms

import "time"

// farthest is the latest expiry that Ceil returns: the end of the years with four digits.
var farthest = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// Ceil returns t in Unix milliseconds, rounded up so that a record outlives everything that it revokes (R13). A time after
// the year 9999 becomes the last second of that year.
func Ceil(t time.Time) int64 {
	if t.After(farthest) {
		t = farthest
	}
	return t.Add(time.Millisecond - time.Nanosecond).UnixMilli()
}
