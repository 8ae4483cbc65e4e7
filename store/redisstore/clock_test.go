package redisstore

import (
	"testing"
	"time"
)

func TestLimit(t *testing.T) {
	const micros = 1_751_500_000_000_000
	arrived := time.Now()
	at := func(d time.Duration) time.Time { return arrived.Add(d) }
	for _, test := range []struct {
		name          string
		reading       *reading
		deadline, now time.Time
		want          int64
	}{
		{"no reading", nil, at(time.Second), at(0), 0},
		{"fresh", &reading{micros, arrived}, at(time.Second), at(0), micros + 1_000_000},
		{"used later", &reading{micros, arrived}, at(11 * time.Second), at(10 * time.Second), micros + 11_000_000},
		{"used earlier", &reading{micros, arrived}, at(time.Second), at(-time.Second), micros + 1_000_000},
		{"rounded down", &reading{micros, arrived}, at(time.Second + 999), at(0), micros + 1_000_000},
		{"oldest", &reading{micros, arrived}, at(maxReadingAge + 1), at(maxReadingAge), micros + 60_000_000},
		{"too old", &reading{micros, arrived}, at(maxReadingAge + time.Second), at(maxReadingAge + 1), 0},
		{"time of day", &reading{micros, arrived}, at(time.Second).Round(0), at(0), micros + 1_000_000},
	} {
		if got := test.reading.limit(test.deadline, test.now); got != test.want {
			t.Errorf("%s: the limit is %d, want %d", test.name, got, test.want)
		}
	}
	endOfTime := time.Unix(1<<55, 0)
	if got := (&reading{micros, arrived}).limit(endOfTime, at(maxReadingAge)); got < micros+1e15 {
		t.Errorf("the limit is %d for a deadline in the far future", got)
	}
}
