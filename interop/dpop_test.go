package interop_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// serveExample builds the example, starts it with flags and returns its URL.
func serveExample(t *testing.T, flags ...string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "example")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./example")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ctx, stop := context.WithCancel(context.Background())
	server := exec.CommandContext(ctx, binary, append([]string{"-addr", "127.0.0.1:0"}, flags...)...)
	server.Env = append(os.Environ(), "JWT_SECRET=")
	output, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = server.Wait()
	})
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		if url, found := strings.CutPrefix(lines.Text(), "listening on "); found {
			return url
		}
	}
	t.Fatalf("the example did not start with %q", flags)
	return ""
}

// TestDPoP binds sessions of the example server, and refreshes them, with three DPoP clients of other authors.
func TestDPoP(t *testing.T) {
	type story struct {
		Login                string
		Refreshes            []string
		Requests             int
		Restarted            string
		RequestsWithoutNonce int
		AnotherKey           string
		NoProof              string
		Afterwards           string
	}
	node := library{[]string{"node", "dpop.mjs"}, func() error {
		return exec.Command("node", "-e", "import('oauth4webapi').then(() => import('dpop')).catch(() => process.exit(1))").Run()
	}}
	node.need(t)
	for _, mode := range []string{"offered", "required"} {
		url := serveExample(t, "-mode", "pair", "-bind", mode, "-grace", "0")
		command := exec.CommandContext(t.Context(), "node", "dpop.mjs", url)
		command.Env = append(os.Environ(), "no_proxy=127.0.0.1")
		var out, failure bytes.Buffer
		command.Stdout, command.Stderr = &out, &failure
		if err := command.Run(); err != nil {
			t.Fatalf("%v\n%s", err, failure.String())
		}
		stories := map[string]story{}
		if err := json.Unmarshal(out.Bytes(), &stories); err != nil || len(stories) != 3 {
			t.Fatalf("dpop.mjs printed %s: %v", out.String(), err)
		}
		want := story{
			Login:      "bearer",
			Refreshes:  []string{"new token", "new token", "new token"},
			Requests:   3, // every answer has the nonce for the next refresh
			Restarted:  "new token",
			AnotherKey: "use_dpop_nonce",
			NoProof:    "use_dpop_nonce",
			Afterwards: "new token",

			RequestsWithoutNonce: 2,
		}
		for client, got := range stories {
			if !reflect.DeepEqual(got, want) {
				t.Errorf("-bind %s, %s:\n%+v, want\n%+v", mode, client, got, want)
			}
			t.Log("proof: with", client)
		}
	}
}
