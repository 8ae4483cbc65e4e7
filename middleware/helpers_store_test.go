package middleware_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// faulty is a store whose calls can fail. It embeds the interface Store, so it is no Peeker.
type faulty struct {
	middleware.Store
	fault atomic.Pointer[fault]
}

// fault replaces the result of Get, and decides whether a swap is passed on. A nil function changes nothing.
type fault struct {
	get  func(ctx context.Context, values []string) ([]string, error)
	swap func(ctx context.Context) (bool, error)
}

func (s *faulty) Get(ctx context.Context, keys ...string) ([]string, time.Time, error) {
	values, since, err := s.Store.Get(ctx, keys...)
	if f := s.fault.Load(); f != nil && f.get != nil {
		values, err := f.get(ctx, values)
		return values, since, err
	}
	return values, since, err
}

func (s *faulty) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	if f := s.fault.Load(); f != nil && f.swap != nil {
		if swapped, err := f.swap(ctx); !swapped {
			return false, err
		}
	}
	return s.Store.CompareAndSwap(ctx, key, old, new, expires)
}

var errDriver = errors.New("read tcp 10.0.0.7:6379: NOAUTH s3cret")

func failing(context.Context, []string) ([]string, error) { return nil, errDriver }

func failingSwap(context.Context) (bool, error) { return false, errDriver }

func refusingSwap(context.Context) (bool, error) { return false, nil }

// answering returns the same value for every key of a Get.
func answering(value string) *fault {
	return &fault{get: func(_ context.Context, values []string) ([]string, error) {
		return slices.Repeat([]string{value}, len(values)), nil
	}}
}

// lateGet returns from Get late, with the values that it read at once.
type lateGet struct {
	middleware.Store
	lag time.Duration
}

func (s *lateGet) Get(ctx context.Context, keys ...string) ([]string, time.Time, error) {
	values, since, err := s.Store.Get(ctx, keys...)
	wait(s.lag)
	return values, since, err
}

// lateSwap waits before each swap.
type lateSwap struct {
	middleware.Store
	late time.Duration
}

func (s *lateSwap) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	wait(s.late)
	return s.Store.CompareAndSwap(ctx, key, old, new, expires)
}
