package middleware

import (
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware/internal/session"
)

func TestR2_ATokenIsAcceptedUntilExpPlusLeeway(t *testing.T) {
	for _, leeway := range []time.Duration{0, 1500 * time.Millisecond} {
		t.Run(leeway.String(), func(t *testing.T) {
			inBubble(t, func(w world) {
				a := w.server(func(c *Config) { c.Leeway = leeway })
				token := w.login(a, Identity{}).AccessToken
				wait(time.Minute + leeway - time.Microsecond)
				w.verifies(a, token, "")
				wait(time.Microsecond)
				w.verifies(a, token, CodeTokenExpired)
			})
		})
	}
}

func TestR2_ATokenFromTheFutureIsInvalid(t *testing.T) {
	for _, test := range []struct{ leeway, tolerated time.Duration }{{0, 30 * time.Second}, {45 * time.Second, 45 * time.Second}} {
		inBubble(t, func(w world) {
			a := w.server(func(c *Config) { c.Leeway = test.leeway })
			for ahead, want := range map[time.Duration]Code{test.tolerated: "", test.tolerated + time.Second: CodeTokenInvalid} {
				token := w.forge(a, func(t *session.Token) { t.AuthTime = time.Now().Add(ahead).Unix() })
				w.verifies(a, token, want)
				w.refreshes(a, token, want)
			}
		})
	}
}

func TestR3_LogoutRevokesEveryTokenOfTheSession(t *testing.T) {
	inBubble(t, func(w world) {
		a, b := w.server(), w.server()
		first := w.login(a, Identity{}).AccessToken
		second := w.refresh(a, first).AccessToken
		other := w.login(a, Identity{}).AccessToken
		w.logsOut(a, second, "")
		for _, server := range []*Auth{a, b} {
			w.verifies(server, first, CodeTokenRevoked)
			w.verifies(server, second, CodeTokenRevoked)
			w.refreshes(server, first, CodeTokenRevoked)
			w.refreshes(server, second, CodeTokenRevoked)
			w.verifies(server, other, "")
		}
	})
}

func TestR4_AReplacedTokenIsAcceptedInTheGracePeriodOnly(t *testing.T) {
	inBubble(t, func(w world) {
		a := w.server()
		first := w.login(a, Identity{}).AccessToken
		wait(time.Second)
		second := w.refresh(a, first).AccessToken
		wait(10 * time.Second)
		w.verifies(a, first, "")
		wait(time.Microsecond)
		w.verifies(a, first, CodeTokenRevoked)
		w.verifies(a, second, "")
	})
}

func TestR4_ATokenTwoStepsBackIsRejectedEvenInTheGracePeriod(t *testing.T) {
	inBubble(t, func(w world) {
		a := w.server()
		first := w.login(a, Identity{}).AccessToken
		second := w.refresh(a, first).AccessToken
		wait(10*time.Second + time.Millisecond)
		third := w.refresh(a, second).AccessToken
		w.verifies(a, first, CodeTokenRevoked)
		w.verifies(a, second, "")
		w.verifies(a, third, "")
	})
}

func TestR4_ANegativeGraceMeansNoGracePeriod(t *testing.T) {
	inBubble(t, func(w world) {
		a := w.server(func(c *Config) { c.Grace = -1 })
		first := w.login(a, Identity{}).AccessToken
		w.refresh(a, first)
		w.verifies(a, first, CodeTokenRevoked)
		w.refreshes(a, first, CodeTokenReused)
	})
}
