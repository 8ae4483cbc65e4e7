package redisstore

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/rueidis"
)

// Each shard has a record of the instant since which it has forgotten nothing (R20). It is in the same place as the
// records of the shard and never expires, so whatever loses them loses it as well. Whoever finds it missing makes it
// anew.

// sinceScript returns the since of a shard in Unix microseconds. If it is missing, the script makes it: a second after
// the clock of Redis or the clock of this process, the argument, whichever is later. So it is later than the birth of
// every session whose record may be lost, even if the clocks differ by a second.
var sinceScript = rueidis.NewLuaScriptNoSha(`
local since = redis.call('GETEX', KEYS[1])
if not since then
  local time = redis.call('TIME')
  since = string.format('%.0f', math.max(time[1] * 1000000 + time[2], tonumber(ARGV[1])) + 1000000)
  redis.call('SET', KEYS[1], since)
end
return since`)

// An answer is what Redis says about a key.
type answer struct {
	value string
	since time.Time // of the key's shard
}

// ask gets the values of the keys and the sinces of their shards in one round trip, or two if a since is missing.
func (s *Store) ask(ctx context.Context, keys []string) ([]answer, error) {
	ask := s.askServer
	if s.client.Mode() == rueidis.ClientModeCluster {
		ask = s.askCluster
	}
	texts, err := ask(ctx, keys)
	if err != nil {
		return nil, err
	}
	shards := make([]int, len(keys))
	for i, key := range keys {
		shards[i] = shardOf(key)
	}
	sinces, made, err := s.sinces(ctx, shards, texts[len(keys):])
	if err != nil {
		return nil, err
	}
	if made {
		s.makeOthers()
	}
	answers := make([]answer, len(keys))
	for i := range answers {
		answers[i] = answer{value: texts[i], since: sinces[i]}
	}
	return answers, nil
}

// askServer asks a single server, or the primary that Sentinel has chosen. It returns the values of the keys and then
// the sinces of their shards, "" if there is none.
//
// Redis must not read a since before the value: if it were emptied in between, the since would be too early. MGET alone
// would be answered by a replica as well, but a client sends commands to a replica only if all of them may go there,
// and then the replica refuses GETEX.
func (s *Store) askServer(ctx context.Context, keys []string) ([]string, error) {
	names := make([]string, 0, 2*len(keys))
	for _, key := range keys {
		names = append(names, s.names.of(key))
	}
	for _, key := range keys {
		names = append(names, s.names.since(shardOf(key)))
	}
	replies := s.client.DoMulti(ctx,
		s.client.B().Getex().Key(names[0]).Build(),
		s.client.B().Mget().Key(names[1:]...).Build())
	first, err := text(replies[0])
	if err != nil {
		return nil, err
	}
	others, err := replies[1].AsStrSlice()
	if err == nil && len(others) != len(names)-1 {
		err = fmt.Errorf("the reply to MGET has %d values, want %d", len(others), len(names)-1)
	}
	return append([]string{first}, others...), err
}

// askCluster is askServer for a Cluster, where each command goes to the primary of its slot. GETEX keeps the client
// from sending it to a replica.
func (s *Store) askCluster(ctx context.Context, keys []string) ([]string, error) {
	commands := make(rueidis.Commands, 0, 2*len(keys))
	for _, key := range keys {
		commands = append(commands, s.client.B().Getex().Key(s.names.of(key)).Build())
	}
	for _, key := range keys {
		commands = append(commands, s.client.B().Getex().Key(s.names.since(shardOf(key))).Build())
	}
	return texts(s.client.DoMulti(ctx, commands...))
}

// texts returns the strings in the replies, "" for nil.
func texts(replies []rueidis.RedisResult) ([]string, error) {
	texts := make([]string, len(replies))
	for i, reply := range replies {
		var err error
		if texts[i], err = text(reply); err != nil {
			return nil, err
		}
	}
	return texts, nil
}

func text(reply rueidis.RedisResult) (string, error) {
	text, err := reply.ToString()
	if rueidis.IsRedisNil(err) {
		return "", nil
	}
	return text, err
}

// sinces converts the records of the shards' sinces, makes those that are missing, and reports whether there were any.
func (s *Store) sinces(ctx context.Context, shards []int, records []string) (sinces []time.Time, made bool, err error) {
	sinces = make([]time.Time, len(shards))
	var missing []int
	for i, record := range records {
		if record == "" {
			missing = append(missing, i)
		} else if sinces[i], err = s.parseSince(shards[i], record); err != nil {
			return nil, false, err
		}
	}
	if len(missing) == 0 {
		return sinces, false, nil
	}
	now := strconv.FormatInt(time.Now().UnixMicro(), 10)
	calls := make([]rueidis.LuaExec, len(missing))
	for n, i := range missing {
		calls[n] = rueidis.LuaExec{Keys: []string{s.names.since(shards[i])}, Args: []string{now}}
	}
	for n, reply := range sinceScript.ExecMulti(ctx, s.client, calls...) {
		i := missing[n]
		record, err := reply.ToString()
		if err != nil {
			return nil, false, fmt.Errorf("the record %s is missing and cannot be made, which needs EVAL, GETEX, SET and TIME: %w",
				s.names.since(shards[i]), err)
		}
		if sinces[i], err = s.parseSince(shards[i], record); err != nil {
			return nil, false, err
		}
	}
	return sinces, true, nil
}

func (s *Store) parseSince(shard int, record string) (time.Time, error) {
	micros, err := strconv.ParseInt(record, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("the record %s is not an instant in Unix microseconds: %w", s.names.since(shard), err)
	}
	return time.UnixMicro(micros), nil
}

// allSinces returns the sinces of all shards, and makes those that are missing.
func (s *Store) allSinces(ctx context.Context) ([]time.Time, error) {
	all := make([]int, shards)
	commands := make(rueidis.Commands, shards)
	for shard := range all {
		all[shard] = shard
		commands[shard] = s.client.B().Getex().Key(s.names.since(shard)).Build()
	}
	records, err := texts(s.client.DoMulti(ctx, commands...))
	if err != nil {
		return nil, err
	}
	sinces, _, err := s.sinces(ctx, all, records)
	return sinces, err
}

// makeOthers makes the sinces that are still missing in the background. A since is a second in the future when it is
// made, and sessions that are older than it are rejected. So all of them should be made soon after Redis was emptied,
// and not one by one over days, as their shards are read.
func (s *Store) makeOthers() {
	if !s.makingOthers.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer s.makingOthers.Store(false)
		ctx, cancel := context.WithTimeout(context.Background(), s.patience)
		defer cancel()
		_, _ = await(ctx, s.slots, s.allSinces) // those that are not made now are made when they are read
	}()
}
