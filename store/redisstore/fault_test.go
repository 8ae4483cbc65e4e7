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

	"go.uber.org/goleak"

	"github.com/ginrefresh/ginrefresh/store/internal/redistest"
	"github.com/ginrefresh/ginrefresh/store/redisstore"
)

// A proxy forwards the connections of a client to a server, and resets them during a call if told so.
type proxy struct {
	listener net.Listener
	server   string
	mode     atomic.Int32
	wg       sync.WaitGroup
}

const (
	forwards      = iota
	dropsRequests // resets the connection when a request arrives
	dropsReplies  // forwards the request, and resets the connection when the reply arrives
	dropsOneReply // like dropsReplies, but only once
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
				client.(*net.TCPConn).SetLinger(0) // close sends a reset
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

// A fault is a way to harm a server, and to heal it again.
type fault struct {
	harm, heal func(*redistest.Server, *proxy)
	answers    bool // the server still answers, but has lost its records
}

var faults = map[string]fault{
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
}

// TestFaults harms the server while 16 goroutines call it. No call may outlast its deadline by more than half a second or
// return an answer that is not certain, and the store must work again within 2 s of the server's return.
func TestFaults(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	t.Run("all", func(t *testing.T) {
		for name, fault := range faults {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				fault.test(t)
			})
		}
	})
	goleak.VerifyNone(t, ignore)
}

func (f fault) test(t *testing.T) {
	server := redistest.Start(t)
	p := newProxy(t, server.Addr())
	s := newStore(t, dial(t, nil, p.listener.Addr().String()), redisstore.Options{})
	mustSwap(t, s, "key", "", "revoked")

	stop := make(chan struct{})
	var load sync.WaitGroup
	for range 16 {
		load.Go(func() { callUntil(t, s, stop) })
	}
	<-time.After(100 * time.Millisecond)
	f.harm(server, p)
	checkHarmed(t, s, f.answers)
	f.heal(server, p)
	checkHealed(t, s)
	close(stop)
	load.Wait()
}

// callUntil calls the store until stop is closed, and checks how long each call takes.
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
		_, _, _ = s.Get(ctx, "key", "other") // checkHarmed and checkHealed check the results
		cancel()
		ctx, cancel = context.WithTimeout(context.Background(), timeout)
		_, _ = s.CompareAndSwap(ctx, "load", "not", "this", inAnHour())
		cancel()
		if took := time.Since(start); took > 2*(timeout+500*time.Millisecond) {
			t.Errorf("two calls with deadlines of %v took %v", timeout, took)
		}
	}
}

// checkHarmed checks that the calls to a harmed server fail in time, or, if the server answers, return its answers.
func checkHarmed(t *testing.T, s *redisstore.Store, answers bool) {
	t.Helper()
	timeout := 200 * time.Millisecond
	if answers { // leave time to connect again
		timeout = time.Second
	}
	for range 3 {
		start := time.Now()
		values, _, err := s.Get(within(t, timeout), "key")
		checkHarmedGet(t, values, err, answers)
		took := time.Since(start)
		start = time.Now()
		done, err := s.CompareAndSwap(within(t, timeout), "key", "no", "no", inAnHour())
		if done || (err == nil) != answers {
			t.Errorf("CompareAndSwap on a harmed server = %v, %v", done, err)
		}
		if took = max(took, time.Since(start)); took > timeout+500*time.Millisecond {
			t.Errorf("a call with a deadline of %v took %v", timeout, took)
		}
	}
}

func checkHarmedGet(t *testing.T, values []string, err error, answers bool) {
	t.Helper()
	switch {
	case answers && (err != nil || values[0] != ""):
		t.Errorf("Get from an empty server = %q, %v", values, err)
	case !answers && err == nil:
		t.Errorf("Get from a harmed server = %q, want an error", values)
	case err != nil && !strings.HasPrefix(err.Error(), "redisstore: "):
		t.Errorf("the error does not name the package: %v", err)
	}
}

// checkHealed checks that calls succeed again within 2 s.
func checkHealed(t *testing.T, s *redisstore.Store) {
	t.Helper()
	back := time.Now()
	for {
		_, _, err1 := s.Get(within(t, 500*time.Millisecond), "key")
		_, err2 := s.CompareAndSwap(within(t, 500*time.Millisecond), "key", "no", "no", inAnHour())
		took := time.Since(back)
		if err1 == nil && err2 == nil {
			t.Logf("the store works again after %v", took)
		}
		if took > 2*time.Second {
			t.Errorf("the store still fails after %v: %v, %v", took, err1, err2)
		}
		if err1 == nil && err2 == nil || took > 10*time.Second {
			return
		}
	}
}

// TestSwapIsNotRepeated drops the reply to a swap. A second try would find the new value of the first one and return false.
func TestSwapIsNotRepeated(t *testing.T) {
	t.Parallel()
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
		case !done: // true is possible: the dropped reply may have been the one to a PING of the client
			t.Error("CompareAndSwap returns false, although no other process has swapped the key")
		}
	}
	if unknown == 0 {
		t.Error("no reply to a swap was dropped")
	}
}

// TestReadIsRepeated drops the reply to a read, as when a healthy server has closed an idle connection. The read must be
// tried again.
func TestReadIsRepeated(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	p := newProxy(t, server.Addr())
	s := newStore(t, dial(t, nil, p.listener.Addr().String()), redisstore.Options{})
	mustSwap(t, s, "key", "", "value")
	for range 10 {
		p.mode.Store(dropsOneReply)
		if got := mustGet(t, s, "key"); got != "value" {
			t.Errorf("key = %q, want value", got)
		}
	}
}

// TestFrozenUnderLoad makes more calls to a frozen server than rueidis can queue. Each of them must end in time, and when
// the server is resumed, the store must work again.
func TestFrozenUnderLoad(t *testing.T) {
	server := redistest.Start(t)
	s := connect(t, server, redisstore.Options{})
	mustSwap(t, s, "key", "", "revoked")
	server.Freeze()
	before := runtime.NumGoroutine()
	var longest atomic.Int64
	var wg sync.WaitGroup
	for range 2000 {
		wg.Go(func() {
			for range rounds(5, 3) {
				ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
				start := time.Now()
				if _, _, err := s.Get(ctx, "key", "other"); err == nil {
					t.Error("Get from a frozen server returns no error")
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
	// Thousands of goroutines may have to wait for a processor. A call that waits for the server takes its ConnWriteTimeout.
	if took := time.Duration(longest.Load()); took > 5*time.Second {
		t.Errorf("a call with a deadline of 200 ms took %v", took)
	}
	if left := runtime.NumGoroutine() - before; left > 1000 {
		t.Errorf("%d goroutines are left after thousands of calls, want fewer than 1000", left)
	}
	server.Thaw()
	checkHealed(t, s)
}

// TestCanceled cancels a call to a frozen server before its deadline.
func TestCanceled(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := connect(t, server, redisstore.Options{})
	mustSwap(t, s, "key", "", "revoked")
	server.Freeze()
	defer server.Thaw() // or the client takes seconds to close
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	time.AfterFunc(50*time.Millisecond, cancel)
	start := time.Now()
	if _, _, err := s.Get(ctx, "key"); err == nil {
		t.Error("Get from a frozen server returns no error")
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("a call that was canceled after 50 ms took %v", took)
	}
}
