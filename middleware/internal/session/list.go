package session

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// This file keeps a list of each subject's sessions (R17). A session is listed before its tokens are answered, and is never
// removed while it lives. It does not need to be removed when it ends: the session's own record and the subject's cutoff
// decide which of the listed sessions live. So a logout and a refresh do not touch the list.

const listPrefix = "l:"

func listKey(subject string) string { return listPrefix + subject }

// MaxListed is the most sessions that a list can hold. With labels of 64 bytes its value stays below 8 KiB.
const MaxListed = 50

// list is the record of a subject's sessions.
type list struct {
	Cutoff   int64    `json:"c,omitempty"` // a login that began before it may have checked an old password (R12)
	By       string   `json:"b,omitempty"` // names the Auth that wrote Cutoff
	Sessions []listed `json:"s"`           // oldest login first
}

// listed is a session in a list.
type listed struct {
	ID       string `json:"i"`
	Login    int64  `json:"t"` // in seconds
	Deadline int64  `json:"d"` // in seconds
	DeadAt   int64  `json:"x"` // when its last token is dead, in seconds
	Label    string `json:"l,omitempty"`
}

func decodeList(value string) (list, error) {
	var l list
	if value != "" && json.Unmarshal([]byte(value), &l) != nil {
		return list{}, unavailable(errRecord)
	}
	return l, nil
}

func (l list) encode() string {
	b, _ := json.Marshal(l) // numbers and strings always marshal
	return string(b)
}

// expires returns when the record may be deleted (R13).
func (l list) expires(r *Rules) time.Time {
	last := l.Cutoff + r.longestSession().Microseconds()
	for _, s := range l.Sessions {
		last = max(last, s.DeadAt*microsPerSecond)
	}
	return time.UnixMicro(last).Add(clockSkew)
}

// Listed is a session of a subject that lives.
type Listed struct {
	ID, Label   string
	LoginAt     time.Time
	RefreshedAt time.Time // zero: never
	Deadline    time.Time
}

// Enlist puts the session of a login on its subject's list, before its tokens are answered (R17). If there are MaxSessions
// others that live, it first ends the ones with the oldest logins, and returns them. It does not count the sessions that
// the login replaces (R16).
func (r *Rules) Enlist(ctx context.Context, t *Token, l Login) (ended []Listed, err error) {
	if r.MaxSessions == 0 {
		return nil, nil
	}
	a := r.stepStore(ctx)
	err = a.update(listKey(t.Subject), func(value string, _ int64) (change, error) {
		current, err := decodeList(value)
		if err != nil {
			return change{}, err
		}
		if l.Checked && r.revokedSince(cutoff{current.Cutoff, current.By}, l.Began) {
			return change{}, unavailable(errRevokedMeanwhile)
		}
		if current.Sessions, err = r.makePlace(a, t.Subject, current.Sessions, l.Replaces, &ended); err != nil {
			return change{}, err
		}
		own := listed{ID: t.Session, Login: t.IssuedAt, Deadline: t.Deadline, DeadAt: r.allDeadAt(t).Unix(), Label: l.Label}
		current.Sessions = append(current.Sessions, own)
		slices.SortStableFunc(current.Sessions, func(a, b listed) int { return cmp.Compare(birthOf(a.ID), birthOf(b.ID)) })
		return change{value: current.encode(), expires: current.expires(r)}, nil
	})
	return ended, err
}

// makePlace returns the sessions without enough of them for another one. Those that have ended go first, and if that is not
// enough, it ends those with the oldest logins.
func (r *Rules) makePlace(a *stepStore, subject string, sessions []listed, replaced []string, ended *[]Listed) ([]listed, error) {
	isReplaced := func(s listed) bool { return slices.Contains(replaced, s.ID) }
	most := r.MaxSessions - 1
	for _, s := range sessions {
		if isReplaced(s) {
			most++
		}
	}
	if len(sessions) <= most {
		return sessions, nil
	}
	alive, err := r.alive(a, subject, sessions)
	if err != nil {
		return nil, err
	}
	sessions = slices.DeleteFunc(sessions, func(s listed) bool {
		return !isReplaced(s) && !slices.ContainsFunc(alive, func(l Listed) bool { return l.ID == s.ID })
	})
	for len(sessions) > most {
		i := slices.IndexFunc(sessions, func(s listed) bool { return !isReplaced(s) })
		if err := r.endListed(a, sessions[i]); err != nil {
			return nil, err
		}
		*ended = append(*ended, sessions[i].public(record{}))
		sessions = slices.Delete(sessions, i, i+1)
	}
	return sessions, nil
}

func (r *Rules) endListed(a *stepStore, s listed) error {
	return r.end(a, s.ID, time.Unix(s.DeadAt, 0).Add(clockSkew))
}

func (s listed) public(r record) Listed {
	l := Listed{ID: s.ID, Label: s.Label, LoginAt: time.Unix(s.Login, 0), Deadline: time.Unix(s.Deadline, 0)}
	if r.cutoff != 0 {
		l.RefreshedAt = time.UnixMicro(r.cutoff)
	}
	return l
}

// alive returns the sessions that live, according to their own records and the subject's cutoff. It asks for all records at
// once. A store that has forgotten only some of them lately names the latest since of all, so it asks again for one session.
func (r *Rules) alive(a *stepStore, subject string, sessions []listed) (alive []Listed, err error) {
	keys := []string{subjectKey(subject)}
	for _, s := range sessions {
		keys = append(keys, sessionKey(s.ID))
	}
	values, since, err := a.getAll(keys...)
	if err != nil {
		return nil, err
	}
	revoked, err := decodeCutoff(values[0])
	if err != nil {
		return nil, err
	}
	for i, s := range sessions {
		own, err := decodeRecord(values[i+1])
		if err != nil {
			return nil, err
		}
		birth, ownSince := birthOf(s.ID), since
		if birth < since && len(sessions) > 1 {
			if _, ownSince, err = a.getAll(keys[0], keys[i+1]); err != nil {
				return nil, err
			}
		}
		if !own.ended() && birth >= max(revoked.instant, ownSince) && !r.isOver(s, max(birth, own.cutoff)) {
			alive = append(alive, s.public(own))
		}
	}
	return alive, nil
}

// isOver reports whether a session has come to its end without being ended. issued is the instant of its current token.
func (r *Rules) isOver(s listed, issued int64) bool {
	now := time.Now()
	return !now.Before(time.Unix(s.DeadAt, 0)) || r.isIdle(issued, now)
}

// birthOf returns the birth in a session's id.
func birthOf(session string) int64 {
	text, _, _ := strings.Cut(session, birthMark)
	birth, _ := parseInstant(text)
	return birth
}

// Sessions returns the sessions of a subject that live, oldest login first.
func (r *Rules) Sessions(ctx context.Context, subject string) ([]Listed, error) {
	a := r.stepStore(ctx)
	l, err := a.list(subject)
	if err != nil {
		return nil, err
	}
	return r.alive(a, subject, l.Sessions)
}

func (a *stepStore) list(subject string) (list, error) {
	values, _, err := a.get(listKey(subject))
	if err != nil {
		return list{}, err
	}
	return decodeList(values[0])
}

// RevokeOthers ends all sessions of a subject except one (R12, R17): those on the list, and those whose login checked its
// credentials before.
func (r *Rules) RevokeOthers(ctx context.Context, subject, except string) error {
	a := r.stepStore(context.WithoutCancel(ctx))
	return a.update(listKey(subject), func(value string, since int64) (change, error) {
		l, err := decodeList(value)
		if err != nil {
			return change{}, err
		}
		var kept []listed
		for _, s := range l.Sessions {
			if s.ID == except {
				kept = append(kept, s)
			} else if err := r.endListed(a, s); err != nil {
				return change{}, err
			}
		}
		l.Sessions = kept
		l.Cutoff, l.By = r.nextCutoff(l.Cutoff, since), r.name
		return change{value: l.encode(), expires: l.expires(r)}, nil
	})
}

// RevokeListed ends one session of a subject, and reports whether it is on the subject's list.
func (r *Rules) RevokeListed(ctx context.Context, subject, session string) (found bool, err error) {
	a := r.stepStore(context.WithoutCancel(ctx))
	l, err := a.list(subject)
	if err != nil {
		return false, err
	}
	i := slices.IndexFunc(l.Sessions, func(s listed) bool { return s.ID == session })
	if i < 0 {
		return false, nil
	}
	return true, r.endListed(a, l.Sessions[i])
}
