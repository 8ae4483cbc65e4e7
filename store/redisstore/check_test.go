//go:build unix

package redisstore_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/ginrefresh/ginrefresh/store/internal/redistest"
	"github.com/ginrefresh/ginrefresh/store/redisstore"
)

func TestCheck(t *testing.T) {
	for _, test := range []struct {
		name      string
		args      []string
		want      []string // parts of the error; nil for no error
		unchecked bool
	}{
		{name: "append-only file", args: []string{"--appendonly", "yes"}},
		{name: "snapshots", args: []string{"--save", "60 1"}},
		{name: "limit without eviction", args: []string{"--appendonly", "yes", "--maxmemory", "1gb"}},
		{name: "policy without limit", args: []string{"--appendonly", "yes", "--maxmemory-policy", "allkeys-lru"}},
		{name: "nothing on disk", want: []string{"appendonly"}},
		{
			name: "eviction",
			args: []string{"--appendonly", "yes", "--maxmemory", "1gb", "--maxmemory-policy", "volatile-lru"},
			want: []string{"maxmemory-policy is volatile-lru"},
		},
		{
			name: "all at once",
			args: []string{"--maxmemory", "1gb", "--maxmemory-policy", "allkeys-random"},
			want: []string{"maxmemory-policy", "appendonly"},
		},
		{
			name:      "without CONFIG",
			args:      []string{"--rename-command", "CONFIG", ""},
			want:      []string{"snapshots", "CONFIG"},
			unchecked: true,
		},
		{
			name:      "without INFO",
			args:      []string{"--rename-command", "INFO", ""},
			want:      []string{"INFO"},
			unchecked: true,
		},
		{
			name: "without CONFIG, with eviction",
			args: []string{"--rename-command", "CONFIG", "", "--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru"},
			want: []string{"snapshots", "CONFIG", "maxmemory-policy"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, test.args...)
			s := connect(t, server, redisstore.Options{})
			err := s.Check(within(t, 5*time.Second))
			if (err != nil) != (len(test.want) > 0) || errors.Is(err, redisstore.ErrUnchecked) != test.unchecked {
				t.Errorf("Check: %v, want %q and unchecked %v", err, test.want, test.unchecked)
			}
			for _, want := range test.want {
				if err != nil && !strings.Contains(err.Error(), want) {
					t.Errorf("Check: %v, want %q in it", err, want)
				}
			}
		})
	}
}

func TestCheckReplica(t *testing.T) {
	t.Parallel()
	primary := redistest.Start(t, "--appendonly", "yes")
	replica := redistest.Start(t, "--appendonly", "yes", "--replicaof", strings.ReplaceAll(primary.Addr(), ":", " "))
	s := connect(t, replica, redisstore.Options{})
	err := s.Check(within(t, 5*time.Second))
	if err == nil || !strings.Contains(err.Error(), "replica") || !strings.Contains(err.Error(), primary.Addr()) {
		t.Errorf("Check of a replica: %v", err)
	}
}

func TestCheckCluster(t *testing.T) {
	cluster, wait := redistest.StartCluster(t, 3)
	t.Parallel() // pauses until the other tests are done, and so leaves the cluster time to start
	wait()
	var addresses []string
	for _, s := range cluster {
		addresses = append(addresses, s.Addr())
	}
	s := newStore(t, dial(t, nil, addresses[0]), redisstore.Options{})
	err := s.Check(within(t, 5*time.Second))
	for _, address := range addresses {
		if err == nil || !strings.Contains(err.Error(), address) {
			t.Errorf("Check of a cluster without persistence does not name %s: %v", address, err)
		}
	}
}

func TestCheckUnreachable(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := newStore(t, dial(t, func(o *rueidis.ClientOption) { o.ForceSingleClient = true }, server.Addr()), redisstore.Options{})
	server.Kill()
	if err := s.Check(within(t, 300*time.Millisecond)); err == nil || errors.Is(err, redisstore.ErrUnchecked) {
		t.Errorf("Check of a dead server: %v", err)
	}
}
