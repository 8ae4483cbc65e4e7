package deadline_test

import (
	"context"
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/store/internal/deadline"
	"github.com/ginrefresh/ginrefresh/store/internal/deadline/deadlinetest"
)

func TestEnded(t *testing.T) {
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	later, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	for _, test := range []struct {
		ctx  context.Context
		want error
	}{
		{context.Background(), nil},
		{later, nil},
		{canceled, context.Canceled},
		{deadlinetest.Silent(later, time.Now()), context.DeadlineExceeded},
	} {
		if got := deadline.Ended(test.ctx); got != test.want {
			t.Errorf("Ended(%v) = %v, want %v", test.ctx, got, test.want)
		}
	}
}
