package middleware_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// R2: expiry, and dates in the future.

// With a leaked key a thief could move the login into the future, and with it the deadline.
func TestR2AuthTimeInTheFuture(t *testing.T) {
	eachMode(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		auth := server()
		tokens := issueTokens(t, auth, middleware.Identity{})
		for ahead, code := range map[time.Duration]middleware.Code{30 * time.Second: "", 31 * time.Second: middleware.CodeTokenInvalid} {
			for _, text := range []string{tokens.AccessToken, refreshable(tokens)} {
				m := membersOf(t, text)
				forged := forgeLike(text, m.with("auth_time", strconv.FormatInt(m.integer("auth_time")+int64(ahead/time.Second), 10)))
				if text == tokens.AccessToken {
					wantVerify(t, fmt.Sprintf("R2: auth_time %v ahead", ahead), auth, forged, code)
				}
				if text == refreshable(tokens) && code != "" {
					wantRefresh(t, fmt.Sprintf("R2: auth_time %v ahead", ahead), auth, forged, code)
				}
			}
		}
	})
}

// A birth in the future would survive every future log-out everywhere.
func TestR2BirthInTheFuture(t *testing.T) {
	eachMode(t, func(t *testing.T, server func(...change) *middleware.Auth) {
		auth := server()
		text := issueTokens(t, auth, middleware.Identity{}).AccessToken
		for ahead, code := range map[time.Duration]middleware.Code{30 * time.Second: "", 31 * time.Second: middleware.CodeTokenInvalid} {
			m := membersOf(t, text)
			instant := m["jti"][strings.LastIndex(m["jti"], "."):]
			sid := strconv.FormatInt(time.Now().Add(ahead).UnixMicro(), 36) + "-AAAAAAAAAAAAAAAAAAAAAA"
			forged := forgeLike(text, m.with("sid", `"`+sid+`"`).with("jti", `"`+sid+instant))
			wantVerify(t, fmt.Sprintf("R2: birth %v ahead", ahead), auth, forged, code)
		}
		for _, sid := range []string{"", "x", "-x", "0-x", "A-x", "zzzzzzzzzzzzz-x"} {
			m := membersOf(t, text)
			instant := m["jti"][strings.LastIndex(m["jti"], "."):]
			forged := forgeLike(text, m.with("sid", `"`+sid+`"`).with("jti", `"`+sid+instant))
			wantVerify(t, fmt.Sprintf("R1: sid %q", sid), auth, forged, middleware.CodeTokenInvalid)
		}
	})
}
