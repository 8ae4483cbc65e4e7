package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/golang-jwt/jwt/v5"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
)

const oldSecret = "secret key" // too short for a new server, which does not sign with it

// oldToken signs claims as an old server does.
func oldToken(t *testing.T, claims jwt.MapClaims) string {
	t.Helper()
	text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(oldSecret))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// ginJWTClaims are the claims that gin-jwt 2 and 3 write, with a Timeout of an hour.
func ginJWTClaims(user any) jwt.MapClaims {
	now := time.Now()
	return jwt.MapClaims{"id": user, "orig_iat": now.Unix(), "exp": now.Add(time.Hour).Unix()}
}

// migration is a new server that also knows the tokens of an old one.
type migration struct {
	t    *testing.T
	auth *middleware.Auth
	old  *oldSystem
	r    *gin.Engine
}

// inBubble runs a test with its own clock. The exchange has opened an hour before the test begins, and closes after three days.
// The window of the old system is two days. Longer times would only let the store sweep more often.
func inBubble(t *testing.T, test func(t *testing.T, m *migration)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, auth, blacklist := newServer(t)
		old := ginJWT(auth, blacklist, []byte(oldSecret), time.Now())
		old.window, old.until = 48*time.Hour, old.from.Add(72*time.Hour)
		r.POST("/exchange", old.exchange)
		r.POST("/fresh", auth.Fresh(time.Minute), func(c *gin.Context) {})
		time.Sleep(time.Hour)
		test(t, &migration{t, auth, old, r})
	})
}

func (m *migration) send(method, path, token string) *httptest.ResponseRecorder {
	request := httptest.NewRequestWithContext(m.t.Context(), method, path, nil)
	request.Header.Set("Authorization", "Bearer "+token)
	answer := httptest.NewRecorder()
	m.r.ServeHTTP(answer, request)
	return answer
}

// exchanges exchanges a token and checks the code of the answer, "" for a success, of which it returns the new token.
func (m *migration) exchanges(token string, want middleware.Code) string {
	m.t.Helper()
	answer := m.send("POST", "/exchange", token)
	var body struct {
		AccessToken string `json:"access_token"`
		Code        middleware.Code
	}
	err := json.Unmarshal(answer.Body.Bytes(), &body)
	if err != nil || body.Code != want || (answer.Code == http.StatusOK) != (want == "") || (body.AccessToken != "") != (want == "") {
		m.t.Errorf("got %d %s, want the code %q", answer.Code, answer.Body, want)
	}
	return body.AccessToken
}

// is checks the status of a request for the user's page.
func (m *migration) is(token string, want int) {
	m.t.Helper()
	if answer := m.send("GET", "/auth/hello", token); answer.Code != want {
		m.t.Errorf("got %d %s, want %d", answer.Code, answer.Body, want)
	}
}

func TestExchange(t *testing.T) {
	inBubble(t, func(t *testing.T, m *migration) {
		old := oldToken(t, ginJWTClaims("admin"))
		time.Sleep(2 * time.Hour) // it has expired, and could be refreshed
		token := m.exchanges(old, "")
		m.is(token, http.StatusOK)
		m.is(old, http.StatusUnauthorized)
	})
}

// The new session counts from the old login: its deadline, the RefreshTTL of the server, and Fresh.
func TestExchangeIsNoLogin(t *testing.T) {
	inBubble(t, func(t *testing.T, m *migration) {
		const refreshTTL = 24 * time.Hour // of the server
		for _, row := range []struct {
			window, age, want time.Duration
			code              middleware.Code
		}{
			{window: 48 * time.Hour, age: 2 * time.Hour, want: refreshTTL},
			{window: 12 * time.Hour, age: 2 * time.Hour, want: 12 * time.Hour},
			{window: 48 * time.Hour, age: refreshTTL, code: middleware.CodeLoginTooOld},
			{window: 12 * time.Hour, age: 12 * time.Hour, code: middleware.CodeTokenInvalid},
		} {
			m.old.window = row.window
			login, old := time.Now(), oldToken(t, ginJWTClaims("admin"))
			time.Sleep(row.age)
			token := m.exchanges(old, row.code)
			if row.code != "" {
				continue
			}
			claims, err := m.auth.Verify(t.Context(), token)
			if err != nil {
				t.Fatal(err)
			}
			if got := claims.RefreshUntil.Sub(login); got != row.want || !claims.AuthTime.Equal(login) {
				t.Errorf("%+v: the session ends %v after the old login, with auth_time %v", row, got, claims.AuthTime)
			}
			if answer := m.send("POST", "/fresh", token); answer.Code != http.StatusUnauthorized {
				t.Errorf("%+v: Fresh answers %d", row, answer.Code)
			}
		}
	})
}

func TestExchangeRefuses(t *testing.T) {
	inBubble(t, func(t *testing.T, m *migration) {
		signed := func(method jwt.SigningMethod, key any) string {
			text, err := jwt.NewWithClaims(method, ginJWTClaims("admin")).SignedString(key)
			if err != nil {
				t.Fatal(err)
			}
			return text
		}
		with := func(name string, value any) string {
			claims := ginJWTClaims("admin")
			if claims[name] = value; value == nil {
				delete(claims, name)
			}
			return oldToken(t, claims)
		}
		now := time.Now()
		for name, token := range map[string]string{
			"no token":                "",
			"no JWT":                  "a.b",
			"no signature":            signed(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType),
			"another algorithm":       signed(jwt.SigningMethodHS384, []byte(oldSecret)),
			"another secret":          signed(jwt.SigningMethodHS256, []byte("another")),
			"no exp":                  with("exp", nil),
			"no orig_iat":             with("orig_iat", nil),
			"iat instead of orig_iat": oldToken(t, jwt.MapClaims{"id": "admin", "iat": now.Unix(), "exp": now.Unix() + 3600}),
			"no user":                 with("id", nil),
			"an empty user":           with("id", ""),
			"a user that is no id":    with("id", []string{"admin"}),
			"a fraction":              with("id", 1.5),
			"the window is over":      with("orig_iat", now.Add(-48*time.Hour).Unix()),
			"issued in the future":    with("iat", now.Add(time.Hour).Unix()),
			"not yet valid":           with("nbf", now.Add(time.Hour).Unix()),
			"a token of the new server, signed with the same secret": with("sid", "a-b"),
		} {
			t.Log(name)
			m.exchanges(token, middleware.CodeTokenInvalid)
		}

		// One of our own tokens would start its refresh window again. It has no orig_iat, so a system without that is harder to protect.
		m.old.key, m.old.subject = []byte(newSecret), func(old oldClaims) (string, error) { return string(old.Subject), nil }
		tokens, err := m.auth.Issue(t.Context(), middleware.Identity{Subject: "admin"})
		if err != nil {
			t.Fatal(err)
		}
		m.exchanges(tokens.AccessToken, middleware.CodeTokenInvalid)
	})
}

func TestExchangeCloses(t *testing.T) {
	inBubble(t, func(t *testing.T, m *migration) {
		m.old.window = 365 * 24 * time.Hour
		old := oldToken(t, ginJWTClaims("admin"))
		time.Sleep(time.Until(m.old.until) + time.Second)
		m.exchanges(old, middleware.CodeTokenInvalid)
	})
}

// A token becomes one session, in whatever way its text is written. Presenting it again ends that session.
func TestExchangeOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, m *migration) {
		old := oldToken(t, ginJWTClaims("admin"))
		token := m.exchanges(old, "")
		at := strings.LastIndexByte(old, '.') + 1
		last := strings.IndexByte(alphabet, old[len(old)-1])
		variant := old[:len(old)-1] + alphabet[last^1:last^1+1] // HMAC-SHA-256 has two bits that base64 does not use
		if a, b := decode(t, old[at:]), decode(t, variant[at:]); a != b {
			t.Fatal("the variant has another signature")
		}

		// The tabs of a browser may send it at the same time. The session goes on.
		time.Sleep(reuseAfter)
		for _, again := range []string{old, variant, old[:at] + "\n" + old[at:]} {
			m.exchanges(again, middleware.CodeTokenReused)
			m.is(token, http.StatusOK)
		}

		time.Sleep(time.Second)
		m.exchanges(variant, middleware.CodeTokenReused)
		m.is(token, http.StatusUnauthorized)
		time.Sleep(46 * time.Hour)
		m.exchanges(old, middleware.CodeTokenReused) // the record lasts as long as the token
	})
}

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

func decode(t *testing.T, text string) string {
	t.Helper()
	signature, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(signature)
}

func TestExchangeInParallel(t *testing.T) {
	inBubble(t, func(t *testing.T, m *migration) {
		old := oldToken(t, ginJWTClaims("admin"))
		together := &together{Store: m.old.blacklist}
		together.reading.Add(64)
		m.old.blacklist = together
		var sessions atomic.Int32
		var tabs sync.WaitGroup
		for range 64 {
			tabs.Go(func() {
				switch answer := m.send("POST", "/exchange", old); {
				case answer.Code == http.StatusOK:
					sessions.Add(1)
				case answer.Code != http.StatusUnauthorized || !strings.Contains(answer.Body.String(), "token_reused"):
					t.Errorf("got %d %s", answer.Code, answer.Body)
				}
			})
		}
		tabs.Wait()
		if sessions.Load() != 1 {
			t.Errorf("64 tabs got %d sessions, want one", sessions.Load())
		}
	})
}

// together lets no exchange continue before all have read the records of the token.
type together struct {
	middleware.Store
	reading sync.WaitGroup
}

func (s *together) Get(ctx context.Context, keys ...string) ([]string, time.Time, error) {
	values, since, err := s.Store.Get(ctx, keys...)
	if len(keys) == 2 {
		s.reading.Done()
		s.reading.Wait()
	}
	return values, since, err
}

// Log out everywhere covers the tokens that are not yet exchanged, also if it comes in the middle of an exchange.
func TestExchangeAfterRevokeSubject(t *testing.T) {
	revoke := func(m *migration) {
		if err := errors.Join(m.old.close(m.t.Context(), "admin"), m.auth.RevokeSubject(m.t.Context(), "admin")); err != nil {
			m.t.Error(err)
		}
	}
	for _, swaps := range []int{0, 1, 2} { // before the token is marked, before the login, after the login
		t.Run(strconv.Itoa(swaps), func(t *testing.T) {
			inBubble(t, func(t *testing.T, m *migration) {
				other := m.exchanges(oldToken(t, ginJWTClaims("test")), "")
				if swaps == 0 {
					revoke(m)
					m.old.blacklist = &hooked{m.old.blacklist, 1, func() { t.Error("the token was marked, and perhaps a session begun") }}
				} else {
					m.old.blacklist = &hooked{m.old.blacklist, swaps, func() { revoke(m) }}
				}
				m.exchanges(oldToken(t, ginJWTClaims("admin")), middleware.CodeTokenInvalid)
				m.exchanges(oldToken(t, jwt.MapClaims{"id": "admin", "orig_iat": time.Now().Unix() - 5, "exp": time.Now().Unix()}), middleware.CodeTokenInvalid)
				m.is(other, http.StatusForbidden) // the session of another user goes on
				tokens, err := m.auth.Issue(t.Context(), middleware.Identity{Subject: "admin"})
				if err != nil {
					t.Fatal(err)
				}
				m.is(tokens.AccessToken, http.StatusOK)
			})
		})
	}
}

// hooked calls a function after the nth swap.
type hooked struct {
	middleware.Store
	n    int
	hook func()
}

func (h *hooked) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	done, err := h.Store.CompareAndSwap(ctx, key, old, new, expires)
	if h.n--; h.n == 0 {
		h.hook()
	}
	return done, err
}

// A store that has forgotten which tokens were exchanged accepts none.
func TestExchangeStoreForgets(t *testing.T) {
	inBubble(t, func(t *testing.T, m *migration) {
		old := oldToken(t, ginJWTClaims("admin"))
		if err := m.old.check(t.Context()); err != nil {
			t.Error(err)
		}
		emptied := store.NewMemory()
		defer emptied.Close()
		m.old.blacklist = emptied
		m.exchanges(old, middleware.CodeTokenInvalid)
		if err := m.old.check(t.Context()); err == nil {
			t.Error("check accepts a store that is younger than the exchange")
		}
	})
}

// If the store or the user database fails, the answer is 503.
func TestExchangeUnavailable(t *testing.T) {
	inBubble(t, func(t *testing.T, m *migration) {
		old := oldToken(t, ginJWTClaims("admin"))
		identify, blacklist := m.old.identify, m.old.blacklist
		m.old.identify = func(context.Context, string, oldClaims) (middleware.Identity, error) {
			return middleware.Identity{}, errors.New("the user database is down")
		}
		m.exchanges(old, middleware.CodeStoreUnavailable)
		m.old.identify, m.old.blacklist = identify, failing{}
		m.exchanges(old, middleware.CodeStoreUnavailable)
		m.old.blacklist = blacklist
		m.exchanges(old, "") // neither has used it up
	})
}

type failing struct{ middleware.Store }

func (failing) Get(context.Context, ...string) ([]string, time.Time, error) {
	return nil, time.Time{}, errors.New("the store is down")
}

// Tokens of Laravel and Flask, with what tells the ones that may be exchanged from the others.
func TestExchangeLaravelAndFlask(t *testing.T) {
	inBubble(t, func(t *testing.T, m *migration) {
		laravel := func(model string, subject any, jti string) string {
			now := time.Now()
			return oldToken(t, jwt.MapClaims{"iss": "https://shop.example/login", "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(),
				"sub": subject, "jti": jti, "prv": model})
		}
		user := "23bd5c8949f600adb39e701c400872db7a5976f7" // jwt-auth's prv of App\Models\User
		m.old.subject = laravelSubject(`App\Models\User`)
		m.old.identify = func(_ context.Context, subject string, old oldClaims) (middleware.Identity, error) {
			if old.ID == "blacklisted" { // ask the old blacklist here
				return middleware.Identity{}, middleware.ErrRefused
			}
			return middleware.Identity{Subject: "user-" + subject}, nil
		}
		for _, subject := range []any{7, "7", int64(9007199254740993)} {
			claims, err := m.auth.Verify(t.Context(), m.exchanges(laravel(user, subject, "x"), ""))
			if err != nil {
				t.Fatal(err)
			}
			t.Log(claims.Subject)
		}
		m.exchanges(laravel("another model", 7, "x"), middleware.CodeTokenInvalid)
		m.exchanges(laravel(user, 7, "blacklisted"), middleware.CodeTokenInvalid)

		flask := func(kind string, exp time.Duration) string {
			now := time.Now()
			return oldToken(t, jwt.MapClaims{"fresh": false, "iat": now.Unix(), "jti": "x", "type": kind, "sub": "ann", "nbf": now.Unix(), "exp": now.Add(exp).Unix()})
		}
		m.old.subject, m.old.window = flaskSubject, 0
		m.exchanges(flask("refresh", time.Hour), "")
		m.exchanges(flask("access", time.Hour), middleware.CodeTokenInvalid)
		m.exchanges(flask("refresh", 0), middleware.CodeTokenInvalid)
	})
}
