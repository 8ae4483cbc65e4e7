package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// masterSet is the name of the primary and its replicas. Each host has an Auth and a Sentinel as well.
const masterSet = "blacklist"

// A sentinelSet is a primary on host 0, replicas on the next hosts, and a Sentinel on each of the three hosts.
type sentinelSet struct {
	*network
	redis     []*server
	sentinels []string // addresses
}

func (l *lab) sentinelSet(replicas int, settings ...string) *sentinelSet {
	s := &sentinelSet{network: l.newNetwork()}
	primary := ""
	for i := range 1 + replicas {
		port := l.freePort(s.host(i))
		args := append([]string{"--replica-announce-ip", s.host(i), "--replica-announce-port", strconv.Itoa(port)}, settings...)
		if i == 0 {
			primary = fmt.Sprintf("%s %d", s.host(0), port)
		} else {
			args = append(args, "--replicaof", primary)
		}
		redis := l.redisAt(s.host(i), args...)
		l.proxy(s.network, i, port, redis.port)
		s.redis = append(s.redis, redis)
	}
	var sentinels []*server
	for i := range servers {
		sentinels = append(sentinels, l.sentinel(s, i, primary))
	}
	for _, redis := range s.redis[1:] {
		l.until("the replica follows", func() bool { return redis.says("master_link_status:up", "INFO", "replication") })
	}
	for _, sentinel := range sentinels {
		l.until("the Sentinels know everything", func() bool {
			return sentinel.says(fmt.Sprintf("num-slaves\n%d\n", replicas), "SENTINEL", "MASTER", masterSet) &&
				sentinel.says("OK 3 usable", "SENTINEL", "CKQUORUM", masterSet)
		})
	}
	return s
}

// sentinel starts a Sentinel on a host.
func (l *lab) sentinel(s *sentinelSet, host int, primary string) *server {
	announced := l.freePort(s.host(host))
	sentinel := &server{lab: l, ip: s.host(host), port: l.freePort(s.host(host)), dir: l.newDir()}
	file := filepath.Join(sentinel.dir, "sentinel.conf")
	l.must(os.WriteFile(file, fmt.Appendf(nil, `
port %[1]d
bind %[2]s
bind-source-addr %[2]s
dir %[3]s
sentinel announce-ip %[2]s
sentinel announce-port %[4]d
sentinel monitor %[5]s %[6]s 2
sentinel down-after-milliseconds %[5]s 2000
sentinel failover-timeout %[5]s 6000
`, sentinel.port, sentinel.ip, sentinel.dir, announced, masterSet, primary), 0o600))
	sentinel.args = []string{file, "--sentinel"}
	l.cleanup(sentinel.kill)
	sentinel.start()
	l.proxy(s.network, host, announced, sentinel.port)
	s.sentinels = append(s.sentinels, net.JoinHostPort(sentinel.ip, strconv.Itoa(announced)))
	return sentinel
}

// store returns a store for the Auth on a host.
func (s *sentinelSet) store(l *lab, replicas int) func(host int) middleware.Store {
	return func(host int) middleware.Store {
		dialer := net.Dialer{Timeout: time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(s.host(authHost(host)))}}
		return l.redisStore(rueidis.ClientOption{
			InitAddress: append([]string{s.sentinels[host]}, s.sentinels...),
			Dialer:      dialer,
			Sentinel:    rueidis.SentinelOption{MasterSet: masterSet, Dialer: dialer, TopologyRefreshInterval: 5 * time.Second},
		}, replicas)
	}
}
