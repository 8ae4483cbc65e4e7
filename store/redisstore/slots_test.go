package redisstore

import (
	"errors"
	"hash/crc32"
	"strings"
	"testing"
)

func TestSlotsOf(t *testing.T) {
	const others = "07c3 127.0.0.1:30004@31004 master - 0 1426238317239 4 connected 9000-9999\n"
	for _, test := range []struct {
		name, myself string
		want         string
		moving       bool
	}{
		{"primary", "e7d1 127.0.0.1:30001@31001,host myself,master - 0 0 1 connected 0-5460 7000", "0-5460 7000", false},
		{"primary that is suspected", "e7d1 :30001@31001 myself,master,fail? - 0 0 1 connected 0-5460", "0-5460", false},
		{"sends a slot", "e7d1 127.0.0.1:30001@31001 myself,master - 0 0 1 connected 0-5460 [93->-292f]", "", true},
		{"receives a slot", "e7d1 127.0.0.1:30001@31001 myself,master - 0 0 1 connected 0-5460 [93-<-292f]", "", true},
		{"receives its first slot", "e7d1 127.0.0.1:30001@31001 myself,master - 0 0 1 connected [93-<-292f]", "", true},
		{"has no slots", "e7d1 127.0.0.1:30001@31001 myself,master - 0 0 1 connected", "", false},
		{"replica", "e7d1 127.0.0.1:30001@31001 myself,slave 07c3 0 0 1 connected", "", false},
	} {
		for _, reply := range []string{test.myself + "\n" + others, others + test.myself + "\n", others + test.myself} {
			got, err := slotsOf(reply)
			if got != test.want || (err == nil) != (test.want != "") || errors.Is(err, errMoving) != test.moving {
				t.Errorf("%s: slotsOf = %q, %v, want %q", test.name, got, err, test.want)
			}
		}
	}
	if slots, err := slotsOf(others); err == nil {
		t.Errorf("slotsOf a reply without myself = %q", slots)
	}
}

func TestServes(t *testing.T) {
	l := &line{slots: "0 5-7 100-16383"}
	for slot, want := range map[uint16]bool{0: true, 1: false, 4: false, 5: true, 6: true, 7: true, 8: false, 99: false, 100: true, 16383: true} {
		if l.serves(slot) != want {
			t.Errorf("serves(%d) = %v, want %v", slot, !want, want)
		}
	}
}

func TestNamesParse(t *testing.T) {
	n, err := newNames("app:")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"key", "s:1abc-{}:since", "\x00\xff", strings.Repeat("long", 1000)} {
		if shard, got, ok := n.parse(n.of(key)); shard != shardOf(key) || got != key || !ok {
			t.Errorf("parse(%q) = %d, %q, %v", n.of(key), shard, got, ok)
		}
	}
	for _, shard := range []int{0, 1, shards - 1} {
		if got, key, ok := n.parse(n.since(shard)); got != shard || key != "" || !ok {
			t.Errorf("parse(%q) = %d, %q, %v", n.since(shard), got, key, ok)
		}
	}
	for _, other := range []string{"", "app:", "app:{", "app:{000}", "app:{400}a2V5", "app:{000a2V5", "app:{xyz}a2V5", "app:{000}:other", "app:{000}a b", "other:{000}a2V5"} {
		if shard, key, ok := n.parse(other); ok {
			t.Errorf("parse(%q) = %d, %q, want it to be none of ours", other, shard, key)
		}
	}
}

// TestShardOf compares with the standard CRC-32: the names of the records must never change.
func TestShardOf(t *testing.T) {
	for _, key := range []string{"", "key", "u:alice", strings.Repeat("\xff\x00", 100)} {
		if got, want := shardOf(key), int(crc32.ChecksumIEEE([]byte(key))%1024); got != want {
			t.Errorf("shardOf(%q) = %d, want %d", key, got, want)
		}
	}
}
