package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// Each shard has a record of the instant since which it has forgotten nothing (R20). It is in the same place as the
// records of the shard and never expires, so whatever loses them loses it as well. Whoever finds it missing makes it
// anew.

// sinceScript returns the sinces of shards in Unix microseconds. It makes those that are missing: a second after the
// clock of Redis or the clock of this process, the argument, whichever is later. So they are later than the birth of
// every session whose record may be lost, even if the clocks differ by a second. In a Cluster it has a single key.
var sinceScript = rueidis.NewLuaScriptNoSha(`
local time = redis.call('TIME')
local made = string.format('%.0f', math.max(time[1] * 1000000 + time[2], tonumber(ARGV[1])) + 1000000)
local sinces = {}
for i, key in ipairs(KEYS) do
  sinces[i] = redis.call('GETEX', key)
  if not sinces[i] then
    redis.call('SET', key, made)
    sinces[i] = made
  end
end
return sinces`)

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
	answers := make([]answer, len(keys))
	missing := false
	for i, key := range keys {
		record := texts[len(keys)+i]
		if answers[i].value = texts[i]; record == "" {
			missing = true
		} else if answers[i].since, err = s.parseSince(shardOf(key), record); err != nil {
			return nil, err
		}
	}
	if !missing {
		return answers, nil
	}
	sinces, err := s.making.share(time.Now(), func() ([]time.Time, error) { return s.makeSinces(ctx) })
	for i, key := range keys {
		if answers[i].since.IsZero() {
			answers[i].since = sinces[shardOf(key)]
		}
		if answers[i].since.IsZero() {
			return nil, err
		}
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

func (s *Store) parseSince(shard int, record string) (time.Time, error) {
	micros, err := strconv.ParseInt(record, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("the record %s is not an instant in Unix microseconds: %w", s.names.since(shard), err)
	}
	return time.UnixMicro(micros), nil
}

// makeSinces returns the sinces of all shards as of now, and makes those that are missing. A since is a second in the
// future when it is made, so all of them are made at the same time: if each were made when its shard is read, logins
// would meet new ones for days. A since that can be neither read nor made is the zero time, and the error says why.
func (s *Store) makeSinces(ctx context.Context) ([]time.Time, error) {
	var records []string
	var err error
	if s.client.Mode() == rueidis.ClientModeCluster {
		records, err = s.makeOnCluster(ctx)
	} else {
		records, err = s.makeOnServer(ctx)
	}
	if err != nil {
		err = fmt.Errorf("the time since which the blacklist is complete is missing and cannot be made, "+
			"which needs EVAL, GETEX, SET and TIME: %w", err)
	}
	sinces := make([]time.Time, shards)
	for shard, record := range records[:min(len(records), shards)] {
		if record == "" {
			continue
		}
		var damage error
		if sinces[shard], damage = s.parseSince(shard, record); damage != nil {
			err = damage
		}
	}
	if err == nil && slices.ContainsFunc(sinces, time.Time.IsZero) {
		err = errors.New("a reply lacks the time since which the blacklist is complete")
	}
	return sinces, err
}

// makeOnServer makes all sinces that are missing at the same instant.
func (s *Store) makeOnServer(ctx context.Context) ([]string, error) {
	names := make([]string, shards)
	for shard := range names {
		names[shard] = s.names.since(shard)
	}
	return sinceScript.Exec(ctx, s.client, names, clockArgument()).AsStrSlice()
}

// makeOnCluster makes the sinces that are missing one by one, because a script has access to one slot. It returns ""
// for those of a primary that fails.
func (s *Store) makeOnCluster(ctx context.Context) (records []string, failure error) {
	commands := make(rueidis.Commands, shards)
	for shard := range commands {
		commands[shard] = s.client.B().Getex().Key(s.names.since(shard)).Build()
	}
	records = make([]string, shards)
	var missing []int
	var calls []rueidis.LuaExec
	for shard, reply := range s.client.DoMulti(ctx, commands...) {
		var err error
		if records[shard], err = text(reply); err != nil {
			failure = err
		} else if records[shard] == "" {
			missing = append(missing, shard)
			calls = append(calls, rueidis.LuaExec{Keys: []string{s.names.since(shard)}, Args: clockArgument()})
		}
	}
	for i, reply := range sinceScript.ExecMulti(ctx, s.client, calls...) {
		made, err := reply.AsStrSlice()
		if err != nil {
			failure = err
		} else if len(made) > 0 {
			records[missing[i]] = made[0]
		}
	}
	return records, failure
}

// clockArgument is the argument of sinceScript: the clock of this process.
func clockArgument() []string {
	return []string{strconv.FormatInt(time.Now().UnixMicro(), 10)}
}

// A making lets callers share the sinces that one of them has made.
type making struct {
	mu     sync.Mutex
	begun  time.Time
	sinces []time.Time
}

// share returns the result of a call of f that began after noticed. So if Redis is emptied between two calls, a caller
// who noticed it does not get the sinces from before.
func (m *making) share(noticed time.Time, f func() ([]time.Time, error)) ([]time.Time, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.begun.After(noticed) {
		return m.sinces, nil
	}
	begun := time.Now()
	sinces, err := f()
	if err == nil {
		m.begun, m.sinces = begun, sinces
	}
	return sinces, err
}
