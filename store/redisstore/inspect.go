package redisstore

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

const (
	// maxLag limits min-replicas-max-lag. In a partition the primary accepts logouts for so long that the failover
	// loses.
	maxLag = 3

	// usualGrace is the default grace period of package middleware.
	usualGrace = 10 * time.Second
)

// inspect checks one server.
func (s *Store) inspect(ctx context.Context, node rueidis.Client) report {
	var r report
	text, err := node.Do(ctx, node.B().Info().Build()).ToString()
	if reply, ok := rueidis.IsRedisErr(err); ok {
		r.isUnchecked("INFO: %w", reply)
		return r
	}
	if err != nil {
		r.isWrong("INFO: %w", err)
		return r
	}
	info := parse(text)
	if version := info["redis_version"]; version != "" && tooOld(version) {
		r.isWrong("version %s is too old: use Redis 6.2 or later", version)
	}
	if limit := info["maxmemory"]; limit != "0" && limit != "" && info["maxmemory_policy"] != "noeviction" {
		r.isWrong("maxmemory-policy is %s, which may evict a revocation: set noeviction", info["maxmemory_policy"])
	}
	config := settings{ctx: ctx, node: node, report: &r}
	inspectPersistence(info, &config, &r)
	if info["role"] == "slave" {
		r.replica = true
		r.isWrong("it is a replica: connect to its primary, %s:%s", info["master_host"], info["master_port"])
		return r
	}
	s.inspectReplication(info, &config, &r)
	return r
}

// inspectPersistence checks that the server writes its records to disk.
func inspectPersistence(info map[string]string, config *settings, r *report) {
	if info["aof_enabled"] == "1" {
		if info["aof_last_write_status"] == "err" {
			r.isWrong("the last write to the append-only file failed")
		}
		return
	}
	save, ok := config.get("save") // the setting for snapshots
	switch {
	case !ok:
	case save == "":
		r.isWrong("it stores nothing on disk, so a restart ends every session: set appendonly yes")
	case info["rdb_last_bgsave_status"] == "err":
		r.isWrong("the last snapshot failed")
	}
}

// inspectReplication checks how many writes a failover may lose, and how long it takes. A server without replicas
// cannot fail over.
func (s *Store) inspectReplication(info map[string]string, config *settings, r *report) {
	replicas, _ := strconv.Atoi(info["connected_slaves"])
	if replicas < s.replicas {
		r.isWrong("it has %d replicas, but Options.Replicas is %d: no refresh and no logout succeeds", replicas, s.replicas)
	}
	if replicas == 0 {
		return
	}
	least, known := config.getInt("min-replicas-to-write")
	lag, ok := config.getInt("min-replicas-max-lag")
	if known && ok {
		s.inspectMinReplicas(replicas, least, lag, info, r)
	}
	if info["cluster_enabled"] == "1" {
		inspectNodeTimeout(config, r)
	}
}

func (s *Store) inspectMinReplicas(replicas, least, lag int, info map[string]string, r *report) {
	problem, consequence := r.isWrong, "answers logouts that the failover loses"
	if s.replicas > 0 {
		problem, consequence = r.advise, "accepts tokens that were logged out through its successor"
	}
	if least == 0 || lag == 0 {
		problem("min-replicas-to-write is %d and min-replicas-max-lag is %d, so a primary that is cut off from its replicas %s. "+
			"With two replicas set 1 and 2", least, lag, consequence)
		return
	}
	if lag > maxLag {
		problem("min-replicas-max-lag is %d, and for so many seconds a primary that is cut off from its replicas %s. Set 2",
			lag, consequence)
	}
	good, err := strconv.Atoi(info["min_slaves_good_slaves"])
	if err != nil {
		good = replicas
	}
	switch {
	case good < least:
		r.isWrong("it accepts no commands: it has %d good replicas, and min-replicas-to-write is %d", good, least)
	case replicas == least:
		r.advise("it has %d replicas, and min-replicas-to-write is %d: after a failover, or if a replica fails, every request is "+
			"answered 503. Add a replica", replicas, least)
	}
}

// inspectNodeTimeout estimates how long a failover of the Cluster takes: the other primaries suspect the failed one
// after the timeout, agree within half of it, and elect a replica within two seconds.
func inspectNodeTimeout(config *settings, r *report) {
	millis, ok := config.getInt("cluster-node-timeout")
	timeout := time.Duration(millis) * time.Millisecond
	if failover := timeout + timeout/2 + 2*time.Second; ok && failover > usualGrace {
		r.advise("cluster-node-timeout is %v, so a failover takes up to %v: longer than the grace period, which is %v by default. "+
			"A refresh that the failure interrupted is then retried too late and looks like token reuse. Set 5000", timeout, failover, usualGrace)
	}
}

// settings reads the settings of a server, and reports those that it cannot read.
type settings struct {
	ctx    context.Context
	node   rueidis.Client
	report *report
}

func (s *settings) get(name string) (value string, ok bool) {
	reply, err := s.node.Do(s.ctx, s.node.B().ConfigGet().Parameter(name).Build()).AsStrMap()
	if refusal, is := rueidis.IsRedisErr(err); is {
		s.report.isUnchecked("the setting %s cannot be read: CONFIG GET: %w", name, refusal)
		return "", false
	}
	if err != nil {
		s.report.isWrong("CONFIG GET: %w", err)
		return "", false
	}
	value, ok = reply[name]
	if !ok {
		s.report.isUnchecked("the server does not have the setting %s", name)
	}
	return value, ok
}

func (s *settings) getInt(name string) (value int, ok bool) {
	text, ok := s.get(name)
	if !ok {
		return 0, false
	}
	value, err := strconv.Atoi(text)
	if err != nil {
		s.report.isUnchecked("the setting %s is %q, which is not a number", name, text)
	}
	return value, err == nil
}

// parse returns the fields of an INFO reply, which has lines of the form "name:value".
func parse(text string) map[string]string {
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info
}

// tooOld reports whether a version lacks GETEX and SET with PXAT, which are new in 6.2.
func tooOld(version string) bool {
	first, rest, _ := strings.Cut(version, ".")
	second, _, _ := strings.Cut(rest, ".")
	major, err1 := strconv.Atoi(first)
	minor, err2 := strconv.Atoi(second)
	return err1 == nil && err2 == nil && (major < 6 || major == 6 && minor < 2)
}
