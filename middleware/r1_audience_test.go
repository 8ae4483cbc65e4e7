package middleware_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// R1: iss and aud.

func TestR1IssuerAndAudience(t *testing.T) {
	f := newForger(t, func(c *middleware.Config) { c.Issuer, c.Audience = "https://we.example", "api" })
	if f.members["iss"] != `"https://we.example"` || f.members["aud"] != `"api"` {
		t.Fatalf("iss is %s and aud %s", f.members["iss"], f.members["aud"])
	}
	payloads := func(name string, values map[string]string) map[string]string {
		all := map[string]string{}
		for what, value := range values {
			all[name+" "+what] = f.members.with(name, value).object()
		}
		return forgeAll(all, forgePayload)
	}
	f.accepts("R1 aud", payloads("aud", map[string]string{
		"alone": `"api"`, "escaped": `"\u0061pi"`, "in a list": `["api"]`, "among others": `["web", "api" ,"x"]`,
	}))
	f.accepts("R1 iss", payloads("iss", map[string]string{"escaped": `"https:\/\/we.example"`}))

	f.rejects("R1 aud", payloads("aud", map[string]string{
		"wrong": `"web"`, "empty": `""`, "in another case": `"API"`, "with a space": `"api "`, "longer": `"apis"`,
		"an empty list": `[]`, "a list of others": `["web","app"]`, "a list in a list": `[["api"]]`,
		"null": `null`, "a number": `1`, "true": `true`, "an object": `{"api":"api"}`,
		"a list with a number": `["api",1]`, "a list with null": `["api",null]`,
	}))
	f.genuine = login(t, f.auth)
	f.rejects("R1 iss", payloads("iss", map[string]string{
		"wrong": `"https://they.example"`, "empty": `""`, "in another case": `"https://WE.example"`, "with a slash": `"https://we.example/"`,
		"null": `null`, "a number": `1`, "a list": `["https://we.example"]`, "an object": `{}`,
	}))
	f.genuine = login(t, f.auth)
	f.rejects("R1 iss, aud", forgeAll(map[string]string{
		"iss missing": f.members.without("iss").object(),
		"aud missing": f.members.without("aud").object(),
		"swapped":     f.members.with("iss", f.members["aud"]).with("aud", f.members["iss"]).object(),
	}, forgePayload))
}

// audiences are values of aud: whether they contain the configured audience, "api", and whether they are well-formed.
var audiences = map[string]struct{ ours, valid bool }{
	`"api"`:                     {true, true},
	`"\u0061pi"`:                {true, true},
	`"web"`:                     {false, true},
	`""`:                        {false, true},
	`"API"`:                     {false, true},
	`"Api"`:                     {false, true},
	`"apI"`:                     {false, true},
	`"ap"`:                      {false, true},
	`"pi"`:                      {false, true},
	`"a"`:                       {false, true},
	`"apis"`:                    {false, true},
	`"api/"`:                    {false, true},
	`"xapi"`:                    {false, true},
	`" api"`:                    {false, true},
	`"api "`:                    {false, true},
	`"api\u0000"`:               {false, true},
	`"web api"`:                 {false, true},
	`"web,api"`:                 {false, true},
	`"[\"api\"]"`:               {false, true},
	`["api"]`:                   {true, true},
	`["\u0061pi"]`:              {true, true},
	`["api","web"]`:             {true, true},
	`["web","api"]`:             {true, true},
	`["web","api","app"]`:       {true, true},
	`[ "web" , "api" ]`:         {true, true},
	`["api","api"]`:             {true, true},
	`["","api"]`:                {true, true},
	`["web","app"]`:             {false, true},
	`["web"]`:                   {false, true},
	`[""]`:                      {false, true},
	`[]`:                        {false, true},
	`["API"]`:                   {false, true},
	`["ap","i"]`:                {false, true},
	`["ap","pi","apis"," api"]`: {false, true},
	`["xapi","api/"]`:           {false, true},
	`[["api"]]`:                 {false, false},
	`["api",["api"]]`:           {false, false},
	`[[],"api"]`:                {false, false},
	`["api",null]`:              {false, false},
	`[null,"api"]`:              {false, false},
	`[null]`:                    {false, false},
	`["api",1]`:                 {false, false},
	`[1,"api"]`:                 {false, false},
	`[0]`:                       {false, false},
	`["api",true]`:              {false, false},
	`["api",{}]`:                {false, false},
	`[{"api":"api"}]`:           {false, false},
	`null`:                      {false, false},
	`1`:                         {false, false},
	`0`:                         {false, false},
	`true`:                      {false, false},
	`{}`:                        {false, false},
	`{"api":"api"}`:             {false, false},
}

func TestAudiences(t *testing.T) {
	for mode, inMode := range modes {
		strict, any := newAuth(t, inMode, func(c *middleware.Config) { c.Audience = "api" }), newAuth(t, inMode)
		tokens := issueTokens(t, strict, middleware.Identity{})
		check := func(aud, object string, ours, valid bool) {
			t.Helper()
			for auth, accepted := range map[*middleware.Auth]bool{strict: ours, any: valid} {
				code := middleware.CodeTokenInvalid
				if accepted {
					code = ""
				}
				wantVerify(t, fmt.Sprintf("R1: %s, aud %s, Audience configured: %v", mode, aud, auth == strict), auth, forge(ourHeader, object), code)
			}
		}
		access := membersOf(t, tokens.AccessToken)
		for aud, row := range audiences {
			check(aud, access.with("aud", aud).object(), row.ours, row.valid)
		}
		none := access.without("aud")
		check("no aud", none.object(), false, true)
		for _, more := range [][]string{
			{`"aud":"api"`, `"aud":"api"`}, {`"aud":"api"`, `"aud":"web"`}, {`"aud":"web"`, `"aud":"api"`},
			{`"aud":["web"]`, `"aud":["api"]`}, {`"aud":"api"`, `"\u0061ud":"api"`}, {`"aud":[]`, `"aud":"api"`},
		} {
			check(fmt.Sprint(more), none.object(more...), false, false)
		}
		for _, more := range []string{`"AUD":"api"`, `"Aud":["api"]`, `"aud ":"api"`, `"audience":"api"`} {
			check(more, none.object(more), false, true)
		}
		// The same holds for a refresh token.
		if tokens.RefreshToken != "" {
			head, m := `{"alg":"HS256","typ":"refresh+jwt"}`, membersOf(t, tokens.RefreshToken)
			for aud, row := range map[string]middleware.Code{`["web","app"]`: middleware.CodeTokenInvalid, `"web"`: middleware.CodeTokenInvalid, `["web","api"]`: ""} {
				wantRefresh(t, "R1: aud "+aud, strict, forge(head, m.with("aud", aud).object()), row)
			}
		}
	}
}

// A token has the configured audience as its aud, or no aud.
func TestAudienceOfOurTokens(t *testing.T) {
	for _, audience := range []string{"api", "https://api.example/v1?a=b&c", `quo"ted`, "漢字"} {
		auth := newAuth(t, pair, func(c *middleware.Config) { c.Audience = audience })
		tokens := refreshTokens(t, auth, issueTokens(t, auth, middleware.Identity{}))
		for _, text := range []string{tokens.AccessToken, tokens.RefreshToken} {
			var got string
			if err := json.Unmarshal([]byte(membersOf(t, text)["aud"]), &got); err != nil || got != audience {
				t.Errorf("aud is %q, want %q", got, audience)
			}
		}
		verify(t, auth, tokens.AccessToken)
	}
	if aud, said := membersOf(t, login(t, newAuth(t)))["aud"]; said {
		t.Errorf("aud is %s, want none without Config.Audience", aud)
	}
}
