package deadline_test

import (
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/store/internal/deadline"
)

func TestLimit(t *testing.T) {
	const micros = 1_751_500_000_000_000
	const oldest = time.Minute
	arrived := time.Now()
	reading := &deadline.Reading{Micros: micros, Arrived: arrived}
	at := func(d time.Duration) time.Time { return arrived.Add(d) }
	for _, test := range []struct {
		name          string
		reading       *deadline.Reading
		deadline, now time.Time
		want          int64
	}{
		{"no reading", nil, at(time.Second), at(0), 0},
		{"fresh", reading, at(time.Second), at(0), micros + 1_000_000},
		{"used later", reading, at(11 * time.Second), at(10 * time.Second), micros + 11_000_000},
		{"used earlier", reading, at(time.Second), at(-time.Second), micros + 1_000_000},
		{"rounded down", reading, at(time.Second + 999), at(0), micros + 1_000_000},
		{"oldest", reading, at(oldest + 1), at(oldest), micros + 60_000_000},
		{"too old", reading, at(oldest + time.Second), at(oldest + 1), 0},
		{"time of day", reading, at(time.Second).Round(0), at(0), micros + 1_000_000},
	} {
		if got := test.reading.Limit(test.deadline, test.now); got != test.want {
			t.Errorf("%s: the limit is %d, want %d", test.name, got, test.want)
		}
	}
	endOfTime := time.Unix(1<<55, 0)
	if got := reading.Limit(endOfTime, at(oldest)); got < micros+1e15 {
		t.Errorf("the limit is %d for a deadline in the far future", got)
	}
}
