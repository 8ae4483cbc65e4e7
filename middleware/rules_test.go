package middleware_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
)

// What an attack on the first edition broke, rule by rule. Each test plays the attack on the public API.

// fleet runs a test in a bubble for both modes: servers made by server share one memory, with a ttl of one minute
// and a window of one hour.
func fleet(t *testing.T, test func(t *testing.T, server func(changes ...change) *middleware.Auth)) {
	t.Helper()
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				memory := newMemory(t)
				test(t, func(changes ...change) *middleware.Auth {
					return newAuth(t, append([]change{mode, func(c *middleware.Config) {
						c.Store, c.TTL, c.RefreshTTL = memory, time.Minute, time.Hour
					}}, changes...)...)
				})
			})
		})
	}
}

// dead checks that neither token of an answer is good for anything.
func dead(t testing.TB, what string, auth *middleware.Auth, tokens middleware.Tokens) {
	t.Helper()
	if _, err := auth.Verify(t.Context(), tokens.AccessToken); err == nil {
		t.Errorf("%s: the access token passes", what)
	}
	if _, err := auth.Refresh(t.Context(), renewable(tokens)); err == nil {
		t.Errorf("%s: the session can be refreshed", what)
	}
}

// slowReload takes a while for each refresh.
func slowReload(d time.Duration) change {
	return func(c *middleware.Config) {
		c.Reload = func(context.Context, middleware.Claims) (any, error) {
			wait(d)
			return nil, nil
		}
	}
}

// A refresh that is under way while a leaked key is replaced must not carry the thief over to the new key.
func TestR1aAStepSignsWithTheKeysThatItVerifiedWith(t *testing.T) {
	fleet(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		auth := server(slowReload(3 * time.Second))
		tokens := begin(t, auth, middleware.Identity{})
		var next middleware.Tokens
		var wg sync.WaitGroup
		wg.Go(func() { next, _ = auth.Refresh(t.Context(), renewable(tokens)) })
		wait(time.Second)
		if err := auth.SetKeys([]middleware.Key{hs256("new", []byte("another secret of 32 bytes or more"))}); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		dead(t, "R1a: the token of the replaced key", auth, tokens)
		dead(t, "R1a: its successor", auth, next)
	})
}

// With a leaked key a thief could move the login, and with it the end of the window, into the future.
func TestR2AuthTimeInTheFuture(t *testing.T) {
	fleet(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		auth := server()
		tokens := begin(t, auth, middleware.Identity{})
		for ahead, code := range map[time.Duration]middleware.Code{30 * time.Second: "", 31 * time.Second: middleware.CodeTokenInvalid} {
			for _, text := range []string{tokens.AccessToken, renewable(tokens)} {
				m := membersOf(t, text)
				forged := resigned(text, m.with("auth_time", strconv.FormatInt(m.integer("auth_time")+int64(ahead/time.Second), 10)))
				if text == tokens.AccessToken {
					verifies(t, fmt.Sprintf("R2: auth_time %v ahead", ahead), auth, forged, code)
				}
				if text == renewable(tokens) && code != "" {
					refreshes(t, fmt.Sprintf("R2: auth_time %v ahead", ahead), auth, forged, code)
				}
			}
		}
	})
}

// Nor may the birth be moved, past every log-out everywhere to come.
func TestR2BirthInTheFuture(t *testing.T) {
	fleet(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		auth := server()
		text := begin(t, auth, middleware.Identity{}).AccessToken
		for ahead, code := range map[time.Duration]middleware.Code{30 * time.Second: "", 31 * time.Second: middleware.CodeTokenInvalid} {
			m := membersOf(t, text)
			instant := m["jti"][strings.LastIndex(m["jti"], "."):]
			sid := strconv.FormatInt(time.Now().Add(ahead).UnixMicro(), 36) + "-AAAAAAAAAAAAAAAAAAAAAA"
			forged := resigned(text, m.with("sid", `"`+sid+`"`).with("jti", `"`+sid+instant))
			verifies(t, fmt.Sprintf("R2: a birth %v ahead", ahead), auth, forged, code)
		}
		for _, sid := range []string{"", "x", "-x", "0-x", "A-x", "zzzzzzzzzzzzz-x"} {
			m := membersOf(t, text)
			instant := m["jti"][strings.LastIndex(m["jti"], "."):]
			forged := resigned(text, m.with("sid", `"`+sid+`"`).with("jti", `"`+sid+instant))
			verifies(t, fmt.Sprintf("R1: sid %q", sid), auth, forged, middleware.CodeTokenInvalid)
		}
	})
}

// lagging answers each read late, with what it saw at once.
type lagging struct {
	middleware.Store
	lag time.Duration
}

func (s *lagging) Get(ctx context.Context, keys ...string) ([]string, error) {
	values, err := s.Store.Get(ctx, keys...)
	wait(s.lag)
	return values, err
}

func (s *lagging) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	return s.Store.CompareAndSwap(ctx, key, old, new, expires)
}

// A refresh that looked before the subject was revoked, and issues its token more than a second later.
func TestR3ARefreshThatLookedBeforeTheRevocation(t *testing.T) {
	fleet(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		quick := server()
		slow := server(func(c *middleware.Config) {
			c.Store, c.StoreTimeout = &lagging{c.Store, 1500 * time.Millisecond}, 5*time.Second
		})
		tokens := begin(t, quick, middleware.Identity{})
		var next middleware.Tokens
		var wg sync.WaitGroup
		wg.Go(func() { next, _ = slow.Refresh(t.Context(), renewable(tokens)) })
		wait(time.Millisecond)
		if err := quick.RevokeSubject(t.Context(), "admin"); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		dead(t, "R3: the successor", quick, next)
		wait(time.Minute)
		dead(t, "R3: the successor", quick, next)
		verifies(t, "R12: a login afterwards", quick, begin(t, slow, middleware.Identity{}).AccessToken, "")
	})
}

// Another server's clock may be a second behind the one that revoked first: its cutoff must not be the earlier one.
func TestR12EachRevocationEndsTheLoginsBeforeIt(t *testing.T) {
	fleet(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		a, b := server(), server()
		for range 4 { // all of it in one moment
			between := begin(t, b, middleware.Identity{})
			if err := a.RevokeSubject(t.Context(), "admin"); err != nil {
				t.Fatal(err)
			}
			dead(t, "R12", b, between)
			between = begin(t, a, middleware.Identity{})
			verifies(t, "R12: the login after it", b, between.AccessToken, "")
			if err := b.RevokeSubject(t.Context(), "admin"); err != nil {
				t.Fatal(err)
			}
			dead(t, "R12: the second revocation", a, between)
		}
	})
}

// A page fires twenty refreshes with whatever cookie it has at the moment: they are one swap, and none is a theft.
func TestR6aOneSwapPerGrace(t *testing.T) {
	fleet(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		auth, other := server(), server()
		first := begin(t, auth, middleware.Identity{})
		second := renew(t, auth, first)
		if second.Claims.ID == first.Claims.ID {
			t.Fatal("R6: the first refresh after a login swaps")
		}
		for range 5 {
			wait(2 * time.Second)
			for _, text := range []string{renewable(second), renewable(first)} {
				again, err := other.Refresh(t.Context(), text)
				if err != nil || again.AccessToken != second.AccessToken || again.RefreshToken != second.RefreshToken {
					t.Fatalf("R6a: a refresh within the grace gives %v, %v, want the same token again", again.Claims.ID, err)
				}
			}
		}
		wait(time.Millisecond)
		third := renew(t, auth, second)
		if third.Claims.ID == second.Claims.ID {
			t.Error("R6: after the grace the token is swapped")
		}
		refreshes(t, "R8: the first token, long after its grace", auth, renewable(first), middleware.CodeTokenReused)
	})
}

// A token whose answer would be dead already is swapped.
func TestR6aADeadAnswerIsNotRepeated(t *testing.T) {
	fleet(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		auth := server(func(c *middleware.Config) { c.TTL = 3 * time.Second })
		second := renew(t, auth, begin(t, auth, middleware.Identity{}))
		wait(3*time.Second - time.Millisecond)
		if again := renew(t, auth, second); again.Claims.ID != second.Claims.ID {
			t.Error("R6a: a token that lives is swapped within the grace")
		}
		wait(time.Millisecond)
		if third := renew(t, auth, second); third.Claims.ID == second.Claims.ID {
			t.Error("R6a: the answer is a dead token")
		}
	})
}

// Own claims are those of now, also in a token that is returned again.
func TestR6aReloadsTheClaims(t *testing.T) {
	fleet(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		n := 0
		auth := server(func(c *middleware.Config) {
			c.Reload = func(context.Context, middleware.Claims) (any, error) { n++; return gin.H{"n": n}, nil }
		})
		second := renew(t, auth, begin(t, auth, middleware.Identity{}))
		again := renew(t, auth, second)
		var own struct{ N int }
		if err := again.Claims.Decode(&own); err != nil || own.N != 2 || again.Claims.ID != second.Claims.ID {
			t.Errorf("R6a: claims %+v of %s, want those of the second Reload in %s", own, again.Claims.ID, second.Claims.ID)
		}
	})
}

// With a chain of swaps inside one grace, as short tokens make it, a straggler is refused and no thief.
func TestR8TwoStepsBackWithinTheGraceIsNoReuse(t *testing.T) {
	fleet(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		auth := server(func(c *middleware.Config) { c.TTL = time.Second })
		first := begin(t, auth, middleware.Identity{})
		second := renew(t, auth, first)
		wait(2 * time.Second)
		third := renew(t, auth, second)
		refreshes(t, "R8: two steps back", auth, renewable(first), middleware.CodeTokenRevoked)
		verifies(t, "R8: the session goes on", auth, third.AccessToken, "")
		wait(10 * time.Second)
		refreshes(t, "R8: two steps back, after the grace", auth, renewable(first), middleware.CodeTokenReused)
	})
}

// A database that takes longer than the grace must not turn parallel refreshes into a theft.
func TestR7ASlowReloadTakesNothingFromTheGrace(t *testing.T) {
	fleet(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		auth := server(slowReload(11 * time.Second))
		tokens := begin(t, auth, middleware.Identity{})
		answers := make([]middleware.Tokens, 10)
		errs := make([]error, len(answers))
		var wg sync.WaitGroup
		for i := range answers {
			wg.Go(func() {
				wait(time.Duration(i) * time.Second)
				answers[i], errs[i] = auth.Refresh(t.Context(), renewable(tokens))
			})
		}
		wg.Wait()
		for i, answer := range answers {
			if errs[i] != nil || answer.Claims.ID != answers[0].Claims.ID {
				t.Errorf("R7: refresh %d: %v %v, want the successor %v", i, answer.Claims.ID, errs[i], answers[0].Claims.ID)
			}
		}
		verifies(t, "R7: the successor", auth, answers[0].AccessToken, "")
	})
}

// What the server needs for its answer is not the client's delay: it asked within the grace.
func TestR7TheGraceIsJudgedByWhenTheClientAsked(t *testing.T) {
	fleet(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		auth, slow := server(), server(slowReload(5*time.Second))
		first := begin(t, auth, middleware.Identity{})
		second := renew(t, auth, first)
		wait(9 * time.Second)
		again, err := slow.Refresh(t.Context(), renewable(first))
		if err != nil || again.Claims.ID != second.Claims.ID {
			t.Errorf("R7: asked in the grace, answered after it: %v, %v", again.Claims.ID, err)
		}
	})
}

// While Reload takes its time the session may go on, or end: what was seen before Reload no longer counts.
func TestR7TheRecordIsLookedAtAgainAfterReload(t *testing.T) {
	fleet(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		auth, slow := server(), server(slowReload(5*time.Second))
		first := begin(t, auth, middleware.Identity{})
		renew(t, auth, first)
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := slow.Refresh(t.Context(), renewable(first))
			fails(t, "R3: a refresh during which the session was ended", err, middleware.CodeTokenRevoked)
		})
		wait(time.Second)
		fails(t, "logout", auth.Logout(t.Context(), first.AccessToken), "")
		wg.Wait()
	})
}

// Who hangs up does not cancel his own logout, and a thief who hangs up is found out all the same.
func TestR8R11R12GoOnWithoutTheClient(t *testing.T) {
	type step = func(ctx context.Context, auth *middleware.Auth, tokens middleware.Tokens) error
	byHandler := func(path string) step {
		return func(ctx context.Context, auth *middleware.Auth, tokens middleware.Tokens) error {
			r := gin.New()
			r.POST("/logout/all", auth.LogoutAllHandler)
			r.POST("/autorefresh", auth.AutoRefresh(0), whoami)
			request := made(http.NewRequestWithContext(ctx, "POST", path, nil))
			request.Header.Set("Authorization", "Bearer "+tokens.AccessToken)
			recorder := httptest.NewRecorder()
			r.ServeHTTP(recorder, request)
			if recorder.Code < 400 {
				return nil
			}
			var answer struct{ Code middleware.Code }
			if err := json.Unmarshal(recorder.Body.Bytes(), &answer); err != nil {
				return err
			}
			return &middleware.Error{Code: answer.Code, Status: recorder.Code}
		}
	}
	for name, row := range map[string]struct {
		late bool // long after a refresh
		step step
		code middleware.Code
	}{
		"R11 logout": {false, func(ctx context.Context, auth *middleware.Auth, tokens middleware.Tokens) error {
			return auth.Logout(ctx, tokens.AccessToken)
		}, ""},
		"R11 session": {false, func(ctx context.Context, auth *middleware.Auth, tokens middleware.Tokens) error {
			return auth.RevokeSession(ctx, tokens.Claims.SessionID)
		}, ""},
		"R12 log out everywhere": {false, func(ctx context.Context, auth *middleware.Auth, _ middleware.Tokens) error {
			return auth.RevokeSubject(ctx, "admin")
		}, ""},
		"R12 handler": {false, byHandler("/logout/all"), ""},
		"R8 reuse": {true, func(ctx context.Context, auth *middleware.Auth, tokens middleware.Tokens) error {
			_, err := auth.Refresh(ctx, tokens.AccessToken)
			return err
		}, middleware.CodeTokenReused},
		"R8 reuse, AutoRefresh": {true, byHandler("/autorefresh"), middleware.CodeTokenReused},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, hangUp := context.WithCancel(t.Context())
				defer hangUp()
				store := &hangingUp{Store: newMemory(t), hangUp: hangUp}
				auth := newAuth(t, func(c *middleware.Config) { c.Store = store })
				tokens := begin(t, auth, middleware.Identity{})
				last := tokens
				if row.late {
					last = renew(t, auth, tokens)
					wait(11 * time.Second)
				}
				store.armed = true
				fails(t, name, row.step(ctx, auth, tokens), row.code)
				if ctx.Err() == nil {
					t.Fatal("the client has not hung up")
				}
				dead(t, name, auth, last)
			})
		})
	}
}

// hangingUp cancels the client's request once it was asked.
type hangingUp struct {
	middleware.Store
	hangUp context.CancelFunc
	armed  bool
}

func (s *hangingUp) Get(ctx context.Context, keys ...string) ([]string, error) {
	values, err := s.Store.Get(ctx, keys...)
	if s.armed {
		s.hangUp()
	}
	return values, err
}

func (s *hangingUp) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	return s.Store.CompareAndSwap(ctx, key, old, new, expires)
}

// A logout whose client has gone before anything was asked counts too.
func TestR11ALogoutOfAClientThatHasGone(t *testing.T) {
	auth := newAuth(t)
	tokens := begin(t, auth, middleware.Identity{})
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	fails(t, "R11", auth.Logout(gone, tokens.AccessToken), "")
	dead(t, "R11", auth, tokens)
}

// A refresh of a client that has gone uses nothing up.
func TestR10AClientThatHasGoneKeepsItsToken(t *testing.T) {
	auth := newAuth(t, noGrace)
	tokens := begin(t, auth, middleware.Identity{})
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := auth.Refresh(gone, tokens.AccessToken); !hasCode(err, middleware.CodeStoreUnavailable) {
		t.Errorf("R10: %v, want store_unavailable", err)
	}
	renew(t, auth, tokens)
}

// frozen is a backend that runs what it was asked when it wakes up, and by then is to leave out what came too late.
type frozen struct {
	*store.Memory
	until time.Time
}

// Changes says that this is not the Memory, so that it is read with Get.
func (s *frozen) Changes() (self any, counter func(key string) *atomic.Uint64) { return nil, nil }

func (s *frozen) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	if time.Now().Before(s.until) {
		go func() {
			wait(time.Until(s.until))
			_, _ = s.Memory.CompareAndSwap(keepDeadline{ctx}, key, old, new, expires)
		}()
		<-ctx.Done()
		return false, ctx.Err()
	}
	return s.Memory.CompareAndSwap(ctx, key, old, new, expires)
}

// keepDeadline is a context of which only the deadline is left, as a backend sees it.
type keepDeadline struct{ context.Context }

func (keepDeadline) Done() <-chan struct{} { return nil }
func (keepDeadline) Err() error            { return nil }

// The store freezes between look and swap. When it wakes up, the swap must be void, or the retry looks like theft.
func TestR10aASwapDoesNotTakeEffectLate(t *testing.T) {
	fleet(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		s := &frozen{Memory: newMemory(t)}
		auth := server(func(c *middleware.Config) { c.Store = s })
		tokens := begin(t, auth, middleware.Identity{})
		s.until = time.Now().Add(12 * time.Second)
		refreshes(t, "R14: a refresh while the store is frozen", auth, renewable(tokens), middleware.CodeStoreUnavailable)
		wait(13 * time.Second)
		next, err := auth.Refresh(t.Context(), renewable(tokens))
		if err != nil {
			t.Fatalf("R10a: the retry after the store woke up: %v", err)
		}
		verifies(t, "R10a: its token", auth, next.AccessToken, "")
	})
}

// A grace that is no longer than the store's timeout could end before the swap takes effect.
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

// The login server gives thirty days, another server has fourteen configured: a logout there with the access token
// must be remembered for as long as the session lives.
func TestR11PairLogoutIsRememberedForTheSessionsWindow(t *testing.T) {
	const days = 24 * time.Hour
	synctest.Test(t, func(t *testing.T) {
		memory := newMemory(t)
		window := func(d time.Duration) *middleware.Auth {
			return newAuth(t, pair, func(c *middleware.Config) { c.Store, c.RefreshTTL = memory, d })
		}
		month, fortnight := window(30*days), window(14*days)
		tokens := begin(t, month, middleware.Identity{})
		if !tokens.Claims.RefreshUntil.Equal(tokens.RefreshUntil) || membersOf(t, tokens.AccessToken)["refresh_exp"] == "" {
			t.Errorf("R11: the access token has the deadline %v, want %v", tokens.Claims.RefreshUntil, tokens.RefreshUntil)
		}
		fails(t, "logout", fortnight.Logout(t.Context(), tokens.AccessToken), "")
		wait(15 * days)
		refreshes(t, "R11: after the other server's window", month, tokens.RefreshToken, middleware.CodeTokenRevoked)
		wait(15*days - time.Second)
		refreshes(t, "R11: at the end of its own", month, tokens.RefreshToken, middleware.CodeTokenRevoked)
	})
}

// After the deadline an access token may live yet, and can be logged out.
func TestR11LogoutUntilTheLastTokenIsDead(t *testing.T) {
	fleet(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		auth := server()
		first := begin(t, auth, middleware.Identity{})
		wait(time.Hour - time.Microsecond)
		last := renew(t, auth, first)
		wait(30 * time.Second)
		verifies(t, "R9: after the deadline", auth, last.AccessToken, "")
		fails(t, "R11: logout after the deadline", auth.Logout(t.Context(), renewable(first)), "")
		verifies(t, "R11", auth, last.AccessToken, middleware.CodeTokenRevoked)
	})
}

// changing is a database with a password, and an Authenticate that reads it and then takes its time.
type changing struct {
	mu       sync.Mutex
	password string
	slow     time.Duration
}

func (d *changing) set(password string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.password = password
}

func (d *changing) authenticate(c *gin.Context) (middleware.Identity, error) {
	d.mu.Lock()
	password := d.password
	d.mu.Unlock()
	wait(d.slow)
	if c.Query("password") != password {
		return middleware.Identity{}, middleware.ErrRefused
	}
	return middleware.Identity{Subject: "admin"}, nil
}

// A login that was checked against the old password must not survive the change of it, whichever server it is at.
func TestR12ALoginAgainstAChangeOfPassword(t *testing.T) {
	for name, sameServer := range map[string]bool{"one server": true, "two servers": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				memory, db := newMemory(t), &changing{password: "old", slow: 300 * time.Millisecond}
				with := func(c *middleware.Config) { c.Store, c.Authenticate = memory, db.authenticate }
				auth := newAuth(t, with)
				revoking := auth
				if !sameServer {
					revoking = newAuth(t, with)
				}
				s := direct(t, routes(auth))
				var answer reply
				var wg sync.WaitGroup
				wg.Go(func() { answer = s.send("POST", "/login?password=old") })
				wait(100 * time.Millisecond)
				db.set("new")
				if err := revoking.RevokeSubject(t.Context(), "admin"); err != nil {
					t.Fatal(err)
				}
				wg.Wait()
				answer.refused(t, middleware.CodeStoreUnavailable)
				s.send("POST", "/login?password=old").refused(t, middleware.CodeInvalidCredentials)
				retry := s.send("POST", "/login?password=new")
				if sameServer { // it knows the order of what it did
					s.send("GET", "/required", bearer(retry.token(t))).passed(t, "admin")
				}
				wait(2 * time.Second)
				s.send("GET", "/required", bearer(s.send("POST", "/login?password=new").token(t))).passed(t, "admin")
			})
		})
	}
}

// The revocation is under way for longer than its cutoff is ahead, and the login is answered before it takes effect.
func TestR12ALoginAgainstASlowRevocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory, db := newMemory(t), &changing{password: "old", slow: 1500 * time.Millisecond}
		auth := newAuth(t, func(c *middleware.Config) { c.Store, c.Authenticate = memory, db.authenticate })
		slow := newAuth(t, func(c *middleware.Config) {
			c.Store, c.StoreTimeout = &lateSwap{memory, 2 * time.Second}, 5*time.Second
		})
		s := direct(t, routes(auth))
		var answer reply
		var wg sync.WaitGroup
		wg.Go(func() { answer = s.send("POST", "/login?password=old") })
		wait(100 * time.Millisecond)
		db.set("new")
		if err := slow.RevokeSubject(t.Context(), "admin"); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		s.send("GET", "/required", bearer(answer.token(t))).refused(t, middleware.CodeTokenRevoked)
	})
}

// On the server that revoked, a login right after works at once, also through LoginHandler.
func TestR12ALoginRightAfterARevocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auth := newAuth(t)
		s := direct(t, routes(auth))
		for range 3 {
			if err := auth.RevokeSubject(t.Context(), "admin"); err != nil {
				t.Fatal(err)
			}
			s.send("GET", "/required", bearer(s.send("POST", "/login?user=admin").token(t))).passed(t, "admin")
		}
	})
}

// A login ends the session of the cookie that came with it (OWASP ASVS 5.0, 7.2.4).
func TestR16ALoginEndsTheSessionItReplaces(t *testing.T) {
	for mode, row := range cookieModes {
		t.Run(mode, func(t *testing.T) {
			store := &faulty{Store: newMemory(t)}
			refusals := 0
			auth := newAuth(t, row.change, cookies(middleware.Cookie{}), func(c *middleware.Config) {
				c.Store = store
				c.Authenticate = func(c *gin.Context) (middleware.Identity, error) {
					if c.Query("user") == "" {
						refusals++
						return middleware.Identity{}, middleware.ErrRefused
					}
					return middleware.Identity{Subject: c.Query("user")}, nil
				}
			})
			b := browse(t, auth, mode)
			b.send("POST", "/login?user=alice").cookieAnswer(t)
			alice := b.cookie("/", "__Host-access_token")
			b.send("POST", "/login").refused(t, middleware.CodeInvalidCredentials)
			b.send("POST", "/login?user=mallory", header("Sec-Fetch-Site", "cross-site")).refused(t, middleware.CodeCrossOrigin)
			verifies(t, "R16: a login that failed ends nothing", auth, alice, "")

			store.fault.Store(&fault{swap: failingSwap})
			r := b.send("POST", "/login?user=bob")
			if r.refused(t, middleware.CodeStoreUnavailable); r.header.Get("Set-Cookie") != "" {
				t.Errorf("R16: a login that could not end the old session sets %v", r.header)
			}
			store.fault.Store(nil)
			verifies(t, "R16: that login ended nothing", auth, alice, "")

			b.send("POST", "/login?user=bob").cookieAnswer(t)
			verifies(t, "R16: the session before the login", auth, alice, middleware.CodeTokenRevoked)
			b.send("GET", "/required").passed(t, "bob")

			bob := b.cookie("/", "__Host-access_token")
			b.send("GET", "/callback?user=carol").passed(t, "carol") // SetCookies
			verifies(t, "R16: the session before the other login", auth, bob, middleware.CodeTokenRevoked)

			// What is not genuine, or over already, is nothing to end.
			for _, text := range []string{"", "a.b.c", backdated(t, bob, 30*24*time.Hour)} {
				direct(t, cookieRoutes(auth, mode)).send("POST", "/login?user=dave", header("Cookie", row.name+"="+text)).cookieAnswer(t)
			}
		})
	}
}

// SetCookies after a refresh of one's own keeps the session.
func TestR16SetCookiesKeepsItsOwnSession(t *testing.T) {
	auth := newAuth(t, pair, cookies(middleware.Cookie{}))
	tokens := begin(t, auth, middleware.Identity{})
	r := gin.New()
	r.POST("/custom", func(c *gin.Context) {
		next := renew(t, auth, tokens)
		_ = auth.SetCookies(c, next)
		c.Status(http.StatusNoContent)
	})
	answer := direct(t, r).send("POST", "/custom", header("Cookie", "__Host-refresh_token="+tokens.RefreshToken))
	verifies(t, "R16", auth, answer.cookies()["access_token"].Value, "")
}

// Where the browser has dropped the cookie of an access token, the refresh token's shows that a refresh helps.
func TestPairCookiesWithoutAnAccessTokenAreExpired(t *testing.T) {
	auth := newAuth(t, pair, cookies(middleware.Cookie{}))
	s := direct(t, sharedRoutes(auth))
	tokens := begin(t, auth, middleware.Identity{})
	withRefresh := header("Cookie", "__Host-refresh_token="+tokens.RefreshToken)
	for _, path := range []string{"/required", "/optional", "/fresh"} {
		s.send("GET", path, withRefresh).refused(t, middleware.CodeTokenExpired)
		s.send("GET", path, withRefresh, bearer(tokens.AccessToken)).passed(t, "admin")
	}
	s.send("GET", "/required", header("Cookie", "__Host-refresh_token=")).refused(t, middleware.CodeTokenMissing)
	s.send("POST", "/logout", withRefresh).accepted(t, "/logout")
	dead(t, "R11", auth, tokens)
}

// The cookie of an access token lasts as long as the token. A subdomain can plant neither cookie.
func TestPairCookiesAreOfThisHost(t *testing.T) {
	auth := newAuth(t, pair, cookies(middleware.Cookie{}))
	r := direct(t, sharedRoutes(auth)).send("POST", "/login?user=admin")
	for i, want := range []string{"__Host-access_token 3600", "__Host-refresh_token 1209600"} {
		cookie := (&http.Response{Header: r.header}).Cookies()[i]
		if got := fmt.Sprint(cookie.Name, " ", cookie.MaxAge); got != want || cookie.Path != "/" || cookie.Domain != "" {
			t.Errorf("cookie %d is %s, want %s", i, cookie, want)
		}
	}
}

// A token that the browser has is not set again: that answer might overtake the one with its successor.
func TestR6aARepeatedCookieIsNotSetAgain(t *testing.T) {
	for mode, row := range cookieModes {
		auth := newAuth(t, row.change, cookies(middleware.Cookie{}))
		s := direct(t, cookieRoutes(auth, mode))
		next := renew(t, auth, begin(t, auth, middleware.Identity{}))
		r := s.send("POST", "/refresh", header("Cookie", row.name+"="+renewable(next)))
		r.cookieAnswer(t)
		for _, line := range r.header.Values("Set-Cookie") {
			if strings.HasPrefix(line, row.name+"=") {
				t.Errorf("R6a, %s: the cookie is set again", mode)
			}
		}
	}
}

// A handler that takes longer than the grace must not cost the session: until it answers, the client has the old
// token only.
func TestAutoRefreshWithASlowHandler(t *testing.T) {
	for name, row := range map[string]struct {
		takes time.Duration
		code  middleware.Code // of the old token nine seconds after the answer
	}{
		"within the grace":  {time.Second, ""},
		"beyond the grace":  {64 * time.Second, ""},
		"beyond all bounds": {6 * time.Minute, middleware.CodeTokenReused},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				auth := newAuth(t, func(c *middleware.Config) { c.TTL, c.RefreshTTL = 10*time.Minute, time.Hour })
				r := gin.New()
				takes := row.takes
				r.GET("/slow", auth.AutoRefresh(0), func(c *gin.Context) {
					wait(takes)
					whoami(c)
				})
				s := direct(t, r)
				old := issue(t, auth, middleware.Identity{Subject: "admin"})
				wait(11 * time.Minute)
				var wg sync.WaitGroup
				answers := make([]reply, 3)
				for i := range answers { // other requests of the page come while the first is under way
					wg.Go(func() {
						wait(time.Duration(i) * 8 * time.Second)
						answers[i] = s.send("GET", "/slow", bearer(old))
					})
				}
				wg.Wait()
				if row.takes == time.Second {
					answers = answers[:1] // the client has had the new token for long
				}
				next := strings.TrimPrefix(answers[0].header.Get("Authorization"), "Bearer ")
				for i, answer := range answers {
					if answer.passed(t, "admin"); strings.TrimPrefix(answer.header.Get("Authorization"), "Bearer ") != next {
						t.Errorf("R7: answer %d has another token", i)
					}
				}
				if row.takes == time.Second {
					return
				}
				takes = 0
				wait(9 * time.Second)
				again := s.send("GET", "/slow", bearer(old))
				if row.code == "" {
					again.passed(t, "admin")
					s.send("GET", "/slow", bearer(next)).passed(t, "admin")
				} else {
					again.refused(t, row.code)
				}
			})
		})
	}
}

// Once the answer is written, the grace is as long as any.
func TestAutoRefreshsGraceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auth := newAuth(t, func(c *middleware.Config) { c.TTL, c.RefreshTTL = 10*time.Minute, time.Hour })
		r := gin.New()
		r.GET("/slow", auth.AutoRefresh(0), func(c *gin.Context) {
			wait(64 * time.Second)
			whoami(c)
		})
		old := issue(t, auth, middleware.Identity{Subject: "admin"})
		wait(11 * time.Minute)
		direct(t, r).send("GET", "/slow", bearer(old)).passed(t, "admin")
		wait(10*time.Second + time.Millisecond)
		refreshes(t, "R8: after the grace of a slow answer", auth, old, middleware.CodeTokenReused)
	})
}

// A slow handler holds the grace of its own swap open, and not that of the next one.
func TestAutoRefreshHoldsItsOwnSwapOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auth := newAuth(t, func(c *middleware.Config) { c.TTL, c.RefreshTTL = 30*time.Second, time.Hour })
		r := gin.New()
		r.GET("/slow", auth.AutoRefresh(0), func(c *gin.Context) {
			wait(time.Minute)
			whoami(c)
		})
		first := issue(t, auth, middleware.Identity{Subject: "admin"})
		wait(time.Minute)
		var wg sync.WaitGroup
		wg.Go(func() { direct(t, r).send("GET", "/slow", bearer(first)).passed(t, "admin") })
		wait(time.Second)
		second := refresh(t, auth, first)
		wait(40 * time.Second) // the second token has expired
		if third := refresh(t, auth, second); third == second {
			t.Fatal("R6a: an expired token is returned again")
		}
		wg.Wait()
		refreshes(t, "R8: the second token, 20 s after it was replaced", auth, second, middleware.CodeTokenReused)
	})
}

// A WebSocket's handshake is a GET that any site may make a browser send.
func TestAWebSocketFromAnotherSite(t *testing.T) {
	auth := newAuth(t, cookies(middleware.Cookie{}))
	s := direct(t, cookieRoutes(auth, "one token"))
	inCookie := header("Cookie", "__Host-access_token="+login(t, auth))
	host := func(r *http.Request) { r.Host = "example.com" }
	upgrade := []edit{inCookie, host, header("Connection", "Upgrade"), header("Upgrade", "websocket")}
	for name, origin := range origins {
		edits := slices.Clone(upgrade)
		for name, value := range origin.headers {
			edits = append(edits, header(name, value))
		}
		for _, path := range []string{"/required", "/optional", "/fresh"} {
			r := s.send("GET", path, edits...)
			if origin.refused {
				r.refused(t, middleware.CodeCrossOrigin)
			} else {
				r.passed(t, "admin")
			}
			if t.Failed() {
				t.Fatalf("%s, %s", name, path)
			}
		}
		s.send("GET", "/required", inCookie, host).passed(t, "admin")
	}
}

// overriding embeds a Memory and keeps its records elsewhere.
type overriding struct {
	*store.Memory
	records middleware.Store
}

func (s overriding) Get(ctx context.Context, keys ...string) ([]string, error) {
	return s.records.Get(ctx, keys...)
}

func (s overriding) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	return s.records.CompareAndSwap(ctx, key, old, new, expires)
}

// reading overrides Get alone: it adds what another blacklist has.
type reading struct {
	*store.Memory
	ended bool
}

func (s *reading) Get(ctx context.Context, keys ...string) ([]string, error) {
	values, err := s.Memory.Get(ctx, keys...)
	if s.ended && err == nil {
		values[0] = "ended"
	}
	return values, err
}

// A struct that embeds a store which can be peeked into must not pass what its own Get refuses.
func TestAStoreThatEmbedsAMemory(t *testing.T) {
	verifyOnly := func(auth *middleware.Auth, text string) error { return second(auth.Verify(t.Context(), text)) }
	for _, s := range []middleware.Store{
		overriding{newMemory(t), newMemory(t)},
		&overriding{newMemory(t), newMemory(t)},
	} {
		auth := newAuth(t, func(c *middleware.Config) { c.Store = s })
		text := login(t, auth)
		for range 3 {
			fails(t, "before the logout", verifyOnly(auth, text), "")
		}
		fails(t, "logout", auth.Logout(t.Context(), text), "")
		fails(t, "R3: after the logout", verifyOnly(auth, text), middleware.CodeTokenRevoked)
	}
	s := &reading{Memory: newMemory(t)}
	auth := newAuth(t, func(c *middleware.Config) { c.Store = s })
	text := login(t, auth)
	for range 3 {
		fails(t, "before", verifyOnly(auth, text), "")
	}
	s.ended = true
	fails(t, "R3: Get says that it has ended", verifyOnly(auth, text), middleware.CodeTokenRevoked)
}

func second[T any](_ T, err error) error { return err }

// A record must outlive all that it revokes, by the clock of a store that is a second ahead, and with any leeway.
func TestR13RecordsOutliveWhatTheyRevoke(t *testing.T) {
	for _, leeway := range []time.Duration{0, 3 * time.Second, 5 * time.Minute} {
		for name, revoke := range map[string]func(t *testing.T, auth *middleware.Auth, tokens middleware.Tokens) error{
			"logout": func(t *testing.T, auth *middleware.Auth, tokens middleware.Tokens) error {
				return auth.Logout(t.Context(), tokens.AccessToken)
			},
			"session": func(t *testing.T, auth *middleware.Auth, tokens middleware.Tokens) error {
				return auth.RevokeSession(t.Context(), tokens.Claims.SessionID)
			},
			"subject": func(t *testing.T, auth *middleware.Auth, _ middleware.Tokens) error {
				return auth.RevokeSubject(t.Context(), "admin")
			},
			"reuse": func(t *testing.T, auth *middleware.Auth, tokens middleware.Tokens) error {
				_, err := auth.Refresh(t.Context(), renewable(tokens))
				wait(time.Second)
				if _, again := auth.Refresh(t.Context(), renewable(tokens)); !hasCode(again, middleware.CodeTokenReused) {
					return errors.New("no reuse")
				}
				return err
			},
		} {
			for mode, change := range modes {
				t.Run(fmt.Sprintf("%s, leeway %v, %s", name, leeway, mode), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						s := &recording{Store: newMemory(t)}
						auth := newAuth(t, change, noGrace, func(c *middleware.Config) {
							c.Store, c.Leeway, c.TTL, c.RefreshTTL = s, leeway, time.Minute, time.Hour
						})
						wait(700 * time.Millisecond) // not at a whole second
						tokens := begin(t, auth, middleware.Identity{})
						if err := revoke(t, auth, tokens); err != nil {
							t.Fatal(err)
						}
						// The last refresh comes just before the window's end and its leeway, and what it gives lives for a
						// ttl and a leeway.
						dies := tokens.RefreshUntil.Add(leeway + time.Minute + leeway)
						if spare := s.expires.Sub(dies); spare < time.Second || spare > 5*time.Second {
							t.Errorf("R13: the record goes %v after the last token died, want 1 s to 5 s", spare)
						}
					})
				})
			}
		}
	}
}

// recording remembers the expiry of the last swap.
type recording struct {
	middleware.Store
	expires time.Time
}

func (s *recording) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	s.expires = expires
	return s.Store.CompareAndSwap(ctx, key, old, new, expires)
}

// Between the signature and the swap time passes, and a second may begin. What was signed and what the record says,
// from which the successor is made again, must be the same token.
func TestR7TheRecordTellsTheTokenThatWasSigned(t *testing.T) {
	for _, offset := range []time.Duration{0, 999_999 * time.Microsecond, 999_998 * time.Microsecond, 500 * time.Millisecond} {
		fleet(t, func(t *testing.T, server func(...change) *middleware.Auth) {
			auth := server(func(c *middleware.Config) { c.Store = &lateSwap{c.Store, 200 * time.Millisecond} })
			first := begin(t, auth, middleware.Identity{})
			wait(offset)
			next := renew(t, auth, first)
			wait(time.Second)
			again := renew(t, auth, first)
			if again.AccessToken != next.AccessToken || again.RefreshToken != next.RefreshToken {
				t.Errorf("R7: %+v, want %+v again", again.Claims, next.Claims)
			}
		})
	}
}

// lateSwap takes a moment for each swap.
type lateSwap struct {
	middleware.Store
	late time.Duration
}

func (s *lateSwap) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	wait(s.late)
	return s.Store.CompareAndSwap(ctx, key, old, new, expires)
}

// A real connection that breaks while the store is asked.
func TestR11ALogoutWhoseConnectionBreaks(t *testing.T) {
	s := &blocking{Store: newMemory(t), asked: make(chan struct{}), proceed: make(chan struct{})}
	auth := newAuth(t, func(c *middleware.Config) { c.Store = s })
	text := login(t, auth)
	s.armed = true
	noticed, done := make(chan struct{}), make(chan struct{})
	r := gin.New()
	r.POST("/logout", func(c *gin.Context) {
		defer close(done)
		context.AfterFunc(c.Request.Context(), func() { close(noticed) })
		auth.LogoutHandler(c)
	})
	server := httptest.NewServer(r)
	defer server.Close()
	ctx, hangUp := context.WithCancel(t.Context())
	request := made(http.NewRequestWithContext(ctx, "POST", server.URL+"/logout", nil))
	request.Header.Set("Authorization", "Bearer "+text)
	go func() {
		<-s.asked
		hangUp()
	}()
	if _, err := server.Client().Do(request); err == nil {
		t.Fatal("the client did not hang up")
	}
	<-noticed
	close(s.proceed)
	<-done
	verifies(t, "R11", auth, text, middleware.CodeTokenRevoked)
}

// blocking holds the first read until the test lets it go on.
type blocking struct {
	middleware.Store
	armed          bool
	asked, proceed chan struct{}
	once           sync.Once
}

func (s *blocking) Get(ctx context.Context, keys ...string) ([]string, error) {
	if s.armed {
		s.once.Do(func() { close(s.asked) })
		select {
		case <-s.proceed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return s.Store.Get(ctx, keys...)
}

func (s *blocking) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	return s.Store.CompareAndSwap(ctx, key, old, new, expires)
}

// Right after a log-out everywhere instants run ahead of the clock. No two tokens of the session have one jti all the
// same.
func TestR9EveryTokenHasItsOwnID(t *testing.T) {
	fleet(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		auth := server(noGrace)
		if err := auth.RevokeSubject(t.Context(), "admin"); err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		tokens := begin(t, auth, middleware.Identity{})
		for range 5 {
			for _, text := range slices.Compact([]string{renewable(tokens), tokens.AccessToken}) {
				id := membersOf(t, text)["jti"]
				if seen[id] {
					t.Errorf("R9: jti %s twice", id)
				}
				seen[id] = true
			}
			tokens = renew(t, auth, tokens)
		}
	})
}
