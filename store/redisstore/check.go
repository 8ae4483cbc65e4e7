package redisstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/redis/rueidis"
)

// ErrUnchecked is wrapped by the error of [Store.Check] if the check found no problem but could not read every setting,
// because some hosts forbid CONFIG.
var ErrUnchecked = errors.New("redisstore: not every setting could be checked")

// ErrAdvice is wrapped by the error of [Store.Check] if the check found no problem, but settings that make a failover
// longer or more disruptive than necessary.
var ErrAdvice = errors.New("redisstore: some settings should be improved")

// maxAhead is how far a since may be in the future. It is made a second ahead of the clock.
const maxAhead = 30 * time.Second

// Check returns an error that lists every problem of the server, or of the primaries of the cluster:
//
//   - Settings that lose revocations, or all sessions at once: an eviction policy, no persistence, a failed last write, the
//     role of a replica, replicas without min-replicas-to-write, and a min-replicas-max-lag of more than 3 s.
//   - Causes of failing calls: a version or a user without a required command, and fewer replicas than min-replicas-to-write
//     or Options.Replicas require.
//   - A since that is more than 30 s in the future, so that sessions are rejected until then.
//
// Call it when the process starts, and from a health check if you like. Check makes every since that is missing.
//
// If the error wraps [ErrUnchecked] or [ErrAdvice], there is no such problem: log it. Otherwise do not serve requests
// until the problems are solved. An error of nil does not mean that Redis cannot lose any revocation: see the package
// documentation about appendfsync and failovers.
func (s *Store) Check(ctx context.Context) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	all := s.checkServers(ctx)
	sinces, err := await(ctx, s.slots, func(ctx context.Context) ([]time.Time, error) {
		if err := s.tryCommands(ctx); err != nil {
			return nil, err
		}
		return s.makeSinces(ctx)
	})
	if err != nil {
		all.isWrong("%w", err)
	}
	s.checkSinces(sinces, &all)
	return all.err()
}

// checkServers inspects the server, or the primaries of the cluster.
func (s *Store) checkServers(ctx context.Context) (all report) {
	nodes := s.client.Nodes()
	reports := map[string]report{}
	primaries := 0
	for address, node := range nodes {
		r := s.inspect(ctx, node)
		if s.feed != nil && !r.replica && len(r.wrong) == 0 {
			s.feed.inspect(ctx, node, &r)
		}
		reports[address] = r
		if !r.replica {
			primaries++
		}
	}
	for _, address := range slices.Sorted(maps.Keys(reports)) {
		if r := reports[address]; !r.replica || primaries == 0 { // otherwise its primary is checked as well
			all.add(address, r)
		}
	}
	if len(nodes) == 0 {
		all.isWrong("the client knows no server")
	}
	return all
}

// checkSinces looks for sinces in the future.
func (s *Store) checkSinces(sinces []time.Time, r *report) {
	for shard, since := range sinces {
		if ahead := time.Until(since); ahead > maxAhead {
			r.isWrong("the record %s is %v in the future, and sessions are rejected until then: "+
				"correct the clocks of Redis and of this machine, and delete all records %s",
				s.names.since(shard), ahead.Round(time.Second), s.names.sincePattern())
			return
		}
	}
}

// tryScript runs the commands of the scripts of this package and changes nothing.
var tryScript = rueidis.NewLuaScriptNoSha(`
redis.call('TIME')
redis.call('GETEX', KEYS[1])
redis.call('SET', KEYS[1], '1', 'PX', '1')
redis.call('DEL', KEYS[1])
return redis.status_reply('OK')`)

// tryCommands runs the commands that the store needs. In a Cluster of usual size each primary gets some of them.
func (s *Store) tryCommands(ctx context.Context) error {
	if _, err := s.ask(ctx, []string{"", "a key"}); err != nil {
		return fmt.Errorf("a read fails, which needs GETEX and MGET: %w", err)
	}
	var calls []rueidis.LuaExec
	for shard := 0; shard < shards; shard += 16 {
		calls = append(calls, rueidis.LuaExec{Keys: []string{s.names.try(shard)}})
	}
	for _, reply := range tryScript.ExecMulti(ctx, s.client, calls...) {
		if err := reply.Error(); err != nil {
			return fmt.Errorf("a script fails, which needs EVAL, GETEX, SET, DEL and TIME: %w", err)
		}
	}
	if s.replicas == 0 {
		return nil
	}
	b := s.client.B()
	commands := rueidis.Commands{b.Wait().Numreplicas(0).Timeout(1).Build(), b.Time().Build()}
	for _, reply := range s.client.DoMulti(ctx, commands...) {
		if err := reply.Error(); err != nil {
			return fmt.Errorf("Options.Replicas is set, which needs WAIT and TIME: %w", err)
		}
	}
	return nil
}

// A report is the result of checking one server, or all of them.
type report struct {
	replica   bool
	wrong     []error // loses revocations, or makes calls fail
	advice    []error
	unchecked []error
}

func (r *report) isWrong(format string, args ...any) {
	r.wrong = append(r.wrong, fmt.Errorf(format, args...))
}

func (r *report) advise(format string, args ...any) {
	r.advice = append(r.advice, fmt.Errorf(format, args...))
}

func (r *report) isUnchecked(format string, args ...any) {
	r.unchecked = append(r.unchecked, fmt.Errorf(format, args...))
}

// add adds the report about one server.
func (r *report) add(address string, of report) {
	for _, list := range []struct {
		to   *[]error
		from []error
	}{{&r.wrong, of.wrong}, {&r.advice, of.advice}, {&r.unchecked, of.unchecked}} {
		for _, err := range list.from {
			*list.to = append(*list.to, fmt.Errorf("%s: %w", address, err))
		}
	}
}

// err returns everything that was found as one error.
func (r *report) err() error {
	var errs []error
	if len(r.wrong) == 0 && len(r.unchecked) > 0 {
		errs = append(errs, ErrUnchecked)
	}
	if len(r.wrong) == 0 && len(r.advice) > 0 {
		errs = append(errs, ErrAdvice)
	}
	for _, err := range slices.Concat(r.wrong, r.unchecked, r.advice) {
		errs = append(errs, fmt.Errorf("redisstore: %w", err))
	}
	return errors.Join(errs...)
}
