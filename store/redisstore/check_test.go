//go:build unix

package redisstore_test

import (
	"errors"
	"strconv"
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
			want:      []string{"the setting save", "CONFIG"},
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
			want: []string{"the setting save", "CONFIG", "maxmemory-policy"},
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

// checkOf is the result of a Check: no error, or an error with a text that wraps the sentinels or not.
type checkOf struct {
	want      string // part of the error; "" for no error
	advice    bool
	unchecked bool
}

func (c checkOf) test(t *testing.T, name string, s *redisstore.Store) {
	t.Helper()
	err := s.Check(within(t, 5*time.Second))
	if (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
		t.Errorf("%s: Check: %v, want %q in it", name, err, c.want)
	}
	if errors.Is(err, redisstore.ErrAdvice) != c.advice || errors.Is(err, redisstore.ErrUnchecked) != c.unchecked {
		t.Errorf("%s: Check: %v, want advice %v and unchecked %v", name, err, c.advice, c.unchecked)
	}
}

// TestCheckReplication changes the settings of a primary with replicas.
func TestCheckReplication(t *testing.T) {
	t.Parallel()
	primary := redistest.Start(t, "--appendonly", "yes")
	replica := redistest.StartReplica(t, primary)
	client := dial(t, nil, primary.Addr())
	plain := newStore(t, client, redisstore.Options{})
	waiting := newStore(t, client, redisstore.Options{Replicas: 1})
	check := func(replicas int, write, lag string, s *redisstore.Store, want checkOf) {
		t.Helper()
		primary.Do("CONFIG", "SET", "min-replicas-to-write", write)
		primary.Do("CONFIG", "SET", "min-replicas-max-lag", lag)
		for write != "0" && lag != "0" && !strings.Contains(primary.Do("INFO", "replication"), "min_slaves_good_slaves:"+strconv.Itoa(replicas)) {
			time.Sleep(50 * time.Millisecond) // Redis counts the good replicas once a second
		}
		name := strconv.Itoa(replicas) + " replicas, min-replicas-to-write " + write + ", min-replicas-max-lag " + lag
		want.test(t, name, s)
	}
	check(1, "0", "10", plain, checkOf{want: "min-replicas-to-write is 0"})
	check(1, "0", "10", waiting, checkOf{want: "min-replicas-to-write is 0", advice: true})
	check(1, "1", "0", plain, checkOf{want: "min-replicas-max-lag is 0"})
	check(1, "1", "10", plain, checkOf{want: "min-replicas-max-lag is 10"})
	check(1, "1", "10", waiting, checkOf{want: "min-replicas-max-lag is 10", advice: true})
	check(1, "1", "2", plain, checkOf{want: "Add a replica", advice: true})
	check(1, "2", "2", plain, checkOf{want: "it accepts no commands"})
	check(1, "2", "2", plain, checkOf{want: "NOREPLICAS"})

	redistest.StartReplica(t, primary)
	check(2, "1", "2", plain, checkOf{})
	check(2, "1", "3", waiting, checkOf{})
	check(2, "1", "4", plain, checkOf{want: "min-replicas-max-lag is 4"})
	check(2, "2", "2", plain, checkOf{want: "Add a replica", advice: true})
	check(2, "1", "2", newStore(t, client, redisstore.Options{Replicas: 3}), checkOf{want: "Options.Replicas is 3"})

	check(2, "1", "2", plain, checkOf{})
	forbidden := redistest.Start(t, "--appendonly", "yes", "--rename-command", "CONFIG", "")
	redistest.StartReplica(t, forbidden)
	checkOf{want: "min-replicas-to-write cannot be read", unchecked: true}.test(t, "without CONFIG", connect(t, forbidden, redisstore.Options{}))

	alone := redistest.Start(t, "--appendonly", "yes", "--min-replicas-to-write", "1")
	checkOf{want: "NOREPLICAS"}.test(t, "no replica, min-replicas-to-write 1", connect(t, alone, redisstore.Options{}))
	checkOf{want: "it is a replica"}.test(t, "replica", connect(t, replica, redisstore.Options{}))
}

// TestCheckFleets checks primaries through clients that also know their replicas.
func TestCheckFleets(t *testing.T) {
	t.Parallel()
	for name, fleet := range startFleets(t) {
		for setting, value := range map[string]string{"appendonly": "yes", "min-replicas-to-write": "1", "min-replicas-max-lag": "2"} {
			fleet.primary.Do("CONFIG", "SET", setting, value)
		}
		for _, sendToReplicas := range []func(rueidis.Completed) bool{nil, readOnly} {
			s := newStore(t, fleet.client(t, sendToReplicas), redisstore.Options{Replicas: 2})
			checkOf{}.test(t, name, s)
			if name == "Cluster" {
				fleet.primary.Do("CONFIG", "SET", "cluster-node-timeout", "15000")
				checkOf{want: "cluster-node-timeout is 15s", advice: true}.test(t, name, s)
				fleet.primary.Do("CONFIG", "SET", "cluster-node-timeout", "5000")
				checkOf{}.test(t, name, s)
			}
		}
	}
}

// TestCheckCommands checks users that lack a command.
func TestCheckCommands(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--appendonly", "yes")
	for _, command := range []string{"", "eval", "getex", "mget", "set", "del", "time", "wait"} {
		user := "without-" + command
		rules := []string{"ACL", "SETUSER", user, "on", ">secret", "~ginrefresh:*", "+@all"}
		want := checkOf{}
		if command != "" {
			rules = append(rules, "-"+command)
			want.want = strings.ToUpper(command)
		}
		if reply := server.Do(rules...); reply != "+OK" {
			t.Fatal(reply)
		}
		client := dial(t, func(o *rueidis.ClientOption) { o.Username, o.Password = user, "secret" }, server.Addr())
		opts := redisstore.Options{}
		if command == "wait" {
			checkOf{}.test(t, user, newStore(t, client, opts)) // needs no WAIT
			opts.Replicas = 1
			want.want = "no permissions to run the 'wait' command"
		}
		want.test(t, user, newStore(t, client, opts))
		server.Do("FLUSHALL") // the next user makes every since again
	}
	server.Do("ACL", "SETUSER", "elsewhere", "on", ">secret", "~other:*", "+@all")
	client := dial(t, func(o *rueidis.ClientOption) { o.Username, o.Password = "elsewhere", "secret" }, server.Addr())
	checkOf{want: "NOPERM"}.test(t, "elsewhere", newStore(t, client, redisstore.Options{}))
	checkOf{}.test(t, "elsewhere with its prefix", newStore(t, client, redisstore.Options{Prefix: "other:"}))
}

// R20: a since that is far in the future rejects every session, so Check must report it.
func TestR20_CheckReportsSinceInTheFuture(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--appendonly", "yes")
	s := connect(t, server, redisstore.Options{})
	checkOf{}.test(t, "new", s)
	for ahead, want := range map[time.Duration]checkOf{
		-time.Hour: {}, 25 * time.Second: {}, 40 * time.Second: {want: "ginrefresh:{3ff}:since is 40s in the future"},
	} {
		server.Do("SET", "ginrefresh:{3ff}:since", strconv.FormatInt(time.Now().Add(ahead).UnixMicro(), 10))
		want.test(t, ahead.String(), s)
	}
	server.Do("SET", "ginrefresh:{000}:since", "soon")
	checkOf{want: "ginrefresh:{000}:since is not an instant"}.test(t, "damaged", s)
}
