package middleware_test

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// R7: within the grace period the previous token gets the same successor.

func TestR7PairGraceGivesTheSamePair(t *testing.T) {
	inPairMode(t, func(t *testing.T, auth, other *middleware.Auth) {
		first := issueTokens(t, auth, middleware.Identity{Claims: gin.H{"role": "admin"}})
		wait(time.Second)
		second := refreshTokens(t, auth, first)
		for range 4 { // the grace period is not extended
			wait(2500 * time.Millisecond)
			again := refreshTokens(t, other, first)
			if again.AccessToken != second.AccessToken || again.RefreshToken != second.RefreshToken {
				t.Fatalf("R7: another successor: %+v, want %+v", again.Claims, second.Claims)
			}
		}
		wait(time.Microsecond)
		wantRefresh(t, "R8: after the grace period", other, first.RefreshToken, middleware.CodeTokenReused)
		for what, text := range map[string]string{"first": first.AccessToken, "second": second.AccessToken} {
			wantVerify(t, "R8: access token of the "+what+" pair", auth, text, middleware.CodeTokenRevoked)
		}
		wantRefresh(t, "R8: the successor", auth, second.RefreshToken, middleware.CodeTokenRevoked)
	})
}

// Tabs that wake up at the same time all get the same pair.
func TestR7PairParallelRefreshes(t *testing.T) {
	memory := newMemory(t)
	shared := func(c *middleware.Config) { c.Store = memory }
	servers := []site{listen(t, routes(newAuth(t, pair, shared))), listen(t, routes(newAuth(t, pair, shared)))}
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

// The successors are identical byte for byte, whatever the algorithm. Only PS* adds a random salt.
func TestR7SuccessorsAreIdentical(t *testing.T) {
	t.Parallel()
	for alg, key := range signers() {
		salted := strings.HasPrefix(string(alg), "PS")
		for mode, inMode := range modes {
			auth := newAuth(t, inMode, keys(key))
			first := issueTokens(t, auth, middleware.Identity{Claims: trickyClaims})
			want := refreshTokens(t, auth, first)
			for range 3 {
				got := refreshTokens(t, auth, first)
				for what, texts := range map[string][2]string{"access": {got.AccessToken, want.AccessToken}, "refresh": {got.RefreshToken, want.RefreshToken}} {
					head, _, _ := cutLast(texts[0], ".")
					wantHead, _, _ := cutLast(texts[1], ".")
					if head != wantHead || texts[0] != texts[1] && !salted {
						t.Errorf("R7: %s, %s: the %s tokens differ: %s and %s", alg, mode, what, texts[0], texts[1])
					}
				}
				if salted && got.AccessToken == want.AccessToken {
					t.Errorf("%s, %s: two signatures have the same salt", alg, mode)
				}
			}
		}
	}
}

// If Reload takes longer than the grace period, parallel refreshes are still not taken for reuse.
func TestR7ASlowReloadTakesNothingFromTheGrace(t *testing.T) {
	eachMode(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		auth := server(slowReload(11 * time.Second))
		tokens := issueTokens(t, auth, middleware.Identity{})
		answers := make([]middleware.Tokens, 10)
		errs := make([]error, len(answers))
		var wg sync.WaitGroup
		for i := range answers {
			wg.Go(func() {
				wait(time.Duration(i) * time.Second)
				answers[i], errs[i] = auth.Refresh(t.Context(), refreshable(tokens))
			})
		}
		wg.Wait()
		for i, answer := range answers {
			if errs[i] != nil || answer.Claims.ID != answers[0].Claims.ID {
				t.Errorf("R7: refresh %d: %v %v, want the successor %v", i, answer.Claims.ID, errs[i], answers[0].Claims.ID)
			}
		}
		wantVerify(t, "R7: the successor", auth, answers[0].AccessToken, "")
	})
}

// The grace period is judged by the arrival of the request, not by the time of the response.
func TestR7TheGraceIsJudgedByWhenTheClientAsked(t *testing.T) {
	eachMode(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		auth, slow := server(), server(slowReload(5*time.Second))
		first := issueTokens(t, auth, middleware.Identity{})
		second := refreshTokens(t, auth, first)
		wait(9 * time.Second)
		again, err := slow.Refresh(t.Context(), refreshable(first))
		if err != nil || again.Claims.ID != second.Claims.ID {
			t.Errorf("R7: request within the grace period, response after it: %v, %v", again.Claims.ID, err)
		}
	})
}

// A session may end during Reload, so the record is read again after Reload.
func TestR7TheRecordIsLookedAtAgainAfterReload(t *testing.T) {
	eachMode(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		auth, slow := server(), server(slowReload(5*time.Second))
		first := issueTokens(t, auth, middleware.Identity{})
		refreshTokens(t, auth, first)
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := slow.Refresh(t.Context(), refreshable(first))
			wantCode(t, "R3: the session ended during the refresh", err, middleware.CodeTokenRevoked)
		})
		wait(time.Second)
		wantCode(t, "logout", auth.Logout(t.Context(), first.AccessToken), "")
		wg.Wait()
	})
}

// The clock may reach the next second between the signature and the swap. The record must still lead to the token that
// was signed.
func TestR7TheRecordTellsTheTokenThatWasSigned(t *testing.T) {
	for _, offset := range []time.Duration{0, 999_999 * time.Microsecond, 999_998 * time.Microsecond, 500 * time.Millisecond} {
		eachMode(t, func(t *testing.T, server func(...change) *middleware.Auth) {
			auth := server(func(c *middleware.Config) { c.Store = &lateSwap{c.Store, 200 * time.Millisecond} })
			first := issueTokens(t, auth, middleware.Identity{})
			wait(offset)
			next := refreshTokens(t, auth, first)
			wait(time.Second)
			again := refreshTokens(t, auth, first)
			if again.AccessToken != next.AccessToken || again.RefreshToken != next.RefreshToken {
				t.Errorf("R7: %+v, want %+v again", again.Claims, next.Claims)
			}
		})
	}
}
