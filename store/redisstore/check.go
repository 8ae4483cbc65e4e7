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

// ErrUnchecked is what the error of [Store.Check] wraps if nothing was found wrong, but not everything could be looked
// at, as some hosts forbid CONFIG.
var ErrUnchecked = errors.New("redisstore: not everything could be checked")

// Check reports, in one error, every setting for which the server, or any primary of the cluster, would lose revocations:
// an eviction policy, no persistence or one whose last write failed, being a replica, a version that lacks what the
// store needs. Call it at start, and from a health check if you like. If it only could not look, as some hosts forbid
// CONFIG, its error wraps [ErrUnchecked]; otherwise do not serve until the settings are put right.
//
// nil does not mean that nothing can be lost: see the package's comment on appendfsync and on failovers.
func (s *Store) Check(ctx context.Context) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	var wrong, unchecked []error
	nodes := s.client.Nodes()
	primaries := 0
	for _, address := range slices.Sorted(maps.Keys(nodes)) {
		report := inspect(ctx, nodes[address])
		if report.replica && s.client.Mode() == rueidis.ClientModeCluster {
			continue // its primary is there, too
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
		wrong = append(wrong, errors.New("redisstore: no primary is known"))
	}
	switch {
	case len(wrong) > 0:
		return errors.Join(append(wrong, unchecked...)...)
	case len(unchecked) > 0:
		return errors.Join(append([]error{ErrUnchecked}, unchecked...)...)
	}
	return nil
}

type report struct {
	replica          bool
	wrong, unchecked []error
}

func (r *report) isWrong(format string, args ...any) {
	r.wrong = append(r.wrong, fmt.Errorf(format, args...))
}

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
		r.isWrong("version %s lacks what the store needs, 6.2 has it", version)
	}
	if info["role"] == "slave" {
		r.replica = true
		r.isWrong("it is a replica: ask its primary, %s:%s", info["master_host"], info["master_port"])
	}
	if limit := info["maxmemory"]; limit != "0" && limit != "" && info["maxmemory_policy"] != "noeviction" {
		r.isWrong("maxmemory-policy is %s, which may evict a revocation: set noeviction", info["maxmemory_policy"])
	}
	inspectPersistence(ctx, node, info, &r)
	return r
}

func inspectPersistence(ctx context.Context, node rueidis.Client, info map[string]string, r *report) {
	if info["aof_enabled"] == "1" {
		if info["aof_last_write_status"] == "err" {
			r.isWrong("its last write to the append-only file failed")
		}
		return
	}
	config, err := node.Do(ctx, node.B().ConfigGet().Parameter("save").Build()).AsStrMap()
	if reply, ok := rueidis.IsRedisErr(err); ok {
		r.unchecked = append(r.unchecked, fmt.Errorf("appendonly is off, and whether there are snapshots is not known: CONFIG GET: %w", reply))
		return
	}
	if err != nil {
		r.isWrong("CONFIG GET: %w", err)
		return
	}
	if config["save"] == "" {
		r.isWrong("it keeps nothing on disk, so that a restart forgets every revocation: set appendonly yes")
		return
	}
	if info["rdb_last_bgsave_status"] == "err" {
		r.isWrong("its last snapshot failed")
	}
}

// parse reads the lines "name:value" of INFO.
func parse(text string) map[string]string {
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info
}

// tooOld reports whether a version lacks SET with PXAT, and GETEX, which came with 6.2.
func tooOld(version string) bool {
	first, rest, _ := strings.Cut(version, ".")
	second, _, _ := strings.Cut(rest, ".")
	major, err1 := strconv.Atoi(first)
	minor, err2 := strconv.Atoi(second)
	return err1 == nil && err2 == nil && (major < 6 || major == 6 && minor < 2)
}
