package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestPromises breaks stores with little load. What must hold is part of each scenario.
func TestPromises(t *testing.T) {
	_, err := exec.LookPath("redis-server")
	if err != nil && os.Getenv("CI") != "" {
		t.Fatal("redis-server is not installed, but CI requires it")
	}
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			local := strings.HasPrefix(s.name, "memory:") || strings.HasPrefix(s.name, "bolt:")
			if s.long || err != nil && !local {
				t.SkipNow()
			}
			t.Parallel()
			r, err := s.run(t.Context(), little)
			if err != nil {
				t.Fatal(err)
			}
			t.Log(r)
			passes, forks := "revoked tokens pass", "forks"
			if s.promises&noPass == 0 {
				passes = "tokens pass after an old file or snapshot is restored"
			}
			if s.promises&noForks == 0 {
				forks = "forks after a restart or a restore"
			}
			t.Logf("proof: 1 faults, %d logouts, %d %s, %d %s", r.logouts.Load(), r.forks.Load(), forks,
				r.endedPass.Load()+r.replacedPass.Load()+r.refreshed.Load(), passes)
			for _, text := range s.broken(r) {
				t.Error(text)
			}
		})
	}
}
