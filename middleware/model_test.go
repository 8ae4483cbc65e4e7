package middleware

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/ginrefresh/ginrefresh/store"
)

// TestModel compares the state machine with a plain model of R2–R13. It runs random programs of logins, waits, requests,
// refreshes with any token ever issued, logouts and log-outs everywhere, over several sessions of two subjects, on two
// servers that share a store. The model has no blacklist, no cutoffs and no swaps: it remembers what happened to each
// token, and when.
func TestModel(t *testing.T) {
	programs, answers := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		programs++
		var stopped any
		synctest.Test(t, func(*testing.T) {
			defer func() { stopped = recover() }() // a panic must not end the bubble's goroutine
			answers += runProgram(rt)
		})
		switch stopped := stopped.(type) {
		case nil:
		case disagreement:
			rt.Fatal(string(stopped))
		default:
			panic(stopped) // rapid stops a program with a panic of its own
		}
	})
	t.Logf("proof: %d programs, %d answers compared", programs, answers)
}

// disagreement stops a program in which the server and the model differ.
type disagreement string

func disagree(format string, args ...any) { panic(disagreement(fmt.Sprintf(format, args...))) }

// runProgram returns how many answers it has compared.
func runProgram(rt *rapid.T) int {
	m := newModel(rt)
	defer func() { _ = m.store.Close() }()
	rt.Repeat(map[string]func(*rapid.T){
		"login":            m.login,
		"wait":             m.wait,
		"use":              m.use,
		"refresh":          m.refresh,
		"refresh the last": m.refreshLast,
		"auto-refresh":     m.autoRefresh,
		"mix up":           m.mixUp,
		"logout":           m.logout,
		"logout all":       m.logoutAll,
		"revoke session":   m.revokeSession,
		"revoke subject":   m.revokeSubject,
	})
	return m.answers
}

type model struct {
	store    *store.Memory
	servers  []*Auth
	config   Config
	sessions []*modelSession
	tokens   []*modelToken
	answers  int // compared with the model
}

type modelSession struct {
	subject  string
	start    time.Time // in whole seconds, like auth_time
	ttl      time.Duration
	deadline time.Time
	ended    bool
	current  *modelToken
	revoked  bool // with all sessions of its subject
}

// modelToken is the result of one login or refresh: two tokens in pair mode, otherwise one that serves as both.
type modelToken struct {
	session  *modelSession
	claims   Claims // of the access token
	access   string
	refresh  string
	instant  time.Time   // of the token to refresh
	previous *modelToken // the one that it replaced; nil for the login's
}

func newModel(rt *rapid.T) *model {
	pick := func(label string, choices ...time.Duration) time.Duration {
		return rapid.SampledFrom(choices).Draw(rt, label)
	}
	c := Config{
		Keys:               []Key{{Algorithm: HS256, Key: testSecret}},
		TTL:                pick("ttl", 5*time.Second, 20*time.Second),
		RefreshTTL:         pick("refresh ttl", 21*time.Second, time.Minute, time.Hour),
		Grace:              pick("grace", -1, 2*time.Second, 10*time.Second),
		Leeway:             pick("leeway", 0, 0, 1500*time.Millisecond),
		IdleTTL:            pick("idle ttl", 0, 0, 25*time.Second),
		KeepSessionOnReuse: rapid.Bool().Draw(rt, "keep"),
		Pair:               rapid.Bool().Draw(rt, "pair"),
	}
	m := &model{store: store.NewMemory()}
	c.Store = m.store
	m.config = c
	for range 2 {
		auth, err := New(c)
		if err != nil {
			disagree("%v", err)
		}
		m.servers = append(m.servers, auth)
	}
	return m
}

func (m *model) server(rt *rapid.T) *Auth {
	return m.servers[rapid.IntRange(0, len(m.servers)-1).Draw(rt, "server")]
}

func (m *model) token(rt *rapid.T) *modelToken {
	if len(m.tokens) == 0 {
		rt.Skip("no token yet")
	}
	return m.tokens[rapid.IntRange(0, len(m.tokens)-1).Draw(rt, "token")]
}

// The verdicts, each in the words of its rule

func (m *model) alive(t *modelToken) bool {
	return time.Now().Before(t.claims.ExpiresAt.Add(m.config.Leeway)) // R2
}

func (m *model) refreshable(t *modelToken) bool { // R5
	window := t.session.start.Add(m.config.RefreshTTL)
	if t.session.deadline.Before(window) {
		window = t.session.deadline
	}
	idle := m.config.IdleTTL
	return time.Now().Before(window.Add(m.config.Leeway)) && (idle == 0 || time.Since(t.instant) < idle)
}

func (t *modelToken) isRevoked() bool { return t.session.revoked || t.session.ended } // R3

// graceHolds counts from the swap that made t.
func (m *model) graceHolds(t *modelToken) bool {
	return m.config.Grace >= 0 && !time.Now().After(t.instant.Add(m.config.Grace))
}

func (m *model) isInGrace(t *modelToken) bool { // R7
	current := t.session.current
	return t == current.previous && m.graceHolds(current)
}

func (m *model) isReplaced(t *modelToken) bool { // R4
	return t != t.session.current && !m.isInGrace(t)
}

// isSuperseded reports whether t and its successor were both replaced within one grace period (R8).
func (m *model) isSuperseded(t *modelToken) bool {
	previous := t.session.current.previous
	return m.isReplaced(t) && t != previous && m.graceHolds(previous)
}

// isRepeated reports whether a refresh of t returns t again (R6a).
func (m *model) isRepeated(t *modelToken) bool {
	return t == t.session.current && t.previous != nil && m.graceHolds(t) && time.Now().Before(t.claims.ExpiresAt)
}

func (m *model) verdict(t *modelToken) Code {
	switch {
	case !m.alive(t):
		return CodeTokenExpired
	case t.isRevoked(), !m.config.Pair && m.isReplaced(t): // R4: a refresh does not touch access tokens
		return CodeTokenRevoked
	}
	return ""
}

func (m *model) refreshVerdict(t *modelToken) Code {
	switch {
	case !m.refreshable(t):
		return CodeRefreshExpired
	case t.isRevoked(), m.isSuperseded(t):
		return CodeTokenRevoked
	case m.isReplaced(t):
		return CodeTokenReused
	}
	return ""
}

func (m *model) reused(t *modelToken) {
	if !m.config.KeepSessionOnReuse {
		t.session.ended = true
	}
}

// The steps of a program

func (m *model) wait(rt *rapid.T) {
	wait(rapid.SampledFrom([]time.Duration{
		time.Microsecond, 300 * time.Millisecond, time.Second, m.config.TTL, m.config.TTL - time.Microsecond,
		10 * time.Second, 2*time.Second + time.Microsecond, 30 * time.Second, 10 * time.Minute,
	}).Draw(rt, "for"))
}

func (m *model) login(rt *rapid.T) {
	id := Identity{
		Subject:    rapid.SampledFrom([]string{"alice", "bob"}).Draw(rt, "subject"),
		TTL:        rapid.SampledFrom([]time.Duration{0, 3 * time.Second}).Draw(rt, "ttl"),
		RefreshTTL: rapid.SampledFrom([]time.Duration{0, 0, 15 * time.Second}).Draw(rt, "refresh ttl"),
	}
	tokens, err := m.server(rt).Issue(context.Background(), id)
	if err != nil {
		disagree("%v", err)
	}
	start := time.Now().Truncate(time.Second)
	s := &modelSession{subject: id.Subject, start: start, ttl: m.config.TTL, deadline: start.Add(m.config.RefreshTTL)}
	if id.RefreshTTL != 0 {
		s.deadline, s.ttl = start.Add(id.RefreshTTL), min(s.ttl, id.RefreshTTL)
	}
	if id.TTL != 0 {
		s.ttl = min(s.ttl, id.TTL)
	}
	m.sessions = append(m.sessions, s)
	m.issued(s, tokens)
}

// issued checks the claims of a session's new token and records it (R9, R12).
func (m *model) issued(s *modelSession, tokens Tokens) {
	t := &modelToken{session: s, claims: tokens.Claims, access: tokens.AccessToken, refresh: tokens.AccessToken, previous: s.current}
	t.instant = time.UnixMicro(t.claims.token.Instant)
	if m.config.Pair {
		t.refresh, t.instant = tokens.RefreshToken, t.instant.Add(-time.Microsecond)
	}
	second := time.Now().Truncate(time.Second)
	switch c := t.claims; {
	case c.Subject != s.subject:
		disagree("subject %q, want %q", c.Subject, s.subject)
	case !c.IssuedAt.Equal(second) || !c.ExpiresAt.Equal(second.Add(s.ttl)):
		disagree("iat %v exp %v at %v, ttl %v", c.IssuedAt, c.ExpiresAt, second, s.ttl)
	case !c.AuthTime.Equal(s.start) || !tokens.RefreshUntil.Equal(s.deadline):
		disagree("auth_time %v, deadline %v, want %v, %v", c.AuthTime, tokens.RefreshUntil, s.start, s.deadline)
	case t.instant.Before(time.Now()):
		disagree("the instant %v is in the past", t.instant)
	case t.previous != nil && c.SessionID != t.previous.claims.SessionID:
		disagree("the session forked")
	case t.previous != nil && c.token.Instant <= t.previous.claims.token.Instant:
		disagree("the instants do not increase")
	}
	for _, other := range m.tokens {
		if other.claims.ID == t.claims.ID {
			disagree("jti %s was used before", t.claims.ID)
		}
	}
	s.current = t
	m.tokens = append(m.tokens, t)
}

// use presents a token often enough to get it into the cache.
func (m *model) use(rt *rapid.T) {
	t, server := m.token(rt), m.server(rt)
	for range 4 {
		claims, err := server.Verify(context.Background(), t.access)
		m.compare(err, m.verdict(t))
		if err == nil && claims.ID != t.claims.ID {
			disagree("claims of %s, want %s", claims.ID, t.claims.ID)
		}
	}
}

func (m *model) refresh(rt *rapid.T) { m.refreshOne(rt, m.token(rt)) }

// refreshLast makes long chains of refreshes likely.
func (m *model) refreshLast(rt *rapid.T) { m.refreshOne(rt, m.token(rt).session.current) }

func (m *model) refreshOne(rt *rapid.T, t *modelToken) {
	want := m.refreshVerdict(t)
	tokens, err := m.server(rt).Refresh(context.Background(), t.refresh)
	m.compare(err, want)
	m.refreshed(t, tokens, want)
}

// mixUp presents the tokens of a pair for each other's purpose.
func (m *model) mixUp(rt *rapid.T) {
	t := m.token(rt)
	if !m.config.Pair {
		rt.Skip("one token serves as both")
	}
	_, err := m.server(rt).Refresh(context.Background(), t.access)
	m.compare(err, CodeTokenInvalid)
	_, err = m.server(rt).Verify(context.Background(), t.refresh)
	m.compare(err, CodeTokenInvalid)
}

// refreshed updates the model after a refresh with that verdict.
func (m *model) refreshed(t *modelToken, tokens Tokens, verdict Code) {
	switch {
	case verdict == CodeTokenReused:
		m.reused(t)
	case verdict != "":
	case t == t.session.current && !m.isRepeated(t):
		m.issued(t.session, tokens)
	case tokens.AccessToken != t.session.current.access || m.config.Pair && tokens.RefreshToken != t.session.current.refresh:
		disagree("R6a, R7: another token: %s, want %s", tokens.Claims.ID, t.session.current.claims.ID)
	}
}

func (m *model) autoRefresh(rt *rapid.T) {
	t := m.token(rt)
	if m.config.Pair {
		rt.Skip("AutoRefresh is for one-token mode")
	}
	within := rapid.SampledFrom([]time.Duration{0, time.Second, 4 * time.Second}).Draw(rt, "within")
	due := !m.alive(t) || time.Until(t.claims.ExpiresAt) < within && m.refreshable(t)
	want := m.refreshVerdict(t)
	if !due && want == CodeRefreshExpired { // a token that is alive needs no window
		want = ""
		if t.isRevoked() || m.isSuperseded(t) {
			want = CodeTokenRevoked
		} else if m.isReplaced(t) {
			want = CodeTokenReused
		}
	}
	tokens, _, err := m.server(rt).autoRefresh(context.Background(), t.access, within)
	renewed := tokens.AccessToken != ""
	m.compare(err, want)
	if renewed != (due && want == "") {
		disagree("renewed: %v, due: %v, verdict: %q", renewed, due, want)
	}
	if renewed || want != "" {
		m.refreshed(t, tokens, want)
	}
}

// either draws one of the pair.
func (m *model) either(rt *rapid.T, t *modelToken) (text string, isAccess bool) {
	if m.config.Pair && rapid.Bool().Draw(rt, "access token") {
		return t.access, true
	}
	return t.refresh, false
}

// anyAlive reports whether a token of t's session may be alive (R11): the last one is issued just before the deadline.
func (m *model) anyAlive(t *modelToken) bool {
	last := t.session.deadline.Add(t.session.ttl)
	return time.Now().Before(last.Add(2 * m.config.Leeway))
}

func (m *model) logout(rt *rapid.T) { // R11
	t := m.token(rt)
	text, _ := m.either(rt, t)
	want := Code("")
	if !m.anyAlive(t) {
		want = CodeRefreshExpired
	}
	m.compare(m.server(rt).Logout(context.Background(), text), want)
	t.session.ended = t.session.ended || want == ""
}

func (m *model) logoutAll(rt *rapid.T) { // R12
	t := m.token(rt)
	text, isAccess := m.either(rt, t)
	want := Code("")
	switch {
	case isAccess && !m.alive(t):
		want = CodeTokenExpired
	case !isAccess && !m.anyAlive(t):
		want = CodeRefreshExpired
	case t.isRevoked(), !isAccess && m.isReplaced(t):
		want = CodeTokenRevoked
	}
	_, err := m.server(rt).logoutEverywhere(context.Background(), text)
	m.compare(err, want)
	if want == "" {
		m.revokedSubject(t.session.subject)
	}
}

func (m *model) revokeSubject(rt *rapid.T) {
	subject := rapid.SampledFrom([]string{"alice", "bob"}).Draw(rt, "subject")
	m.compare(m.server(rt).RevokeSubject(context.Background(), subject), "")
	m.revokedSubject(subject)
}

func (m *model) revokedSubject(subject string) {
	for _, s := range m.sessions {
		s.revoked = s.revoked || s.subject == subject
	}
}

func (m *model) revokeSession(rt *rapid.T) {
	t := m.token(rt)
	m.compare(m.server(rt).RevokeSession(context.Background(), t.claims.SessionID), "")
	t.session.ended = true
}

func (m *model) compare(err error, want Code) {
	m.answers++
	if got := codeOf(err); got != want {
		disagree("the server says %q, the model %q", got, want)
	}
}
