//go:build unix

package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"go.uber.org/goleak"

	"github.com/ginrefresh/ginrefresh/store/internal/redistest"
	"github.com/ginrefresh/ginrefresh/store/redisstore"
)

// A stress writes through one store and reads through others, like a guard in another process. It checks that no read
// returns a value that was overwritten by an answered write more than the maximum staleness before the read began.
type stress struct {
	t         *testing.T
	staleness time.Duration
	writes    *redisstore.Store
	records   []*watchedRecord
	writing   sync.RWMutex // locked to pause the writers

	stop            chan struct{}
	wg              sync.WaitGroup
	reads, local    atomic.Int64
	stalest, writer atomic.Int64 // stalest in nanoseconds; writer counts the answered writes
}

// A watchedRecord has the history of a record.
type watchedRecord struct {
	key    string
	mu     sync.Mutex
	values []watchedValue // the oldest first
}

type watchedValue struct {
	value    string
	answered time.Time // zero if the outcome of the write is unknown
}

// runStress starts a stress of records with the given keys. The caller harms the servers and then calls end.
func runStress(t *testing.T, staleness time.Duration, writes *redisstore.Store, keys []string, readers ...*redisstore.Store) *stress {
	s := &stress{t: t, staleness: staleness, writes: writes, stop: make(chan struct{})}
	for _, key := range keys {
		r := &watchedRecord{key: key, values: []watchedValue{{}}}
		s.records = append(s.records, r)
		s.wg.Go(func() { s.write(r) })
	}
	for _, reader := range readers {
		for range 2 {
			s.wg.Go(func() { s.read(reader) })
		}
	}
	t.Cleanup(s.end)
	return s
}

func (s *stress) end() {
	s.t.Helper()
	if s.ended() {
		return
	}
	close(s.stop)
	s.wg.Wait()
	s.t.Logf("proof: %d writes, %d reads, %d of them local", s.writer.Load(), s.reads.Load(), s.local.Load())
	s.t.Log("the stalest read:", time.Duration(s.stalest.Load()))
}

// untilLocal waits until a read was local: without one, the test is meaningless.
func (s *stress) untilLocal() {
	s.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); s.local.Load() == 0; <-time.After(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatal("no read was local")
		}
	}
}

func (s *stress) ended() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

// write counts up in a record. On a busy machine it writes less often, so that readers still find records that have not
// changed since they were read.
func (s *stress) write(r *watchedRecord) {
	for n := 1; !s.ended(); n++ {
		start := time.Now()
		s.writing.RLock()
		old, ok := s.current(r)
		if ok {
			r.mu.Lock()
			r.values = append(r.values, watchedValue{value: strconv.Itoa(n)})
			r.mu.Unlock()
			done, err := s.writes.CompareAndSwap(briefly(500*time.Millisecond), r.key, old, strconv.Itoa(n), inAnHour())
			if done && err == nil {
				s.answered(r)
				s.writer.Add(1)
			}
		}
		s.writing.RUnlock()
		<-time.After(20*time.Millisecond + min(4*time.Since(start), 200*time.Millisecond))
	}
}

// briefly returns a context that ends after d.
func briefly(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	context.AfterFunc(ctx, cancel)
	return ctx
}

// current returns the value of the record. If the last write has failed, it asks.
func (s *stress) current(r *watchedRecord) (string, bool) {
	r.mu.Lock()
	last := r.values[len(r.values)-1]
	r.mu.Unlock()
	if !last.answered.IsZero() {
		return last.value, true
	}
	// A write of which the outcome is unknown may still take effect until its deadline, half a second after it was
	// sent. Then the next swap is lost, and the value is asked for again.
	values, _, err := s.writes.Get(briefly(500*time.Millisecond), r.key)
	if err != nil {
		return "", false
	}
	return values[0], true
}

// answered notes that the last write was answered.
func (s *stress) answered(r *watchedRecord) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.values[len(r.values)-1].answered = time.Now()
}

// emptied notes that all records were lost just now. The writers must be paused.
func (s *stress) emptied() {
	for _, r := range s.records {
		r.mu.Lock()
		r.values = append(r.values, watchedValue{answered: time.Now()})
		r.mu.Unlock()
	}
}

func (s *stress) read(from *redisstore.Store) {
	for i := 0; !s.ended(); i++ {
		r := s.records[i%len(s.records)]
		begin := time.Now()
		value, _, known := from.PeekRecent(r.key)
		if known {
			s.local.Add(1)
		} else {
			values, _, err := from.Get(briefly(100*time.Millisecond), r.key)
			if err != nil {
				continue
			}
			value = values[0]
		}
		s.reads.Add(1)
		stale := r.staleness(value, begin)
		for old := s.stalest.Load(); int64(stale) > old && !s.stalest.CompareAndSwap(old, int64(stale)); old = s.stalest.Load() {
		}
		if stale > s.staleness && s.t.Failed() == false {
			s.t.Errorf("%s = %q (local: %v), which was overwritten %v before the read, more than %v", r.key, value, known, stale, s.staleness)
		}
		if i%10 == 0 {
			<-time.After(time.Millisecond) // leave some time to the others
		}
	}
}

// staleness returns how long before begin the value was overwritten, or a negative number.
func (r *watchedRecord) staleness(value string, begin time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, v := range slices.Backward(r.values) {
		if v.value != value {
			continue
		}
		for _, later := range r.values[i+1:] {
			if !later.answered.IsZero() {
				return begin.Sub(later.answered)
			}
		}
		break
	}
	return -1
}

func keys(name string, n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = name + " " + strconv.Itoa(i)
	}
	return keys
}

const stressStaleness = 300 * time.Millisecond

// TestNoReadIsTooStale harms a server and the connections to it in many ways.
func TestNoReadIsTooStale(t *testing.T) {
	for name, harm := range map[string]func(*stress, *redistest.Server, *relay){
		"nothing": func(*stress, *redistest.Server, *relay) { <-time.After(time.Second) },
		"freezes": func(_ *stress, server *redistest.Server, _ *relay) {
			for range 5 {
				server.Freeze()
				<-time.After(700 * time.Millisecond)
				server.Thaw()
				<-time.After(300 * time.Millisecond)
			}
		},
		"kill": func(_ *stress, server *redistest.Server, _ *relay) {
			server.Kill()
			<-time.After(200 * time.Millisecond)
			server.Restart()
			<-time.After(time.Second)
		},
		"flush": func(s *stress, server *redistest.Server, _ *relay) {
			s.writing.Lock()
			server.Do("FLUSHALL")
			s.emptied()
			<-time.After(stressStaleness * 2)
			s.writing.Unlock()
		},
		"replies held back": func(_ *stress, _ *redistest.Server, r *relay) {
			for range 3 {
				r.hold(false, true)
				<-time.After(800 * time.Millisecond)
				r.hold(false, false)
				<-time.After(300 * time.Millisecond)
			}
		},
		"requests held back": func(_ *stress, _ *redistest.Server, r *relay) {
			r.hold(true, false)
			<-time.After(800 * time.Millisecond)
			r.hold(false, false)
			<-time.After(300 * time.Millisecond)
		},
		"replies held back and reset": func(_ *stress, _ *redistest.Server, r *relay) {
			r.hold(false, true)
			<-time.After(800 * time.Millisecond)
			r.reset()
			<-time.After(300 * time.Millisecond)
			r.hold(false, false)
			<-time.After(time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, "--appendonly", "yes")
			r := newRelay(t, server.Addr())
			writes := connect(t, server, redisstore.Options{})
			reader := newStore(t, dial(t, nil, r.addr()), redisstore.Options{MaxStaleness: stressStaleness})
			mustGet(t, writes, "key")
			untilKept(t, reader, "key")
			s := runStress(t, stressStaleness, writes, keys("key", 20), reader)
			<-time.After(300 * time.Millisecond)
			harm(s, server, r)
			<-time.After(300 * time.Millisecond)
			s.untilLocal()
			s.end()
			untilKept(t, reader, "key")
		})
	}
}

// TestNoReadIsTooStaleAfterFailover makes a replica the primary. The reader's connections to the former primary stay
// open.
func TestNoReadIsTooStaleAfterFailover(t *testing.T) {
	t.Parallel()
	primary := redistest.Start(t, "--appendonly", "yes")
	replica := redistest.Start(t, "--appendonly", "yes")
	follow := func(s, of *redistest.Server) {
		s.Do(append([]string{"REPLICAOF"}, strings.Split(of.Addr(), ":")...)...)
	}
	follow(replica, primary)
	r, w := newRelay(t, primary.Addr()), newRelay(t, primary.Addr())
	writes := newStore(t, dial(t, nil, w.addr()), redisstore.Options{})
	reader := newStore(t, dial(t, nil, r.addr()), redisstore.Options{MaxStaleness: stressStaleness})
	mustGet(t, writes, "key")
	untilKept(t, reader, "key")
	s := runStress(t, stressStaleness, writes, keys("key", 20), reader)
	<-time.After(300 * time.Millisecond)

	s.writing.Lock()
	untilReplicated(t, primary)
	replica.Do("REPLICAOF", "NO", "ONE")
	follow(primary, replica)
	w.redirect(replica.Addr())
	w.reset()
	s.writing.Unlock()
	<-time.After(time.Second) // the reader can only ask the former primary, which refuses
	r.redirect(replica.Addr())
	r.reset()
	<-time.After(time.Second)

	s.writing.Lock() // back again, and the primary dies
	untilReplicated(t, replica)
	primary.Do("REPLICAOF", "NO", "ONE")
	r.redirect(primary.Addr())
	w.redirect(primary.Addr())
	replica.Kill()
	s.writing.Unlock()
	<-time.After(time.Second)
	s.untilLocal()
	s.end()
	untilKept(t, reader, "key")
}

// untilReplicated waits until a replica has everything that its primary has.
func untilReplicated(t testing.TB, primary *redistest.Server) {
	t.Helper()
	conn, err := net.Dial("tcp", primary.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	buf := make([]byte, 64)
	for deadline := time.Now().Add(20 * time.Second); ; {
		// WAIT is about the writes of this connection.
		if _, err := conn.Write([]byte("SET probe 1\r\nWAIT 1 500\r\n")); err != nil {
			t.Fatal(err)
		}
		text := ""
		for strings.Count(text, "\r\n") < 2 {
			n, err := conn.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			text += string(buf[:n])
		}
		if text == "+OK\r\n:1\r\n" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no replica after 20 s: %q", text)
		}
	}
}

// TestAnswerIsOvertaken delays an answer until a change that it lacks has been reported. It must not be kept.
func TestAnswerIsOvertaken(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	r := newRelay(t, server.Addr())
	there := connect(t, server, redisstore.Options{})
	here := newStore(t, dial(t, nil, r.addr()), redisstore.Options{MaxStaleness: time.Hour})
	overtaken := 0
	for i := range 20 {
		key := strconv.Itoa(i)
		mustSwap(t, there, key, "", "old")
		untilKept(t, here, "marker")
		r.holdAnswers(true)
		got := make(chan string)
		go func() {
			values, _, err := here.Get(within(t, 5*time.Second), key)
			got <- fmt.Sprint(values, err)
		}()
		r.untilHeld()
		mustSwap(t, there, key, "old", "new")
		old := ""
		if i > 0 {
			old = strconv.Itoa(i - 1)
		}
		mustSwap(t, there, "marker", old, key)
		for deadline := time.Now().Add(5 * time.Second); ; <-time.After(time.Millisecond) {
			if _, _, known := here.PeekRecent("marker"); !known {
				break // so the earlier change has been reported, too
			}
			if time.Now().After(deadline) {
				t.Fatal("a change is not reported")
			}
		}
		r.holdAnswers(false)
		switch answer := <-got; answer {
		case "[old] <nil>":
			overtaken++
		case "[new] <nil>":
			continue // the relay held another answer, and Redis was asked after the change
		default:
			t.Fatalf("the delayed answer is %s", answer)
		}
		if value, _, known := here.PeekRecent(key); known {
			t.Fatalf("the delayed answer %q is kept, although the change to it was reported before", value)
		}
	}
	if overtaken == 0 {
		t.Error("no answer was overtaken by a change")
	}
}

// TestChangesAreReported changes a record in every way, through another process and behind the back of the store. Each
// of the changes must be known soon, although an answer may be used for an hour.
func TestChangesAreReported(t *testing.T) {
	for name, client := range map[string]func(*rueidis.ClientOption){
		"default":              nil,
		"client-side cache":    func(o *rueidis.ClientOption) { o.DisableCache = false },
		"DisableAutoPipelines": func(o *rueidis.ClientOption) { o.DisableAutoPipelining = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			here := newStore(t, dial(t, client, server.Addr()), redisstore.Options{MaxStaleness: time.Hour})
			there := connect(t, server, redisstore.Options{})
			record := here.Name("key")
			for _, change := range []struct {
				name string
				make func()
			}{
				{"swap", func() { mustSwap(t, there, "key", "", "1") }},
				{"expiry", func() { server.Do("SET", record, "2", "PX", "1") }},
				{"delete", func() { server.Do("SET", record, "3"); mustGet(t, here, "key"); server.Do("DEL", record) }},
				{"flush", func() { server.Do("FLUSHALL") }},
				{"since", func() { server.Do("SET", record[:strings.Index(record, "}")+1]+":since", "1") }},
				{"restart", func() { server.Kill(); server.Restart() }},
			} {
				server.Do("DEL", record)
				untilKept(t, here, "key")
				change.make()
				untilForgotten(t, here, "key", change.name)
			}
		})
	}
}

// untilForgotten waits until the answer for the key is not known any more.
func untilForgotten(t testing.TB, s *redisstore.Store, key, change string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; <-time.After(time.Millisecond) {
		if _, _, known := s.PeekRecent(key); !known {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: the answer for %q is still known after 10 s", change, key)
		}
	}
}

// TestClose closes stores whose feed works, is cut off, or never began.
func TestClose(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	server := redistest.Start(t)
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{server.Addr()}, DisableCache: true})
	if err != nil {
		t.Fatal(err)
	}
	open := func(opts redisstore.Options) *redisstore.Store {
		s, err := redisstore.New(client, opts)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	closed := func(s *redisstore.Store) {
		t.Helper()
		for range 2 {
			start := time.Now()
			if err := s.Close(); err != nil || time.Since(start) > 20*time.Second {
				t.Errorf("Close: %v after %v", err, time.Since(start))
			}
		}
	}
	closed(open(redisstore.Options{}))
	closed(open(redisstore.Options{MaxStaleness: time.Second}))
	s := open(redisstore.Options{MaxStaleness: time.Second})
	untilKept(t, s, "key")
	closed(s)
	if got := mustCheck(t, s, "key"); got != "" {
		t.Errorf("key = %q after Close", got)
	}
	s = open(redisstore.Options{MaxStaleness: time.Second})
	untilKept(t, s, "key")
	server.Freeze()
	closed(s)
	server.Thaw()
	s = open(redisstore.Options{MaxStaleness: time.Second})
	untilKept(t, s, "key")
	server.Kill()
	closed(s)
	client.Close()
	goleak.VerifyNone(t, ignore)
}

// TestClientIsClosedFirst closes the client before the store.
func TestClientIsClosedFirst(t *testing.T) {
	server := redistest.Start(t)
	ignore := goleak.IgnoreCurrent()
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{server.Addr()}, DisableCache: true})
	if err != nil {
		t.Fatal(err)
	}
	s, err := redisstore.New(client, redisstore.Options{MaxStaleness: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	untilKept(t, s, "key")
	client.Close()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	goleak.VerifyNone(t, ignore)
}

// TestLocalChecksNeed tests the permissions that the documentation names, and what Check says without them.
func TestLocalChecksNeed(t *testing.T) {
	const permissions = "+eval +getex +mget +set +del +time +info +config|get +client|tracking"
	for _, test := range []struct {
		name      string
		acl       string
		client    func(*rueidis.ClientOption)
		staleness time.Duration // of an hour if changes are reported, otherwise of a second
		want      string        // part of the error of Check
	}{
		{name: "documented permissions", acl: permissions, staleness: time.Hour},
		{name: "no tracking", acl: strings.TrimSuffix(permissions, " +client|tracking"), staleness: time.Second, want: "CLIENT TRACKING"},
		{name: "RESP2", acl: permissions, client: func(o *rueidis.ClientOption) { o.AlwaysRESP2 = true }, staleness: time.Second, want: "RESP3"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, "--appendonly", "yes")
			server.Do(append([]string{"ACL", "SETUSER", "app", "on", ">secret", "~ginrefresh:*"}, strings.Fields(test.acl)...)...)
			there := connect(t, server, redisstore.Options{})
			here := newStore(t, dial(t, func(o *rueidis.ClientOption) {
				o.Username, o.Password = "app", "secret"
				if test.client != nil {
					test.client(o)
				}
			}, server.Addr()), redisstore.Options{MaxStaleness: test.staleness})
			err := here.Check(within(t, 5*time.Second))
			switch {
			case test.want == "" && err != nil:
				t.Errorf("Check: %v", err)
			case test.want != "" && (!errors.Is(err, redisstore.ErrAdvice) || !strings.Contains(err.Error(), test.want)):
				t.Errorf("Check: %v, want %q", err, test.want)
			}
			untilKept(t, here, "key")
			mustSwap(t, there, "key", "", "1")
			untilForgotten(t, here, "key", test.name)
		})
	}
}

// TestNoReadIsTooStaleInFleets lets Sentinel or a Cluster replace a primary that is killed or frozen. A frozen one is
// resumed after that, and believes for a moment that it is still the primary.
func TestNoReadIsTooStaleInFleets(t *testing.T) {
	for _, mode := range []string{"Sentinel", "Cluster"} {
		for _, freeze := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/freeze=%v", mode, freeze), func(t *testing.T) {
				primary, connect := startFleet(t, mode)
				writes := newStore(t, connect(), redisstore.Options{Replicas: 1})
				reader := newStore(t, connect(), redisstore.Options{MaxStaleness: stressStaleness})
				mustGet(t, writes, "key")
				untilKept(t, reader, "key")
				s := runStress(t, stressStaleness, writes, keys("key", 20), reader)
				<-time.After(300 * time.Millisecond)
				if freeze {
					primary.Freeze()
				} else {
					primary.Kill()
				}
				s.untilWritten(t)
				if freeze {
					primary.Thaw()
				}
				<-time.After(1500 * time.Millisecond)
				s.untilLocal()
				s.end()
				untilKept(t, reader, "key")
			})
		}
	}
}

// startFleet starts servers that replace their primary if it fails, and waits until they can.
func startFleet(t *testing.T, mode string) (primary *redistest.Server, connect func() rueidis.Client) {
	if mode == "Cluster" {
		nodes, wait := redistest.StartCluster(t, 3)
		t.Parallel() // pauses until the other tests are done, and so leaves the cluster time to start
		wait()
		for i := range 4 {
			redistest.StartClusterReplica(t, nodes[i%3])
		}
		return nodes[0], func() rueidis.Client { return dial(t, nil, nodes[1].Addr()) }
	}
	t.Parallel()
	primary = redistest.Start(t)
	for range 2 {
		redistest.StartReplica(t, primary)
	}
	sentinel := redistest.StartSentinel(t, primary, 2)
	return primary, func() rueidis.Client {
		return dial(t, func(o *rueidis.ClientOption) { o.Sentinel.MasterSet = "primary" }, sentinel.Addr())
	}
}

// untilWritten waits until every record was written after an interruption.
func (s *stress) untilWritten(t *testing.T) {
	t.Helper()
	<-time.After(700 * time.Millisecond) // until the last write from before the interruption has failed
	start := time.Now()
	written := func(r *watchedRecord) bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.values[len(r.values)-1].answered.After(start)
	}
	for _, r := range s.records {
		for !written(r) {
			if time.Since(start) > 30*time.Second {
				t.Fatalf("%s was not written within 30 s", r.key)
			}
			<-time.After(time.Millisecond)
		}
	}
}
