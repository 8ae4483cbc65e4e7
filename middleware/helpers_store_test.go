package middleware_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// faulty is a blacklist with a driver that can fail. It is no Peeker.
type faulty struct {
	middleware.Store
	fault atomic.Pointer[fault]
}

type fault struct {
	get  func(ctx context.Context, values []string) ([]string, error)
	swap func(ctx context.Context) (bool, error)
}

func (s *faulty) Get(ctx context.Context, keys ...string) ([]string, error) {
	values, err := s.Store.Get(ctx, keys...)
	if f := s.fault.Load(); f != nil && f.get != nil {
		return f.get(ctx, values)
	}
	return values, err
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

// answering gives each key of a Get the same value.
func answering(value string) *fault {
	return &fault{get: func(_ context.Context, values []string) ([]string, error) {
		return slices.Repeat([]string{value}, len(values)), nil
	}}
}

// lateGet answers each read late, with what it saw at once.
type lateGet struct {
	middleware.Store
	lag time.Duration
}

func (s *lateGet) Get(ctx context.Context, keys ...string) ([]string, error) {
	values, err := s.Store.Get(ctx, keys...)
	wait(s.lag)
	return values, err
}

func (s *lateGet) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	return s.Store.CompareAndSwap(ctx, key, old, new, expires)
}

// lateSwap takes a moment for each swap.
type lateSwap struct {
	middleware.Store
	late time.Duration
}

func (s *lateSwap) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	wait(s.late)
	return s.Store.CompareAndSwap(ctx, key, old, new, expires)
}
