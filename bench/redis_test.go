package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"

	"github.com/ginrefresh/ginrefresh/store/redisstore"
)

// startRedis starts a redis-server on a free port of the loopback, with an append-only file, and returns its address.
func startRedis(b *testing.B) (address string) {
	b.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		b.Skip("redis-server is not installed")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	address = listener.Addr().String()
	listener.Close()
	host, port, _ := net.SplitHostPort(address)
	command := exec.Command("redis-server", "--bind", host, "--port", port, "--dir", b.TempDir(),
		"--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction")
	stdout, err := command.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := command.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if strings.Contains(lines.Text(), "Ready to accept connections") {
			go func() { _, _ = io.Copy(io.Discard, stdout) }()
			return address
		}
	}
	b.Fatal("redis-server has not started")
	return ""
}

func dial(address string) (rueidis.Client, error) {
	return rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{address}, DisableCache: true})
}

// openRedis starts a redis-server and connects to it.
func openRedis(b *testing.B) (client rueidis.Client, address string) {
	b.Helper()
	address = startRedis(b)
	client, err := dial(address)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(client.Close)
	return client, address
}

// redisInfo returns the sum of the fields that match in INFO.
func redisInfo(b *testing.B, client rueidis.Client, field string) (sum float64) {
	b.Helper()
	info, err := client.Do(context.Background(), client.B().Info().Build()).ToString()
	if err != nil {
		b.Fatal(err)
	}
	for _, match := range regexp.MustCompile(`(?m)^(?:`+field+`):([0-9.]+)`).FindAllStringSubmatch(info, -1) {
		sum += must(strconv.ParseFloat(match[1], 64))
	}
	return sum
}

// BenchmarkRedisCheck reads two absent keys, as a guarded request does, from 1, 64 and 512 goroutines: with the store,
// with the store and MaxStaleness over 1,000 sessions, and with MGET of go-redis.
func BenchmarkRedisCheck(b *testing.B) {
	client, address := openRedis(b)
	other := redis.NewClient(&redis.Options{Addr: address, PoolSize: 64})
	defer func() { _ = other.Close() }()
	store := must(redisstore.New(client, redisstore.Options{}))
	stale := must(redisstore.New(client, redisstore.Options{MaxStaleness: time.Second}))
	defer func() { _ = stale.Close() }()
	for _, goroutines := range []int{1, 64, 512} {
		run := func(name string, check func(ctx context.Context, session, subject string) error) {
			b.Run(fmt.Sprintf("%s/%d", name, goroutines), func(b *testing.B) {
				perSecond, err := inParallel(goroutines, b.N, func(i int) error {
					ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
					defer cancel()
					return check(ctx, fmt.Sprintf("s:%d", i%1000), fmt.Sprintf("u:%d", i%1000))
				})
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(perSecond, "checks/s")
			})
		}
		run("store", func(ctx context.Context, session, subject string) error {
			_, _, err := store.Get(ctx, session, subject)
			return err
		})
		run("store-MaxStaleness", func(ctx context.Context, session, subject string) error {
			if _, _, known := stale.PeekRecent(session); known {
				if _, _, known := stale.PeekRecent(subject); known {
					return nil
				}
			}
			_, _, err := stale.Get(ctx, session, subject)
			return err
		})
		run("go-redis", func(ctx context.Context, session, subject string) error {
			return other.MGet(ctx, session, subject).Err()
		})
	}
}
