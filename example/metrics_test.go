package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
)

// series parses the library's metrics in Prometheus' text format.
func series(t *testing.T, text string) map[string]float64 {
	t.Helper()
	values := map[string]float64{}
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || !strings.HasPrefix(name, "ginrefresh_") {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		values[name] = n
	}
	return values
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	s := start(t, "-grace", "0")
	before := series(t, s.get("/metrics", "").body)
	if n, ok := before[`ginrefresh_events_total{code="token_reused",event="reuse"}`]; !ok || n != 0 {
		t.Errorf("the counter of reuse does not start at 0: %v", before)
	}

	token := s.login("admin")
	s.is(s.send("POST", "/login", "", "application/x-www-form-urlencoded", "username=admin&password=wrong"), 401, "invalid_credentials")
	s.is(s.get("/protected", ""), 401, "token_missing")
	s.is(s.get("/admin", s.login("alice")), 403, "forbidden")
	next := s.token(s.post("/refresh", token))
	s.is(s.get("/protected", token), 401, "token_revoked")
	s.is(s.post("/refresh", token), 401, "token_reused")
	s.is(s.post("/refresh", next), 401, "token_revoked")
	s.is(s.post("/logout", s.login("admin")), 204, "")
	s.is(s.post("/logout/all", s.login("alice")), 204, "")

	after := series(t, s.get("/metrics", "").body)
	for name, want := range map[string]float64{
		`ginrefresh_events_total{code="",event="login"}`:                           4,
		`ginrefresh_events_total{code="invalid_credentials",event="login_failed"}`: 1,
		`ginrefresh_events_total{code="",event="refresh"}`:                         1,
		`ginrefresh_events_total{code="token_reused",event="reuse"}`:               1,
		`ginrefresh_events_total{code="",event="logout"}`:                          1,
		`ginrefresh_events_total{code="",event="logout_all"}`:                      1,
		`ginrefresh_events_total{code="token_missing",event="rejected"}`:           1,
		`ginrefresh_events_total{code="token_revoked",event="rejected"}`:           2,
		`ginrefresh_events_total{code="forbidden",event="rejected"}`:               1,
		`ginrefresh_blacklist_records`:                                             5, // two ended sessions, one subject and the lists of two users
		`ginrefresh_store_errors_total{operation="swap"}`:                          0,
		`ginrefresh_store_duration_seconds_count{operation="swap"}`:                8, // four for the lists of sessions, one for each login
	} {
		if got, ok := after[name]; !ok || got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if after[`ginrefresh_token_cache_total{result="miss"}`] == 0 {
		t.Errorf("the misses of the token cache are not counted: %v", after)
	}
	for name := range after {
		if strings.Contains(name, "admin") || strings.Contains(name, "alice") {
			t.Errorf("the series %s contains a user name", name)
		}
	}
}

// slowStore is a Store that is not a Peeker.
type slowStore struct{ err error }

func (s slowStore) Get(_ context.Context, keys ...string) ([]string, time.Time, error) {
	return make([]string, len(keys)), time.UnixMicro(0), s.err
}

func (s slowStore) CompareAndSwap(context.Context, string, string, string, time.Time) (bool, error) {
	return s.err == nil, s.err
}

// recentStore is a RecentPeeker that knows every answer.
type recentStore struct {
	slowStore
	peeked *atomic.Int64
}

func (s recentStore) PeekRecent(string) (string, time.Time, bool) {
	s.peeked.Add(1)
	return "", time.UnixMicro(0), true
}

// A guard reads the recent answers of a store that is observed.
func TestObservedRecentPeeker(t *testing.T) {
	t.Parallel()
	observed := recentStore{peeked: new(atomic.Int64)}
	m := newMetrics()
	auth, err := newAuth(settings{mode: "single", bind: "off", alg: "HS256", ttl: time.Minute, refreshTTL: time.Hour},
		m.observe(observed), slog.New(slog.DiscardHandler), m)
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := auth.Issue(t.Context(), middleware.Identity{Subject: "admin"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := auth.Verify(t.Context(), tokens.AccessToken); err != nil {
		t.Fatal(err)
	}
	if observed.peeked.Load() == 0 {
		t.Error("the check asked the store, although it knows a recent answer")
	}
}

// An observed store is a Peeker if, and only if, the store is one.
func TestObservedStore(t *testing.T) {
	t.Parallel()
	memory := store.NewMemory()
	defer memory.Close()
	if _, ok := newMetrics().observe(memory).(middleware.Peeker); !ok {
		t.Error("an observed Memory is not a Peeker")
	}

	failure := errors.New("down")
	for name, row := range map[string]struct {
		err    error
		errors float64
	}{
		"success":         {nil, 0},
		"failure":         {failure, 1},
		"timeout":         {context.DeadlineExceeded, 1},
		"client hangs up": {context.Canceled, 0},
	} {
		m := newMetrics()
		observed := m.observe(slowStore{row.err})
		if _, ok := observed.(middleware.Peeker); ok {
			t.Errorf("%s: the observed store is a Peeker", name)
		}
		if _, _, err := observed.Get(t.Context(), "a", "b"); err != row.err {
			t.Errorf("%s: Get returned %v", name, err)
		}
		if swapped, err := observed.CompareAndSwap(t.Context(), "a", "", "x", time.Now()); err != row.err || swapped != (err == nil) {
			t.Errorf("%s: CompareAndSwap returned %v, %v", name, swapped, err)
		}
		r := gin.New()
		r.GET("/metrics", m.handler())
		answer := httptest.NewRecorder()
		r.ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
		got := series(t, answer.Body.String())
		for _, operation := range []string{"get", "swap"} {
			label := `{operation="` + operation + `"}`
			if got["ginrefresh_store_errors_total"+label] != row.errors || got["ginrefresh_store_duration_seconds_count"+label] != 1 {
				t.Errorf("%s: got the series %v", name, got)
			}
		}
		if _, ok := got["ginrefresh_blacklist_records"]; ok {
			t.Errorf("%s: there is a gauge of records for a store without Len", name)
		}
	}
}

// The dashboard queries only series that exist.
func TestDashboard(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(content, &dashboard); err != nil {
		t.Fatal(err)
	}
	s := start(t)
	s.login("admin")
	known := map[string]bool{}
	for name := range series(t, s.get("/metrics", "").body) {
		name, _, _ = strings.Cut(name, "{")
		known[name] = true
	}
	used := map[string]bool{}
	for _, panel := range dashboard.Panels {
		if panel.Title == "" || len(panel.Targets) == 0 {
			t.Errorf("the panel %+v has no title or no query", panel)
		}
		for _, target := range panel.Targets {
			for _, name := range regexp.MustCompile(`ginrefresh_\w+`).FindAllString(target.Expr, -1) {
				used[name] = true
			}
		}
	}
	for name := range used {
		if !known[name] {
			t.Errorf("the dashboard queries %s, the server exports %q", name, slices.Sorted(maps.Keys(known)))
		}
	}
	for _, name := range []string{"ginrefresh_events_total", "ginrefresh_store_duration_seconds_bucket", "ginrefresh_store_errors_total", "ginrefresh_blacklist_records", "ginrefresh_token_cache_total"} {
		if !used[name] {
			t.Errorf("the dashboard does not show %s", name)
		}
	}
}
