//go:build unix

package redisstore_test

import (
	"context"
	"net"
	"runtime"
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

// proxy stands between client and server, and resets connections in the middle of a call.
type proxy struct {
	listener net.Listener
	server   string
	mode     atomic.Int32
	wg       sync.WaitGroup
}

const (
	forwards      = iota
	dropsRequests // resets the connection when a request comes
	dropsReplies  // forwards the request, and resets the connection when the reply comes
	dropsOneReply // does so once
)

func newProxy(t testing.TB, server string) *proxy {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, server: server}
	p.wg.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(client) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) serve(client net.Conn) {
	server, err := net.Dial("tcp", p.server)
	if err != nil {
		client.Close()
		return
	}
	var wg sync.WaitGroup
	pump := func(to, from net.Conn, breaks int32) {
		defer to.Close()
		defer from.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := from.Read(buf)
			if err != nil {
				return
			}
			if p.mode.Load() == breaks || breaks == dropsReplies && p.mode.CompareAndSwap(dropsOneReply, forwards) {
				client.(*net.TCPConn).SetLinger(0) // a reset, not a polite end
				return
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
	}
	wg.Go(func() { pump(server, client, dropsRequests) })
	wg.Go(func() { pump(client, server, dropsReplies) })
	wg.Wait()
}

// TestFaults harms the server while 16 goroutines call it: no call outlasts its deadline by more than half a second,
// none answers what it cannot know, and all is well within 2 s of the server's return.
func TestFaults(t *testing.T) {
	for name, fault := range map[string]struct {
		harm, heal func(*redistest.Server, *proxy)
		answers    bool // reads go on: the server is there, and empty
	}{
		"killed": {
			harm: func(s *redistest.Server, _ *proxy) { s.Kill() },
			heal: func(s *redistest.Server, _ *proxy) { s.Restart() },
		},
		"frozen": {
			harm: func(s *redistest.Server, _ *proxy) { s.Freeze() },
			heal: func(s *redistest.Server, _ *proxy) { s.Thaw() },
		},
		"restarted empty": {
			harm:    func(s *redistest.Server, _ *proxy) { s.Kill(); s.Restart() },
			heal:    func(*redistest.Server, *proxy) {},
			answers: true,
		},
		"read-only replica": {
			harm: func(s *redistest.Server, _ *proxy) { s.Do("REPLICAOF", "127.0.0.1", "1") },
			heal: func(s *redistest.Server, _ *proxy) { s.Do("REPLICAOF", "NO", "ONE") },
		},
		"requests reset": {
			harm: func(_ *redistest.Server, p *proxy) { p.mode.Store(dropsRequests) },
			heal: func(_ *redistest.Server, p *proxy) { p.mode.Store(forwards) },
		},
		"replies reset": {
			harm: func(_ *redistest.Server, p *proxy) { p.mode.Store(dropsReplies) },
			heal: func(_ *redistest.Server, p *proxy) { p.mode.Store(forwards) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			ignore := goleak.IgnoreCurrent()
			defer goleak.VerifyNone(t, ignore)
			defer server.Kill()
			p := newProxy(t, server.Addr())
			defer p.wg.Wait()
			defer p.listener.Close()
			client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{p.listener.Addr().String()}, DisableCache: true})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			s := newStore(t, client, redisstore.Options{})
			mustSwap(t, s, "key", "", "revoked")

			stop := make(chan struct{})
			var load sync.WaitGroup
			for range 16 {
				load.Go(func() { callUntil(t, s, stop) })
			}
			<-time.After(100 * time.Millisecond)
			fault.harm(server, p)
			checkHarmed(t, s, fault.answers)
			fault.heal(server, p)
			checkHealed(t, s)
			close(stop)
			load.Wait()
		})
	}
}

// callUntil calls the store until stop, and checks how long each call takes.
func callUntil(t *testing.T, s *redisstore.Store, stop <-chan struct{}) {
	const timeout = 500 * time.Millisecond
	for {
		select {
		case <-stop:
			return
		default:
		}
		start := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		_, _ = s.Get(ctx, "key", "other") // whether it may fail is checked elsewhere
		cancel()
		ctx, cancel = context.WithTimeout(context.Background(), timeout)
		_, _ = s.CompareAndSwap(ctx, "load", "not", "this", inAnHour())
		cancel()
		if took := time.Since(start); took > 2*(timeout+500*time.Millisecond) {
			t.Errorf("two calls with deadlines of %v took %v", timeout, took)
		}
	}
}

func checkHarmed(t *testing.T, s *redisstore.Store, answers bool) {
	t.Helper()
	const timeout = time.Second
	for range 3 {
		start := time.Now()
		values, err := s.Get(within(t, timeout), "key")
		took := time.Since(start)
		switch {
		case answers && (err != nil || values[0] != ""):
			t.Errorf("Get = %q, %v", values, err)
		case !answers && err == nil && values[0] != "revoked":
			t.Errorf("a harmed server's answer is %q", values)
		case !answers && err == nil:
			t.Errorf("a harmed server answers")
		case err != nil && !strings.HasPrefix(err.Error(), "redisstore: "):
			t.Errorf("the error does not name the package: %v", err)
		}
		start = time.Now()
		done, err := s.CompareAndSwap(within(t, timeout), "key", "no", "no", inAnHour())
		if done || (err == nil) != answers {
			t.Errorf("CompareAndSwap = %v, %v", done, err)
		}
		if took = max(took, time.Since(start)); took > timeout+500*time.Millisecond {
			t.Errorf("a call with a deadline of %v took %v", timeout, took)
		}
	}
}

func checkHealed(t *testing.T, s *redisstore.Store) {
	t.Helper()
	back := time.Now()
	for {
		_, err1 := s.Get(within(t, 500*time.Millisecond), "key")
		_, err2 := s.CompareAndSwap(within(t, 500*time.Millisecond), "key", "no", "no", inAnHour())
		took := time.Since(back)
		if err1 == nil && err2 == nil {
			t.Logf("back after %v", took)
		}
		if took > 2*time.Second {
			t.Errorf("not back after %v: %v, %v", took, err1, err2)
		}
		if err1 == nil && err2 == nil || took > 10*time.Second {
			return
		}
	}
}

// TestSwapIsNotRepeated loses an answer: a second try would find the new value of the first, and report a lost swap.
func TestSwapIsNotRepeated(t *testing.T) {
	server := redistest.Start(t)
	p := newProxy(t, server.Addr())
	s := newStore(t, dial(t, nil, p.listener.Addr().String()), redisstore.Options{})
	unknown := 0
	for i := range 10 {
		key := strconv.Itoa(i)
		mustSwap(t, s, key, "", "old")
		p.mode.Store(dropsOneReply)
		done, err := s.CompareAndSwap(within(t, 5*time.Second), key, "old", "new", inAnHour())
		switch {
		case err != nil:
			unknown++
		case !done: // true is a swap whose answer came, as the client's own PING lost its answer
			t.Error("a swap that nobody else made is lost")
		}
	}
	if unknown == 0 {
		t.Error("no answer was lost")
	}
}

// TestFrozenUnderLoad makes more calls to a frozen server than rueidis queues, each of which must still end in time,
// and then lets it go on: nothing must remain of them.
func TestFrozenUnderLoad(t *testing.T) {
	server := redistest.Start(t)
	s := newStore(t, dial(t, nil, server.Addr()), redisstore.Options{})
	mustSwap(t, s, "key", "", "revoked")
	server.Freeze()
	before := runtime.NumGoroutine()
	var longest atomic.Int64
	var wg sync.WaitGroup
	for range 2000 {
		wg.Go(func() {
			for range 5 {
				ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
				start := time.Now()
				if _, err := s.Get(ctx, "key", "other"); err == nil {
					t.Error("a frozen server answers")
				}
				cancel()
				for took := int64(time.Since(start)); ; {
					if old := longest.Load(); took <= old || longest.CompareAndSwap(old, took) {
						break
					}
				}
			}
		})
	}
	wg.Wait()
	if took := time.Duration(longest.Load()); took > 700*time.Millisecond {
		t.Errorf("one of 10,000 calls with deadlines of 200 ms took %v", took)
	}
	if left := runtime.NumGoroutine() - before; left > 1000 {
		t.Errorf("%d goroutines are left of 10,000 calls that nobody waits for", left)
	}
	server.Thaw()
	checkHealed(t, s)
}

// TestCancelled ends a call early, by its context, while the server is frozen.
func TestCancelled(t *testing.T) {
	server := redistest.Start(t)
	s := newStore(t, dial(t, nil, server.Addr()), redisstore.Options{})
	mustSwap(t, s, "key", "", "revoked")
	server.Freeze()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	time.AfterFunc(50*time.Millisecond, cancel)
	start := time.Now()
	if _, err := s.Get(ctx, "key"); err == nil {
		t.Error("a frozen server answers")
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("a call that was cancelled after 50 ms took %v", took)
	}
}
