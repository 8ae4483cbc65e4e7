package redisstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

const (
	// maxPulse is the longest time between two beats.
	maxPulse = time.Second

	// A feed that ends is opened again after minRetry. If it keeps ending, the pause doubles up to maxRetry.
	minRetry, maxRetry = 50 * time.Millisecond, 10 * time.Second
)

// A feed keeps the recent answers up to date. It has a connection to each primary, on which Redis reports every change
// of a record (client tracking in broadcasting mode).
//
// Reports can be late, and a server that is frozen or cut off sends none. So the feed sends a beat on the same
// connections, and the next one after the reply. Redis sends the reports of all changes that it made in one round of its
// event loop before it reads further commands, and the replies keep their order. So the reply to a beat proves that all
// changes from before the previous beat have been reported. The beat is a GETEX, because only a primary that accepts
// writes replies to it.
//
// A feed that ends proves nothing any more, and its answers grow old. The proofs of the next one do not cover them.
type feed struct {
	client   rueidis.Client
	names    *names
	recent   *recent
	patience time.Duration // for connecting and for each beat
	stop     context.CancelFunc
	done     chan struct{}
}

// A line is the connection to one primary.
type line struct {
	conn  rueidis.DedicatedClient
	beats string // the name of the record that a beat reads
	slots string // the slots of a primary of a Cluster, as in CLUSTER NODES
}

func startFeed(client rueidis.Client, names *names, recent *recent, patience time.Duration) *feed {
	f := &feed{client: client, names: names, recent: recent, patience: patience, done: make(chan struct{})}
	var ctx context.Context
	ctx, f.stop = context.WithCancel(context.Background())
	go func() {
		defer close(f.done)
		for pause := minRetry; ctx.Err() == nil; pause = min(2*pause, maxRetry) {
			if f.follow(ctx) {
				pause = minRetry
			}
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
		}
	}()
	return f
}

// Close ends the goroutine and the connections that MaxStaleness needs. It may take as long as connecting to Redis
// does, can be called more than once, and always returns nil. A closed store still answers correctly, but asks Redis
// more often. Without MaxStaleness there is nothing to close.
func (s *Store) Close() error {
	if s.feed != nil {
		s.feed.stop()
		<-s.feed.done
	}
	return nil
}

// follow connects to all primaries and proves the recent answers until a beat fails or the servers change. It reports
// whether it has proved anything.
func (f *feed) follow(ctx context.Context) (proved bool) {
	servers := addresses(f.client)
	lines := f.openAll(ctx)
	defer closeAll(lines)
	if !f.covered(ctx, lines) {
		return false
	}
	start := time.Now()
	tick := time.NewTicker(min(f.recent.staleness/5+1, maxPulse))
	defer tick.Stop()
	for previous := start; ; {
		asked := time.Now()
		if addresses(f.client) != servers || f.beat(ctx, lines) != nil {
			return proved
		}
		if previous != start {
			f.recent.proof.Store(&proof{start: start, asked: previous})
			proved = true
		}
		previous = asked
		select {
		case <-tick.C:
		case <-ctx.Done():
			return proved
		}
	}
}

func addresses(client rueidis.Client) string {
	return strings.Join(slices.Sorted(maps.Keys(client.Nodes())), " ")
}

// openAll returns lines to all servers to which one could be opened. The others may be replicas.
func (f *feed) openAll(ctx context.Context) (lines []*line) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, node := range f.client.Nodes() {
		wg.Go(func() {
			if l, err := f.open(ctx, node); err == nil {
				mu.Lock()
				defer mu.Unlock()
				lines = append(lines, l)
			}
		})
	}
	wg.Wait()
	return lines
}

func closeAll(lines []*line) {
	var wg sync.WaitGroup
	for _, l := range lines {
		wg.Go(l.conn.Close) // waits a second for a server that is frozen
	}
	wg.Wait()
}

// beat sends a beat on all lines.
func (f *feed) beat(ctx context.Context, lines []*line) error {
	ctx, cancel := f.bounded(ctx)
	defer cancel()
	errs := make([]error, len(lines))
	var wg sync.WaitGroup
	for i, l := range lines {
		wg.Go(func() { errs[i] = l.beat(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// bounded returns a context that is canceled after f.patience. It has no deadline: on a context with a deadline,
// rueidis may read the reply by itself, and it drops the reports that come before it.
func (f *feed) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	timer := time.AfterFunc(f.patience, cancel)
	return ctx, func() {
		timer.Stop()
		cancel()
	}
}

// open connects to a server, and makes it report all changes under the prefix on this connection. It returns an error
// if the server is a replica or cannot do that.
func (f *feed) open(ctx context.Context, node rueidis.Client) (l *line, err error) {
	ctx, cancel := f.bounded(ctx)
	defer cancel()
	conn, _ := node.Dedicate()
	defer func() {
		if err != nil {
			conn.Close()
		}
	}()
	hello, err := conn.Do(ctx, conn.B().Arbitrary("HELLO").Build()).AsMap()
	if err != nil {
		return nil, fmt.Errorf("HELLO: %w", err)
	}
	version := hello["proto"]
	if n, err := version.AsInt64(); err != nil || n != 3 {
		return nil, errors.New("the connection does not use RESP3")
	}
	l = &line{conn: conn, beats: f.names.since(0)}
	if f.client.Mode() == rueidis.ClientModeCluster {
		nodes, err := conn.Do(ctx, conn.B().ClusterNodes().Build()).ToString()
		if err != nil {
			return nil, fmt.Errorf("CLUSTER NODES: %w", err)
		}
		if l.slots, err = slotsOf(nodes); err != nil {
			return nil, err
		}
		shard := slices.IndexFunc(f.slots(), l.serves)
		if shard < 0 {
			return nil, errors.New("the server has no shard of the blacklist")
		}
		l.beats = f.names.since(shard)
	}
	conn.SetOnInvalidations(f.changed)
	// The client may have turned tracking on for its own cache, in another mode.
	for _, reply := range conn.DoMulti(ctx,
		conn.B().ClientTracking().Off().Build(),
		conn.B().ClientTracking().On().Prefix().Prefix(f.names.common()).Bcast().Build()) {
		if err := reply.Error(); err != nil {
			return nil, fmt.Errorf("CLIENT TRACKING: %w", err)
		}
	}
	return l, l.beat(ctx)
}

// inspect reports whether the server reports changes.
func (f *feed) inspect(ctx context.Context, node rueidis.Client, r *report) {
	l, err := f.open(ctx, node)
	if err != nil {
		r.advise("changes are not reported, so answers are used for MaxStaleness: %w", err)
		return
	}
	l.conn.Close()
}

// beat returns an error unless the server is a primary that accepts writes, and still has the slots that it had first.
func (l *line) beat(ctx context.Context) error {
	commands := rueidis.Commands{l.conn.B().Getex().Key(l.beats).Build()}
	if l.slots != "" {
		commands = append(commands, l.conn.B().ClusterNodes().Build())
	}
	replies := l.conn.DoMulti(ctx, commands...)
	if _, err := text(replies[0]); err != nil {
		return fmt.Errorf("GETEX: %w", err)
	}
	if l.slots != "" {
		nodes, err := replies[1].ToString()
		if err != nil {
			return fmt.Errorf("CLUSTER NODES: %w", err)
		}
		if slots, err := slotsOf(nodes); err != nil || slots != l.slots {
			return errMoving
		}
	}
	return nil
}

// changed is called with the names of records that have changed, or with nil if all of them may have: Redis was
// flushed, or the connection is lost.
func (f *feed) changed(names []rueidis.RedisMessage) {
	for _, message := range names {
		name, _ := message.ToString()
		if shard, key, ok := f.names.parse(name); ok && key == "" {
			f.recent.forgetShard(shard) // its since has changed
		} else if ok {
			f.recent.forget(key)
		}
	}
	if names == nil {
		for shard := range shards {
			f.recent.forgetShard(shard)
		}
	}
}

// errMoving ends a feed while a Cluster moves slots. The records of a slot that is being moved are at two servers, and
// a record that is made at the new one does not concern the old one.
var errMoving = errors.New("slots are being moved")

// slotsOf returns the slots of the server that replied to CLUSTER NODES, as in the reply. It returns an error if the
// server has none, like a replica, or is sending or receiving one.
func slotsOf(nodes string) (string, error) {
	for node := range strings.Lines(nodes) {
		// id, address, flags, primary, ping, pong, epoch, state of the link, and the slots, such as 0-99 200 [300->-id]
		fields := strings.Fields(node)
		if len(fields) < 9 || !slices.Contains(strings.Split(fields[2], ","), "myself") {
			continue
		}
		slots := strings.Join(fields[8:], " ")
		if strings.Contains(slots, "[") {
			return "", errMoving
		}
		return slots, nil
	}
	return "", errors.New("the server has no slots")
}

// serves reports whether the server has the slot.
func (l *line) serves(slot uint16) bool {
	for slots := range strings.FieldsSeq(l.slots) {
		first, last, isRange := strings.Cut(slots, "-")
		if !isRange {
			last = first
		}
		from, err1 := strconv.Atoi(first)
		to, err2 := strconv.Atoi(last)
		if err1 == nil && err2 == nil && from <= int(slot) && int(slot) <= to {
			return true
		}
	}
	return false
}

// slots returns the slots of all shards.
func (f *feed) slots() []uint16 {
	slots := make([]uint16, shards)
	for shard := range slots {
		command := f.client.B().Getex().Key(f.names.since(shard)).Build()
		slots[shard] = command.Slot()
	}
	return slots
}

// covered reports whether there are lines to all primaries.
func (f *feed) covered(ctx context.Context, lines []*line) bool {
	if f.client.Mode() != rueidis.ClientModeCluster {
		return len(lines) > 0
	}
	for shard, slot := range f.slots() {
		if !slices.ContainsFunc(lines, func(l *line) bool { return l.serves(slot) }) {
			// A question that is redirected makes the client look for new servers.
			ctx, cancel := f.bounded(ctx)
			defer cancel()
			_ = f.client.Do(ctx, f.client.B().Getex().Key(f.names.since(shard)).Build())
			return false
		}
	}
	return true
}
