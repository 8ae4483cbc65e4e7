//go:build unix

package redisstore_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/store/internal/redistest"
)

// TestTwoServersOnOneRedisAreOne runs two processes of the example on one Redis. Parallel refreshes at both must return the
// same successor token, and a logout at one must take effect at the other with the next request.
func TestTwoServersOnOneRedisAreOne(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "example")
	build := exec.Command("go", "build", "-o", binary, "github.com/ginrefresh/ginrefresh/example")
	var out bytes.Buffer
	build.Stdout, build.Stderr = &out, &out
	if err := build.Start(); err != nil {
		t.Fatal(err)
	}
	t.Parallel() // pauses until the other tests are done, and so leaves the build time to finish
	if err := build.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	redis := redistest.Start(t)
	servers := []string{startExample(t, binary, redis.Addr()), startExample(t, binary, redis.Addr())}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: 30 * time.Second}

	var delays []time.Duration
	for range rounds(200, 20) {
		token := login(t, client, servers[0])
		answers := make([]string, 64)
		var wg sync.WaitGroup
		for i := range answers {
			wg.Go(func() {
				answers[i] = ask(t, client, "POST", servers[i%2]+"/refresh", token, 200)["access_token"].(string)
			})
		}
		wg.Wait()
		slices.Sort(answers)
		if distinct := slices.Compact(answers); len(distinct) != 1 {
			t.Fatalf("64 parallel refreshes at two servers returned %d successor tokens, want 1", len(distinct))
		}
		start := time.Now()
		ask(t, client, "POST", servers[0]+"/logout", answers[0], 204)
		if code := ask(t, client, "GET", servers[1]+"/protected", answers[0], 401)["code"]; code != "token_revoked" {
			t.Fatalf("after a logout at one server the other one answers %v, want token_revoked", code)
		}
		delays = append(delays, time.Since(start))
	}
	slices.Sort(delays)
	t.Logf("logout at one server and refusal by the other, both requests: p50 %v, p99 %v, max %v", delays[len(delays)/2], delays[len(delays)*99/100], delays[len(delays)-1])
}

// startExample starts the example server and returns its URL.
func startExample(t *testing.T, binary, redis string) (url string) {
	t.Helper()
	server := exec.Command(binary, "-addr", "127.0.0.1:0", "-store", "redis://"+redis)
	server.Env = append(server.Environ(), "JWT_SECRET="+strings.Repeat("shared ", 6))
	stdout, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(strings.TrimPrefix(line, "listening on "))
}

func login(t *testing.T, client *http.Client, server string) (token string) {
	t.Helper()
	answer, err := client.PostForm(server+"/login", map[string][]string{"username": {"admin"}, "password": {"admin"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	var body struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&body); err != nil {
		t.Fatal(err)
	}
	return body.AccessToken
}

// ask sends a request and returns the JSON body of the answer. It panics on failure, because it also runs outside of the
// goroutine of the test, where t.Fatal is not allowed.
func ask(t *testing.T, client *http.Client, method, url, token string, want int) (body map[string]any) {
	request, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		panic(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	answer, err := client.Do(request)
	if err != nil {
		panic(err)
	}
	defer func() { _ = answer.Body.Close() }()
	_ = json.NewDecoder(answer.Body).Decode(&body)
	if answer.StatusCode != want {
		panic(fmt.Sprintf("%s %s: %d %v, want %d", method, url, answer.StatusCode, body, want))
	}
	return body
}
