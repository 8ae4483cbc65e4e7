package middleware_test

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// mistakes are each wrong alone. The words are what the error must say: the field, and what to do.
var mistakes = map[string]struct {
	make  change
	words []string
}{
	"no store":               {func(c *middleware.Config) { c.Store = nil }, []string{"Store", "store.NewMemory()"}},
	"no key":                 {func(c *middleware.Config) { c.Keys = nil }, []string{"Keys", "at least one"}},
	"TTL negative":           {func(c *middleware.Config) { c.TTL = -time.Second }, []string{"TTL is -1s", "at least one"}},
	"TTL under a second":     {func(c *middleware.Config) { c.TTL = time.Millisecond }, []string{"TTL is 1ms", "whole seconds"}},
	"TTL with a fraction":    {func(c *middleware.Config) { c.TTL = 1500 * time.Millisecond }, []string{"TTL is 1.5s", "whole seconds"}},
	"RefreshTTL fraction":    {func(c *middleware.Config) { c.RefreshTTL = 2*time.Hour + 1 }, []string{"RefreshTTL is 2h0m0.000000001s", "whole seconds"}},
	"RefreshTTL as TTL":      {func(c *middleware.Config) { c.TTL, c.RefreshTTL = time.Hour, time.Hour }, []string{"RefreshTTL is 1h", "longer"}},
	"RefreshTTL under TTL":   {func(c *middleware.Config) { c.TTL, c.RefreshTTL = time.Hour, time.Minute }, []string{"RefreshTTL is 1m", "longer"}},
	"RefreshTTL under one":   {func(c *middleware.Config) { c.RefreshTTL = time.Minute }, []string{"RefreshTTL is 1m", "TTL 1h", "longer"}},
	"RefreshTTL negative":    {func(c *middleware.Config) { c.RefreshTTL = -time.Hour }, []string{"RefreshTTL is -1h", "longer"}},
	"TTL over the default":   {func(c *middleware.Config) { c.TTL = 15 * 24 * time.Hour }, []string{"RefreshTTL is 336h", "longer"}},
	"IdleTTL as TTL":         {func(c *middleware.Config) { c.IdleTTL = time.Hour }, []string{"IdleTTL is 1h", "longer"}},
	"IdleTTL negative":       {func(c *middleware.Config) { c.IdleTTL = -time.Hour }, []string{"IdleTTL is -1h"}},
	"Grace over 5 minutes":   {func(c *middleware.Config) { c.Grace = 5*time.Minute + 1 }, []string{"Grace is 5m0.000000001s", "exceed 5m"}},
	"Leeway negative":        {func(c *middleware.Config) { c.Leeway = -time.Second }, []string{"Leeway is -1s", "negative"}},
	"StoreTimeout negative":  {func(c *middleware.Config) { c.StoreTimeout = -time.Second }, []string{"StoreTimeout is -1s", "positive"}},
	"RefreshTTL of ages":     {func(c *middleware.Config) { c.RefreshTTL = longest + time.Second }, []string{"RefreshTTL is", "50 years"}},
	"IdleTTL of ages":        {func(c *middleware.Config) { c.IdleTTL = longest + time.Second }, []string{"IdleTTL is", "50 years"}},
	"Leeway of ages":         {func(c *middleware.Config) { c.Leeway = math.MaxInt64 }, []string{"Leeway is", "50 years"}},
	"Issuer not UTF-8":       {func(c *middleware.Config) { c.Issuer = "\xff" }, []string{"Issuer", "UTF-8"}},
	"Audience not UTF-8":     {func(c *middleware.Config) { c.Audience = "\xff" }, []string{"Audience", "UTF-8"}},
	"Realm with a quote":     {func(c *middleware.Config) { c.Realm = `a"b` }, []string{"Realm", "quotes"}},
	"Realm with a backslash": {func(c *middleware.Config) { c.Realm = `a\` }, []string{"Realm", "backslashes"}},
	"Realm with a newline":   {func(c *middleware.Config) { c.Realm = "a\r\nX-Evil: 1" }, []string{"Realm", "printable"}},
	"Realm not ASCII":        {func(c *middleware.Config) { c.Realm = "é" }, []string{"Realm", "ASCII"}},
	"secret short":           {keys(hs256("", make([]byte, 31))), []string{"Keys[0]", "32 bytes", "31"}},
	"secret empty":           {keys(hs256("", []byte{})), []string{"Keys[0]", "32 bytes", "has 0"}},
	"secret nil":             {keys(hs256("", nil)), []string{"Keys[0]", "32 bytes"}},
	"second secret short":    {keys(hs256("a", secret), hs256("b", []byte("short"))), []string{"Keys[1]", "32 bytes", "5"}},
	"key missing":            {keys(middleware.Key{Algorithm: middleware.HS256}), []string{"Keys[0]", "HS256", "[]byte"}},
	"key a string":           {keys(middleware.Key{Algorithm: middleware.HS256, Key: string(secret)}), []string{"Keys[0]", "HS256", "[]byte", "string"}},
	"algorithm missing":      {keys(middleware.Key{Key: secret}), []string{"Keys[0]", "Algorithm", "HS256"}},
	"algorithm unknown":      {keys(middleware.Key{Algorithm: "HS257", Key: secret}), []string{"Keys[0]", "Algorithm", `"HS257"`}},
	"algorithm none":         {keys(middleware.Key{Algorithm: "none", Key: secret}), []string{"Keys[0]", "Algorithm", `"none"`}},
	"algorithm in lower":     {keys(middleware.Key{Algorithm: "hs256", Key: secret}), []string{"Keys[0]", "Algorithm", `"hs256"`}},
	"two keys of one ID":     {keys(hs256("a", secret), hs256("a", bytes.Repeat([]byte("x"), 32))), []string{"Keys[1]", `"a"`, "own"}},
	"two keys without ID":    {keys(hs256("", secret), hs256("", bytes.Repeat([]byte("x"), 32))), []string{"Keys[1]", "ID", "own"}},
	"ID not UTF-8":           {keys(hs256("\xff", secret)), []string{"Keys[0]", "ID", "UTF-8"}},
}

func keys(keys ...middleware.Key) change {
	return func(c *middleware.Config) { c.Keys = keys }
}

func TestR15EachMistakeAlone(t *testing.T) {
	for name, mistake := range mistakes {
		auth, err := middleware.New(newConfig(t, mistake.make))
		if err == nil || auth != nil {
			t.Errorf("R15: %s: New gives %v, %v, want an error only", name, auth, err)
			continue
		}
		if text := err.Error(); strings.Contains(text, "\n") || !strings.HasPrefix(text, "middleware: ") || strings.Contains(text, string(secret)) {
			t.Errorf("R15: %s: error %q, want one line, by the package, without a secret", name, text)
		}
		for _, word := range mistake.words {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("R15: %s: error %q does not say %q", name, err, word)
			}
		}
	}
}

func TestR15AllMistakesAtOnce(t *testing.T) {
	together := []string{
		"no store", "TTL negative", "RefreshTTL negative", "IdleTTL negative", "Grace over 5 minutes", "Leeway negative", "StoreTimeout negative",
		"Issuer not UTF-8", "Audience not UTF-8", "Realm with a quote", "second secret short",
	}
	config := newConfig(t)
	for _, name := range together {
		mistakes[name].make(&config)
	}
	config.Keys = append(config.Keys, middleware.Key{Key: secret}, hs256("a", secret))
	_, err := middleware.New(config)
	if err == nil {
		t.Fatal("R15: New gives no error")
	}
	for _, field := range []string{
		"Store is", "TTL is -1s", "RefreshTTL is -1h", "IdleTTL is -1h", "Grace is 5m", "Leeway is -1s", "StoreTimeout is -1s", "Issuer is", "Audience is", "Realm is",
		"Keys[1]:", "Keys[2]:", "Keys[3]:",
	} {
		if strings.Count(err.Error(), field) < 1 {
			t.Errorf("R15: the error does not list %q:\n%v", field, err)
		}
	}
	for line := range strings.Lines(err.Error()) {
		if !strings.HasPrefix(line, "middleware: ") {
			t.Errorf("R15: the line %q does not say who speaks", line)
		}
	}
}

// What is at the edge is no mistake.
func TestR15Allowed(t *testing.T) {
	for name, change := range map[string]change{
		"nothing but keys and store": func(c *middleware.Config) { *c = middleware.Config{Keys: c.Keys, Store: c.Store} },
		"TTL of a second":            func(c *middleware.Config) { c.TTL, c.RefreshTTL = time.Second, 2*time.Second },
		"Grace of 5 minutes":         func(c *middleware.Config) { c.Grace = 5 * time.Minute },
		"no grace":                   noGrace,
		"IdleTTL over TTL":           func(c *middleware.Config) { c.IdleTTL = time.Hour + 1 },
		"secret of 32 bytes":         keys(hs256("", make([]byte, 32))),
		"secret of 1 KiB":            keys(hs256("", make([]byte, 1024))),
		"one key without ID":         keys(hs256("", secret), hs256("a", secret)),
		"IDs of any characters":      keys(hs256(`ключ "<&>`, secret)),
		"Realm with spaces":          func(c *middleware.Config) { c.Realm = "my api, v1; ~!#" },
	} {
		t.Run(name, func(t *testing.T) {
			auth := newAuth(t, change)
			verify(t, auth, refresh(t, auth, login(t, auth)))
		})
	}
}

// The zero values are the defaults that the comments promise.
func TestDefaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := newConfig(t)
		auth, err := middleware.New(middleware.Config{Keys: config.Keys, Store: config.Store, Authenticate: config.Authenticate})
		if err != nil {
			t.Fatal(err)
		}
		s := direct(t, routes(auth))
		wait := func(d time.Duration) { <-time.After(d) }

		first := s.send("POST", "/login?user=admin")
		fields := first.fields(t)
		if fields["expires_in"] != json.Number("3600") || fields["refresh_expires_in"] != json.Number("1209600") {
			t.Errorf("TTL and RefreshTTL by default: %s, want 1 h and 14 d", first.body)
		}
		text := first.token(t)
		wait(time.Second)
		next := refresh(t, auth, text)
		wait(10 * time.Second)
		s.send("GET", "/required", bearer(text)).passed(t, "admin")
		wait(time.Microsecond)
		s.send("GET", "/required", bearer(text)).refused(t, middleware.CodeTokenRevoked) // Grace 10 s; and the realm is api

		wait(time.Hour - 10*time.Second - 2*time.Microsecond)
		s.send("GET", "/required", bearer(next)).passed(t, "admin")
		wait(time.Microsecond)
		s.send("GET", "/required", bearer(next)).refused(t, middleware.CodeTokenExpired) // Leeway 0
		wait(14*24*time.Hour - time.Hour - time.Second - time.Microsecond)
		next = refresh(t, auth, next) // IdleTTL off
		wait(time.Microsecond)
		s.send("POST", "/refresh", bearer(next)).refused(t, middleware.CodeRefreshExpired)
	})
}

func TestRealm(t *testing.T) {
	s := direct(t, routes(newAuth(t, func(c *middleware.Config) { c.Realm = "my api" })))
	if got := s.send("GET", "/required").header.Get("WWW-Authenticate"); got != `Bearer realm="my api"` {
		t.Errorf("the challenge is %q", got)
	}
}

// What New was given can be reused or wiped by its owner.
func TestNewKeepsNoReferences(t *testing.T) {
	mine := slices.Clone(secret)
	list := []middleware.Key{hs256("", mine)}
	auth := newAuth(t, func(c *middleware.Config) { c.Keys = list })
	text := login(t, auth)
	clear(mine)
	list[0] = middleware.Key{}
	verify(t, auth, text)
	verify(t, newAuth(t), login(t, auth)) // it still signs with the secret as it was
}

// longest is the longest lifetime that New takes.
const longest = 50 * 365 * 24 * time.Hour

// The longest lifetimes must not overflow into records that are forgotten at once (R13).
func TestR13LongestLifetimes(t *testing.T) {
	for name, change := range map[string]change{
		"RefreshTTL": func(c *middleware.Config) { c.RefreshTTL = longest },
		"IdleTTL":    func(c *middleware.Config) { c.IdleTTL = longest },
		"Leeway":     func(c *middleware.Config) { c.Leeway = longest },
		"all": func(c *middleware.Config) {
			c.TTL, c.RefreshTTL, c.IdleTTL, c.Leeway = longest-time.Second, longest, longest, longest
		},
	} {
		t.Run(name, func(t *testing.T) {
			auth := newAuth(t, change)
			ended := func(what string, revoke func(text string) error) {
				t.Helper()
				text := login(t, auth)
				verify(t, auth, text)
				if err := revoke(text); err != nil {
					t.Errorf("R13: %s: %v", what, err)
				}
				if _, err := auth.Verify(t.Context(), text); !hasCode(err, middleware.CodeTokenRevoked) {
					t.Errorf("R13: after %s the token gives %v, want %s", what, err, middleware.CodeTokenRevoked)
				}
			}
			ended("Logout", func(text string) error { return auth.Logout(t.Context(), text) })
			ended("RevokeSession", func(text string) error { return auth.RevokeSession(t.Context(), membersOf(t, text).sid()) })
			ended("RevokeSubject", func(string) error { return auth.RevokeSubject(t.Context(), "admin") })
			verify(t, auth, refresh(t, auth, issue(t, auth, middleware.Identity{Subject: "alice"})))
		})
	}
}

// Mistakes in the routes are told at start-up.
func TestConstructorsPanic(t *testing.T) {
	auth := newAuth(t)
	mustPanic(t, "AutoRefresh(-1)", func() { auth.AutoRefresh(-1) }, "AutoRefresh", "within >= 0")
	mustPanic(t, "Fresh(0)", func() { auth.Fresh(0) }, "Fresh", "maxAge > 0")
	mustPanic(t, "Fresh(-1)", func() { auth.Fresh(-time.Hour) }, "Fresh", "maxAge > 0")
	mustPanic(t, "Allow(nil)", func() { auth.Allow(nil) }, "Allow", "condition")
}

// One login may ask for less than the configuration allows, and never for more (R13).
func TestR13LifetimesOfOneLogin(t *testing.T) {
	auth := newAuth(t, func(c *middleware.Config) { c.TTL, c.RefreshTTL = time.Hour, 24*time.Hour })
	for name, row := range map[string]struct{ ttl, refreshTTL, wantTTL, wantRefreshTTL time.Duration }{
		"none":             {0, 0, time.Hour, 24 * time.Hour},
		"shorter":          {time.Minute, time.Hour, time.Minute, time.Hour},
		"longer":           {48 * time.Hour, 1000 * time.Hour, time.Hour, 24 * time.Hour},
		"longest":          {math.MaxInt64, math.MaxInt64, time.Hour, 24 * time.Hour},
		"window under TTL": {0, time.Minute, time.Minute, time.Minute},
		"fractions":        {90*time.Second + 999*time.Millisecond, 3*time.Minute + 1, 90 * time.Second, 3 * time.Minute},
	} {
		tokens, err := auth.Issue(context.Background(), middleware.Identity{Subject: "admin", TTL: row.ttl, RefreshTTL: row.refreshTTL})
		if err != nil {
			t.Errorf("R13: %s: %v", name, err)
			continue
		}
		for range 2 {
			ttl, window := tokens.ExpiresAt.Sub(tokens.Claims.IssuedAt), tokens.RefreshUntil.Sub(tokens.Claims.AuthTime)
			if ttl != row.wantTTL || window != row.wantRefreshTTL {
				t.Errorf("R13: %s: %v and %v, want %v and %v", name, ttl, window, row.wantTTL, row.wantRefreshTTL)
			}
			if tokens, err = auth.Refresh(context.Background(), tokens.AccessToken); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, id := range []middleware.Identity{{TTL: -1}, {RefreshTTL: -1}, {TTL: time.Second - 1}, {TTL: math.MinInt64}, {RefreshTTL: time.Millisecond}} {
		id.Subject = "admin"
		if tokens, err := auth.Issue(context.Background(), id); err == nil || tokens.AccessToken != "" {
			t.Errorf("R13: lifetimes of %v and %v give no error", id.TTL, id.RefreshTTL)
		}
	}
}
