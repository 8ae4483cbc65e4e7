package redisstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/rueidis"
)

// ErrUnchecked is wrapped by the error of [Store.Check] if the check found no problem but could not read every setting,
// because some hosts forbid CONFIG.
var ErrUnchecked = errors.New("redisstore: not every setting could be checked")

// Check returns an error that lists every setting with which the server, or a primary of the cluster, would lose
// revocations: an eviction policy, no persistence, a failed last write, the role of a replica, or a version that lacks a
// required command. Call it when the process starts, and from a health check if you like.
//
// If the error wraps [ErrUnchecked], no problem was found. Otherwise do not serve requests until the settings are
// corrected. An error of nil does not mean that Redis cannot lose any revocation: see the package documentation about
// appendfsync and failovers.
func (s *Store) Check(ctx context.Context) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	var wrong, unchecked []error
	nodes := s.client.Nodes()
	primaries := 0
	for _, address := range slices.Sorted(maps.Keys(nodes)) {
		report := inspect(ctx, nodes[address])
		if report.replica && s.client.Mode() == rueidis.ClientModeCluster {
			continue // its primary is checked as well
		}
		primaries++
		for _, text := range report.wrong {
			wrong = append(wrong, fmt.Errorf("redisstore: %s: %w", address, text))
		}
		for _, text := range report.unchecked {
			unchecked = append(unchecked, fmt.Errorf("redisstore: %s: %w", address, text))
		}
	}
	if primaries == 0 {
		wrong = append(wrong, errors.New("redisstore: the client knows no primary"))
	}
	switch {
	case len(wrong) > 0:
		return errors.Join(append(wrong, unchecked...)...)
	case len(unchecked) > 0:
		return errors.Join(append([]error{ErrUnchecked}, unchecked...)...)
	}
	return nil
}

// A report is the result of checking one server.
type report struct {
	replica          bool
	wrong, unchecked []error
}

func (r *report) isWrong(format string, args ...any) {
	r.wrong = append(r.wrong, fmt.Errorf(format, args...))
}

// inspect checks one server.
func inspect(ctx context.Context, node rueidis.Client) report {
	var r report
	text, err := node.Do(ctx, node.B().Info().Build()).ToString()
	if reply, ok := rueidis.IsRedisErr(err); ok {
		r.unchecked = append(r.unchecked, fmt.Errorf("INFO: %w", reply))
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
	if info["role"] == "slave" {
		r.replica = true
		r.isWrong("it is a replica: connect to its primary, %s:%s", info["master_host"], info["master_port"])
	}
	if limit := info["maxmemory"]; limit != "0" && limit != "" && info["maxmemory_policy"] != "noeviction" {
		r.isWrong("maxmemory-policy is %s, which may evict a revocation: set noeviction", info["maxmemory_policy"])
	}
	inspectPersistence(ctx, node, info, &r)
	return r
}

// inspectPersistence checks that the server writes its records to disk.
func inspectPersistence(ctx context.Context, node rueidis.Client, info map[string]string, r *report) {
	if info["aof_enabled"] == "1" {
		if info["aof_last_write_status"] == "err" {
			r.isWrong("the last write to the append-only file failed")
		}
		return
	}
	config, err := node.Do(ctx, node.B().ConfigGet().Parameter("save").Build()).AsStrMap()
	if reply, ok := rueidis.IsRedisErr(err); ok {
		r.unchecked = append(r.unchecked, fmt.Errorf("appendonly is off, and the setting for snapshots cannot be read: CONFIG GET: %w", reply))
		return
	}
	if err != nil {
		r.isWrong("CONFIG GET: %w", err)
		return
	}
	if config["save"] == "" {
		r.isWrong("it stores nothing on disk, so a restart loses every revocation: set appendonly yes")
		return
	}
	if info["rdb_last_bgsave_status"] == "err" {
		r.isWrong("the last snapshot failed")
	}
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
