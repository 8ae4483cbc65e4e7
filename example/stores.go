package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
	"github.com/ginrefresh/ginrefresh/store/boltstore"
	"github.com/ginrefresh/ginrefresh/store/redisstore"
)

// openStore opens the store that the -store flag names: memory, bolt:FILE, or the URL of a Redis.
func openStore(s settings, log *slog.Logger) (middleware.Store, func() error, error) {
	scheme, rest, _ := strings.Cut(s.store, ":")
	switch scheme {
	case "memory":
		memory := store.NewMemory()
		return memory, memory.Close, nil
	case "bolt":
		bolt, err := boltstore.Open(rest)
		if err != nil {
			return nil, nil, err
		}
		return bolt, bolt.Close, nil
	case "redis", "rediss":
		return openRedis(s, log)
	}
	return nil, nil, fmt.Errorf("example: unknown -store %q: use memory, bolt:FILE or redis://HOST:PORT", s.store)
}

// openRedis connects to a Redis server or Cluster. The URL may have more addresses: redis://HOST:PORT?addr=HOST:PORT&addr=HOST:PORT.
func openRedis(s settings, log *slog.Logger) (middleware.Store, func() error, error) {
	options, err := rueidis.ParseURL(s.store)
	if err != nil {
		return nil, nil, fmt.Errorf("example: -store: %w", err)
	}
	options.DisableCache = true // the store does not use the client's cache: with MaxStaleness it keeps its own
	client, err := rueidis.NewClient(options)
	if err != nil {
		return nil, nil, fmt.Errorf("example: -store: %w", err)
	}
	blacklist, err := redisstore.New(client, redisstore.Options{MaxStaleness: s.maxStaleness})
	if err != nil {
		client.Close()
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	switch err := blacklist.Check(ctx); {
	case errors.Is(err, redisstore.ErrAdvice) || errors.Is(err, redisstore.ErrUnchecked):
		log.Info("the configuration of this Redis", "advice", err)
	case err != nil:
		log.Warn("this Redis can lose revocations, or fail", "reason", err)
	}
	closeAll := func() error {
		defer client.Close()
		return blacklist.Close()
	}
	return blacklist, closeAll, nil
}
