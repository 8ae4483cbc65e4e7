//go:build unix

package redisstore_test

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/ginrefresh/ginrefresh/store/internal/deadline/deadlinetest"
	"github.com/ginrefresh/ginrefresh/store/internal/redistest"
	"github.com/ginrefresh/ginrefresh/store/redisstore"
	"github.com/ginrefresh/ginrefresh/store/storetest"
)

// readOnly lets a client send all commands to replicas that a replica would answer.
func readOnly(cmd rueidis.Completed) bool { return cmd.IsReadOnly() }

// everything lets a client send all commands to replicas.
func everything(rueidis.Completed) bool { return true }

// A fleet is a primary with replicas, and a way to connect to it.
type fleet struct {
	primary  *redistest.Server
	replicas []*redistest.Server
	client   func(t testing.TB, sendToReplicas func(rueidis.Completed) bool) rueidis.Client
}

// replicasSaw reports whether a replica has executed or refused the command.
func (f fleet) replicasSaw(command string) bool {
	return slices.ContainsFunc(f.replicas, func(replica *redistest.Server) bool {
		return strings.Contains(replica.Do("INFO", "commandstats"), "cmdstat_"+command+":")
	})
}

// startFleets starts a primary with two replicas for each mode of the client: a single server, Sentinel and Cluster.
func startFleets(t *testing.T) map[string]fleet {
	nodes, wait := redistest.StartCluster(t, 1)
	fleets := map[string]fleet{}

	primary := redistest.Start(t)
	replicas := []*redistest.Server{redistest.StartReplica(t, primary), redistest.StartReplica(t, primary)}
	fleets["single"] = fleet{primary, replicas, func(t testing.TB, sendToReplicas func(rueidis.Completed) bool) rueidis.Client {
		return dial(t, func(o *rueidis.ClientOption) {
			if o.SendToReplicas = sendToReplicas; sendToReplicas != nil {
				o.Standalone.ReplicaAddress = []string{replicas[0].Addr(), replicas[1].Addr()}
			}
		}, primary.Addr())
	}}

	watched := redistest.Start(t)
	others := []*redistest.Server{redistest.StartReplica(t, watched), redistest.StartReplica(t, watched)}
	sentinel := redistest.StartSentinel(t, watched, 2)
	fleets["Sentinel"] = fleet{watched, others, func(t testing.TB, sendToReplicas func(rueidis.Completed) bool) rueidis.Client {
		return dial(t, func(o *rueidis.ClientOption) {
			o.Sentinel.MasterSet, o.SendToReplicas = "primary", sendToReplicas
		}, sentinel.Addr())
	}}

	wait()
	copies := []*redistest.Server{redistest.StartClusterReplica(t, nodes[0]), redistest.StartClusterReplica(t, nodes[0])}
	fleets["Cluster"] = fleet{nodes[0], copies, func(t testing.TB, sendToReplicas func(rueidis.Completed) bool) rueidis.Client {
		return dial(t, func(o *rueidis.ClientOption) { o.SendToReplicas = sendToReplicas }, nodes[0].Addr())
	}}
	return fleets
}

// TestReplicasDoNotAnswer uses clients that send commands to replicas. If they send only those that a replica would
// answer, none is sent. If they send all of them, the replica refuses.
func TestReplicasDoNotAnswer(t *testing.T) {
	t.Parallel()
	fleets := startFleets(t)
	for name, fleet := range fleets {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t, fleet.client(t, readOnly), redisstore.Options{})
			storetest.Run(t, func(t *testing.T) storetest.Store { return s })
			for _, command := range []string{"mget", "get", "getex", "eval"} {
				if fleet.replicasSaw(command) {
					t.Errorf("a replica was sent %s", command)
				}
			}

			s = newStore(t, fleet.client(t, everything), redisstore.Options{})
			values, since, err := s.Get(within(t, 5*time.Second), "session", "subject")
			if redirects := name == "Cluster"; (err == nil) != redirects { // to the primary
				t.Errorf("Get of a replica = %q, %v, %v", values, since, err)
			}
			if !fleet.replicasSaw("getex") {
				t.Error("no replica was sent anything: the test says nothing")
			}
		})
	}
}

// TestReplicas runs the contract with swaps that wait for replicas.
func TestReplicas(t *testing.T) {
	t.Parallel()
	for name, fleet := range startFleets(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t, fleet.client(t, nil), redisstore.Options{Replicas: 2})
			storetest.Run(t, func(t *testing.T) storetest.Store { return s })
			mustSwap(t, s, "session", "", "ended")
			fleet.testFrozenReplica(t, s)
			fleet.testReadsWhileSwapsWait(t, s)
		})
	}
}

// testFrozenReplica freezes a replica. A swap that waits for it fails, even if it sets the value that the primary has
// already: the replica may not have it. session has the value "ended".
func (f fleet) testFrozenReplica(t *testing.T, both *redisstore.Store) {
	one := newStore(t, f.client(t, nil), redisstore.Options{Replicas: 1})
	frozen := f.replicas[0]
	frozen.Freeze()
	for _, swap := range [][3]string{{"session", "ended", "ended"}, {"other", "", "ended"}, {"other", "ended", "ended"}} {
		key, old, new := swap[0], swap[1], swap[2]
		done, err := both.CompareAndSwap(within(t, 300*time.Millisecond), key, old, new, inAnHour())
		if done || err == nil {
			t.Errorf("CompareAndSwap%q with a frozen replica = %v, %v, want an error", swap, done, err)
		}
	}
	if got := mustGet(t, both, "other"); got != "ended" {
		t.Errorf("the value of a swap that only one replica has is %q, want it to be readable", got)
	}
	mustSwap(t, one, "other", "ended", "ended")
	frozen.Thaw()
	mustSwap(t, both, "other", "ended", "ended")
	if done, err := both.CompareAndSwap(within(t, 5*time.Second), "other", "no", "no", inAnHour()); done || err != nil {
		t.Errorf("a lost swap = %v, %v, want false", done, err)
	}
}

// testReadsWhileSwapsWait makes more swaps than may wait at the same time, while no replica is there. Reads must be
// answered.
func (f fleet) testReadsWhileSwapsWait(t *testing.T, s *redisstore.Store) {
	for _, replica := range f.replicas {
		replica.Freeze()
	}
	var swaps sync.WaitGroup
	for i := range 600 {
		swaps.Go(func() {
			if done, err := s.CompareAndSwap(within(t, 2*time.Second), "swap "+strconv.Itoa(i), "", "1", inAnHour()); err == nil {
				t.Errorf("CompareAndSwap without a replica = %v, want an error", done)
			}
		})
	}
	waited := make(chan struct{})
	go func() { swaps.Wait(); close(waited) }()
	reads := 0
	for over := false; !over; {
		if got := mustGet(t, s, "session"); got != "ended" {
			t.Errorf("session = %q, want ended", got)
		}
		select {
		case <-waited:
			over = true
		default:
			reads++
		}
	}
	if reads < 100 {
		t.Errorf("%d reads were answered while swaps waited for replicas", reads)
	}
	for _, replica := range f.replicas {
		replica.Thaw()
	}
	mustSwap(t, s, "session", "ended", "ended")
}

// TestReplicasErrorSaysHowMany waits for one replica more than there are. The error must come before the deadline of
// the connection and name the reason.
func TestReplicasErrorSaysHowMany(t *testing.T) {
	t.Parallel()
	primary := redistest.Start(t)
	redistest.StartReplica(t, primary)
	s := connect(t, primary, redisstore.Options{Replicas: 2})
	s.SetClock(0)
	ctx := deadlinetest.Silent(context.Background(), time.Now().Add(time.Second)) // so that the reply is not too late
	done, err := s.CompareAndSwap(ctx, "key", "", "1", inAnHour())
	if done || err == nil || !strings.Contains(err.Error(), "of 2 replicas had it") {
		t.Errorf("CompareAndSwap = %v, %v, want an error with the number of replicas", done, err)
	}
}

// TestReplicasClock delays a swap by a replica. Later swaps with less time than that must not take a second round trip:
// the reading of the clock of Redis must not be as old as the wait.
func TestReplicasClock(t *testing.T) {
	t.Parallel()
	primary := redistest.Start(t)
	replica := redistest.StartReplica(t, primary)
	client := dial(t, nil, primary.Addr())
	s := newStore(t, client, redisstore.Options{Replicas: 1})
	mustSwap(t, s, "key", "", "1")
	replica.Freeze()
	time.AfterFunc(time.Second, replica.Thaw)
	mustSwap(t, s, "key", "1", "2")
	before := evals(t, client)
	if done, err := s.CompareAndSwap(within(t, 900*time.Millisecond), "key", "2", "3", inAnHour()); !done || err != nil {
		t.Errorf("CompareAndSwap = %v, %v", done, err)
	}
	if n := evals(t, client) - before; n != 1 {
		t.Errorf("a swap took %d round trips, want 1", n)
	}
}

// R10a: a primary is frozen, receives swaps that wait for replicas, and is resumed after their deadline.
func TestR10a_ReplicasOfAFrozenPrimary(t *testing.T) {
	t.Parallel()
	primary := redistest.Start(t)
	redistest.StartReplica(t, primary)
	other := dial(t, nil, primary.Addr())
	s := connect(t, primary, redisstore.Options{Replicas: 1})
	mustSwap(t, s, "key", "", "old")
	swapWhileFrozen(t, primary, other, s, 200)
}

// TestReplicasFollowRedirects moves a slot of a Cluster. A swap that waits for replicas must find its new primary,
// during the move and after it.
func TestReplicasFollowRedirects(t *testing.T) {
	nodes, wait := redistest.StartCluster(t, 2)
	t.Parallel() // pauses until the other tests are done, and so leaves the cluster time to start
	wait()
	for _, node := range nodes {
		redistest.StartClusterReplica(t, node)
	}
	const key, tag = "key", "{3a9}"
	slot := strings.TrimPrefix(nodes[0].Do("CLUSTER", "KEYSLOT", tag), ":")
	from, to := nodes[0], nodes[1]
	if n, _ := strconv.Atoi(slot); n >= 16384/2 {
		from, to = to, from
	}
	clients := map[string]rueidis.Client{}
	for _, step := range []string{"before", "moving", "moved"} {
		clients[step] = dial(t, nil, nodes[0].Addr()) // knows the slot's first primary
	}
	swap := func(step, old, new string) {
		t.Helper()
		mustSwap(t, newStore(t, clients[step], redisstore.Options{Replicas: 1}), key, old, new)
	}
	swap("before", "", "1")
	fromID, toID := from.Do("CLUSTER", "MYID"), to.Do("CLUSTER", "MYID")
	to.Do("CLUSTER", "SETSLOT", slot, "IMPORTING", fromID)
	from.Do("CLUSTER", "SETSLOT", slot, "MIGRATING", toID)
	for _, name := range []string{"ginrefresh:" + tag + "a2V5", "ginrefresh:" + tag + ":since"} {
		host, port, _ := strings.Cut(to.Addr(), ":")
		from.Do("MIGRATE", host, port, name, "0", "5000")
	}
	swap("moving", "1", "2")
	to.Do("CLUSTER", "SETSLOT", slot, "NODE", toID)
	from.Do("CLUSTER", "SETSLOT", slot, "NODE", toID)
	swap("moved", "2", "3")
	swap("before", "3", "4")
	if got := mustGet(t, newStore(t, clients["before"], redisstore.Options{}), key); got != "4" {
		t.Errorf("key = %q, want 4", got)
	}
}
