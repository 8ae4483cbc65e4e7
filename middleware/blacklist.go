package middleware

import (
	"context"
	"encoding/base64"
	"errors"
	"math"
	"reflect"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// blacklist is the Store as the session rules see it: records instead of text, and never a wait longer than
// the timeout (R14).
type blacklist struct {
	store   Store
	peeker  Peeker // nil if the store has to be asked
	timeout time.Duration
}

func newBlacklist(store Store, timeout time.Duration) blacklist {
	return blacklist{store: store, peeker: peekerOf(store), timeout: timeout}
}

// peekerOf returns the store as a Peeker, nil where it is none. A struct that embeds a Peeker inherits Peek, which
// knows nothing of the struct's own Get.
func peekerOf(store Store) Peeker {
	peeker, ok := store.(Peeker)
	if !ok || !reflect.ValueOf(store).Comparable() || peeker.Self() != any(store) {
		return nil
	}
	return peeker
}

// noStore is for a service that verifies and is told to ignore revocations.
type noStore struct{}

var errNoStore = errors.New("there is no Store: this Auth ignores revocations and cannot revoke")

func (noStore) Get(_ context.Context, keys ...string) ([]string, error) {
	return make([]string, len(keys)), nil
}

func (noStore) CompareAndSwap(context.Context, string, string, string, time.Time) (bool, error) {
	return false, failed(CodeServerError, errNoStore)
}

func (noStore) Peek(string) string { return "" }

func (s noStore) Self() any { return s }

var unchanged atomic.Uint64

func (noStore) Version(string) *atomic.Uint64 { return &unchanged }

// A session's key and a subject's never meet: base64url has no colon.
const (
	sessionPrefix = "s:"
	subjectPrefix = "u:"
)

func sessionKey(id string) string      { return sessionPrefix + id }
func subjectKey(subject string) string { return subjectPrefix + subject }

// endOfTime is the cutoff of a session that was ended: every token was issued before.
const endOfTime = math.MaxInt64

const endedValue = "ended"

// record is what the blacklist knows of a session. The zero record is that of a session never refreshed.
type record struct {
	cutoff   int64 // instant of the current token: what was issued before is replaced
	previous int64 // instant of the token that the current one replaced
	iat      int64 // of the current token, in seconds
	held     int64 // from when the grace counts, where AutoRefresh restarted it; otherwise 0
}

func (r record) ended() bool { return r.cutoff == endOfTime }

// graceStart is the instant of the swap, or when AutoRefresh had written its answer.
func (r record) graceStart() int64 { return max(r.cutoff, r.held) }

// encode leaves out what follows from the rest: a token is nearly always issued in the second of its instant.
func (r record) encode() string {
	if r.ended() {
		return endedValue
	}
	s := formatInstant(r.cutoff) + "." + formatInstant(r.previous)
	if r.held != 0 || r.iat != r.cutoff/microsPerSecond {
		s += "." + formatInstant(r.iat)
	}
	if r.held != 0 {
		s += "." + formatInstant(r.held)
	}
	return s
}

var errRecord = errors.New("a record of the blacklist cannot be read")

// decodeRecord refuses what it does not know, as "not revoked" must never be a guess.
func decodeRecord(value string) (record, error) {
	switch value {
	case "":
		return record{}, nil
	case endedValue:
		return record{cutoff: endOfTime}, nil
	}
	var r record
	fields := [...]*int64{&r.cutoff, &r.previous, &r.iat, &r.held}
	n, more := 0, true
	for ; more && n < len(fields); n++ {
		var text string
		var ok bool
		text, value, more = strings.Cut(value, ".")
		if *fields[n], ok = parseInstant(text); !ok {
			return record{}, failed(CodeStoreUnavailable, errRecord)
		}
	}
	if more || n < 2 {
		return record{}, failed(CodeStoreUnavailable, errRecord)
	}
	if n == 2 {
		r.iat = r.cutoff / microsPerSecond
	}
	return r, nil
}

// cutoff is what the blacklist knows of a subject: a session that was born before instant is revoked (R3).
type cutoff struct {
	instant int64
	by      string // the Auth that set it
}

// serverBytes is how many random bytes name an Auth, in base64url.
const serverBytes = 9

func (c cutoff) encode() string { return formatInstant(c.instant) + "." + c.by }

func decodeCutoff(value string) (cutoff, error) {
	if value == "" {
		return cutoff{}, nil
	}
	instant, by, _ := strings.Cut(value, ".")
	c := cutoff{by: by}
	var ok bool
	if c.instant, ok = parseInstant(instant); !ok || len(by) != base64.RawURLEncoding.EncodedLen(serverBytes) {
		return cutoff{}, failed(CodeStoreUnavailable, errRecord)
	}
	return c, nil
}

// An instant is written in base 36, as in a jti: short, and one spelling only.
func formatInstant(instant int64) string { return strconv.FormatInt(instant, 36) }

// maxInstant keeps sums of instants and durations inside int64. It is in the year 75000 or so.
const maxInstant = math.MaxInt64 / 4

func parseInstant(s string) (int64, bool) {
	if s == "" || len(s) > 12 || s[0] == '0' {
		return 0, false
	}
	var n int64
	for i := range len(s) {
		switch c := s[i]; {
		case '0' <= c && c <= '9':
			n = n*36 + int64(c-'0')
		case 'a' <= c && c <= 'z':
			n = n*36 + int64(c-'a') + 10
		default:
			return 0, false
		}
	}
	return n, n <= maxInstant
}

// visit is one step's way to the store. All that the step does there takes no longer than the timeout; what
// it does in between (Reload, signing) is not counted.
type visit struct {
	blacklist
	ctx  context.Context
	left time.Duration
}

func (b blacklist) visit(ctx context.Context) *visit {
	return &visit{blacklist: b, ctx: ctx, left: b.timeout}
}

// bounded runs one call. A call that fails in whatever way is one error to the client.
func (v *visit) bounded(call func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(v.ctx, v.left)
	defer cancel()
	start := time.Now()
	err := call(ctx)
	v.left -= time.Since(start)
	if err == nil || hasCode(err, CodeServerError) {
		return err
	}
	return failed(CodeStoreUnavailable, err)
}

var errStoreAnswer = errors.New("the store returned another number of values than it was asked for")

// watch remembers that the blacklist let a token pass, and for how long that is certain without another look: until
// something changes near the records that it found, or did not find. It is for one token, and shared by its requests.
type watch struct {
	session, subject *atomic.Uint64 // the versions of both keys; nil where the store has none
	passed           atomic.Uint64  // the moment of the last look that let the token pass; 0: there was none
}

func (b *blacklist) watch(w *watch, t *token) {
	if b.peeker != nil {
		w.session, w.subject = b.peeker.Version(t.sessionKey), b.peeker.Version(t.subjectKey)
	}
}

// glance is taken before a look, so that a change during the look is not taken for one before it.
type glance struct {
	watch   *watch
	moment  uint64 // the state of both records: as versions only go up, their sum is what it was only if both are
	settled bool   // false while one of them changes: a look may find either state then, and settles nothing
}

func (w *watch) glance() glance {
	if w == nil || w.session == nil {
		return glance{}
	}
	session, subject := w.session.Load(), w.subject.Load()
	return glance{watch: w, moment: session + subject + 1, settled: (session|subject)&1 == 0}
}

// passes reports whether the last look still holds.
func (g glance) passes() bool { return g.settled && g.watch.passed.Load() == g.moment }

// found remembers what a look found. The grace, other than what is current, ends by itself.
func (g glance) found(s standing) {
	if g.settled && s == current {
		g.watch.passed.Store(g.moment)
	}
}

// peek is lookup where nothing can fail and nothing has to be waited for. The subject's record can add nothing to a
// session that has ended.
func (b *blacklist) peek(sessionKey, subjectKey string) (values [2]string) {
	if values[0] = b.peeker.Peek(sessionKey); values[0] != endedValue {
		values[1] = b.peeker.Peek(subjectKey)
	}
	return values
}

// lookup returns the session's record and the subject's.
func (v *visit) lookup(sessionKey, subjectKey string) (values [2]string, err error) {
	if v.peeker != nil {
		return v.peek(sessionKey, subjectKey), nil
	}
	err = v.bounded(func(ctx context.Context) error {
		got, err := v.store.Get(ctx, sessionKey, subjectKey)
		if err == nil && len(got) != len(values) {
			err = errStoreAnswer
		}
		copy(values[:], got)
		return err
	})
	return values, err
}

func (v *visit) get(key string) (value string, err error) {
	err = v.bounded(func(ctx context.Context) error {
		got, err := v.store.Get(ctx, key)
		if err == nil && len(got) != 1 {
			err = errStoreAnswer
		}
		if err == nil {
			value = got[0]
		}
		return err
	})
	return value, err
}

func (v *visit) swap(key, old, new string, expires time.Time) (swapped bool, err error) {
	err = v.bounded(func(ctx context.Context) (err error) {
		swapped, err = v.store.CompareAndSwap(ctx, key, old, new, expires)
		return err
	})
	return swapped, err
}

// maxSwaps bounds the tries of one step. A lost swap means that another request won one, so a session would
// have to be refreshed this often in the meantime: a store that refuses on and on is broken.
const maxSwaps = 64

var errSwaps = errors.New("the store refused every compare-and-swap")

// update swaps key to what next makes of its value until a swap is won. next may say that nothing is to be done.
func (v *visit) update(key string, next func(value string) (new string, expires time.Time, done bool, err error)) error {
	for range maxSwaps {
		value, err := v.get(key)
		if err != nil {
			return err
		}
		new, expires, done, err := next(value)
		if done || err != nil {
			return err
		}
		if swapped, err := v.swap(key, value, new, expires); swapped || err != nil {
			return err
		}
	}
	return failed(CodeStoreUnavailable, errSwaps)
}
