package boltstore_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/store/boltstore"
)

// crashEnv tells this test's program to be the child: to swap in the file that it names until it is killed.
const crashEnv = "BOLTSTORE_CRASH_FILE"

// swapUntilKilled counts under 16 keys, and prints each count once its swap is answered.
func swapUntilKilled(path string) {
	s, err := boltstore.Open(path)
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			key := strconv.Itoa(g)
			for {
				old := s.Peek(key)
				n, _ := strconv.Atoi(old)
				done, err := s.CompareAndSwap(context.Background(), key, old, strconv.Itoa(n+1), inAnHour())
				if err != nil || !done {
					fmt.Println("error:", done, err)
					os.Exit(1)
				}
				fmt.Println(key, n+1)
			}
		})
	}
	wg.Wait()
}

// TestCrash kills a process amid its swaps, again and again: what was answered is in force.
func TestCrash(t *testing.T) {
	path := file(t)
	answered := map[string]int{}
	swaps := 0
	for range 50 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), crashEnv+"="+path)
		var out bytes.Buffer
		started := make(chan struct{})
		child.Stdout = &notifier{w: &out, first: started}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-started:
		case <-time.After(10 * time.Second):
			t.Error("the child answered nothing")
		}
		<-time.After(time.Duration(rand.IntN(30)) * time.Millisecond)
		child.Process.Kill()
		child.Wait()
		lines := bufio.NewScanner(&out)
		for lines.Scan() {
			key, count, _ := strings.Cut(lines.Text(), " ")
			n, err := strconv.Atoi(count)
			if err != nil {
				t.Fatalf("the child says %q", lines.Text())
			}
			answered[key] = max(answered[key], n)
			swaps++
		}
		checkCounts(t, path, answered)
	}
	t.Logf("%d swaps answered in 50 lives", swaps)
}

func checkCounts(t *testing.T, path string, answered map[string]int) {
	t.Helper()
	s := open(t, path)
	defer closeStore(t, s)
	for key, want := range answered {
		// One more may have been committed, and not yet answered.
		got, _ := strconv.Atoi(s.Peek(key))
		if got != want && got != want+1 {
			t.Errorf("after the crash key %s = %d, but %d was answered", key, got, want)
		}
		answered[key] = got // what the next life starts from
	}
}

// notifier closes first upon the first write.
type notifier struct {
	w     *bytes.Buffer
	first chan struct{}
	once  sync.Once
}

func (n *notifier) Write(p []byte) (int, error) {
	n.once.Do(func() { close(n.first) })
	return n.w.Write(p)
}
