// Package middleware provides JWT sessions for Gin: tokens that expire, can be refreshed until a deadline, and can be
// revoked at once.
//
// Most programs need [New], the handlers [Auth.LoginHandler], [Auth.RefreshHandler] and [Auth.LogoutHandler], the guard
// [Auth.Required], and [MustClaims] behind it:
//
//	auth, err := middleware.New(middleware.Config{
//		Keys:         []middleware.Key{{Algorithm: middleware.HS256, Key: secret}},
//		Store:        store.NewMemory(),
//		Authenticate: checkPassword,
//	})
//	r.POST("/login", auth.LoginHandler)
//	r.POST("/refresh", auth.RefreshHandler)
//	r.POST("/logout", auth.LogoutHandler)
//	api := r.Group("/api", auth.Required())
//
// The handlers are built from the steps [Auth.Issue], [Auth.Verify], [Auth.Refresh] and [Auth.Logout], which do not use
// HTTP. Use the steps for a WebSocket, for gRPC, or after a login through OAuth.
//
// A refresh replaces the token. For a grace period of 10 seconds the replaced token is still accepted, and refreshing it
// returns the same successor, so parallel refreshes agree. After the grace period a refresh with a replaced token counts as
// theft and ends the session. So a client must keep the newest token that it received, and all its tabs must share it.
//
// With [Config].Pair a login returns an access token and a refresh token; then the refresh token is the one that is
// replaced. With [Config].Cookie the tokens travel in cookies. R1 to R21 in these comments are the rules in
// docs/model.md.
package middleware
