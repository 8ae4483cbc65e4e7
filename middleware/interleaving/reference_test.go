package interleaving

import (
	"fmt"
	"slices"
	"time"
)

// This file states what must hold after every schedule. It does not know records, cutoffs or instants. It knows only
// which token each call presented, when the call began and was answered, and the answer. R1–R16 are the rules in
// docs/model.md.

// session is a session and the login that began it.
type session struct {
	id     string
	login  *call
	oldKey bool    // its tokens are signed with the key that SetKeys removes
	key    keyName // to which it is bound (R18)
}

// token is the result of a login or a refresh: two tokens in pair mode, otherwise one token that is both.
type token struct {
	access, refresh string
	id              string // jti of the access token
	session         *session
	bound           bool      // the refresh token contains a key
	expires         time.Time // the access token's exp
	madeAt          time.Time // when the swap that made it took effect; zero if a login issued it
	madeIn          int       // the step of that swap, if it was in the schedule
	replacedAt      time.Time // when the swap that replaced it took effect; zero if it was not replaced

	// The answers of both servers after all calls had ended, and of the first server after the grace period as well.
	verified  [2]string
	refreshed [2]string
	successor [2]string
	later     string

	stolen bool // at rest it was refreshed without the session's key
}

type history struct {
	twoTokens bool
	calls     []*call
	sessions  []*session
	tokens    []*token
	restAt    time.Time // when all calls had ended
	limit     int       // of the subject's sessions; 0: none
	listed    []string  // the subject's sessions at rest
	keys      []boundTo // in the tokens

	lostAt     int  // the step at which the store lost records, or 0
	rolledBack bool // it lost only those of the schedule
}

// know returns the token of an answer, or nil if it has none. login is the call to which a new session belongs.
func (h *history) know(a answer, login *call) *token {
	if a.access == "" {
		return nil
	}
	if !h.twoTokens {
		a.refresh = a.access
	}
	c := contents(a.access)
	for _, t := range h.tokens {
		if t.id == c.ID {
			return t
		}
	}
	i := slices.IndexFunc(h.sessions, func(s *session) bool { return s.id == c.Session })
	if i < 0 {
		i = len(h.sessions)
		h.sessions = append(h.sessions, &session{id: c.Session, login: login, oldKey: c.Key == "old"})
	}
	t := &token{access: a.access, refresh: a.refresh, id: c.ID, session: h.sessions[i], expires: time.Unix(c.Expires, 0)}
	h.tokens = append(h.tokens, t)
	if h.twoTokens {
		c = contents(a.refresh)
	}
	if key := keyOf(c); key != noKey {
		h.keys = append(h.keys, boundTo{t.session, key})
		t.session.key, t.bound = key, true
	}
	return t
}

// conclude determines which tokens were replaced, and when.
func (h *history) conclude() {
	for _, c := range h.calls {
		c.got = h.know(c.answer, c)
	}
	for _, c := range h.calls {
		if s := c.presented.session; c.renews && s.key == noKey && c.faulted && !c.wroteAt.IsZero() {
			s.key = c.key // bound, but the answer was lost
		}
	}
	calls := slices.Clone(h.calls)
	slices.SortFunc(calls, func(a, b *call) int { return a.wroteAt.Compare(b.wroteAt) })
	for _, c := range calls {
		if c.renews && !c.wroteAt.IsZero() && c.presented.replacedAt.IsZero() && c.got != c.presented && c.answer.code != "token_reused" {
			c.presented.replacedAt = c.wroteAt
		}
	}
	for _, c := range calls {
		if c.renews && c.got != nil && c.got != c.presented {
			c.got.madeAt = c.presented.replacedAt
			if c.wroteAt.Equal(c.got.madeAt) {
				c.got.madeIn = c.wroteIn
			}
		}
	}
}

func (c *call) succeeded() bool { return c.answer.code == "" }

// late reports whether the presented token was replaced longer than the grace period before the call began.
func (c *call) late() bool {
	replaced := c.presented.replacedAt
	return !replaced.IsZero() && c.beganAt.Sub(replaced) > grace
}

// isYoung reports whether a swap made t within the last grace period.
func (t *token) isYoung(now time.Time) bool {
	return !t.madeAt.IsZero() && now.Sub(t.madeAt) <= grace
}

// reuses reports whether the call is a reuse of its token (R8). A token with a key is never reused (R18).
func (c *call) reuses() bool {
	return c.renews && !c.presented.bound && (c.late() || c.answer.code == "token_reused")
}

// violations describes every violation, with its rule.
func (h *history) violations() (found []string) {
	report := func(rule, format string, args ...any) {
		found = append(found, rule+": "+fmt.Sprintf(format, args...))
	}
	if h.rolledBack {
		h.witnessed(report)
		return found
	}
	h.oneKey(report)
	for _, t := range h.tokens {
		h.oneSuccessor(t, report)
	}
	for _, s := range h.sessions {
		h.forgottenIsOver(s, report)
		h.oneBranch(s, report)
		h.nothingOutlivesItsEnd(s, report)
		h.theRestLives(s, report)
		h.listedAndAlive(s, report)
	}
	if h.limit > 0 && len(h.listed) > h.limit {
		report("R17", "%d sessions are listed, the limit is %d", len(h.listed), h.limit)
	}
	for _, c := range h.calls {
		h.staysRevoked(c, report)
		h.fairAnswer(c, report)
	}
	return found
}

type reporter func(rule, format string, args ...any)

// forgottenIsOver checks that no token is accepted of a session that began before the store forgot everything (R20).
func (h *history) forgottenIsOver(s *session, report reporter) {
	if h.lostAt == 0 || s.login.answered > h.lostAt {
		return
	}
	for _, t := range h.tokens {
		if t.session == s && (t.verified[0] == "" || t.verified[1] == "" || t.refreshed[0] == "" || t.refreshed[1] == "") {
			report("R20", "at rest a token is accepted that is older than the blacklist")
		}
	}
}

// witnessed checks that a token is not accepted if the store was rolled back to a state from before the swap that made the
// token (R21). Tokens without such a swap leave no trace of what was lost. Neither do the access tokens of a pair, which
// no refresh affects, once another swap has made a new record.
func (h *history) witnessed(report reporter) {
	for _, t := range h.tokens {
		madeAgain := slices.ContainsFunc(h.calls, func(c *call) bool { return c.got == t && c.wroteIn > h.lostAt })
		if t.madeIn == 0 || t.madeIn > h.lostAt || madeAgain { // two servers may choose the same instant
			continue
		}
		covered := h.twoTokens && slices.ContainsFunc(h.calls, func(c *call) bool {
			return c.renews && c.presented.session == t.session && c.wroteIn > h.lostAt
		})
		for i := range t.verified {
			if t.verified[i] == "" && !covered || t.refreshed[i] == "" {
				report("R21", "at rest server %d accepts a token of whose swap the store has no record", i)
			}
		}
	}
}

// boundTo is a key that a token of a session contains.
type boundTo struct {
	session *session
	key     keyName
}

// oneKey checks that all bound tokens of a session have the same key, and that nobody refreshes them without it (R18,
// R19).
func (h *history) oneKey(report reporter) {
	for _, k := range h.keys {
		if k.key != k.session.key && !h.mayForget(k.session) { // forgottenIsOver checks that they are all dead
			report("R19", "the tokens of a session have two keys")
		}
	}
	for _, t := range h.tokens {
		if t.stolen {
			report("R18", "at rest a token is refreshed without the session's key")
		}
	}
}

// oneSuccessor checks that all refreshes of a token return the same successor. A token that a swap made within the last
// grace period is returned itself (R6a).
func (h *history) oneSuccessor(t *token, report reporter) {
	successors := map[string]bool{}
	for _, c := range h.calls {
		if c.presented != t || !c.admits || !c.succeeded() {
			continue
		}
		if c.late() && (c.renews || !h.twoTokens) {
			report("R4, R8", "%v succeeded with a token that was replaced longer ago than the grace period", c)
		}
		young := t.isYoung(c.beganAt)
		if young && c.wroteAt.Equal(t.replacedAt) && !c.wroteAt.IsZero() && c.wroteAt.Before(t.expires) {
			report("R6a", "%v replaced a token that a swap had just made", c)
		}
		switch {
		case c.got == nil:
		case c.got != t:
			successors[c.got.id] = true
		case !young:
			report("R6", "%v returned the presented token", c)
		}
	}
	for i, successor := range t.successor {
		switch {
		case t.refreshed[i] != "":
		case !t.replacedAt.IsZero():
			successors[successor] = true
		case t.isYoung(h.restAt) && successor != t.id:
			report("R6a", "at rest server %d replaces a token that a swap has just made", i)
		}
	}
	if len(successors) > 1 && !h.mayForget(t.session) { // forgottenIsOver checks that they are all dead
		report("R7", "one token has %d successors", len(successors))
	}
}

// oneBranch checks that after the grace period at most one token of a session can be refreshed, and that it was not
// replaced.
func (h *history) oneBranch(s *session, report reporter) {
	branches := 0
	for _, t := range h.tokens {
		if t.session == s && t.later == "" {
			branches++
			if !t.replacedAt.IsZero() {
				report("R8", "a replaced token is refreshed after the grace period")
			}
		}
	}
	if branches > 1 {
		report("R7", "the session has %d branches", branches)
	}
}

// ends reports whether e has ended s when it is answered, and by which rule.
func (h *history) ends(e *call, s *session) (rule string, ends bool) {
	switch {
	case e.reuses():
		return "R8", e.answer.code == "token_reused" && e.presented.session == s
	case e.ends == nothing || !e.succeeded():
		return "", false
	case e.ends == oneSession && e.password:
		return "R16", e.presented.session == s
	case e.ends == oneSession:
		return "R11", e.presented.session == s
	case e.ends == otherSessions:
		return "R12, R17", e.presented.session != s && (s.login.answered < e.began || s.login.password && e.changes)
	case e.ends == oldKey:
		return "R1a", s.oldKey // even if the login was in progress
	}
	// A login that was in progress may count as earlier or later, unless it checked the old password.
	return "R12", s.login.answered < e.began || s.login.password && e.changes
}

// mayEnd reports whether e may have ended s, even if it failed.
func (h *history) mayEnd(e *call, s *session) bool {
	switch {
	case e.reuses():
		return e.presented.session == s
	case e.ends == oneSession && e.password: // a failed login ends nothing
		return e.presented.session == s && (e.succeeded() || e.faulted || e.gone)
	case e.ends == oneSession:
		return e.presented.session == s
	case e.ends == allSessions:
		return e.answered > s.login.began
	case e.ends == otherSessions:
		return e.presented.session != s && e.answered > s.login.began
	case h.limit > 0 && e.startsSession:
		return true // one of the oldest logins makes place
	case e.ends == oldKey:
		return s.oldKey
	}
	return false
}

// nothingOutlivesItsEnd checks that no token of a session is accepted after the operation that ended the session was
// answered (R1, R8, R11, R12, R16).
func (h *history) nothingOutlivesItsEnd(s *session, report reporter) {
	for _, e := range h.calls {
		rule, ends := h.ends(e, s)
		if !ends {
			continue
		}
		for _, c := range h.calls {
			if c.admits && c.presented.session == s && c.began > e.answered && c.succeeded() {
				report(rule, "%v succeeded after %v", c, e)
			}
		}
		for _, t := range h.tokens {
			if t.session == s && (t.verified[0] == "" || t.verified[1] == "" || t.refreshed[0] == "" || t.refreshed[1] == "" || t.later == "") {
				report(rule, "at rest a token is accepted after %v", e)
			}
		}
	}
}

// theRestLives checks that a session that no operation ended is alive: every token that was not replaced, or is within
// its grace period, is valid, even if its client was answered 503 (R10), and even after a log-out everywhere of earlier
// sessions (R12).
func (h *history) theRestLives(s *session, report reporter) {
	if slices.ContainsFunc(h.calls, func(e *call) bool { return h.mayEnd(e, s) }) || h.mayForget(s) {
		return
	}
	for _, t := range h.tokens {
		if t.session != s || !t.replacedAt.IsZero() && h.restAt.Sub(t.replacedAt) > grace {
			continue
		}
		for i := range t.verified {
			if code := t.refreshed[i]; code != "" {
				report("R7, R10", "at rest server %d answers %s to the refresh of a valid token", i, code)
			}
			if code := t.verified[i]; code != "" && h.restAt.Before(t.expires) {
				report("R4, R12", "at rest server %d answers %s to a valid token", i, code)
			}
		}
	}
}

// mayForget reports whether the store may have forgotten s, because the login of s began before it lost its records (R20).
func (h *history) mayForget(s *session) bool { return h.lostAt != 0 && s.login.began <= h.lostAt }

// staysRevoked checks that a token that was rejected as revoked is not accepted later (R3, R4).
func (h *history) staysRevoked(c *call, report reporter) {
	for _, e := range h.calls {
		if e.presented == c.presented && e.admits && e.answer.code == "token_revoked" && c.admits && c.began > e.answered && c.succeeded() {
			report("R3, R4", "%v succeeded after %v was answered that the token is revoked", c, e)
		}
	}
}

// listedAndAlive checks that at rest a session is listed if and only if it lives (R17). A login whose answer was lost
// is listed, too, but then the reference does not know its session.
func (h *history) listedAndAlive(s *session, report reporter) {
	if h.limit == 0 {
		return
	}
	alive := false
	for _, t := range h.tokens {
		alive = alive || t.session == s && (t.verified[0] == "" || t.refreshed[0] == "")
	}
	if listed := slices.Contains(h.listed, s.id); alive != listed && !h.keyIsGone(s) {
		report("R17", "a session lives: %v, is listed: %v", alive, listed)
	}
}

// keyIsGone reports whether the session's tokens are rejected because of SetKeys, of which its record knows nothing.
func (h *history) keyIsGone(s *session) bool {
	return slices.ContainsFunc(h.calls, func(e *call) bool { return e.ends == oldKey && s.oldKey })
}

// fairAnswer checks that every error has a reason.
func (h *history) fairAnswer(c *call, report reporter) {
	hasBegun := func(match func(e *call) bool) bool {
		return slices.ContainsFunc(h.calls, func(e *call) bool { return e != c && e.began <= c.answered && match(e) })
	}
	ended := func(e *call) bool { return h.mayEnd(e, c.presented.session) }
	rule, fair := "R14", false
	switch c.answer.code {
	case "":
		fair = true
	case "token_expired":
		rule, fair = "R2", !c.answeredAt.Before(c.presented.expires)
	case "token_revoked":
		rule, fair = "R3, R4", hasBegun(ended) || c.late() || h.outrun(c) || h.mayForget(c.presented.session) && c.answered >= h.lostAt
	case "token_reused":
		rule, fair = "R8", c.late()
	case "proof_required":
		rule, fair = "R18", c.key != c.presented.session.key || c.late() || h.outrun(c)
	case "token_invalid":
		rule, fair = "R1", hasBegun(func(e *call) bool { return e.ends == oldKey })
	case "invalid_credentials":
		rule, fair = "R12", !c.password || hasBegun(func(e *call) bool { return e.changes })
	case "store_unavailable":
		fair = c.faulted || c.gone && !c.finishesAlone() ||
			c.password && (hasBegun(c.mayFollow) || h.lostAt != 0 && c.began <= h.lostAt && c.answered >= h.lostAt)
	}
	if !fair {
		report(rule, "%v is answered %s", c, c.answer.code)
	}
}

// outrun reports whether the successor of the presented token was also replaced before c was answered. That can happen
// during a Reload that takes longer than the grace period (R8).
func (h *history) outrun(c *call) bool {
	return slices.ContainsFunc(h.tokens, func(t *token) bool {
		return t.session == c.presented.session && !t.replacedAt.IsZero() && !t.replacedAt.After(c.answeredAt) &&
			!t.madeAt.IsZero() && t.madeAt.Equal(c.presented.replacedAt)
	})
}

// finishesAlone reports whether the call is carried out even if its client hangs up (R8, R11, R12).
func (c *call) finishesAlone() bool { return c.ends != nothing && !c.password || c.reuses() }

// mayFollow reports whether a password login may be answered 503 because of e: the subject was revoked while the
// password was checked, or just before by another server, whose clock may differ (R12).
func (c *call) mayFollow(e *call) bool {
	return (e.ends == allSessions || e.ends == otherSessions) &&
		(e.answered > c.began || e.server != c.server && c.beganAt.Sub(e.answeredAt) < 2*time.Second)
}
