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

// crashEnv makes this test program the child process, which swaps in the named file until it is killed.
const crashEnv = "BOLTSTORE_CRASH_FILE"

// swapUntilKilled increments the numbers of 16 keys, and prints each number once its swap is answered.
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

// TestCrash kills a process during its swaps, repeatedly. Every swap that was answered must be in the file.
func TestCrash(t *testing.T) {
	path := file(t)
	answered := map[string]int{}
	swaps := 0
	lives := rounds(50, 10)
	for range lives {
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
			t.Error("the child process answered no swap")
		}
		<-time.After(time.Duration(rand.IntN(30)) * time.Millisecond)
		child.Process.Kill()
		child.Wait()
		lines := bufio.NewScanner(&out)
		for lines.Scan() {
			key, count, _ := strings.Cut(lines.Text(), " ")
			n, err := strconv.Atoi(count)
			if err != nil {
				t.Fatalf("the child process printed %q", lines.Text())
			}
			answered[key] = max(answered[key], n)
			swaps++
		}
		checkCounts(t, path, answered)
	}
	t.Logf("proof: %d kills, %d answered swaps", lives, swaps)
}

func checkCounts(t *testing.T, path string, answered map[string]int) {
	t.Helper()
	s := open(t, path)
	defer closeStore(t, s)
	for key, want := range answered {
		// One more swap may have been committed but not answered.
		got, _ := strconv.Atoi(s.Peek(key))
		if got != want && got != want+1 {
			t.Errorf("after the crash key %s = %d, but the swap to %d was answered", key, got, want)
		}
		answered[key] = got // the next life starts from here
	}
}

// notifier closes first on the first write.
type notifier struct {
	w     *bytes.Buffer
	first chan struct{}
	once  sync.Once
}

func (n *notifier) Write(p []byte) (int, error) {
	n.once.Do(func() { close(n.first) })
	return n.w.Write(p)
}
