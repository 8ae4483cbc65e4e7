//go:build unix

package redistest

import (
	"fmt"
	"strconv"
	"testing"
)

// StartCluster starts a cluster of n primaries without replicas, and returns a function that waits until it serves all
// slots. A new node refuses commands for two seconds, in which a test can do something else.
func StartCluster(t testing.TB, n int) (servers []*Server, wait func()) {
	t.Helper()
	const slots = 16384
	servers = make([]*Server, n)
	for i := range servers {
		servers[i] = Start(t, "--cluster-enabled", "yes")
	}
	for i, s := range servers {
		s.mustDo("CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(i*slots/n), strconv.Itoa((i+1)*slots/n-1))
		s.mustDo("CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
	}
	for _, s := range servers[1:] {
		s.mustDo("CLUSTER", "MEET", "127.0.0.1", strconv.Itoa(servers[0].port))
	}
	return servers, func() {
		t.Helper()
		for _, s := range servers {
			s.until("the cluster is incomplete", func() bool {
				return s.says("cluster_state:ok", "CLUSTER", "INFO") && s.says(fmt.Sprintf("cluster_known_nodes:%d", n), "CLUSTER", "INFO")
			})
		}
	}
}

// StartClusterReplica adds a replica of the primary to its cluster, and waits until it has the records of the primary.
// Call it when the cluster serves all slots.
func StartClusterReplica(t testing.TB, primary *Server) *Server {
	t.Helper()
	replica := Start(t, "--cluster-enabled", "yes")
	replica.mustDo("CLUSTER", "MEET", "127.0.0.1", strconv.Itoa(primary.port))
	id := primary.Do("CLUSTER", "MYID")
	replica.until("it does not know its primary", func() bool { return replica.Do("CLUSTER", "REPLICATE", id) == "+OK" })
	replica.untilReplica()
	primary.until("it does not offer its replica to clients", func() bool { return primary.offers(replica.port) })
	return replica
}

// offers reports whether CLUSTER SLOTS lists a node with the port. A new replica is not listed before its first
// heartbeat.
func (s *Server) offers(port int) bool {
	return s.Do("EVAL", `
		for _, range in ipairs(redis.call('CLUSTER', 'SLOTS')) do
			for i = 3, #range do
				if range[i][2] == tonumber(ARGV[1]) then return 1 end
			end
		end
		return 0`, "0", strconv.Itoa(port)) == ":1"
}
