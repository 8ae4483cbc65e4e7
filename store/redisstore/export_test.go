package redisstore

import "time"

// PlantClock makes the store believe that Redis's clock is ahead of this process's.
func (s *Store) PlantClock(ahead time.Duration) {
	now := time.Now()
	s.clock.Store(&reading{micros: now.Add(ahead).UnixMicro(), arrived: now})
}
