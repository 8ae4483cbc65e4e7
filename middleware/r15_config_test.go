package middleware_test

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// R15: New returns one error that lists every mistake in the Config. See also usability_test.go and verify_only_test.go.

// mistakes are Configs with one mistake. The error must contain the words: the field, and what to do.
var mistakes = map[string]struct {
	make  change
	words []string
}{
	"no store":                 {func(c *middleware.Config) { c.Store = nil }, []string{"Store", "store.NewMemory()"}},
	"no key":                   {func(c *middleware.Config) { c.Keys = nil }, []string{"Keys", "at least one"}},
	"TTL negative":             {func(c *middleware.Config) { c.TTL = -time.Second }, []string{"TTL is -1s", "at least one"}},
	"TTL under a second":       {func(c *middleware.Config) { c.TTL = time.Millisecond }, []string{"TTL is 1ms", "whole seconds"}},
	"TTL with a fraction":      {func(c *middleware.Config) { c.TTL = 1500 * time.Millisecond }, []string{"TTL is 1.5s", "whole seconds"}},
	"RefreshTTL fraction":      {func(c *middleware.Config) { c.RefreshTTL = 2*time.Hour + 1 }, []string{"RefreshTTL is 2h0m0.000000001s", "whole seconds"}},
	"RefreshTTL as TTL":        {func(c *middleware.Config) { c.TTL, c.RefreshTTL = time.Hour, time.Hour }, []string{"RefreshTTL is 1h", "longer"}},
	"RefreshTTL under TTL":     {func(c *middleware.Config) { c.TTL, c.RefreshTTL = time.Hour, time.Minute }, []string{"RefreshTTL is 1m", "longer"}},
	"RefreshTTL under one":     {func(c *middleware.Config) { c.RefreshTTL = time.Minute }, []string{"RefreshTTL is 1m", "TTL 1h", "longer"}},
	"RefreshTTL negative":      {func(c *middleware.Config) { c.RefreshTTL = -time.Hour }, []string{"RefreshTTL is -1h", "longer"}},
	"TTL over the default":     {func(c *middleware.Config) { c.TTL = 15 * 24 * time.Hour }, []string{"RefreshTTL is 336h", "longer"}},
	"IdleTTL as TTL":           {func(c *middleware.Config) { c.IdleTTL = time.Hour }, []string{"IdleTTL is 1h", "longer"}},
	"IdleTTL negative":         {func(c *middleware.Config) { c.IdleTTL = -time.Hour }, []string{"IdleTTL is -1h"}},
	"Grace over 5 minutes":     {func(c *middleware.Config) { c.Grace = 5*time.Minute + 1 }, []string{"Grace is 5m0.000000001s", "exceed 5m"}},
	"Leeway negative":          {func(c *middleware.Config) { c.Leeway = -time.Second }, []string{"Leeway is -1s", "negative"}},
	"StoreTimeout negative":    {func(c *middleware.Config) { c.StoreTimeout = -time.Second }, []string{"StoreTimeout is -1s", "positive"}},
	"RefreshTTL over 50 years": {func(c *middleware.Config) { c.RefreshTTL = maxLifetime + time.Second }, []string{"RefreshTTL is", "50 years"}},
	"IdleTTL over 50 years":    {func(c *middleware.Config) { c.IdleTTL = maxLifetime + time.Second }, []string{"IdleTTL is", "50 years"}},
	"Leeway over 50 years":     {func(c *middleware.Config) { c.Leeway = math.MaxInt64 }, []string{"Leeway is", "50 years"}},
	"Issuer not UTF-8":         {func(c *middleware.Config) { c.Issuer = "\xff" }, []string{"Issuer", "UTF-8"}},
	"Audience not UTF-8":       {func(c *middleware.Config) { c.Audience = "\xff" }, []string{"Audience", "UTF-8"}},
	"Realm with a quote":       {func(c *middleware.Config) { c.Realm = `a"b` }, []string{"Realm", "quotes"}},
	"Realm with a backslash":   {func(c *middleware.Config) { c.Realm = `a\` }, []string{"Realm", "backslashes"}},
	"Realm with a newline":     {func(c *middleware.Config) { c.Realm = "a\r\nX-Evil: 1" }, []string{"Realm", "printable"}},
	"Realm not ASCII":          {func(c *middleware.Config) { c.Realm = "é" }, []string{"Realm", "ASCII"}},
	"Bind unknown":             {func(c *middleware.Config) { c.Bind, c.Pair = "yes", true }, []string{`Bind is "yes"`, "BindOffered"}},
	"Bind without Pair":        {func(c *middleware.Config) { c.Bind = middleware.BindOffered }, []string{"Bind", "Pair"}},
	"PublicURL without host":   {publicURL("api.example.org"), []string{"PublicURL", "https://"}},
	"PublicURL with query":     {publicURL("https://api.example.org/?a"), []string{"PublicURL", "https://"}},
	"PublicURL with fragment":  {publicURL("https://api.example.org/#a"), []string{"PublicURL", "https://"}},
	"PublicURL with user":      {publicURL("https://user@api.example.org"), []string{"PublicURL", "https://"}},
	"PublicURL not ASCII":      {publicURL("https://bücher.example"), []string{"PublicURL", "https://"}},
	"PublicURL of WebSockets":  {publicURL("wss://api.example.org"), []string{"PublicURL", "https://"}},
	"secret short":             {keys(hs256("", make([]byte, 31))), []string{"Keys[0]", "32 bytes", "31"}},
	"secret empty":             {keys(hs256("", []byte{})), []string{"Keys[0]", "32 bytes", "has 0"}},
	"secret nil":               {keys(hs256("", nil)), []string{"Keys[0]", "32 bytes"}},
	"second secret short":      {keys(hs256("a", secret), hs256("b", []byte("short"))), []string{"Keys[1]", "32 bytes", "5"}},
	"key missing":              {keys(middleware.Key{Algorithm: middleware.HS256}), []string{"Keys[0]", "HS256", "[]byte"}},
	"key a string":             {keys(middleware.Key{Algorithm: middleware.HS256, Key: string(secret)}), []string{"Keys[0]", "HS256", "[]byte", "string"}},
	"algorithm missing":        {keys(middleware.Key{Key: secret}), []string{"Keys[0]", "Algorithm", "HS256"}},
	"algorithm unknown":        {keys(middleware.Key{Algorithm: "HS257", Key: secret}), []string{"Keys[0]", "Algorithm", `"HS257"`}},
	"algorithm none":           {keys(middleware.Key{Algorithm: "none", Key: secret}), []string{"Keys[0]", "Algorithm", `"none"`}},
	"algorithm in lower":       {keys(middleware.Key{Algorithm: "hs256", Key: secret}), []string{"Keys[0]", "Algorithm", `"hs256"`}},
	"two keys of one ID":       {keys(hs256("a", secret), hs256("a", bytes.Repeat([]byte("x"), 32))), []string{"Keys[1]", `"a"`, "own"}},
	"two keys without ID":      {keys(hs256("", secret), hs256("", bytes.Repeat([]byte("x"), 32))), []string{"Keys[1]", "ID", "own"}},
	"ID not UTF-8":             {keys(hs256("\xff", secret)), []string{"Keys[0]", "ID", "UTF-8"}},
}

func TestR15EachMistakeAlone(t *testing.T) {
	for name, mistake := range mistakes {
		auth, err := middleware.New(newConfig(t, mistake.make))
		if err == nil || auth != nil {
			t.Errorf("R15: %s: New returns %v and %v, want only an error", name, auth, err)
			continue
		}
		if text := err.Error(); strings.Contains(text, "\n") || !strings.HasPrefix(text, "middleware: ") || strings.Contains(text, string(secret)) {
			t.Errorf("R15: %s: error %q, want one line with the package's name and without a secret", name, text)
		}
		for _, word := range mistake.words {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("R15: %s: error %q, want %q in it", name, err, word)
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
		t.Fatal("R15: New returns no error")
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
			t.Errorf("R15: the line %q does not begin with the package's name", line)
		}
	}
}

// Values at the limits are accepted.
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

// If StoreTimeout were not shorter than Grace, the grace period could end before the swap takes effect.
func TestR15StoreTimeoutIsShorterThanTheGrace(t *testing.T) {
	for _, row := range []struct {
		grace, timeout time.Duration
		ok             bool
	}{
		{0, 0, true}, {time.Second, 0, true}, {-1, time.Minute, true}, {2 * time.Second, time.Second, true},
		{0, 10*time.Second - 1, true}, {0, 10 * time.Second, false}, {time.Second, time.Second, false},
	} {
		_, err := middleware.New(newConfig(t, func(c *middleware.Config) { c.Grace, c.StoreTimeout = row.grace, row.timeout }))
		if (err == nil) != row.ok || err != nil && !strings.Contains(err.Error(), "StoreTimeout") {
			t.Errorf("R15: Grace %v, StoreTimeout %v: %v", row.grace, row.timeout, err)
		}
	}
}

func TestR15SourceWithoutName(t *testing.T) {
	for i, source := range []middleware.Source{{}, middleware.FromHeader("", "Bearer"), middleware.FromCookie(""), middleware.FromQuery(""), middleware.FromForm(""), middleware.FromParam("")} {
		_, err := middleware.New(newConfig(t, func(c *middleware.Config) { c.Sources = []middleware.Source{middleware.FromQuery("jwt"), source} }))
		if err == nil || !strings.Contains(err.Error(), "Sources[1]") {
			t.Errorf("R15: source %d without a name: error %v", i, err)
		}
	}
}
