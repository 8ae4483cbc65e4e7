package redisstore

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/ginrefresh/ginrefresh/store/internal/deadline"
	"github.com/ginrefresh/ginrefresh/store/internal/unixms"
)

// swapScript is CompareAndSwap. It has a single key, so that it runs in a Cluster. Its arguments are the old value, the
// new value, the expiry in Unix milliseconds ("0" if it has passed: then the key is deleted), and a limit: the instant,
// in Unix microseconds by the clock of Redis, from which on the script must change nothing. It returns a verdict and
// the clock of Redis.
//
// The script reads the clock right before it writes. It is sent as a whole and not by its SHA-1: Go refuses to compute
// SHA-1 in FIPS mode, and so no script has to be loaded again after a restart or a failover. Get explains GETEX.
const swapScript = `
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
return {1, now}`

// The verdicts of swapScript.
const (
	swapLost    = 0 // the current value is not the old one
	swapMade    = 1
	swapTooLate = 2 // the limit has passed, so nothing was changed
)

// errTooLate is the error of a swap that Redis refused because its deadline had passed.
var errTooLate = fmt.Errorf("the swap reached Redis after its deadline and was not made: %w", context.DeadlineExceeded)

// A swapReply is the reply to swapScript.
type swapReply struct {
	verdict int64
	clock   *deadline.Reading
}

// swap runs swapScript in one round trip, and stores the reading in the reply. rueidis never repeats a command that
// writes.
func (s *Store) swap(ctx context.Context, name, old, new, expiry string, clock *deadline.Reading) (swapReply, error) {
	end, _ := ctx.Deadline()
	limit := clock.Limit(end, time.Now())
	eval := func(b rueidis.Builder) rueidis.Completed {
		return b.Eval().Script(swapScript).Numkeys(1).Key(name).Arg(old, new, expiry, strconv.FormatInt(limit, 10)).Build()
	}
	slots, run := s.slots, s.runSwap
	if s.replicas > 0 && limit > 0 { // without a limit the swap is only asked for the clock
		slots, run = s.waiting, func(ctx context.Context, eval swapCommand) (swapReply, error) {
			return s.runSwapAndWait(ctx, eval, end)
		}
	}
	r, err := await(ctx, slots, func(ctx context.Context) (swapReply, error) { return run(ctx, eval) })
	if r.clock != nil {
		s.clock.Store(r.clock)
	}
	return r, err
}

// A swapCommand builds the command that runs swapScript.
type swapCommand func(rueidis.Builder) rueidis.Completed

func (s *Store) runSwap(ctx context.Context, eval swapCommand) (swapReply, error) {
	return readSwap(s.client.Do(ctx, eval(s.client.B())))
}

// readSwap reads a reply that has just arrived.
func readSwap(reply rueidis.RedisResult) (swapReply, error) {
	numbers, err := reply.AsIntSlice()
	if err == nil && len(numbers) != 2 {
		err = fmt.Errorf("the reply to a swap has %d numbers, want 2", len(numbers))
	}
	if err != nil {
		return swapReply{}, err
	}
	return swapReply{numbers[0], &deadline.Reading{Micros: numbers[1], Arrived: time.Now()}}, nil
}

// milliseconds returns expires in Unix milliseconds, or "0" if it has passed.
func milliseconds(expires, now time.Time) string {
	if !expires.After(now) {
		return "0"
	}
	return strconv.FormatInt(unixms.Ceil(expires), 10)
}
