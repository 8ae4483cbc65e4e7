package main

import (
	"net/http"
	"testing"

	"github.com/ginrefresh/ginrefresh/bench/internal/contest"
	"github.com/ginrefresh/ginrefresh/middleware"
)

// small are the sizes for tests.
var small = sizes{warm: 100, once: 300, onceRSA: 20, background: 100}

// TestScenarios runs each benchmark's body, so that none rots.
func TestScenarios(t *testing.T) {
	for _, s := range scenarios(sizes{warm: 4, once: 4, onceRSA: 4, background: 4}) {
		t.Run(s.name, func(t *testing.T) {
			server := s.server()
			s.serve(t, server, s.requests())
		})
	}
}

// ceilings are the allocations per request that ginrefresh may make.
var ceilings = map[string]float64{
	"Warm/HS256/ginrefresh": maxWarmAllocs,
	"Warm/RS256/ginrefresh": maxWarmAllocs,
	"Warm/ES256/ginrefresh": maxWarmAllocs,
	"Warm/EdDSA/ginrefresh": maxWarmAllocs,
	"Cold/HS256/ginrefresh": maxColdAllocs,
}

func TestAllocations(t *testing.T) {
	checked := 0
	for _, s := range scenarios(small) {
		ceiling, ok := ceilings[s.name]
		if !ok {
			continue
		}
		checked++
		t.Run(s.name, func(t *testing.T) {
			if got := s.allocations(t); got > ceiling {
				t.Errorf("%.1f allocations per request, more than %.0f", got, ceiling)
			}
		})
	}
	if checked != len(ceilings) {
		t.Errorf("%d of %d ceilings were checked", checked, len(ceilings))
	}
}

func (s scenario) allocations(t testing.TB) float64 {
	requests, server := s.requests(), s.server()
	if s.once {
		server.Serve(nobodys)
	} else {
		s.warmUp(t, server, requests)
	}
	next := 0
	return testing.AllocsPerRun(len(requests)-1, func() {
		s.serve(t, server, requests[next:next+1])
		next++
	})
}

// TestRevokedByOthers is why the tables have one line under "revoked": no peer has a blacklist, so a token whose
// session was ended is to them as good as any.
func TestRevokedByOthers(t *testing.T) {
	f := newFixture(middleware.HS256, small)
	revoked := f.revoked()
	for _, c := range contest.Contestants {
		if c.Tokens != nil {
			continue // its tokens are not ours to end
		}
		wanted := http.StatusOK
		if c.ID == contest.Ours || c.ID == contest.OursLooking {
			wanted = http.StatusUnauthorized
		}
		if status := c.Guarded(f.key, f.store).Serve(revoked[0]); status != wanted {
			t.Errorf("%s answered %d to a revoked token, not %d", c.ID, status, wanted)
		}
	}
}
