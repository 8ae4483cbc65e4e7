package redisstore

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/rueidis"
)

const (
	// maxWaiting limits the swaps that wait for replicas, each on a connection of its own. Reads have other slots, so
	// they are answered even if no replica is.
	maxWaiting = 128

	// lateness is how long after its deadline the replies to a swap are awaited. Redis ends the wait for replicas at
	// the deadline, and then the connection can be used again. If no reply arrives at all, the connection is closed.
	lateness = time.Second

	// maxRedirects limits the redirects of a swap in a Cluster.
	maxRedirects = 3
)

// runSwapAndWait runs a swap and waits until enough replicas have it, in one round trip to the primary. WAIT waits for
// the writes of its own connection, so the connection is not shared meanwhile.
func (s *Store) runSwapAndWait(ctx context.Context, eval swapCommand, deadline time.Time) (swapReply, error) {
	ctx, cancel := context.WithDeadline(ctx, deadline.Add(lateness))
	defer cancel()
	dedicated, release := s.client.Dedicate()
	r, err := s.swapOn(ctx, dedicated, release, eval, deadline, false)
	for range maxRedirects {
		// A dedicated client of a Cluster does not follow redirects, after which nothing has changed.
		address, ask := redirect(err)
		node := s.client.Nodes()[address]
		if node == nil {
			break
		}
		dedicated, release = node.Dedicate()
		r, err = s.swapOn(ctx, dedicated, release, eval, deadline, ask)
	}
	return r, err
}

// redirect returns where a Cluster has redirected a command to, "" if nowhere, and whether to precede it with ASKING.
func redirect(err error) (address string, ask bool) {
	reply, ok := rueidis.IsRedisErr(err)
	if !ok {
		return "", false
	}
	if address, ask = reply.IsAsk(); ask {
		return address, true
	}
	address, _ = reply.IsMoved()
	return address, false
}

// swapOn runs a swap and the wait on a connection, and gives the connection back.
func (s *Store) swapOn(
	ctx context.Context, dedicated rueidis.DedicatedClient, release func(), eval swapCommand, deadline time.Time, ask bool,
) (swapReply, error) {
	b := dedicated.B()
	// A timeout of 0 would be none.
	timeout := max(1, time.Until(deadline).Milliseconds())
	commands := rueidis.Commands{
		eval(b),
		b.Wait().Numreplicas(int64(s.replicas)).Timeout(timeout).Build(),
		b.Time().Build(), // the reading in the reply to the swap is as old as the wait
	}
	if ask {
		commands = append(rueidis.Commands{b.Asking().Build()}, commands...)
	}
	replies := dedicated.DoMulti(ctx, commands...)
	replies = replies[len(replies)-3:]
	for _, reply := range replies {
		if reply.NonRedisError() != nil {
			dedicated.Close() // a reply may still arrive
			return swapReply{}, reply.NonRedisError()
		}
	}
	release()
	return s.readSwapAndWait(replies)
}

func (s *Store) readSwapAndWait(replies []rueidis.RedisResult) (swapReply, error) {
	r, err := readSwap(replies[0])
	if err != nil {
		return swapReply{}, err
	}
	if now, err := replies[2].AsIntSlice(); err == nil && len(now) == 2 {
		r.clock.Micros = now[0]*1_000_000 + now[1]
	}
	if r.verdict != swapMade {
		return r, nil
	}
	n, err := replies[1].AsInt64()
	if err == nil && n < int64(s.replicas) {
		err = fmt.Errorf("the swap was made, but %d of %d replicas had it before the deadline: a failover may undo it", n, s.replicas)
	}
	return r, err
}
