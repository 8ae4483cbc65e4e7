//go:build unix

package redisstore_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/ginrefresh/ginrefresh/store/internal/redistest"
	"github.com/ginrefresh/ginrefresh/store/redisstore"
)

// TestNoReadIsTooStaleWhileSlotsMove moves the slots of all records of a Cluster to a new node that no client knows.
// Half of the records do not exist before their slots begin to move, so they are made at the new node. The former node
// changes nothing of them and does not report them.
func TestNoReadIsTooStaleWhileSlotsMove(t *testing.T) {
	c := newMovingCluster(t)
	existing, absent := keys("existing", 10), keys("absent", 10)
	all := append(existing, absent...)
	c.makeSinces(all)
	untilKept(t, c.reader, all...)
	first := runStress(t, stressStaleness, c.writes, existing, c.reader)
	<-time.After(300 * time.Millisecond)

	untilKept(t, c.reader, absent...)
	c.begin(all)
	second := runStress(t, stressStaleness, c.writes, absent, c.reader)
	<-time.After(1200 * time.Millisecond)
	c.move(all)
	<-time.After(500 * time.Millisecond)
	first.end()
	second.end()
	untilKept(t, c.reader, all...) // the new node is known
	third := runStress(t, stressStaleness, c.writes, keys("third", 1), c.reader)
	<-time.After(300 * time.Millisecond)
	third.untilLocal()
	third.end()
}

// TestNoReadIsTooStaleAfterSlotsMoved moves slots so fast that no beat notices it.
func TestNoReadIsTooStaleAfterSlotsMoved(t *testing.T) {
	c := newMovingCluster(t)
	absent := keys("absent", 10)
	c.makeSinces(absent)
	untilKept(t, c.reader, absent...)
	for i, key := range absent {
		c.begin(absent[i : i+1])
		c.move(absent[i : i+1])
		mustCheck(t, c.reader, key)
	}
	s := runStress(t, stressStaleness, c.writes, absent, c.reader)
	<-time.After(1200 * time.Millisecond)
	s.end()
	untilKept(t, c.reader, absent...)
}

// A movingCluster moves slots from the first nodes to the last one.
type movingCluster struct {
	t              *testing.T
	nodes          []rueidis.Client
	client         rueidis.Client // of the whole cluster
	writes, reader *redisstore.Store
}

// newMovingCluster starts three nodes with slots and one without.
func newMovingCluster(t *testing.T) *movingCluster {
	nodes, wait := redistest.StartCluster(t, 3)
	joined := redistest.Start(t, "--cluster-enabled", "yes")
	t.Parallel() // pauses until the other tests are done, and so leaves the cluster time to start
	wait()
	joined.Do("CLUSTER", "SET-CONFIG-EPOCH", "9")
	joined.Do(append([]string{"CLUSTER", "MEET"}, strings.Split(nodes[0].Addr(), ":")...)...)
	c := &movingCluster{t: t}
	for _, node := range append(nodes, joined) {
		c.nodes = append(c.nodes, dial(t, func(o *rueidis.ClientOption) { o.ForceSingleClient = true }, node.Addr()))
	}
	c.untilComplete()
	c.client = dial(t, nil, nodes[0].Addr())
	c.writes = newStore(t, dial(t, nil, nodes[0].Addr()), redisstore.Options{})
	c.reader = newStore(t, c.client, redisstore.Options{MaxStaleness: stressStaleness})
	return c
}

func (c *movingCluster) makeSinces(keys []string) {
	for _, key := range keys {
		mustGet(c.t, c.writes, key)
	}
}

func (c *movingCluster) slot(key string) int {
	command := c.client.B().Get().Key(c.reader.Name(key)).Build()
	return int(command.Slot())
}

func (c *movingCluster) do(node int, args ...string) rueidis.RedisResult {
	c.t.Helper()
	client := c.nodes[node]
	reply := client.Do(within(c.t, 10*time.Second), client.B().Arbitrary(args...).Build())
	if err := reply.Error(); err != nil {
		c.t.Fatalf("%q: %v", args, err)
	}
	return reply
}

// untilComplete waits until all nodes know each other.
func (c *movingCluster) untilComplete() {
	c.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; <-time.After(20 * time.Millisecond) {
		complete := true
		for i := range c.nodes {
			info, err := c.do(i, "CLUSTER", "INFO").ToString()
			complete = complete && err == nil && strings.Contains(info, "cluster_state:ok") &&
				strings.Contains(info, "cluster_known_nodes:"+strconv.Itoa(len(c.nodes))+"\r")
		}
		if complete {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatal("the cluster is incomplete after 20 s")
		}
	}
}

func (c *movingCluster) id(node int) string {
	id, err := c.do(node, "CLUSTER", "MYID").ToString()
	if err != nil {
		c.t.Fatal(err)
	}
	return id
}

// from returns the node that has the slot at first.
func (c *movingCluster) from(slot int) int {
	for i := 0; ; i++ {
		if slot < (i+1)*16384/(len(c.nodes)-1) {
			return i
		}
	}
}

// begin makes the nodes move the slots of the keys.
func (c *movingCluster) begin(keys []string) {
	c.t.Helper()
	to := len(c.nodes) - 1
	for _, key := range keys {
		slot := c.slot(key)
		c.do(to, "CLUSTER", "SETSLOT", strconv.Itoa(slot), "IMPORTING", c.id(c.from(slot)))
		c.do(c.from(slot), "CLUSTER", "SETSLOT", strconv.Itoa(slot), "MIGRATING", c.id(to))
	}
}

// move moves the records that are there, and ends the move of the slots.
func (c *movingCluster) move(keys []string) {
	c.t.Helper()
	to := len(c.nodes) - 1
	config, err := c.do(to, "CONFIG", "GET", "port").AsStrMap()
	if err != nil {
		c.t.Fatal(err)
	}
	for _, key := range keys {
		slot := c.slot(key)
		from := c.from(slot)
		for {
			names, err := c.do(from, "CLUSTER", "GETKEYSINSLOT", strconv.Itoa(slot), "100").AsStrSlice()
			if err != nil {
				c.t.Fatal(err)
			}
			if len(names) == 0 {
				break
			}
			c.do(from, append([]string{"MIGRATE", "127.0.0.1", config["port"], "", "0", "5000", "KEYS"}, names...)...)
		}
		c.do(to, "CLUSTER", "SETSLOT", strconv.Itoa(slot), "NODE", c.id(to))
		for i := range to {
			c.do(i, "CLUSTER", "SETSLOT", strconv.Itoa(slot), "NODE", c.id(to))
		}
	}
}
