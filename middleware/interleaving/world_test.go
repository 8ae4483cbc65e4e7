package interleaving

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
)

const (
	ttl          = time.Minute
	refreshTTL   = time.Hour
	grace        = 10 * time.Second
	storeTimeout = 5 * time.Second
	slowStore    = 2 * time.Second // less than storeTimeout, more than the clocks of servers may differ

	subject     = "alice"
	oldPassword = "old"
	newPassword = "new"
)

// setup is the state before the operations begin, and the configuration.
type setup struct {
	pair      bool
	expired   bool // the session's first token has expired
	refreshed bool // it was just replaced
	aged      bool // it was replaced longer ago than the grace period
	reload    bool // Config.Reload is set
	cookies   bool // Config.Cookie is set, and the session has cookies
	offered   bool // sessions can be bound to a key
	bound     bool // the session was bound to ownKey at its login
	limited   bool // the subject can have two sessions, as many as there are
	peek      bool // the store is a Peeker, and the current token is in the token cache
	defect    defect
}

func (s setup) String() string {
	name := "one token"
	if s.pair {
		name = "pair"
	}
	for _, tag := range []struct {
		set  bool
		text string
	}{
		{s.expired, "expired"}, {s.refreshed, "just refreshed"}, {s.aged, "refreshed before"},
		{s.reload, "with Reload"}, {s.cookies, "cookies"}, {s.limited, "limited"}, {s.offered, "Bind offered"}, {s.bound, "bound"}, {s.peek, "peeking"},
	} {
		if tag.set {
			name += ", " + tag.text
		}
	}
	return name
}

// world has the servers, the store and the session of one schedule after the other.
type world struct {
	setup
	*scheduler
	store    *store
	peeker   *peekStore // nil without peek
	servers  [2]*server
	password string
	cookie   []*http.Cookie // the cookies in the browser of the session
	history
	keysReplaced      bool   // on the servers, by SetKeys
	current, previous *token // of the session; previous is nil before its first refresh
}

type server struct {
	*middleware.Auth
	routes *gin.Engine
}

// begin sets up the state before a schedule. It keeps the servers of the schedule before, unless they have changed: apart
// from its keys and its token cache an Auth has no state.
func (w *world) begin(scheduler *scheduler) {
	w.scheduler, w.password, w.cookie = scheduler, oldPassword, nil
	w.history, w.current, w.previous = history{twoTokens: w.pair}, nil, nil
	if w.store == nil {
		w.store = new(store)
	}
	*w.store = store{scheduler: scheduler, defect: w.defect, records: map[string]record{}, versions: map[string]*atomic.Uint64{}, since: time.UnixMicro(0)}
	scheduler.lose = w.store.forget
	if scheduler.disturbance == rollingBack {
		scheduler.lose = w.store.rollBack
	}
	if w.peek {
		w.peeker = &peekStore{store: w.store, busy: map[string]bool{}}
	}
	if w.peek || w.keysReplaced || w.servers[0] == nil {
		w.keysReplaced = false
		for i := range w.servers {
			w.servers[i] = w.newServer()
		}
	}
	// All schedules begin at the same fraction of a second, as exp and iat are whole seconds.
	time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second)))
	w.login()
	w.store.backup = maps.Clone(w.store.records)
}

func (w *world) newServer() *server {
	c := middleware.Config{
		Keys: key("old"), Store: w.store, Pair: w.pair, TTL: ttl, RefreshTTL: refreshTTL, Grace: grace,
		StoreTimeout: storeTimeout, TokenCache: -1, Authenticate: w.authenticate,
	}
	if w.peek {
		c.Store, c.TokenCache = w.peeker, 16
	}
	if w.reload {
		c.Reload = w.reloadClaims
	}
	if w.limited {
		c.MaxSessions = 2
	}
	if w.offered {
		c.Bind = middleware.BindOffered
	}
	if w.cookies {
		c.Cookie = &middleware.Cookie{}
	}
	auth, err := middleware.New(c)
	if err != nil {
		panic(err)
	}
	s := &server{auth, gin.New()}
	s.routes.POST("/login", auth.LoginHandler)
	if !w.pair {
		ok := func(c *gin.Context) { c.Status(http.StatusOK) }
		s.routes.GET("/auto", auth.AutoRefresh(0), ok)
		s.routes.GET("/early", auth.AutoRefresh(2*ttl), ok)
	}
	return s
}

func key(id string) []middleware.Key {
	return []middleware.Key{{ID: id, Algorithm: middleware.HS256, Key: []byte(id + " key of thirty-two bytes or more")}}
}

// login starts the session, and another session of the same subject that no operation uses.
func (w *world) login() {
	first := noKey
	if w.bound {
		first = ownKey
	}
	login := func() *token {
		t, err := w.servers[0].Issue(context.Background(), middleware.Identity{Subject: subject}, proofs(first, "")...)
		return w.know(fromTokens(t, err), &call{})
	}
	if w.cookies {
		a := w.serve(context.Background(), w.servers[0], http.MethodPost, "/login", http.Header{"Password": {oldPassword}})
		w.cookie, w.current = a.cookies, w.know(a, &call{})
	} else {
		w.current = login()
	}
	if w.expired {
		time.Sleep(ttl)
	}
	if w.refreshed || w.aged {
		time.Sleep(time.Millisecond)
		t, err := w.servers[0].Refresh(context.Background(), w.current.refresh, proofs(first, w.current.refresh)...)
		w.previous, w.current = w.current, w.know(fromTokens(t, err), nil)
		w.previous.replacedAt, w.current.madeAt = time.Now(), time.Now()
	}
	if w.aged {
		time.Sleep(grace + time.Second)
	}
	login()
	if w.peek {
		w.warm()
	}
}

// warm verifies the current token until both servers accept it without reading the store.
func (w *world) warm() {
	for _, s := range w.servers {
		for range 16 {
			before := w.peeker.peeks
			if _, err := s.Verify(context.Background(), w.current.access); err != nil {
				panic(err)
			}
			if w.peeker.peeks == before {
				break
			}
		}
	}
}

// authenticate checks the password after a wait, in which the password may change.
func (w *world) authenticate(c *gin.Context) (middleware.Identity, error) {
	if _, err := w.wait(c.Request.Context(), point{what: "Authenticate"}); err != nil {
		return middleware.Identity{}, err
	}
	if c.GetHeader("Password") != w.password {
		return middleware.Identity{}, middleware.ErrRefused
	}
	return middleware.Identity{Subject: subject}, nil
}

func (w *world) reloadClaims(ctx context.Context, _ middleware.Claims) (any, error) {
	_, err := w.wait(ctx, point{what: "Reload returns"})
	return nil, err
}

// answer is the response to a client.
type answer struct {
	access, refresh string // in one-token mode the same
	cookies         []*http.Cookie
	code            string // "" for success
}

func fromTokens(t middleware.Tokens, err error) answer {
	a := fromError(err)
	a.access, a.refresh = t.AccessToken, t.RefreshToken
	return a
}

func fromError(err error) answer {
	var e *middleware.Error
	switch {
	case err == nil:
		return answer{}
	case errors.As(err, &e):
		return answer{code: string(e.Code)}
	}
	return answer{code: err.Error()}
}

func (w *world) serve(ctx context.Context, s *server, method, path string, header http.Header) (a answer) {
	request, err := http.NewRequestWithContext(ctx, method, path, nil)
	if err != nil {
		panic(err)
	}
	request.Header = header
	response := httptest.NewRecorder()
	s.routes.ServeHTTP(response, request)
	var body struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
		Code    string `json:"code"`
	}
	_ = json.Unmarshal(response.Body.Bytes(), &body) // AutoRefresh's handler writes none
	a = answer{access: body.Access, refresh: body.Refresh, code: body.Code, cookies: response.Result().Cookies()}
	if text, ok := strings.CutPrefix(response.Header().Get("Authorization"), "Bearer "); ok {
		a.access = text
	}
	for _, c := range a.cookies {
		if contents(c.Value).Type == "JWT" {
			a.access = c.Value
		} else if c.Value != "" {
			a.refresh = c.Value
		}
	}
	return a
}

// claims are the parts of a token's header and payload that the reference needs.
type claims struct {
	Type    string `json:"typ"`
	Key     string `json:"kid"`
	ID      string `json:"jti"`
	Session string `json:"sid"`
	Expires int64  `json:"exp"`

	Confirmation struct {
		Key struct {
			X string `json:"x"`
		} `json:"jwk"`
	} `json:"cnf"`
}

// headers has the contents of every header of a token by its text, of which there are few.
var headers sync.Map

func contents(text string) (c claims) {
	header, rest, _ := strings.Cut(text, ".")
	payload, _, _ := strings.Cut(rest, ".")
	read := func(part string) {
		b, _ := base64.RawURLEncoding.DecodeString(part)
		_ = json.Unmarshal(b, &c)
	}
	if known, ok := headers.Load(header); ok {
		c = known.(claims)
	} else {
		read(header)
		headers.Store(header, c)
	}
	read(payload)
	return c
}
