package unixms_test

import (
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/store/internal/unixms"
)

func TestCeil(t *testing.T) {
	whole := time.UnixMilli(1_751_500_000_000)
	end := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	for _, test := range []struct {
		name string
		at   time.Time
		want int64
	}{
		{"a whole millisecond", whole, whole.UnixMilli()},
		{"a nanosecond more", whole.Add(1), whole.UnixMilli() + 1},
		{"a nanosecond less", whole.Add(-1), whole.UnixMilli()},
		{"the farthest", end, end.UnixMilli()},
		{"farther", end.Add(time.Nanosecond), end.UnixMilli()},
		{"beyond milliseconds", time.Unix(1<<55, 0), end.UnixMilli()},
	} {
		if got := unixms.Ceil(test.at); got != test.want {
			t.Errorf("%s: %d, want %d", test.name, got, test.want)
		}
	}
}
