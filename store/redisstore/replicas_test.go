//go:build unix

package redisstore_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

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

// TestReplicasDoNotAnswer uses clients that send commands to replicas. If they send only those that a replica would answer,
// none is sent. If they send all of them, the replica refuses.
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
