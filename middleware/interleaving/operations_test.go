package interleaving

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// scope is the set of sessions that an operation ends.
type scope int

const (
	nothing       scope = iota
	oneSession          // the session of the presented token
	allSessions         // of the subject
	otherSessions       // all sessions of the subject but that of the presented token
	oldKey              // all sessions signed with the old key
)

// operation is one request of a client, or one call of the application.
type operation struct {
	name          string
	old           bool // it presents the session's previous token instead of the current one
	admits        bool // it succeeds only with a valid token
	renews        bool // it returns the successor of the presented token, or ends the session on reuse
	startsSession bool // it is a login
	password      bool // it is a login that checks a password
	changes       bool // it changes the password
	ends          scope
	key           keyName // with which the client proves the refresh
	oneToken      bool    // it exists only in one-token mode
	run           func(w *world, c *call, s *server) answer
}

// call is an operation in one schedule.
type call struct {
	operation
	index      int
	server     int
	presented  *token
	ctx        context.Context
	cancel     context.CancelFunc
	began      int // the step at which it began; 0 if it has not, or if it began before the first step
	answered   int
	beganAt    time.Time
	answeredAt time.Time
	wroteAt    time.Time // when its first write to the store took effect
	wroteIn    int       // the step of that write
	faulted    bool      // one of its store calls failed
	gone       bool      // its client hung up
	answer     answer
	got        *token
}

func (c *call) String() string {
	return fmt.Sprintf("%c, %s on server %d", 'A'+c.index, c.name, c.server)
}

func (c *call) outcome() string {
	if c.answer.code == "" {
		return "with success"
	}
	return c.answer.code
}

var (
	refresh      = operation{name: "refresh", admits: true, renews: true, run: doRefresh}
	refreshOld   = operation{name: "refresh of the previous token", old: true, admits: true, renews: true, run: doRefresh}
	prove        = operation{name: "refresh with a proof", admits: true, renews: true, key: ownKey, run: doRefresh}
	proveOld     = operation{name: "refresh of the previous token with a proof", old: true, admits: true, renews: true, key: ownKey, run: doRefresh}
	proveOther   = operation{name: "refresh with another key", admits: true, renews: true, key: otherKey, run: doRefresh}
	verify       = operation{name: "verify", admits: true, run: doVerify}
	verifyOld    = operation{name: "verify of the previous token", old: true, admits: true, run: doVerify}
	auto         = operation{name: "AutoRefresh", admits: true, renews: true, oneToken: true, run: doAuto("/auto")}
	autoOld      = operation{name: "AutoRefresh of the previous token", old: true, admits: true, renews: true, oneToken: true, run: doAuto("/auto")}
	autoEarly    = operation{name: "early AutoRefresh", admits: true, renews: true, oneToken: true, run: doAuto("/early")}
	logout       = operation{name: "logout", ends: oneSession, run: doLogout}
	logoutOld    = operation{name: "logout with the previous token", old: true, ends: oneSession, run: doLogout}
	endSession   = operation{name: "end session", ends: oneSession, run: doEndSession}
	logoutAll    = operation{name: "log out everywhere", ends: allSessions, run: doLogoutAll}
	change       = operation{name: "password change", changes: true, ends: allSessions, run: doChange}
	logoutOthers = operation{name: "log out others", ends: otherSessions, run: doLogoutOthers}
	changeOthers = operation{name: "password change that ends others", changes: true, ends: otherSessions, run: doChangeOthers}
	replaceKeys  = operation{name: "SetKeys", ends: oldKey, run: doSetKeys}
	login        = operation{name: "login", startsSession: true, run: doLogin}
	signIn       = operation{name: "password login", startsSession: true, password: true, run: doSignIn(oldPassword)}
	signInAgain  = operation{name: "cookie login", password: true, ends: oneSession, run: doSignIn(oldPassword)}
	signInWrong  = operation{name: "refused cookie login", run: doSignIn("wrong")}
)

func doRefresh(_ *world, c *call, s *server) answer {
	return fromTokens(s.Refresh(c.ctx, c.presented.refresh, proofs(c.key, c.presented.refresh)...))
}

func doVerify(_ *world, c *call, s *server) answer {
	_, err := s.Verify(c.ctx, c.presented.access)
	return fromError(err)
}

func doAuto(path string) func(w *world, c *call, s *server) answer {
	return func(w *world, c *call, s *server) answer {
		return w.serve(c.ctx, s, http.MethodGet, path, http.Header{"Authorization": {"Bearer " + c.presented.access}})
	}
}

func doLogout(_ *world, c *call, s *server) answer {
	return fromError(s.Logout(c.ctx, c.presented.refresh))
}

func doEndSession(_ *world, c *call, s *server) answer {
	return fromError(s.RevokeSession(c.ctx, c.presented.session.id))
}

func doLogoutAll(_ *world, c *call, s *server) answer {
	return fromError(s.RevokeSubject(c.ctx, subject))
}

func doChange(w *world, c *call, s *server) answer {
	w.password = newPassword
	return fromError(s.RevokeSubject(c.ctx, subject))
}

func doLogoutOthers(w *world, c *call, s *server) answer {
	return fromError(s.RevokeOthers(c.ctx, middleware.Claims{Subject: subject, SessionID: c.presented.session.id}))
}

func doChangeOthers(w *world, c *call, s *server) answer {
	w.password = newPassword
	return doLogoutOthers(w, c, s)
}

// doSetKeys replaces the key on one server after the other, as one does after a leak.
func doSetKeys(w *world, c *call, s *server) answer {
	w.keysReplaced = true
	for i := range w.servers {
		_, _ = w.wait(context.WithoutCancel(c.ctx), point{what: fmt.Sprintf("SetKeys on server %d", i)})
		if err := w.servers[i].SetKeys(key("new")); err != nil {
			return fromError(err)
		}
	}
	return answer{}
}

func doLogin(_ *world, c *call, s *server) answer {
	return fromTokens(s.Issue(c.ctx, middleware.Identity{Subject: subject}))
}

// doSignIn sends the session's cookies too, if it has any.
func doSignIn(password string) func(w *world, c *call, s *server) answer {
	return func(w *world, c *call, s *server) answer {
		header := http.Header{"Password": {password}}
		for _, cookie := range w.cookie {
			header.Add("Cookie", cookie.Name+"="+cookie.Value)
		}
		return w.serve(c.ctx, s, http.MethodPost, "/login", header)
	}
}
