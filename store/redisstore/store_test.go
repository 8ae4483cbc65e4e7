//go:build unix

package redisstore_test

import (
	"context"
	"flag"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"go.uber.org/goleak"

	"github.com/ginrefresh/ginrefresh/store/internal/redistest"
	"github.com/ginrefresh/ginrefresh/store/redisstore"
	"github.com/ginrefresh/ginrefresh/store/storetest"
)

func TestMain(m *testing.M) {
	// Most of these tests wait for a server, so more of them can run at the same time than there are processors.
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	flag.Parse()
	// A test builds and runs the example. go test cannot know when the example has changed, so it must not cache the
	// result. It never does without this log.
	if err := flag.Set("test.testlogfile", ""); err != nil {
		panic(err)
	}
	// The cluster client of rueidis waits five seconds before it closes connections that it no longer needs, and up to a second
	// before it reads the topology again.
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*clusterClient)._refresh.func2"),
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*call).DelayDo.func1"))
}

// rounds returns full if GINREFRESH_FULL is set, as in the gate, and else short.
func rounds(full, short int) int {
	if os.Getenv("GINREFRESH_FULL") != "" {
		return full
	}
	return short
}

func dial(t testing.TB, change func(*rueidis.ClientOption), addresses ...string) rueidis.Client {
	t.Helper()
	opts := rueidis.ClientOption{InitAddress: addresses, DisableCache: true}
	if change != nil {
		change(&opts)
	}
	client, err := rueidis.NewClient(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// connect returns a store on the server, with a client of its own.
func connect(t testing.TB, server *redistest.Server, opts redisstore.Options) *redisstore.Store {
	t.Helper()
	return newStore(t, dial(t, nil, server.Addr()), opts)
}

func newStore(t testing.TB, client rueidis.Client, opts redisstore.Options) *redisstore.Store {
	t.Helper()
	s, err := redisstore.New(client, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func inAnHour() time.Time { return time.Now().Add(time.Hour) }

// within returns a context that ends after d, and with the test.
func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func mustSwap(t testing.TB, s *redisstore.Store, key, old, new string) {
	t.Helper()
	done, err := s.CompareAndSwap(within(t, 5*time.Second), key, old, new, inAnHour())
	if !done || err != nil {
		t.Fatalf("CompareAndSwap(%q, %q, %q) = %v, %v", key, old, new, done, err)
	}
}

func mustGet(t testing.TB, s *redisstore.Store, key string) string {
	t.Helper()
	values, _, err := s.Get(within(t, 5*time.Second), key)
	if err != nil {
		t.Fatalf("Get(%q): %v", key, err)
	}
	return values[0]
}

func TestStore(t *testing.T) {
	nodes, wait := redistest.StartCluster(t, 3)
	t.Parallel() // pauses until the other tests are done, and so leaves the cluster time to start
	wait()
	single := redistest.Start(t)
	var cluster []string
	for _, s := range nodes {
		cluster = append(cluster, s.Addr())
	}
	resp2 := func(o *rueidis.ClientOption) { o.AlwaysRESP2 = true }
	for _, test := range []struct {
		name      string
		addresses []string
		client    func(*rueidis.ClientOption)
		opts      redisstore.Options
	}{
		{name: "single", addresses: []string{single.Addr()}},
		{name: "single with client-side cache", addresses: []string{single.Addr()}, client: func(o *rueidis.ClientOption) { o.DisableCache = false }},
		{name: "single RESP2", addresses: []string{single.Addr()}, client: resp2},
		{name: "single with MaxStaleness", addresses: []string{single.Addr()}, opts: redisstore.Options{MaxStaleness: 50 * time.Millisecond}},
		{name: "prefix", addresses: []string{single.Addr()}, opts: redisstore.Options{Prefix: "[app] *?"}},
		{name: "cluster", addresses: cluster},
		{name: "cluster RESP2", addresses: cluster[:1], client: resp2},
		{name: "cluster with SendToReplicas", addresses: cluster, client: func(o *rueidis.ClientOption) {
			o.SendToReplicas = func(cmd rueidis.Completed) bool { return cmd.IsReadOnly() }
		}},
		{name: "cluster with MaxStaleness", addresses: cluster, opts: redisstore.Options{MaxStaleness: 50 * time.Millisecond}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if test.opts.Prefix == "" { // the stores share servers
				test.opts.Prefix = test.name + ":"
			}
			client := dial(t, test.client, test.addresses...)
			storetest.Run(t, func(t *testing.T) storetest.Store { return newStore(t, client, test.opts) })
		})
	}
}

func TestMistakes(t *testing.T) {
	_, err := redisstore.New(nil, redisstore.Options{MaxStaleness: -1, Replicas: -1, Prefix: "{app}"})
	for _, mistake := range []string{"nil", "MaxStaleness", "Replicas", "Prefix"} {
		if err == nil || !strings.Contains(err.Error(), mistake) {
			t.Errorf("New with four mistakes returns %v, want an error that lists all of them", err)
		}
	}
}

// TestNames reads the names of the keys in Redis. User input must not affect their syntax.
func TestNames(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := dial(t, nil, server.Addr())
	mustSwap(t, newStore(t, client, redisstore.Options{}), "{user}\r\n*", "", "1")
	mustSwap(t, newStore(t, client, redisstore.Options{Prefix: "other:"}), "{user}\r\n*", "", "2") // another record
	names, err := client.Do(within(t, time.Second), client.B().Keys().Pattern("*").Build()).AsStrSlice()
	if err != nil || len(names) != 2 {
		t.Fatalf("Redis has the keys %q, %v, want two keys", names, err)
	}
	for _, name := range names {
		prefix, rest, _ := strings.Cut(name, ":")
		if prefix != "ginrefresh" && prefix != "other" || rest != "{3ec}e3VzZXJ9DQoq" {
			t.Errorf("Redis has the key %q, want a prefix, a hash tag and base64url", name)
		}
	}
}

// TestExpiryInRedis reads the expiry in Redis. It must not be before the requested one, and at most a millisecond after it
// (R13).
func TestExpiryInRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := dial(t, nil, server.Addr())
	s := newStore(t, client, redisstore.Options{})
	const absent = -2
	whole := time.Now().Add(time.Hour).Truncate(time.Millisecond)
	endOfYears := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	for _, test := range []struct {
		name    string
		expires time.Time
		want    int64 // Unix milliseconds
	}{
		{"a whole millisecond", whole, whole.UnixMilli()},
		{"a nanosecond more", whole.Add(1), whole.UnixMilli() + 1},
		{"a nanosecond less", whole.Add(-1), whole.UnixMilli()},
		{"far", endOfYears.Add(-time.Nanosecond), endOfYears.UnixMilli()},
		{"the farthest", endOfYears, endOfYears.UnixMilli()},
		{"farther", endOfYears.Add(time.Hour), endOfYears.UnixMilli()},
		{"beyond milliseconds", time.Unix(1<<55, 0), endOfYears.UnixMilli()},
		{"past", time.Now().Add(-time.Nanosecond), absent},
		{"the zero time", time.Time{}, absent},
	} {
		for _, old := range []string{"", "old"} {
			if old != "" {
				mustSwap(t, s, "key", "", old)
			}
			if done, err := s.CompareAndSwap(within(t, 5*time.Second), "key", old, "new", test.expires); !done || err != nil {
				t.Fatalf("%s: CompareAndSwap = %v, %v", test.name, done, err)
			}
			got, err := client.Do(within(t, 5*time.Second), client.B().Pexpiretime().Key("ginrefresh:{3a9}a2V5").Build()).AsInt64()
			if err != nil || got != test.want {
				t.Errorf("%s, from %q: the key expires at %d, %v, want %d", test.name, old, got, err, test.want)
			}
			if err := client.Do(within(t, 5*time.Second), client.B().Del().Key("ginrefresh:{3a9}a2V5").Build()).Error(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestNoDeadline calls a frozen server with contexts without a deadline. rueidis alone would try forever, and Redis would
// make the swap whenever it is resumed.
func TestNoDeadline(t *testing.T) {
	t.Parallel()
	const patience = 300 * time.Millisecond
	server := redistest.Start(t)
	s := connect(t, server, redisstore.Options{})
	if previous := s.SetPatience(patience); previous != 5*time.Second {
		t.Errorf("by default a call waits for %v, want the 5 s of the documentation", previous)
	}
	mustSwap(t, s, "warm", "", "1")
	server.Freeze()
	start := time.Now()
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, _, err := s.Get(context.Background(), "key"); err == nil {
			t.Error("Get from a frozen server returns no error")
		}
	})
	wg.Go(func() {
		if _, err := s.CompareAndSwap(context.Background(), "key", "", "1", inAnHour()); err == nil {
			t.Error("CompareAndSwap on a frozen server returns no error")
		}
	})
	wg.Go(func() {
		if err := s.Check(context.Background()); err == nil {
			t.Error("Check of a frozen server returns no error")
		}
	})
	wg.Wait()
	if took := time.Since(start); took < patience || took > patience+2*time.Second {
		t.Errorf("the calls took %v, want %v", took, patience)
	}
	server.Thaw()
	<-time.After(200 * time.Millisecond) // until the server has read the requests
	if got := mustGet(t, s, "key"); got != "" {
		t.Errorf("the value is %q: a swap was made after it had failed", got)
	}
}
