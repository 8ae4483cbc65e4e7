package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/redis/rueidis"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store/redisstore"
)

// A lab is everything that a scenario starts. It is closed when the scenario ends.
type lab struct {
	ctx      context.Context
	size     size
	grace    time.Duration
	load     *load
	cleanups []func()
}

// failure is what must panics with: the scenario could not be carried out.
type failure struct{ error }

// must ends the scenario if err is not nil. Call it in the goroutine of the scenario.
func (l *lab) must(err error) {
	if err != nil {
		panic(failure{err})
	}
}

// cleanup registers a function that runs at the end. The last one runs first.
func (l *lab) cleanup(f func()) { l.cleanups = append(l.cleanups, f) }

func (l *lab) close() {
	for _, f := range slices.Backward(l.cleanups) {
		f()
	}
}

func (l *lab) newDir() string {
	dir, err := os.MkdirTemp("", "faults-")
	l.must(err)
	l.cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// wait lets the load run.
func (l *lab) wait(d time.Duration) {
	select {
	case <-time.After(d):
	case <-l.ctx.Done():
		l.must(l.ctx.Err())
	}
}

// until waits for a condition, for a minute at most.
func (l *lab) until(what string, ok func() bool) {
	for deadline := time.Now().Add(time.Minute); !ok(); l.wait(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			l.must(fmt.Errorf("not within a minute: %s", what))
		}
	}
}

// begin starts the load on Auths with the given stores, and lets it run before the fault.
func (l *lab) begin(store func(server int) middleware.Store) {
	l.use(store)
	l.load.start()
	l.wait(l.size.before)
}

// use makes the Auths, which all have the same key. If there are older ones, they are gone: the servers have restarted.
func (l *lab) use(store func(server int) middleware.Store) {
	for i := range l.load.auths {
		auth, err := middleware.New(middleware.Config{
			Keys:  []middleware.Key{{Algorithm: middleware.HS256, Key: []byte("a secret of more than thirty-two bytes")}},
			Store: store(i),
			Grace: l.grace,
		})
		l.must(err)
		l.load.auths[i] = auth
	}
}

// restart replaces stores in this process while no step is in progress.
func (l *lab) restart(change func()) {
	l.load.running.Lock()
	defer l.load.running.Unlock()
	change()
}

// fault starts the clock of the fault and lets the load run on after it.
func (l *lab) fault(harm func()) {
	l.load.faultAt = time.Now()
	harm()
	l.wait(l.size.after)
}

// redisStore returns a store with a client of its own.
func (l *lab) redisStore(o rueidis.ClientOption, replicas int) middleware.Store {
	o.DisableCache = true
	o.ConnWriteTimeout = 2 * time.Second
	client, err := rueidis.NewClient(o)
	l.must(err)
	l.cleanup(client.Close)
	s, err := redisstore.New(client, redisstore.Options{Replicas: replicas})
	l.must(err)
	return s
}

// on returns stores on a single server or on a Cluster.
func (l *lab) on(nodes ...*server) func(int) middleware.Store {
	o := rueidis.ClientOption{}
	for _, s := range nodes {
		o.InitAddress = append(o.InitAddress, s.addr())
	}
	return func(int) middleware.Store { return l.redisStore(o, 0) }
}
