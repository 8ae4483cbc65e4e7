package session

import "sync/atomic"

// Memo remembers that a token passed the blacklist check, and skips the check until a change counter of its session
// or its subject moves. It belongs to one cached token and is shared by the token's requests.
type Memo struct {
	session, subject *atomic.Uint64 // the change counters; nil if the store has none
	passed           atomic.Uint64  // the counters at the last check that the token passed; 0: none
}

// Watch attaches the memo to the change counters of the token's records. It must be called before the memo is shared.
func (r *Rules) Watch(m *Memo, t *Token) {
	if r.counter != nil {
		m.session, m.subject = r.counter(t.sessionKey), r.counter(t.subjectKey)
	}
}

// snapshot is the state of the change counters before a check. A change during the check is then noticed by the next
// request.
type snapshot struct {
	memo    *Memo
	moment  uint64 // the sum of both counters plus 1; they only go up, so an equal sum means that neither has moved
	settled bool   // no change is under way: during one, a check may find the old state or the new one
}

func (m *Memo) snapshot() snapshot {
	if m == nil || m.session == nil {
		return snapshot{}
	}
	session, subject := m.session.Load(), m.subject.Load()
	return snapshot{memo: m, moment: session + subject + 1, settled: (session|subject)&1 == 0}
}

// unchanged reports whether the result of the last check still holds.
func (s snapshot) unchanged() bool { return s.settled && s.memo.passed.Load() == s.moment }

// remember stores the result of a check. A pass in the grace period is not remembered, because the period ends without
// any change of the blacklist.
func (s snapshot) remember(state state) {
	if s.settled && state == current {
		s.memo.passed.Store(s.moment)
	}
}
