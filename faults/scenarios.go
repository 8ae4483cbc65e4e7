package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
	"github.com/ginrefresh/ginrefresh/store/boltstore"
)

// A scenario breaks a store under load.
type scenario struct {
	name     string
	play     func(l *lab)
	grace    time.Duration // default 10 seconds, like that of the middleware
	promises promise
	long     bool // too long for go test
}

// A promise must be kept, or the scenario has failed.
type promise uint8

const (
	noPass    promise = 1 << iota // no revoked token passes, or is refreshed, when all is well again
	noWitness                     // … nor does one that was made by a forgotten refresh
	noForks                       // no token has two successors
	noReject                      // no living session is rejected
	all       = noPass | noForks | noReject
)

// short is a grace period for faults that end the sessions anyway. So the replaced tokens are past it sooner.
const short = 3 * time.Second

var scenarios = []scenario{
	{name: "memory: restart of the process", play: memoryRestart, grace: short, promises: noPass},
	{name: "bolt: file of two seconds ago", play: boltRestore(false), grace: short, promises: noWitness},
	{name: "bolt: file of two seconds ago, removed", play: boltRestore(true), grace: short, promises: noPass},
	{name: "redis: FLUSHALL", play: single(flush), grace: short, promises: noPass | noForks},
	{name: "redis: kill -9, nothing on disk", play: single(restart), grace: short, promises: noPass | noForks},
	{name: "redis: snapshot of two seconds ago", play: single(redisRestore), grace: short, promises: noWitness},
	{name: "redis: snapshot of two seconds ago, emptied", play: single(redisRestoreAndFlush), grace: short, promises: noPass},
	{name: "redis: SIGSTOP for three seconds", play: single(freeze), promises: all},
	{name: "redis: kill -9, appendfsync always", play: single(restart, "--appendonly", "yes", "--appendfsync", "always"), promises: all},

	{name: "sentinel: kill -9", play: sentinelKill(5 * time.Second), promises: all},
	{name: "sentinel: kill -9, back at once and empty", play: sentinelKill(0), long: true},
	{name: "sentinel: kill -9, back at once and empty, min-replicas 1", play: sentinelKill(0, minReplicas, "1"), long: true},
	{name: "sentinel: machine lost, replicas 1.5 s behind", play: sentinelBehind(0), long: true},
	{name: "sentinel: machine lost, replicas 1.5 s behind, WAIT 1", play: sentinelBehind(1), promises: noPass | noForks, long: true},
	{name: "sentinel: partition", play: partition(2, 0), long: true},
	{name: "sentinel: partition, min-replicas 1, lag 10", play: partition(2, 0, minReplicas, "1"), long: true},
	{name: "sentinel: partition, min-replicas 1, lag 2", play: partition(2, 0, minReplicas, "1", maxLag, "2"), long: true},
	{name: "sentinel: partition, one replica, min-replicas 1, lag 2", play: partition(1, 0, minReplicas, "1", maxLag, "2"), long: true},
	{name: "sentinel: partition, WAIT 1", play: partition(2, 1), promises: noPass, long: true},
	{name: "sentinel: partition, WAIT 1, min-replicas 1, lag 2", play: partition(2, 1, minReplicas, "1", maxLag, "2"), promises: noPass | noForks},

	{name: "cluster: kill -9", play: cluster(2*time.Second, clusterKill), promises: all},
	{name: "cluster: kill -9, node-timeout 15 s", play: cluster(15*time.Second, clusterKill), promises: noPass | noForks, long: true},
	{name: "cluster: manual failover", play: cluster(2*time.Second, clusterFailover), promises: all},
	{name: "cluster: reshard", play: cluster(2*time.Second, clusterReshard), promises: all, long: true},
}

const (
	minReplicas = "--min-replicas-to-write"
	maxLag      = "--min-replicas-max-lag"
)

// run plays a scenario. The error says why it could not be carried out.
func (s scenario) run(ctx context.Context, size size) (t *tally, err error) {
	l := &lab{ctx: ctx, size: size, grace: s.grace}
	if l.grace == 0 {
		l.grace = middleware.DefaultGrace
	}
	l.load = newLoad(l)
	l.load.name = s.name
	defer func() {
		switch p := recover().(type) {
		case nil:
		case failure:
			err = fmt.Errorf("%s: %w", s.name, p.error)
		default:
			panic(p)
		}
	}()
	defer l.close()
	s.play(l)
	l.load.end()
	for server := range servers {
		l.until("every server works again", func() bool { return l.load.works(server) })
	}
	l.load.tryAll()
	return &l.load.tally, nil
}

// works reports whether a login and a logout succeed.
func (l *load) works(server int) bool {
	code := l.step(server, func(ctx context.Context, a *middleware.Auth) error {
		tokens, err := a.Issue(ctx, middleware.Identity{Subject: "works"})
		if err != nil {
			return err
		}
		return a.Logout(ctx, tokens.AccessToken)
	})
	return code == ""
}

// broken returns the promises that were not kept.
func (s scenario) broken(t *tally) (broken []string) {
	check := func(p promise, count int64, text string) {
		if s.promises&p != 0 && count > 0 {
			broken = append(broken, fmt.Sprintf("%s: %d %s", s.name, count, text))
		}
	}
	check(noPass, t.endedPass.Load(), "tokens pass again after their logout")
	check(noPass, t.replacedPass.Load(), "replaced tokens pass again")
	check(noPass, t.refreshed.Load(), "revoked tokens are refreshed again")
	check(noWitness, t.witnesses.Load(), "tokens made by a forgotten refresh pass again")
	check(noForks, t.forks.Load(), "forks")
	for code, count := range t.rejected {
		check(noReject, int64(count), "living sessions are rejected: "+string(code))
	}
	return broken
}

func memoryRestart(l *lab) {
	start := func() func(int) middleware.Store {
		memory := store.NewMemory()
		l.cleanup(func() { memory.Close() })
		return func(int) middleware.Store { return memory }
	}
	l.begin(start())
	l.fault(func() { l.restart(func() { l.use(start()) }) })
}

// boltRestore opens the backup of two seconds ago. With remove it removes the file first, as the documentation says.
func boltRestore(remove bool) func(*lab) {
	return func(l *lab) {
		file, backup := filepath.Join(l.newDir(), "blacklist.db"), filepath.Join(l.newDir(), "backup.db")
		var bolt *boltstore.Store
		open := func(int) middleware.Store {
			if bolt == nil {
				var err error
				bolt, err = boltstore.Open(file)
				l.must(err)
			}
			return bolt
		}
		l.cleanup(func() { bolt.Close() })
		reopen := func(change func()) {
			l.restart(func() {
				l.must(bolt.Close())
				bolt = nil
				change()
				l.use(open)
			})
		}
		l.begin(open)
		reopen(func() { l.copyFile(backup, file) })
		l.load.restored = time.Now()
		l.wait(2 * time.Second)
		l.fault(func() {
			reopen(func() {
				l.copyFile(file, backup)
				if remove {
					l.must(os.Remove(file))
				}
			})
		})
	}
}

func (l *lab) copyFile(to, from string) {
	content, err := os.ReadFile(from)
	l.must(err)
	l.must(os.WriteFile(to, content, 0o600))
}

// single breaks a single Redis.
func single(harm func(l *lab, s *server), settings ...string) func(*lab) {
	return func(l *lab) {
		s := l.redis(settings...)
		l.begin(l.on(s))
		l.fault(func() { harm(l, s) })
	}
}

func flush(_ *lab, s *server)   { s.do("FLUSHALL") }
func restart(_ *lab, s *server) { s.kill(); s.start() }

// redisRestore loads the snapshot of two seconds ago.
func redisRestore(l *lab, s *server) {
	s.do("SAVE")
	l.load.restored = time.Now()
	l.wait(2 * time.Second)
	l.load.faultAt = time.Now()
	restart(l, s)
}

// redisRestoreAndFlush empties the restored Redis, as the documentation says.
func redisRestoreAndFlush(l *lab, s *server) {
	redisRestore(l, s)
	s.do("FLUSHALL")
}

func freeze(l *lab, s *server) {
	s.freeze()
	l.wait(3 * time.Second)
	s.thaw()
}

// failedOver waits until a replica has become the primary.
func (l *lab) failedOver(replicas []*server) {
	l.until("a replica is the primary", func() bool {
		for _, s := range replicas {
			if s.says("role:master", "INFO", "replication") {
				return true
			}
		}
		return false
	})
}

// sentinelKill kills the primary. It comes back without its records, some time after a replica has taken over.
func sentinelKill(back time.Duration, settings ...string) func(*lab) {
	return func(l *lab) {
		s := l.sentinelSet(2, settings...)
		l.begin(s.store(l, 0))
		l.fault(func() {
			s.redis[0].kill()
			l.failedOver(s.redis[1:])
			l.wait(back)
			s.redis[0].start()
		})
	}
}

// sentinelBehind loses the machine of the primary, and what its replicas have not received.
func sentinelBehind(wait int) func(*lab) {
	return func(l *lab) {
		s := l.sentinelSet(2)
		l.begin(s.store(l, wait))
		l.fault(func() {
			s.hold(0, 1, true)
			s.hold(0, 2, true)
			l.wait(1500 * time.Millisecond)
			s.redis[0].kill()
			l.failedOver(s.redis[1:])
			s.hold(0, 1, false)
			s.hold(0, 2, false)
		})
	}
}

// partition isolates the host of the primary, with its Sentinel and one of the Auths.
func partition(replicas, wait int, settings ...string) func(*lab) {
	return func(l *lab) {
		s := l.sentinelSet(replicas, settings...)
		l.begin(s.store(l, wait))
		l.load.isolated = true
		l.fault(func() {
			s.isolate(true)
			l.wait(12 * time.Second)
			s.isolate(false)
		})
	}
}

// cluster breaks a Cluster of three primaries, and then three replicas.
func cluster(nodeTimeout time.Duration, harm func(l *lab, nodes []*server)) func(*lab) {
	return func(l *lab) {
		nodes := l.redisCluster(6, nodeTimeout)
		l.begin(l.on(nodes...))
		l.fault(func() { harm(l, nodes) })
	}
}

func clusterKill(l *lab, nodes []*server) {
	nodes[0].kill()
	l.failedOver(nodes[3:])
	nodes[0].start()
}

func clusterFailover(l *lab, nodes []*server) {
	for _, replica := range nodes[3:] {
		replica.do("CLUSTER", "FAILOVER")
		l.failedOver([]*server{replica})
	}
}

func clusterReshard(_ *lab, nodes []*server) {
	nodes[0].do("--cluster", "reshard", nodes[0].addr(), "--cluster-from", nodes[0].do("CLUSTER", "MYID"),
		"--cluster-to", nodes[1].do("CLUSTER", "MYID"), "--cluster-slots", "1000", "--cluster-yes")
}
