package redisstore

import (
	"time"

	"github.com/ginrefresh/ginrefresh/store/internal/deadline"
)

// SetClock makes the store believe that the clock of Redis is ahead of the clock of this process.
func (s *Store) SetClock(ahead time.Duration) {
	now := time.Now()
	s.clock.Store(&deadline.Reading{Micros: now.Add(ahead).UnixMicro(), Arrived: now})
}

// SetPatience sets the time limit of calls whose context has no deadline, and returns the previous one.
func (s *Store) SetPatience(d time.Duration) (previous time.Duration) {
	previous, s.patience = s.patience, d
	return previous
}

// Shards is the number of shards.
const Shards = shards

// ShardOf returns the shard of the key.
var ShardOf = shardOf

// Name returns the name of the key in Redis.
func (s *Store) Name(key string) string { return s.names.of(key) }
