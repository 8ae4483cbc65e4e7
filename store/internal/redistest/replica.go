//go:build unix

package redistest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// StartReplica starts a replica of the primary, and waits until it has the records of the primary.
func StartReplica(t testing.TB, primary *Server, args ...string) *Server {
	t.Helper()
	replica := Start(t, append(args, "--replicaof", "127.0.0.1 "+strconv.Itoa(primary.port))...)
	replica.untilReplica()
	return replica
}

// untilReplica waits until the replica receives the writes of its primary.
func (s *Server) untilReplica() {
	s.t.Helper()
	s.until("it is not connected to its primary", func() bool { return s.says("master_link_status:up", "INFO", "replication") })
}

// StartSentinel starts a Sentinel that watches the primary under the name "primary", and waits until it knows n
// replicas.
func StartSentinel(t testing.TB, primary *Server, n int) *Server {
	t.Helper()
	config := fmt.Sprintf("sentinel monitor primary 127.0.0.1 %d 1\nsentinel down-after-milliseconds primary 1000\n", primary.port)
	file := filepath.Join(t.TempDir(), "sentinel.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	sentinel := start(t, file, "--sentinel")
	sentinel.until("it does not know the replicas", func() bool {
		return strings.Contains(sentinel.Do("INFO", "sentinel"), "slaves="+strconv.Itoa(n)+",")
	})
	return sentinel
}
