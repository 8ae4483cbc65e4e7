package interleaving

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// scope is what an operation puts an end to.
type scope int

const (
	nothing     scope = iota
	oneSession        // that of the token that it presents
	allSessions       // of the subject
	oldKey            // all sessions signed with it
)

// operation is what one client, or the application, does.
type operation struct {
	name     string
	old      bool // it presents the session's previous token, not the current one
	admits   bool // its success means that the presented token is good
	renews   bool // it returns the presented token's successor, or ends the session on reuse
	password bool // it is a login that checks a password
	changes  bool // it changes the password
	ends     scope
	oneToken bool // it exists in one-token mode only
	run      func(w *world, c *call, s *server) answer
}

// call is an operation in one schedule.
type call struct {
	operation
	index      int
	server     int
	presented  *token
	ctx        context.Context
	cancel     context.CancelFunc
	began      int // the step at which it began; 0: not yet, or before the first step
	answered   int
	beganAt    time.Time
	answeredAt time.Time
	wroteAt    time.Time // when its first write to the store took effect
	faulted    bool      // a store call failed it
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
	refresh     = operation{name: "refresh", admits: true, renews: true, run: doRefresh}
	refreshOld  = operation{name: "refresh by the predecessor", old: true, admits: true, renews: true, run: doRefresh}
	verify      = operation{name: "verify", admits: true, run: doVerify}
	verifyOld   = operation{name: "verify the predecessor", old: true, admits: true, run: doVerify}
	auto        = operation{name: "AutoRefresh", admits: true, renews: true, oneToken: true, run: doAuto("/auto")}
	autoOld     = operation{name: "AutoRefresh of the predecessor", old: true, admits: true, renews: true, oneToken: true, run: doAuto("/auto")}
	autoEarly   = operation{name: "early AutoRefresh", admits: true, renews: true, oneToken: true, run: doAuto("/early")}
	logout      = operation{name: "logout", ends: oneSession, run: doLogout}
	logoutOld   = operation{name: "logout by the predecessor", old: true, ends: oneSession, run: doLogout}
	endSession  = operation{name: "end session", ends: oneSession, run: doEndSession}
	logoutAll   = operation{name: "log out everywhere", ends: allSessions, run: doLogoutAll}
	change      = operation{name: "password change", changes: true, ends: allSessions, run: doChange}
	replaceKeys = operation{name: "SetKeys", ends: oldKey, run: doSetKeys}
	login       = operation{name: "login", run: doLogin}
	signIn      = operation{name: "password login", password: true, run: doSignIn(oldPassword)}
	signInAgain = operation{name: "cookie login", password: true, ends: oneSession, run: doSignIn(oldPassword)}
	signInWrong = operation{name: "refused cookie login", run: doSignIn("wrong")}
)

func doRefresh(_ *world, c *call, s *server) answer {
	return fromTokens(s.Refresh(c.ctx, c.presented.refresh))
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

// doSetKeys replaces the key on one server after the other, as after a leak.
func doSetKeys(w *world, c *call, s *server) answer {
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

// doSignIn sends the session's cookies along, if it has any.
func doSignIn(password string) func(w *world, c *call, s *server) answer {
	return func(w *world, c *call, s *server) answer {
		header := http.Header{"Password": {password}}
		for _, cookie := range w.cookie {
			header.Add("Cookie", cookie.Name+"="+cookie.Value)
		}
		return w.serve(c.ctx, s, http.MethodPost, "/login", header)
	}
}
