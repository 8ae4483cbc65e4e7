package redisstore

import (
	"encoding/base64"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

const (
	defaultPrefix = "ginrefresh:"

	// shards is the number of parts of the blacklist, each of which has its own since. All records of a shard are in
	// one slot of a Cluster. The slots of the hash tags {000} to {3ff} all differ, and each of 50 primaries has 17 to
	// 23 of them.
	shards = 1024
)

// names makes the names of the keys in Redis: the prefix, the hash tag of the key's shard, and the key in base64url.
type names struct {
	tagged [shards]string // the prefix and the hash tag of each shard
}

// newNames returns the names with the given prefix. A brace in the prefix could take the place of the hash tags.
func newNames(prefix string) (*names, error) {
	if prefix == "" {
		prefix = defaultPrefix
	}
	if strings.ContainsAny(prefix, "{}") {
		return nil, errors.New("redisstore: Prefix has a brace: Redis would take it for a hash tag")
	}
	n := new(names)
	for shard := range n.tagged {
		n.tagged[shard] = fmt.Sprintf("%s{%03x}", prefix, shard)
	}
	return n, nil
}

// shardOf returns the shard of the key. Every process and every later version must agree on it.
func shardOf(key string) int {
	sum, table := ^uint32(0), crc32.IEEETable // like crc32.ChecksumIEEE, but without a copy of the key
	for i := range len(key) {
		sum = table[byte(sum)^key[i]] ^ sum>>8
	}
	return int(^sum % shards)
}

func (n *names) of(key string) string {
	return n.tagged[shardOf(key)] + base64.RawURLEncoding.EncodeToString([]byte(key))
}

// since returns the name of the shard's since. It differs from the names of all keys, because base64url has no colon.
func (n *names) since(shard int) string {
	return n.tagged[shard] + ":since"
}

// sincePattern returns a pattern of the names of all sinces, for an operator.
func (n *names) sincePattern() string {
	return strings.TrimSuffix(n.tagged[0], "{000}") + "{*}:since"
}

// try returns a name in the shard for trying commands. It differs from the names of all keys, like that of since.
func (n *names) try(shard int) string {
	return n.tagged[shard] + ":try"
}

// common returns the beginning of all names.
func (n *names) common() string {
	first := n.tagged[0]
	return first[:strings.IndexByte(first, '{')+1]
}

// parse returns the shard and the key of a name, "" if it is the name of the shard's since. It reports whether the name
// is one of ours.
func (n *names) parse(name string) (shard int, key string, ok bool) {
	rest, ok1 := strings.CutPrefix(name, n.common())
	tag, rest, ok2 := strings.Cut(rest, "}")
	number, err := strconv.ParseUint(tag, 16, 16)
	if !ok1 || !ok2 || err != nil || number >= shards {
		return 0, "", false
	}
	if rest == ":since" {
		return int(number), "", true
	}
	decoded, err := base64.RawURLEncoding.DecodeString(rest)
	return int(number), string(decoded), err == nil && rest != ""
}
