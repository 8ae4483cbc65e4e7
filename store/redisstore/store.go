// Package redisstore provides a blacklist in Redis 6.2 or later, shared by many processes and machines.
//
// It uses your rueidis client, for one server, Sentinel or Cluster. It neither connects nor closes the client:
//
//	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{"redis:6379"}, DisableCache: true})
//	if err != nil { … }
//	defer client.Close()
//	s, err := redisstore.New(client, redisstore.Options{})
//	if err != nil { … }
//	err = s.Check(ctx) // would this server lose revocations?
//	if errors.Is(err, redisstore.ErrAdvice) || errors.Is(err, redisstore.ErrUnchecked) {
//		log.Print(err)
//	} else if err != nil { … }
//
// Durability. If Redis loses a record, the revoked token is accepted again. Set in Redis:
//
//   - maxmemory-policy noeviction. Any other policy may evict a revocation.
//   - appendonly yes. Snapshots alone lose minutes of revocations in a crash.
//   - appendfsync always, if a crash of the machine must not lose a single logout. The default, everysec, loses about a
//     second of them.
//   - min-replicas-to-write 1 and min-replicas-max-lag 2, with two replicas. A failover loses the writes that have not
//     reached the new primary; these settings limit how many. Options.Replicas avoids it.
//   - cluster-node-timeout 5000, in a Cluster. Otherwise a failover takes longer than the default grace period.
//
// If Redis loses all records, every session ends, and no revoked token is accepted (R20): Get returns the instant since which
// Redis has forgotten nothing. After a restored backup, replace the signing keys: the backup lacks the latest logouts.
//
// Clocks. Redis expires records by its own clock, so the clocks of Redis and of its clients should agree to the second.
// A swap takes effect before its deadline or never, even if these clocks disagree, with two exceptions. First, servers
// that share the keys, or take over from each other, should agree to the second among themselves: the first swap sent to
// another server may take effect late by as much as the clock of that server is behind. Second, the clock of Redis must
// go on while Redis is stopped: a virtual machine that was paused, and resumes with the old time of day, still makes old
// swaps.
package redisstore

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/ginrefresh/ginrefresh/store/internal/deadline"
)

const (
	// defaultPatience limits a call whose context has no deadline.
	defaultPatience = 5 * time.Second

	// inFlight limits the calls that Redis has not answered yet, including those whose callers have given up. rueidis
	// queues up to 1,024 calls on a connection. Further calls block, even after the end of their context.
	inFlight = 512

	// attempts is how often a read is tried: a healthy server may have closed an idle connection.
	attempts = 3
)

// Options are the options of a [Store]. The zero value is safe.
type Options struct {
	_ [0]func() // no unkeyed literals

	// Prefix starts the name of every key in Redis. The default is "ginrefresh:". The rest of the name is a hash tag and
	// the key in base64url, so user input cannot affect the syntax of names. Two applications on one Redis need two
	// prefixes. A prefix must not contain braces, because Redis would take them for the hash tag.
	Prefix string

	// MaxStaleness lets the guards check tokens in the memory of this process, which saves the round trip of most checks. A
	// token that was revoked through another process is then accepted by this one for MaxStaleness at most, even if Redis
	// does not answer. The default, 0, asks Redis for every check.
	//
	// The store keeps the answers of Redis and lets Redis report each change, so a revocation usually takes effect within
	// milliseconds. MaxStaleness limits the delay if the connection or Redis fails. It also limits the age of the answers
	// where Redis cannot report changes; [Store.Check] tells. Revocations through this process take effect in it at once.
	// Logins, refreshes and logouts always ask Redis.
	//
	// The store then has a goroutine, a connection to each primary, and up to 40 MB of answers. Call [Store.Close] before
	// you close the client.
	MaxStaleness time.Duration

	// Replicas is how many replicas must have a swap before CompareAndSwap returns true. The default, 0, waits for none, so
	// a failover loses the refreshes and logouts of the last moments. With 1 or more, a failover to one of the replicas that
	// were waited for loses no refresh and no logout that was answered. If too few replicas have the swap before the
	// deadline, CompareAndSwap returns an error.
	//
	// Get does not wait: it may return a value that no replica has yet. So a caller who must know that a value is safe swaps
	// it for itself, which waits for the replicas, too.
	//
	// Each swap that waits occupies a connection of the blocking pool of the client, at most 128 of them. The user of the
	// connection needs WAIT.
	Replicas int
}

// Store is a blacklist in Redis. Use [New] to get one. A Store is safe for concurrent use.
type Store struct {
	client   rueidis.Client
	names    *names
	replicas int // that must have a swap
	patience time.Duration
	slots    chan struct{}                    // limits the calls in flight
	waiting  chan struct{}                    // limits the swaps in flight if they wait for replicas
	recent   *recent                          // nil if MaxStaleness is 0
	feed     *feed                            // nil if MaxStaleness is 0
	clock    atomic.Pointer[deadline.Reading] // the latest reading of the clock of Redis, nil at first
	making   making
}

// New returns the blacklist under the prefix of opts on the server of the client. The caller must close the client after
// the last use of the store. Any client works, including one with DisableCache or AlwaysRESP2: the store does not use the
// client-side cache of rueidis. New does not wait for Redis; use [Store.Check] to test the server.
func New(client rueidis.Client, opts Options) (*Store, error) {
	var mistakes []error
	if client == nil {
		mistakes = append(mistakes, errors.New("redisstore: the client is nil"))
	}
	if opts.MaxStaleness < 0 {
		mistakes = append(mistakes, fmt.Errorf("redisstore: MaxStaleness is negative: %v", opts.MaxStaleness))
	}
	if opts.Replicas < 0 {
		mistakes = append(mistakes, fmt.Errorf("redisstore: Replicas is negative: %d", opts.Replicas))
	}
	names, err := newNames(opts.Prefix)
	if err != nil {
		mistakes = append(mistakes, err)
	}
	if len(mistakes) > 0 {
		return nil, errors.Join(mistakes...)
	}
	s := &Store{
		client:   client,
		names:    names,
		replicas: opts.Replicas,
		patience: defaultPatience,
		slots:    make(chan struct{}, inFlight),
		waiting:  make(chan struct{}, maxWaiting),
	}
	if opts.MaxStaleness > 0 {
		s.recent = newRecent(opts.MaxStaleness)
		s.feed = startFeed(client, names, s.recent, s.patience)
	}
	return s, nil
}

// Get returns the values of the keys in order, "" for a key that is absent or expired, and the instant since which the
// blacklist has forgotten nothing about them (R20). The instant is a record in Redis that is lost together with the
// blacklist. If it is missing, Get makes it anew, a second ahead of the clock. Without keys Get returns the zero time.
//
// Get always asks Redis, in one round trip. It returns an error if Redis does, or if Redis does not answer before the end of
// ctx. If ctx has no deadline, Get waits for five seconds at most.
//
// Only a primary answers. Get uses GETEX, which Redis counts as a write, so a server that accepts no writes refuses it: a
// replica, even if the SendToReplicas of the client selects it, or a primary that has lost too many replicas or cannot
// write to its disk. Such a server might have records that another server has replaced since.
func (s *Store) Get(ctx context.Context, keys ...string) ([]string, time.Time, error) {
	if err := ctx.Err(); err != nil {
		return nil, time.Time{}, err
	}
	if len(keys) == 0 {
		return []string{}, time.Time{}, nil
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	asked := time.Now()
	answers, err := s.read(ctx, keys)
	for tries := 1; err != nil && tries < attempts && unanswered(ctx, err, tries); tries++ {
		asked = time.Now()
		answers, err = s.read(ctx, keys)
	}
	if err != nil {
		return nil, time.Time{}, wrap(ctx, err)
	}
	values := make([]string, len(keys))
	var since time.Time
	for i, a := range answers {
		values[i] = a.value
		if a.since.After(since) {
			since = a.since
		}
		if s.recent != nil {
			s.recent.learn(keys[i], a, asked)
		}
	}
	return values, since, nil
}

// read asks Redis for the keys.
func (s *Store) read(ctx context.Context, keys []string) ([]answer, error) {
	return await(ctx, s.slots, func(ctx context.Context) ([]answer, error) { return s.ask(ctx, keys) })
}

// unanswered waits before the next try of a read, and reports whether to try again. It returns false if Redis has answered
// with an error, or if ctx has ended.
func unanswered(ctx context.Context, err error, tries int) bool {
	if _, ok := rueidis.IsRedisErr(err); ok {
		return false
	}
	pause := time.NewTimer(time.Duration(tries*tries) * 10 * time.Millisecond)
	defer pause.Stop()
	select {
	case <-pause.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// await calls f and waits until it returns or ctx ends. f does not notice the end of ctx, because rueidis would abandon the
// call but keep its place in the queue, along with a goroutine, and calls would block once the queue is full. Instead, the
// call holds its slot for as long as it has a place in the queue. So a frozen Redis cannot pile up more calls than there
// are slots.
func await[T any](ctx context.Context, slots chan struct{}, f func(context.Context) (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	var none T
	select {
	case slots <- struct{}{}:
	case <-ctx.Done():
		return none, ctx.Err()
	}
	answers := make(chan answer, 1)
	go func() {
		defer func() { <-slots }()
		value, err := f(context.WithoutCancel(ctx))
		answers <- answer{value, err}
	}()
	select {
	case a := <-answers:
		return a.value, a.err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// CompareAndSwap atomically sets key to new, expiring at expires, if its value is old ("" means absent), and reports
// whether it did. If expires is in the past, the key is absent afterwards. CompareAndSwap always asks Redis. It takes one
// round trip, or two if this Store has made no swap in the last minute or the clock of Redis was set forward since.
//
// The swap takes effect before the deadline of ctx or never, even if Redis is frozen and reads the request much later.
// Without a deadline it has five seconds. Redis decides that by its own clock, which CompareAndSwap knows from earlier
// replies, so the clocks need not agree.
//
// After an error that is not a reply of Redis, the outcome is unknown until the deadline: the swap may have been made, or
// may still be made. After the deadline the outcome does not change any more. If fewer than Options.Replicas replicas have
// the swap in time, CompareAndSwap returns an error as well. The swap was then made, and a failover may undo it.
func (s *Store) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	if err := deadline.Ended(ctx); err != nil {
		return false, err
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	name := s.names.of(key)
	expiry := milliseconds(expires, time.Now())
	r, err := s.swap(ctx, name, old, new, expiry, s.clock.Load())
	// A swap is tried again only after Redis has replied that it changed nothing. Otherwise the second try could find the
	// new value of the first one and return false. If Redis replies "too late" before the deadline, the reading of its
	// clock was missing or wrong. The reading in this reply is correct, even if other swaps have read the clocks of other
	// servers meanwhile.
	if err == nil && r.verdict == swapTooLate && deadline.Ended(ctx) == nil {
		r, err = s.swap(ctx, name, old, new, expiry, r.clock)
	}
	if err == nil && r.verdict == swapTooLate {
		err = errTooLate
	}
	done := r.verdict == swapMade
	if s.recent != nil {
		s.recent.forget(key)
	}
	if err != nil {
		return false, wrap(ctx, err)
	}
	return done, nil
}

// bounded returns ctx with a deadline.
func (s *Store) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, s.patience)
}

// wrap adds the name of the package to err. If ctx has ended, the result also wraps the error of ctx, which rueidis may
// have replaced by one of its own.
func wrap(ctx context.Context, err error) error {
	if ended := ctx.Err(); ended != nil && !errors.Is(err, ended) {
		return fmt.Errorf("redisstore: %w: %w", ended, err)
	}
	return fmt.Errorf("redisstore: %w", err)
}
