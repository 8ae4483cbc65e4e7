package middleware_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
)

func pair(c *middleware.Config) { c.Pair = true }

// modes are what a login can return.
var modes = map[string]change{"one token": func(*middleware.Config) {}, "pair": pair}

func begin(t testing.TB, auth *middleware.Auth, id middleware.Identity) middleware.Tokens {
	t.Helper()
	if id.Subject == "" {
		id.Subject = "admin"
	}
	tokens, err := auth.Issue(t.Context(), id)
	if err != nil {
		t.Fatal("issue:", err)
	}
	return tokens
}

// renewable is the token that is swapped.
func renewable(tokens middleware.Tokens) string {
	if tokens.RefreshToken != "" {
		return tokens.RefreshToken
	}
	return tokens.AccessToken
}

func renew(t testing.TB, auth *middleware.Auth, tokens middleware.Tokens) middleware.Tokens {
	t.Helper()
	next, err := auth.Refresh(t.Context(), renewable(tokens))
	if err != nil {
		t.Fatal("refresh:", err)
	}
	return next
}

// fails checks the code that a step failed with, "" for success.
func fails(t testing.TB, what string, err error, code middleware.Code) {
	t.Helper()
	if code == "" && err != nil || code != "" && !hasCode(err, code) {
		t.Errorf("%s: %v, want %q", what, err, code)
	}
}

func verifies(t testing.TB, what string, auth *middleware.Auth, text string, code middleware.Code) {
	t.Helper()
	_, err := auth.Verify(t.Context(), text)
	fails(t, what+", verified", err, code)
}

func refreshes(t testing.TB, what string, auth *middleware.Auth, text string, code middleware.Code) {
	t.Helper()
	_, err := auth.Refresh(t.Context(), text)
	fails(t, what+", refreshed", err, code)
}

// sharedRoutes has the handlers and the guards of both modes.
func sharedRoutes(auth *middleware.Auth) *gin.Engine {
	r := gin.New()
	for path, handler := range map[string]gin.HandlerFunc{
		"/login": auth.LoginHandler, "/refresh": auth.RefreshHandler, "/logout": auth.LogoutHandler, "/logout/all": auth.LogoutAllHandler,
		"/revoke": auth.RevokeHandler, "/introspect": auth.IntrospectHandler,
	} {
		r.POST(path, handler)
	}
	r.GET("/jwks.json", auth.JWKSHandler)
	for path, guard := range guards(auth) {
		r.Any(path, guard, whoami)
	}
	return r
}

// guards are those of both modes. /allow is for the role admin.
func guards(auth *middleware.Auth) map[string]gin.HandlerFunc {
	return map[string]gin.HandlerFunc{
		"/required":     auth.Required(),
		"/in/:jwt/path": auth.Required(),
		"/optional":     auth.Optional(),
		"/fresh":        auth.Fresh(10 * time.Minute),
		"/allow": auth.Allow(func(_ *gin.Context, claims middleware.Claims) bool {
			var own struct{ Role string }
			return claims.Decode(&own) == nil && own.Role == "admin"
		}),
	}
}

// tokens are those of an answer's body or cookies.
func (r reply) tokens(t testing.TB) middleware.Tokens {
	t.Helper()
	fields := r.fields(t)
	access, _ := fields["access_token"].(string)
	refresh, _ := fields["refresh_token"].(string)
	if access == "" {
		cookies := r.cookies()
		access, refresh = cookies["access_token"].Value, cookies["refresh_token"].Value
	}
	if r.status != http.StatusOK || access == "" {
		t.Fatalf("no tokens in the answer %d %s %v", r.status, r.body, r.header)
	}
	return middleware.Tokens{AccessToken: access, RefreshToken: refresh}
}

// cookies are those that an answer sets, by their names without prefix.
func (r reply) cookies() map[string]http.Cookie {
	set := map[string]http.Cookie{}
	for _, cookie := range (&http.Response{Header: r.header}).Cookies() {
		name := strings.TrimPrefix(strings.TrimPrefix(cookie.Name, "__Host-"), "__Secure-")
		if _, twice := set[name]; twice {
			set["twice "+name] = *cookie
		}
		set[name] = *cookie
	}
	return set
}

// places are where a refresh token may be sent.
var places = map[string]func(text string) edit{
	"header": bearer,
	"JSON":   func(text string) edit { return jsonBody(`{"refresh_token":"` + text + `"}`) },
	"form":   func(text string) edit { return body(form, "refresh_token="+text) },
	"cookie": func(text string) edit { return header("Cookie", "refresh_token="+text) },
}

func plainCookies(c *middleware.Config) { c.Cookie = &middleware.Cookie{Insecure: true} }

// placed is the change that lets a token be sent in a place.
func placed(place string) change {
	if place == "cookie" {
		return plainCookies
	}
	return func(*middleware.Config) {}
}

func wait(d time.Duration) { <-time.After(d) }

func TestPairStory(t *testing.T) {
	t.Parallel()
	const ttl = 2 * time.Second
	auth := newAuth(t, pair, func(c *middleware.Config) { c.TTL = ttl })
	s := listen(t, sharedRoutes(auth))

	r := s.send("POST", "/login?user=admin")
	r.notStored(t)
	first := r.tokens(t)
	answered := []string{"access_token", "expires_in", "refresh_expires_in", "refresh_token", "token_type"}
	if got := slices.Sorted(maps.Keys(r.fields(t))); !slices.Equal(got, answered) {
		t.Errorf("a login answers with %v, want %v", got, answered)
	}
	access, refresh := membersOf(t, first.AccessToken), membersOf(t, first.RefreshToken)
	for what, row := range map[string]struct {
		text string
		m    members
		typ  string
		want []string
	}{
		"access token":  {first.AccessToken, access, "JWT", []string{"access_ttl", "auth_time", "exp", "iat", "jti", "refresh_exp", "sid", "sub"}},
		"refresh token": {first.RefreshToken, refresh, "refresh+jwt", []string{"access_ttl", "auth_time", "exp", "iat", "jti", "sid", "sub"}},
	} {
		if got := slices.Sorted(maps.Keys(row.m)); !slices.Equal(got, row.want) {
			t.Errorf("the %s has %v, want %v", what, got, row.want)
		}
		if head, _, _ := strings.Cut(row.text, "."); head != segment(`{"alg":"HS256","typ":"`+row.typ+`"}`) {
			t.Errorf("the %s has the header %s", what, head)
		}
	}
	if access["sid"] != refresh["sid"] || access["jti"] == refresh["jti"] || access.integer("exp") != access.integer("iat")+2 ||
		refresh.integer("exp") != refresh.integer("iat")+14*24*3600 || refresh["access_ttl"] != "2" {
		t.Errorf("the pair is %v and %v", access, refresh)
	}
	s.send("GET", "/required", bearer(first.AccessToken)).passed(t, "admin")

	for s.send("GET", "/required", bearer(first.AccessToken)).status == http.StatusOK {
		wait(20 * time.Millisecond)
	}
	s.send("GET", "/required", bearer(first.AccessToken)).refused(t, middleware.CodeTokenExpired)
	r = s.send("POST", "/refresh", bearer(first.RefreshToken))
	r.notStored(t)
	if got := slices.Sorted(maps.Keys(r.fields(t))); !slices.Equal(got, answered) {
		t.Errorf("a refresh answers with %v, want %v", got, answered)
	}
	second := r.tokens(t)
	s.send("GET", "/required", bearer(second.AccessToken)).passed(t, "admin")
	s.send("GET", "/required", bearer(first.AccessToken)).refused(t, middleware.CodeTokenExpired)
	ids := map[string]bool{}
	for _, text := range []string{first.AccessToken, first.RefreshToken, second.AccessToken, second.RefreshToken} {
		m := membersOf(t, text)
		if ids[m["jti"]] || m["sid"] != access["sid"] || m["auth_time"] != access["auth_time"] {
			t.Errorf("R9: the token %v is no new one of the session %s", m, access["sid"])
		}
		ids[m["jti"]] = true
	}
	s.send("POST", "/logout", bearer(second.RefreshToken)).accepted(t, "/logout")
	for _, path := range []string{"/required", "/optional", "/fresh"} {
		s.send("GET", path, bearer(second.AccessToken)).refused(t, middleware.CodeTokenRevoked)
	}
	s.send("POST", "/refresh", bearer(second.RefreshToken)).refused(t, middleware.CodeTokenRevoked)
}

// A refresh token is good for no request, wherever a guard looks for tokens.
func TestR1PairRefreshTokenOpensNothing(t *testing.T) {
	auth := newAuth(t, pair, func(c *middleware.Config) {
		c.Sources = []middleware.Source{
			middleware.FromHeader("Authorization", "Bearer"), middleware.FromHeader("X-Token", ""), middleware.FromCookie("jwt"),
			middleware.FromQuery("jwt"), middleware.FromForm("jwt"), middleware.FromParam("jwt"),
		}
	})
	tokens := begin(t, auth, middleware.Identity{Claims: gin.H{"role": "admin"}})
	s := listen(t, sharedRoutes(auth))
	offers := func(text string) map[string]edit {
		return map[string]edit{
			"header": bearer(text),
			"own":    header("X-Token", text),
			"cookie": header("Cookie", "jwt="+text),
			"query":  func(r *http.Request) { r.URL.RawQuery = "jwt=" + text },
			"form":   body(form, "jwt="+text),
		}
	}
	for path := range guards(auth) {
		if strings.Contains(path, ":") {
			continue
		}
		for place := range offers("") {
			s.send("POST", path, offers(tokens.AccessToken)[place]).passed(t, "admin")
			r := s.send("POST", path, offers(tokens.RefreshToken)[place])
			if r.refused(t, middleware.CodeTokenInvalid); t.Failed() {
				t.Fatalf("R1: a refresh token in the %s at %s", place, path)
			}
		}
	}
	s.send("GET", "/in/"+tokens.AccessToken+"/path").passed(t, "admin")
	s.send("GET", "/in/"+tokens.RefreshToken+"/path").refused(t, middleware.CodeTokenInvalid)
	verifies(t, "R1: a refresh token", auth, tokens.RefreshToken, middleware.CodeTokenInvalid)
	renew(t, auth, tokens) // none of this has used it up
}

// An access token refreshes nothing, and neither does what the other mode issued.
func TestR1PairAccessTokenRefreshesNothing(t *testing.T) {
	memory := newMemory(t)
	shared := func(c *middleware.Config) { c.Store = memory }
	single, expired := newAuth(t, shared), time.Duration(2*time.Hour)
	theirs := begin(t, single, middleware.Identity{})
	for place, at := range places {
		auth := newAuth(t, pair, shared, placed(place))
		s := listen(t, sharedRoutes(auth))
		tokens := begin(t, auth, middleware.Identity{})
		for what, text := range map[string]string{
			"access token":         tokens.AccessToken,
			"expired access token": backdated(t, tokens.AccessToken, expired),
			"one-token mode":       theirs.AccessToken,
		} {
			s.send("POST", "/refresh", at(text)).refused(t, middleware.CodeTokenInvalid)
			if t.Failed() {
				t.Fatalf("R1: %s in the %s", what, place)
			}
			refreshes(t, what, auth, text, middleware.CodeTokenInvalid)
		}
		s.send("POST", "/refresh", at(tokens.RefreshToken)).tokens(t)

		// and the other way round
		for what, text := range map[string]string{"access": tokens.AccessToken, "refresh": tokens.RefreshToken, "expired": backdated(t, tokens.AccessToken, expired)} {
			refreshes(t, "a pair's token in one-token mode: "+what, single, text, middleware.CodeTokenInvalid)
			direct(t, routes(single)).send("GET", "/autorefresh", bearer(backdated(t, text, expired))).refused(t, middleware.CodeTokenInvalid)
		}
	}
}

// backdated is the token as it would be had its session begun so much earlier, whatever its kind.
func backdated(t testing.TB, text string, age time.Duration) string {
	t.Helper()
	m := membersOf(t, text)
	for _, date := range []string{"iat", "exp", "auth_time", "refresh_exp"} {
		if _, there := m[date]; there {
			m[date] = strconv.FormatInt(m.integer(date)-int64(age/time.Second), 10)
		}
	}
	return resigned(text, m)
}

// resigned is a token with its own header and other members.
func resigned(text string, m members) string {
	head, _, _ := strings.Cut(text, ".")
	return seal(sha256.New, secret, head, segment(m.object()))
}

func TestPairRefreshFromEverywhere(t *testing.T) {
	for place, at := range places {
		t.Run(place, func(t *testing.T) {
			auth := newAuth(t, pair, noGrace, placed(place))
			s := listen(t, sharedRoutes(auth))
			tokens := s.send("POST", "/login?user=admin").tokens(t)
			for range 3 {
				next := s.send("POST", "/refresh", at(tokens.RefreshToken)).tokens(t)
				if next.RefreshToken == "" || next.RefreshToken == tokens.RefreshToken || next.AccessToken == tokens.AccessToken {
					t.Fatalf("a refresh gives %q and %q, want both new", next.AccessToken, next.RefreshToken)
				}
				tokens = next
				s.send("GET", "/required", bearer(tokens.AccessToken)).passed(t, "admin")
			}
			s.send("POST", "/logout", at(tokens.RefreshToken)).accepted(t, "/logout")
			s.send("GET", "/required", bearer(tokens.AccessToken)).refused(t, middleware.CodeTokenRevoked)
		})
	}
}

// inPair runs a test in a bubble, with two servers on one store: ttl 1 minute, refresh window 1 hour.
func inPair(t *testing.T, test func(t *testing.T, auth, other *middleware.Auth), changes ...change) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		memory := newMemory(t)
		changes := append([]change{pair, func(c *middleware.Config) { c.Store, c.TTL, c.RefreshTTL = memory, time.Minute, time.Hour }}, changes...)
		test(t, newAuth(t, changes...), newAuth(t, changes...))
	})
}

// Tabs share a session: one tab's refresh must not cost another its access token.
func TestR4PairAccessTokensLiveTheirTTL(t *testing.T) {
	inPair(t, func(t *testing.T, auth, other *middleware.Auth) {
		first := begin(t, auth, middleware.Identity{})
		last := first
		for range 5 {
			wait(11 * time.Second)
			last = renew(t, other, last)
		}
		wait(5*time.Second - time.Microsecond)
		verifies(t, "R4: after five refreshes, a microsecond before its end", auth, first.AccessToken, "")
		wait(time.Microsecond)
		verifies(t, "R2: at its end", auth, first.AccessToken, middleware.CodeTokenExpired)
		verifies(t, "the last one", auth, last.AccessToken, "")
	}, noGrace)
}

func TestR11PairLogoutWithEitherKillsBoth(t *testing.T) {
	type pairs = []middleware.Tokens
	for name, row := range map[string]struct {
		with func(all pairs) string
		late time.Duration
	}{
		"access token":           {func(all pairs) string { return all[2].AccessToken }, 0},
		"refresh token":          {func(all pairs) string { return all[2].RefreshToken }, 0},
		"expired access token":   {func(all pairs) string { return all[2].AccessToken }, 30 * time.Minute},
		"refresh token in grace": {func(all pairs) string { return all[1].RefreshToken }, 0},
		"replaced refresh token": {func(all pairs) string { return all[0].RefreshToken }, 30 * time.Minute},
		"older access token":     {func(all pairs) string { return all[0].AccessToken }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inPair(t, func(t *testing.T, auth, other *middleware.Auth) {
				all := pairs{begin(t, auth, middleware.Identity{})}
				for range 2 {
					all = append(all, renew(t, auth, all[len(all)-1]))
				}
				apart := begin(t, auth, middleware.Identity{})
				wait(row.late)
				for range 2 { // twice is fine
					if err := auth.Logout(t.Context(), row.with(all)); err != nil {
						t.Errorf("R11: logout with the %s: %v", name, err)
					}
				}
				refused := middleware.CodeTokenRevoked
				if row.late > 0 {
					refused = middleware.CodeTokenExpired
				}
				for i, tokens := range all {
					for where, server := range map[string]*middleware.Auth{"this": auth, "the other": other} {
						verifies(t, fmt.Sprintf("R11: access token %d at %s server", i, where), server, tokens.AccessToken, refused)
						refreshes(t, fmt.Sprintf("R11: refresh token %d at %s server", i, where), server, tokens.RefreshToken, middleware.CodeTokenRevoked)
					}
				}
				verifies(t, "another session", other, renew(t, other, apart).AccessToken, "")
			})
		})
	}
}

func TestR11PairLogoutUntilTheLastTokenIsDead(t *testing.T) {
	inPair(t, func(t *testing.T, auth, _ *middleware.Auth) {
		first := begin(t, auth, middleware.Identity{})
		wait(time.Hour - time.Microsecond)
		last := renew(t, auth, first)
		wait(time.Minute - time.Second)
		verifies(t, "R9: the last access token outlives the window", auth, last.AccessToken, "")
		for what, text := range map[string]string{"an expired access token": first.AccessToken, "the first refresh token": first.RefreshToken} {
			fails(t, "R11: "+what+" while the last access token lives", auth.Logout(t.Context(), text), "")
		}
		verifies(t, "R11: the last access token", auth, last.AccessToken, middleware.CodeTokenRevoked)
		wait(time.Second + time.Microsecond)
		for what, text := range map[string]string{"an access token": last.AccessToken, "a refresh token": last.RefreshToken} {
			fails(t, "R11: "+what+" when all tokens are dead", auth.Logout(t.Context(), text), middleware.CodeRefreshExpired)
		}
	})
}

// R12 in pair mode: with either token, and of all sessions both tokens.
func TestR12PairLogoutAll(t *testing.T) {
	for name, with := range map[string]func(middleware.Tokens) string{
		"access token":  func(tokens middleware.Tokens) string { return tokens.AccessToken },
		"refresh token": renewable,
	} {
		t.Run(name, func(t *testing.T) {
			inPair(t, func(t *testing.T, auth, other *middleware.Auth) {
				mine, elsewhere := begin(t, auth, middleware.Identity{}), begin(t, other, middleware.Identity{})
				alice := begin(t, auth, middleware.Identity{Subject: "alice"})
				s := direct(t, sharedRoutes(auth))
				s.send("POST", "/logout/all", bearer(with(mine))).accepted(t, "/logout/all")
				for _, tokens := range []middleware.Tokens{mine, elsewhere} {
					verifies(t, "R12", other, tokens.AccessToken, middleware.CodeTokenRevoked)
					refreshes(t, "R12", other, tokens.RefreshToken, middleware.CodeTokenRevoked)
				}
				verifies(t, "R12: another subject", other, renew(t, other, alice).AccessToken, "")
				again := begin(t, other, middleware.Identity{})
				verifies(t, "R12: a login right after", auth, renew(t, auth, again).AccessToken, "")
			})
		})
	}
	inPair(t, func(t *testing.T, auth, _ *middleware.Auth) {
		tokens := begin(t, auth, middleware.Identity{})
		wait(time.Minute)
		s := direct(t, sharedRoutes(auth))
		s.send("POST", "/logout/all", bearer(tokens.AccessToken)).refused(t, middleware.CodeTokenExpired)
		s.send("POST", "/logout/all", bearer(tokens.RefreshToken)).accepted(t, "/logout/all")
	})
}

func TestR5PairWindow(t *testing.T) {
	inPair(t, func(t *testing.T, auth, _ *middleware.Auth) {
		tokens := begin(t, auth, middleware.Identity{})
		deadline := tokens.RefreshUntil
		for range 5 { // refreshing does not move the deadline
			wait(11 * time.Minute)
			tokens = renew(t, auth, tokens)
		}
		wait(5*time.Minute - time.Microsecond)
		last := renew(t, auth, tokens)
		if !last.RefreshUntil.Equal(deadline) || last.ExpiresAt.Sub(last.Claims.IssuedAt) != time.Minute || !last.Claims.RefreshUntil.Equal(deadline) {
			t.Errorf("R9: the last refresh gives %+v, want the deadline %v and a whole minute", last, deadline)
		}
		wait(time.Microsecond)
		refreshes(t, "R5: at the deadline", auth, last.RefreshToken, middleware.CodeRefreshExpired)
		verifies(t, "R9: the last access token", auth, last.AccessToken, "")
		wait(time.Minute - time.Second)
		verifies(t, "R9: the last access token at its end", auth, last.AccessToken, middleware.CodeTokenExpired)
	})
	inPair(t, func(t *testing.T, auth, _ *middleware.Auth) {
		tokens := begin(t, auth, middleware.Identity{})
		for range 3 {
			wait(10*time.Minute - time.Microsecond)
			tokens = renew(t, auth, tokens)
		}
		wait(10 * time.Minute)
		refreshes(t, "R5: idle for too long", auth, tokens.RefreshToken, middleware.CodeRefreshExpired)
	}, func(c *middleware.Config) { c.IdleTTL = 10 * time.Minute })
}

func TestR7PairGraceGivesTheSamePair(t *testing.T) {
	inPair(t, func(t *testing.T, auth, other *middleware.Auth) {
		first := begin(t, auth, middleware.Identity{Claims: gin.H{"role": "admin"}})
		wait(time.Second)
		second := renew(t, auth, first)
		for range 4 { // the grace is never extended
			wait(2500 * time.Millisecond)
			again := renew(t, other, first)
			if again.AccessToken != second.AccessToken || again.RefreshToken != second.RefreshToken {
				t.Fatalf("R7: another successor: %+v, want %+v", again.Claims, second.Claims)
			}
		}
		wait(time.Microsecond)
		refreshes(t, "R8: after the grace", other, first.RefreshToken, middleware.CodeTokenReused)
		for what, text := range map[string]string{"first": first.AccessToken, "second": second.AccessToken} {
			verifies(t, "R8: access token of the "+what+" pair", auth, text, middleware.CodeTokenRevoked)
		}
		refreshes(t, "R8: the successor", auth, second.RefreshToken, middleware.CodeTokenRevoked)
	})
}

func TestR8PairReuse(t *testing.T) {
	for _, keep := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			auth := newAuth(t, pair, noGrace, func(c *middleware.Config) { c.KeepSessionOnReuse = keep })
			s := direct(t, sharedRoutes(auth))
			first := begin(t, auth, middleware.Identity{})
			second := renew(t, auth, first)
			s.send("GET", "/required", bearer(first.AccessToken)).passed(t, "admin") // using an access token is no reuse
			s.send("POST", "/refresh", bearer(first.RefreshToken)).refused(t, middleware.CodeTokenReused)
			want := middleware.CodeTokenRevoked
			if keep {
				want = ""
			}
			verifies(t, fmt.Sprintf("R8: keep %v", keep), auth, second.AccessToken, want)
			refreshes(t, fmt.Sprintf("R8: keep %v", keep), auth, second.RefreshToken, want)
		})
	}
}

// Tabs wake up together: all get one pair.
func TestR7PairParallelRefreshes(t *testing.T) {
	memory := newMemory(t)
	shared := func(c *middleware.Config) { c.Store = memory }
	servers := []site{listen(t, sharedRoutes(newAuth(t, pair, shared))), listen(t, sharedRoutes(newAuth(t, pair, shared)))}
	tokens := servers[0].send("POST", "/login?user=admin").tokens(t)
	for range 4 {
		answers := make([]middleware.Tokens, 32)
		var tabs sync.WaitGroup
		for i := range answers {
			tabs.Go(func() {
				r := servers[i%2].send("POST", "/refresh", bearer(tokens.RefreshToken))
				var answer struct {
					Access  string `json:"access_token"`
					Refresh string `json:"refresh_token"`
				}
				_ = json.Unmarshal([]byte(r.body), &answer)
				answers[i] = middleware.Tokens{AccessToken: answer.Access, RefreshToken: answer.Refresh}
			})
		}
		tabs.Wait()
		for _, answer := range answers {
			if answer.AccessToken == "" || answer.AccessToken != answers[0].AccessToken || answer.RefreshToken != answers[0].RefreshToken {
				t.Fatalf("R7: two successors: %v and %v", answer, answers[0])
			}
		}
		tokens = answers[0]
	}
	servers[1].send("GET", "/required", bearer(tokens.AccessToken)).passed(t, "admin")
}

// A refresh that loses the swap to another server's gives what that one gave; and Reload is asked once.
func TestR6LostSwapInBothModes(t *testing.T) {
	for mode, inMode := range modes {
		t.Run(mode, func(t *testing.T) {
			asked := 0
			store := &faulty{Store: newMemory(t)}
			shared := func(c *middleware.Config) {
				c.Store = store
				c.Reload = func(_ context.Context, claims middleware.Claims) (any, error) {
					asked++
					return gin.H{"role": "admin"}, nil
				}
			}
			auth, other := newAuth(t, inMode, shared), newAuth(t, inMode, shared)
			first := begin(t, auth, middleware.Identity{})
			var theirs middleware.Tokens
			store.fault.Store(&fault{swap: func(context.Context) (bool, error) {
				store.fault.Store(nil)
				theirs = renew(t, other, first)
				return true, nil
			}})
			ours := renew(t, auth, first)
			if ours.AccessToken != theirs.AccessToken || ours.RefreshToken != theirs.RefreshToken || asked != 2 {
				t.Errorf("R6: the loser of the swap gives %+v after %d calls of Reload, the winner %+v", ours.Claims, asked, theirs.Claims)
			}
		})
	}
}

// R9: what a login asked for holds for all of its session, whatever the configuration says later.
func TestR9PairLifetimesOfOneLogin(t *testing.T) {
	inPair(t, func(t *testing.T, auth, _ *middleware.Auth) {
		tokens := begin(t, auth, middleware.Identity{TTL: 20 * time.Second, RefreshTTL: 30 * time.Minute})
		deadline := time.Now().Add(30 * time.Minute)
		for range 4 {
			if tokens.ExpiresAt.Sub(tokens.Claims.IssuedAt) != 20*time.Second || !tokens.RefreshUntil.Equal(deadline) {
				t.Errorf("R9: a token until %v, refreshed until %v, issued at %v, want 20 s and %v", tokens.ExpiresAt, tokens.RefreshUntil, tokens.Claims.IssuedAt, deadline)
			}
			if ttl := membersOf(t, tokens.RefreshToken)["access_ttl"]; ttl != "20" {
				t.Errorf("R9: access_ttl is %s", ttl)
			}
			wait(20*time.Second - time.Microsecond)
			verifies(t, "R9", auth, tokens.AccessToken, "")
			wait(time.Microsecond)
			verifies(t, "R9", auth, tokens.AccessToken, middleware.CodeTokenExpired)
			tokens = renew(t, auth, tokens)
		}
		wait(time.Until(deadline))
		refreshes(t, "R9: at the login's own deadline", auth, tokens.RefreshToken, middleware.CodeRefreshExpired)
	})
	auth := newAuth(t, pair)
	tokens := begin(t, auth, middleware.Identity{})
	for name, ttl := range notDates {
		refreshes(t, "R1: access_ttl "+name, auth, resigned(tokens.RefreshToken, membersOf(t, tokens.RefreshToken).with("access_ttl", ttl)), middleware.CodeTokenInvalid)
	}
	for _, required := range []string{"access_ttl", "exp", "iat", "sub", "jti", "sid", "auth_time"} {
		refreshes(t, "R1: without "+required, auth, resigned(tokens.RefreshToken, membersOf(t, tokens.RefreshToken).without(required)), middleware.CodeTokenInvalid)
	}
	renew(t, auth, tokens)
}

func TestPairHasNoAutoRefresh(t *testing.T) {
	mustPanic(t, "AutoRefresh in pair mode", func() { newAuth(t, pair).AutoRefresh(0) }, "AutoRefresh", "one-token mode", "no refresh token")
}

// A reload is a refresh's second opinion; it can be changed while the server runs.
func reloading(r *reloader) change { return func(c *middleware.Config) { c.Reload = r.reload } }

// What both modes have must hold in both. Each row plays in a bubble: ttl 1 minute, refresh window 1 hour.
func TestBothModes(t *testing.T) {
	const max600 = `, max_age="600"`
	for name, row := range map[string]struct {
		change change
		play   func(t *testing.T, auth *middleware.Auth, s site)
	}{
		"Fresh": {nil, func(t *testing.T, auth *middleware.Auth, s site) {
			tokens := begin(t, auth, middleware.Identity{})
			wait(10 * time.Minute)
			tokens = renew(t, auth, tokens)
			s.send("GET", "/fresh", bearer(tokens.AccessToken)).passed(t, "admin")
			wait(time.Microsecond)
			s.send("GET", "/fresh", bearer(tokens.AccessToken)).refused(t, middleware.CodeLoginTooOld, max600)
			s.send("GET", "/fresh", bearer(renew(t, auth, tokens).AccessToken)).refused(t, middleware.CodeLoginTooOld, max600)
			s.send("GET", "/fresh", bearer(begin(t, auth, middleware.Identity{}).AccessToken)).passed(t, "admin")
		}},
		"Allow": {nil, func(t *testing.T, auth *middleware.Auth, s site) {
			for role, allowed := range map[string]bool{"admin": true, "user": false} {
				tokens := begin(t, auth, middleware.Identity{Claims: gin.H{"role": role}})
				for range 2 {
					if r := s.send("GET", "/allow", bearer(tokens.AccessToken)); allowed {
						r.passed(t, "admin")
					} else {
						r.refused(t, middleware.CodeForbidden)
					}
					tokens = renew(t, auth, tokens)
				}
			}
		}},
		"Issuer and Audience": {func(c *middleware.Config) { c.Issuer, c.Audience = "https://we.example", "api" }, func(t *testing.T, auth *middleware.Auth, _ site) {
			tokens := begin(t, auth, middleware.Identity{})
			for what, text := range map[string]string{"access": tokens.AccessToken, "renewable": renewable(tokens)} {
				m := membersOf(t, text)
				if m["iss"] != `"https://we.example"` || m["aud"] != `"api"` {
					t.Errorf("the %s token has %v", what, m)
				}
				for why, changed := range map[string]members{
					"another issuer": m.with("iss", `"https://they.example"`), "no issuer": m.without("iss"),
					"another audience": m.with("aud", `"web"`), "other audiences": m.with("aud", `["web","app"]`), "no audience": m.without("aud"),
				} {
					verifies(t, why+" of the "+what+" token", auth, resigned(text, changed), middleware.CodeTokenInvalid)
					refreshes(t, why+" of the "+what+" token", auth, resigned(text, changed), middleware.CodeTokenInvalid)
				}
			}
			list := resigned(tokens.AccessToken, membersOf(t, tokens.AccessToken).with("aud", `["web","api"]`))
			verifies(t, "our value in the token's list", auth, list, "")
			list = resigned(renewable(tokens), membersOf(t, renewable(tokens)).with("aud", `["web","api"]`))
			refreshes(t, "our value in the token's list", auth, list, "")
		}},
		"Leeway": {func(c *middleware.Config) { c.Leeway = 5 * time.Second }, func(t *testing.T, auth *middleware.Auth, _ site) {
			tokens := begin(t, auth, middleware.Identity{})
			wait(time.Minute + 5*time.Second - time.Microsecond)
			verifies(t, "R2: in the leeway", auth, tokens.AccessToken, "")
			wait(time.Microsecond)
			verifies(t, "R2: after the leeway", auth, tokens.AccessToken, middleware.CodeTokenExpired)
			wait(time.Until(tokens.RefreshUntil) + 5*time.Second - time.Microsecond)
			tokens = renew(t, auth, tokens)
			wait(time.Microsecond)
			refreshes(t, "R5: after the leeway", auth, renewable(tokens), middleware.CodeRefreshExpired)
		}},
		"OnError": {func(c *middleware.Config) {
			c.OnError = func(c *gin.Context, err *middleware.Error) {
				c.String(http.StatusTeapot, "%s %d", err.Code, err.Status)
			}
		}, func(t *testing.T, auth *middleware.Auth, s site) {
			tokens := begin(t, auth, middleware.Identity{})
			if err := auth.Logout(t.Context(), tokens.AccessToken); err != nil {
				t.Fatal(err)
			}
			for path, text := range map[string]string{"/required": tokens.AccessToken, "/refresh": renewable(tokens)} {
				if r := s.send("POST", path, bearer(text)); r.status != http.StatusTeapot || r.body != "token_revoked 401" || r.header.Get("WWW-Authenticate") == "" {
					t.Errorf("%s with OnError answers %d %q %v", path, r.status, r.body, r.header)
				}
			}
		}},
		"Claims.Decode": {nil, func(t *testing.T, auth *middleware.Auth, _ site) {
			tokens := begin(t, auth, middleware.Identity{Claims: hard})
			want := fmt.Sprint(decoded(t, ownJSON(t, hard)))
			for round := range 3 {
				for what, claims := range map[string]middleware.Claims{"Verify's": verify(t, auth, tokens.AccessToken), "the answer's": tokens.Claims} {
					if got := fmt.Sprint(decodedClaims(t, claims)); got != want {
						t.Errorf("after %d refreshes %s claims are\n%s, want\n%s", round, what, got, want)
					}
				}
				if got, want := standard(tokens.Claims), standard(verify(t, auth, tokens.AccessToken)); got != want {
					t.Errorf("the answer has the claims\n%s, the token\n%s", got, want)
				}
				tokens = renew(t, auth, tokens)
			}
		}},
	} {
		inBothModes(t, name, row.play, row.change)
	}
}

// standard are the claims that are not the application's.
func standard(c middleware.Claims) string {
	return fmt.Sprint(c.Subject, c.SessionID, c.ID, c.IssuedAt, c.ExpiresAt, c.AuthTime, c.RefreshUntil)
}

func inBothModes(t *testing.T, name string, play func(t *testing.T, auth *middleware.Auth, s site), changes ...change) {
	for mode, inMode := range modes {
		t.Run(name+", "+mode, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				auth := newAuth(t, inMode, func(c *middleware.Config) {
					c.TTL, c.RefreshTTL = time.Minute, time.Hour
					for _, change := range changes {
						if change != nil {
							change(c)
						}
					}
				})
				play(t, auth, direct(t, sharedRoutes(auth)))
			})
		})
	}
}

func TestR9ReloadInBothModes(t *testing.T) {
	var r reloader
	inBothModes(t, "Reload", func(t *testing.T, auth *middleware.Auth, s site) {
		tokens := begin(t, auth, middleware.Identity{Claims: gin.H{"role": "admin"}})
		for _, row := range []struct {
			reloaded
			code middleware.Code
		}{
			{reloaded{nil, fmt.Errorf("blocked: %w", middleware.ErrRefused)}, middleware.CodeSubjectRefused},
			{reloaded{nil, errors.New("dial tcp 10.0.0.7:5432")}, middleware.CodeStoreUnavailable},
			{reloaded{gin.H{"sub": "root"}, nil}, middleware.CodeServerError},
			{reloaded{gin.H{"access_ttl": 1}, nil}, middleware.CodeServerError},
			{reloaded{gin.H{"pad": strings.Repeat("x", maxToken)}, nil}, middleware.CodeServerError},
		} {
			r.answer.Store(&row.reloaded)
			answer := s.send("POST", "/refresh", bearer(renewable(tokens)))
			if answer.refused(t, row.code); strings.Contains(answer.body, "5432") {
				t.Errorf("the answer has the driver's words: %s", answer.body)
			}
		}
		s.send("GET", "/allow", bearer(tokens.AccessToken)).passed(t, "admin")
		wait(30 * time.Minute) // after any grace: it was not used up
		r.answer.Store(&reloaded{claims: gin.H{"role": "user"}})
		next := s.send("POST", "/refresh", bearer(renewable(tokens))).tokens(t)
		s.send("GET", "/allow", bearer(next.AccessToken)).refused(t, middleware.CodeForbidden)
		s.send("GET", "/required", bearer(next.AccessToken)).passed(t, "admin")
		if got := membersOf(t, renewable(next))["role"]; got != `"user"` {
			t.Errorf("R9: the token to be refreshed has the role %s", got)
		}
	}, reloading(&r))
}

// Claims that Reload returns as it got them are carried over, and Reload sees the session's claims.
func TestReloadSeesTheClaims(t *testing.T) {
	keep := func(_ context.Context, claims middleware.Claims) (any, error) {
		var own map[string]any
		err := claims.Decode(&own)
		if claims.Subject != "admin" || claims.SessionID == "" || claims.AuthTime.IsZero() || own["role"] != "admin" {
			err = fmt.Errorf("Reload sees %+v %v", claims, own)
		}
		return own, err
	}
	inBothModes(t, "Reload", func(t *testing.T, auth *middleware.Auth, s site) {
		tokens := begin(t, auth, middleware.Identity{Claims: gin.H{"role": "admin", "large": json.Number("9007199254740993")}})
		for range 2 {
			tokens = renew(t, auth, tokens)
			if got := fmt.Sprint(decodedClaims(t, tokens.Claims)); got != "map[large:9007199254740993 role:admin]" {
				t.Errorf("R9: the claims are %s", got)
			}
		}
	}, func(c *middleware.Config) { c.Reload = keep })
}
