// Package redisstore has the blacklist that many machines share, in Redis 6.2 or later.
//
// It takes your rueidis client, for one server, Sentinel or Cluster, and neither dials nor closes it:
//
//	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{"redis:6379"}, DisableCache: true})
//	…
//	s, err := redisstore.New(client, redisstore.Options{})
//	if err != nil { … }
//	if err := s.Check(ctx); err != nil { … } // would this server lose revocations?
//
// A server that forgets accepts again what was revoked. So set in Redis: maxmemory-policy noeviction (any other may
// evict a revocation), appendonly yes, and appendfsync always if not one logout may be lost in a crash of the machine
// (everysec loses about a second of them, snapshots alone lose minutes). A failover loses what had not
// reached the replica; min-replicas-to-write narrows that. After a flush, a lost disk or a restored backup,
// replace the signing keys: every session ends, and no revocation is missed.
//
// The clocks of Redis and of its clients should agree to the second, because a record expires by the clock of Redis. A
// swap takes effect before its deadline or never, and for that the clocks need not agree, with two exceptions. Servers
// that share the keys, or take over from one another, should agree to the second among themselves: the first swap sent to
// another server may take effect late by as much as that server's clock is behind. And Redis's clock must go on while
// Redis does not: a virtual machine that was paused, and resumes with the old time of day, still makes old swaps.
package redisstore

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/ginrefresh/ginrefresh/store/internal/deadline"
)

const (
	defaultPrefix = "ginrefresh:"

	// patience bounds a call whose context has no deadline.
	patience = 5 * time.Second

	// inFlight bounds the calls that Redis has not answered yet, also those that nobody waits for any more. It is
	// less than rueidis queues on one connection, 1,024: what comes on top of that waits whatever its context says.
	inFlight = 512

	// attempts is how often a read is tried: an idle connection may have been closed by a server that is well.
	attempts = 3
)

// farthest is the latest expiry that is sent to Redis: the end of the years with four digits.
var farthest = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// swapScript is CompareAndSwap, on one key so that it runs in a Cluster. Its arguments are the old value, the new value, the
// expiry in Unix milliseconds ("0" if it is past: the key is deleted), and the instant, in Unix microseconds by Redis's
// clock, from which on it must change nothing. It returns a verdict and Redis's clock.
//
// Redis reads its clock last thing before it writes. The script is sent whole, not as its SHA-1: Go refuses to compute
// that in FIPS mode, and nothing has to be loaded again after a restart or a failover. For GETEX see Get.
var swapScript = rueidis.NewLuaScriptNoSha(`
local same = (redis.call('GETEX', KEYS[1]) or '') == ARGV[1]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if not same then
  return {0, now}
end
if now >= tonumber(ARGV[4]) then
  return {2, now}
end
if ARGV[3] == '0' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PXAT', ARGV[3])
end
return {1, now}`)

// The verdicts of swapScript.
const (
	swapLost    = 0 // the value is another one
	swapMade    = 1
	swapTooLate = 2 // nothing was changed
)

// errTooLate is the error of a swap that Redis refused to make after the deadline.
var errTooLate = fmt.Errorf("the swap reached Redis too late, and was not made: %w", context.DeadlineExceeded)

// Options are the options of a [Store]. The zero value is the safe one.
type Options struct {
	_ [0]func() // no unkeyed literals

	// Prefix is what the names of all keys in Redis begin with, "ginrefresh:" by default. What follows is the
	// base64url of the key, so that nothing a user says reaches the syntax of keys. Two applications on one
	// Redis need two prefixes.
	Prefix string

	// MaxStaleness is for how long an answer of Redis may be used again by this process, counted from before it was
	// asked for. The default, 0, asks at every Get, so that a logout is in force everywhere at once. With a
	// second, say, what was revoked through another process may be accepted by this one for up to a second more,
	// also while Redis does not answer. What this process revokes is in force in it at once, either way. And a login
	// here within that second after its subject was logged out everywhere through another process may fall under
	// that revocation too.
	//
	// It saves the round trip of most checks, and takes up to about 30 MB.
	MaxStaleness time.Duration
}

// Store is a blacklist in Redis. Use [New]; a Store is safe for use by many goroutines at once.
type Store struct {
	client rueidis.Client
	prefix string
	slots  chan struct{}
	recent *recent                 // nil: MaxStaleness is 0
	clock  atomic.Pointer[reading] // the latest reading of Redis's clock, nil at first
}

// New returns the blacklist that client's server has under the prefix. The client remains the caller's, who
// closes it. Any client will do, also one with DisableCache or AlwaysRESP2: rueidis' own client-side cache is not
// used. New talks to nobody; [Store.Check] does.
func New(client rueidis.Client, opts Options) (*Store, error) {
	var mistakes []error
	if client == nil {
		mistakes = append(mistakes, errors.New("redisstore: the client is nil"))
	}
	if opts.MaxStaleness < 0 {
		mistakes = append(mistakes, fmt.Errorf("redisstore: MaxStaleness is negative: %v", opts.MaxStaleness))
	}
	if len(mistakes) > 0 {
		return nil, errors.Join(mistakes...)
	}
	s := &Store{client: client, prefix: opts.Prefix, slots: make(chan struct{}, inFlight)}
	if s.prefix == "" {
		s.prefix = defaultPrefix
	}
	if opts.MaxStaleness > 0 {
		s.recent = newRecent(opts.MaxStaleness)
	}
	return s, nil
}

func (s *Store) name(key string) string {
	return s.prefix + base64.RawURLEncoding.EncodeToString([]byte(key))
}

// Get returns the keys' values in order, "" for a key that is absent or past its expiry, in one round trip, or
// in none within MaxStaleness. It returns an error when Redis does, and when ctx ends, or five seconds pass
// without an end to ctx, before Redis has answered.
//
// Only a primary answers. Get uses a command that Redis counts among the writes, and so a server that takes no
// writes refuses it: a replica, whatever the client's SendToReplicas says, or a primary that has lost too many of its
// replicas or cannot write its disk. The alternative is to read what another server has since replaced.
func (s *Store) Get(ctx context.Context, keys ...string) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	values := make([]string, len(keys))
	missing := s.lookUp(keys, values)
	if len(missing) == 0 {
		return values, nil
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	names := make([]string, len(missing))
	for i, k := range missing {
		names[i] = s.name(keys[k])
	}
	asked := time.Now()
	found, err := s.read(ctx, names)
	for tries := 1; err != nil && tries < attempts && unanswered(ctx, err, tries); tries++ {
		asked = time.Now()
		found, err = s.read(ctx, names)
	}
	if err != nil {
		return nil, wrap(ctx, err)
	}
	for i, k := range missing {
		values[k] = found[i]
		if s.recent != nil {
			s.recent.learn(keys[k], found[i], asked)
		}
	}
	return values, nil
}

// read asks Redis for the values of the keys with these names, in one round trip.
func (s *Store) read(ctx context.Context, names []string) ([]string, error) {
	return await(ctx, s.slots, func(ctx context.Context) ([]string, error) {
		commands := make(rueidis.Commands, len(names))
		for i, name := range names {
			commands[i] = s.client.B().Getex().Key(name).Build()
		}
		values := make([]string, len(names))
		for i, reply := range s.client.DoMulti(ctx, commands...) {
			value, err := reply.ToString()
			if err != nil && !rueidis.IsRedisNil(err) {
				return nil, err
			}
			values[i] = value
		}
		return values, nil
	})
}

// unanswered waits a moment before a read is tried again, and reports whether it should be: not if Redis has
// answered, with an error, nor if ctx has ended.
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

// await calls f and waits for it, or for the end of ctx. f does not learn of that end: rueidis would give the call up,
// yet keep its place in the queue, with a goroutine beside it, and let calls hang once the queue is full. So a call
// keeps its slot for as long as it has that place, and while Redis is frozen no more than the slots pile up.
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

// lookUp fills in the values that are known, and returns the indexes of the others.
func (s *Store) lookUp(keys, values []string) (missing []int) {
	now := time.Now()
	for i, key := range keys {
		if s.recent != nil {
			if value, ok := s.recent.get(key, now); ok {
				values[i] = value
				continue
			}
		}
		missing = append(missing, i)
	}
	return missing
}

// CompareAndSwap atomically sets key to new, expiring at expires, if its value is old ("" means absent), and
// reports whether it did. Where expires is past, the key is absent afterwards. It always asks Redis, in one round trip,
// or in two if this Store has made no swap in the last minute or Redis's clock was set forward since.
//
// The swap takes effect before ctx's deadline or never, even if Redis is frozen and reads the request much later;
// without a deadline it has five seconds. Redis decides that by its own clock, which CompareAndSwap knows from earlier
// replies, so the clocks need not agree.
//
// After an error other than a reply of Redis the outcome is unknown until the deadline: the swap may have been made and
// its answer lost, or may still be made. After the deadline the outcome no longer changes.
func (s *Store) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	if err := deadline.Ended(ctx); err != nil {
		return false, err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	name := s.name(key)
	asked := time.Now()
	expiry := milliseconds(expires, asked)
	verdict, clock, err := s.swap(ctx, name, old, new, expiry, s.clock.Load())
	// A swap is tried again only if Redis says that it has changed nothing; otherwise the second try could find the new
	// value of the first, and report false. Redis answers "too late" in time if the reading was missing or wrong. The one
	// in its answer is right, whatever other swaps have read from other servers meanwhile.
	if err == nil && verdict == swapTooLate && deadline.Ended(ctx) == nil {
		asked = time.Now()
		verdict, _, err = s.swap(ctx, name, old, new, expiry, clock)
	}
	if err == nil && verdict == swapTooLate {
		err = errTooLate
	}
	done := verdict == swapMade
	if s.recent != nil {
		switch {
		case err != nil, !done:
			s.recent.forget(key) // so that whoever lost, and reads again, reads what is there now
		case expiry == "0":
			s.recent.swapped(key, "", asked)
		default:
			s.recent.swapped(key, new, asked)
		}
	}
	if err != nil {
		return false, wrap(ctx, err)
	}
	return done, nil
}

// swap runs swapScript in one round trip, and remembers the reading that it returns. rueidis does not repeat a command
// that writes.
func (s *Store) swap(ctx context.Context, name, old, new, expiry string, clock *reading) (verdict int64, latest *reading, err error) {
	type reply struct {
		numbers []int64
		arrived time.Time
	}
	deadline, _ := ctx.Deadline()
	limit := strconv.FormatInt(clock.limit(deadline, time.Now()), 10)
	r, err := await(ctx, s.slots, func(ctx context.Context) (reply, error) {
		numbers, err := swapScript.Exec(ctx, s.client, []string{name}, []string{old, new, expiry, limit}).AsIntSlice()
		return reply{numbers, time.Now()}, err
	})
	if err != nil {
		return 0, nil, err
	}
	if len(r.numbers) != 2 {
		return 0, nil, fmt.Errorf("a swap was answered with %d numbers", len(r.numbers))
	}
	latest = &reading{micros: r.numbers[1], arrived: r.arrived}
	s.clock.Store(latest)
	return r.numbers[0], latest, nil
}

// milliseconds returns expires as Redis has it, rounded up so that a record outlives what it revokes (R13), or
// "0" if it is past.
func milliseconds(expires, now time.Time) string {
	if !expires.After(now) {
		return "0"
	}
	if expires.After(farthest) {
		expires = farthest
	}
	return strconv.FormatInt(expires.Add(time.Millisecond-time.Nanosecond).UnixMilli(), 10)
}

func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, patience)
}

// wrap returns what went wrong, which is the context's end if that came first, however rueidis words it.
func wrap(ctx context.Context, err error) error {
	if ended := ctx.Err(); ended != nil && !errors.Is(err, ended) {
		return fmt.Errorf("redisstore: %w: %w", ended, err)
	}
	return fmt.Errorf("redisstore: %w", err)
}
