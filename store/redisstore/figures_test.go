//go:build unix

package redisstore_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
	"github.com/ginrefresh/ginrefresh/store/internal/redistest"
	"github.com/ginrefresh/ginrefresh/store/redisstore"
)

// TestFigures measures the figures about MaxStaleness in docs/stores.md:
//
//	GINREFRESH_FIGURES=1 go test -v -run TestFigures ./store/redisstore
func TestFigures(t *testing.T) {
	if os.Getenv("GINREFRESH_FIGURES") == "" {
		t.Skip("GINREFRESH_FIGURES is not set")
	}
	gin.SetMode(gin.ReleaseMode)
	server := redistest.Start(t)
	asks := connect(t, server, redisstore.Options{})
	before := runtime.NumGoroutine()
	local := connect(t, server, redisstore.Options{MaxStaleness: time.Second})
	mustGet(t, local, "key")
	untilKept(t, local, "key")
	t.Logf("goroutines: %d for the client and the store", runtime.NumGoroutine()-before)
	memory := store.NewMemory()
	t.Cleanup(func() { _ = memory.Close() })

	stores := []struct {
		name string
		middleware.Store
	}{{"memory", memory}, {"ask", asks}, {"local", local}}
	const sessions = 1000
	guards := map[string]func(i int){}
	for _, s := range stores {
		guards[s.name] = guard(t, s.Store, sessions)
	}
	figureRequests(t, []string{"memory", "ask", "local"}, guards)
	for _, s := range stores {
		figureLoad(t, s.name, server, guards[s.name])
	}
	figurePropagation(t, server, asks, local)
	figureBytes(t, server)
}

// guard returns a function that sends a request with the token of a session through a guard.
func guard(t testing.TB, s middleware.Store, sessions int) func(i int) {
	auth, err := middleware.New(middleware.Config{
		Keys:  []middleware.Key{{Algorithm: middleware.HS256, Key: []byte("a secret of more than thirty-two bytes")}},
		Store: s,
	})
	if err != nil {
		t.Fatal(err)
	}
	engine := gin.New()
	engine.GET("/", auth.Required(), func(c *gin.Context) { c.Status(http.StatusNoContent) })
	tokens := make([]string, sessions)
	for i := range tokens {
		issued, err := auth.Issue(context.Background(), middleware.Identity{Subject: "user " + strconv.Itoa(i)})
		if err != nil {
			t.Fatal(err)
		}
		tokens[i] = "Bearer " + issued.AccessToken
	}
	send := func(i int) {
		request := httptest.NewRequest("GET", "/", nil)
		request.Header.Set("Authorization", tokens[i%sessions])
		recorder := httptest.NewRecorder()
		engine.ServeHTTP(recorder, request)
		if recorder.Code != http.StatusNoContent {
			panic(fmt.Sprintf("%d %s", recorder.Code, recorder.Body))
		}
	}
	for i := range 5 * sessions {
		send(i)
	}
	return send
}

// figureRequests sends requests from 64 goroutines for a while, nine times with each store in turn, and reports the
// medians: the requests per second, and the processor time of this process for each, which other processes disturb
// less.
func figureRequests(t *testing.T, names []string, guards map[string]func(i int)) {
	rates, costs := map[string][]float64{}, map[string][]float64{}
	for range 9 {
		for _, name := range names {
			var n atomic.Int64
			var wg sync.WaitGroup
			start, before := time.Now(), processorTime(t)
			for range 64 {
				wg.Go(func() {
					for time.Since(start) < 400*time.Millisecond {
						for range 10 {
							guards[name](int(n.Add(1)))
						}
					}
				})
			}
			wg.Wait()
			rates[name] = append(rates[name], float64(n.Load())/time.Since(start).Seconds())
			costs[name] = append(costs[name], (processorTime(t)-before)/float64(n.Load())*1e6)
		}
	}
	for _, name := range names {
		slices.Sort(rates[name])
		slices.Sort(costs[name])
		t.Logf("requests through a guard, %s: %.0f/s, %.2f µs each", name, rates[name][4], costs[name][4])
	}
}

// processorTime returns the processor time of this process in seconds.
func processorTime(t *testing.T) float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}

var cpuOfRedis = regexp.MustCompile(`used_cpu_(?:user|sys):([0-9.]+)`)

// figureLoad sends 10,000 requests a second for five seconds, and reports the time of Redis and of this process.
func figureLoad(t *testing.T, name string, server *redistest.Server, send func(i int)) {
	client := dial(t, nil, server.Addr())
	used := func() (redis, process float64) {
		info, err := client.Do(within(t, 5*time.Second), client.B().Info().Section("cpu").Build()).ToString()
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range cpuOfRedis.FindAllStringSubmatch(info, -1) {
			seconds, _ := strconv.ParseFloat(match[1], 64)
			redis += seconds
		}
		return redis, processorTime(t)
	}
	redis1, process1 := used()
	const took = 5 * time.Second
	start := time.Now()
	var wg sync.WaitGroup
	var n atomic.Int64
	for g := range 50 {
		wg.Go(func() {
			for i := 0; time.Since(start) < took; i++ {
				send(i*50 + g)
				n.Add(1)
				<-time.After(time.Until(start.Add(time.Duration(i+1) * 5 * time.Millisecond)))
			}
		})
	}
	wg.Wait()
	redis2, process2 := used()
	t.Logf("%.0f requests/s, %s: Redis %.2f %%, this process %.1f %% of a core", float64(n.Load())/took.Seconds(), name, 100*(redis2-redis1)/took.Seconds(), 100*(process2-process1)/took.Seconds())
}

// figurePropagation measures the time from the answer to a swap until another store knows it.
func figurePropagation(t *testing.T, server *redistest.Server, stores ...*redisstore.Store) {
	there := connect(t, server, redisstore.Options{})
	for i, s := range stores {
		var delays []time.Duration
		for n := range 3000 {
			key := fmt.Sprintf("propagation %d %d", i, n)
			if _, err := check(context.Background(), s, key); err != nil {
				t.Fatal(err)
			}
			mustSwap(t, there, key, "", "ended")
			swapped := time.Now()
			for {
				values, err := check(context.Background(), s, key)
				if err != nil {
					t.Fatal(err)
				}
				if values[0] == "ended" {
					break
				}
				runtime.Gosched()
			}
			delays = append(delays, time.Since(swapped))
		}
		slices.Sort(delays)
		t.Logf("from a logout to its refusal elsewhere, store %d: p50 %v, p99 %v, max %v", i, delays[len(delays)/2], delays[len(delays)*99/100], delays[len(delays)-1])
	}
}

// figureBytes measures the memory of an answer.
func figureBytes(t *testing.T, server *redistest.Server) {
	const answers = 100_000
	s := connect(t, server, redisstore.Options{MaxStaleness: time.Hour})
	untilKept(t, s, "key")
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	name := func(i int) string { return fmt.Sprintf("s:9bkkzr8qo0-%022d", i) }
	before := heap()
	var wg sync.WaitGroup
	for g := range 100 {
		wg.Go(func() {
			for i := g; i < answers; i += 100 {
				if _, _, err := s.Get(context.Background(), name(i)); err != nil {
					panic(err)
				}
			}
		})
	}
	wg.Wait()
	after := heap()
	t.Logf("%d bytes for each of %d answers", (after-before)/answers, answers)
}
