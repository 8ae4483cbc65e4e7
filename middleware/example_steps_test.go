package middleware_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/redis/rueidis"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
	"github.com/ginrefresh/ginrefresh/store/redisstore"
)

// One service logs users in. Verify-only services have the public key and share the blacklist.
func Example_verifyOnly() {
	public, private, err := ed25519.GenerateKey(rand.Reader) // or read a file with ParsePEM
	if err != nil {
		log.Fatal(err)
	}
	blacklist := store.NewMemory() // for several processes use redisstore.New
	login, err := middleware.New(middleware.Config{
		Keys:     []middleware.Key{{Algorithm: middleware.EdDSA, Key: private}},
		Store:    blacklist,
		Issuer:   "https://login.example.org",
		Audience: "orders",
	})
	if err != nil {
		log.Fatal(err)
	}
	orders, err := middleware.New(middleware.Config{
		Keys:     []middleware.Key{{Algorithm: middleware.EdDSA, Key: public}},
		Store:    blacklist,
		Issuer:   "https://login.example.org",
		Audience: "orders",
	})
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	tokens, err := login.Issue(ctx, middleware.Identity{Subject: "ann"})
	if err != nil {
		log.Fatal(err)
	}
	claims, err := orders.Verify(ctx, tokens.AccessToken)
	fmt.Println(claims.Subject, err)

	if err := login.Logout(ctx, tokens.AccessToken); err != nil {
		log.Fatal(err)
	}
	_, err = orders.Verify(ctx, tokens.AccessToken)
	fmt.Println(err)
	// Output:
	// ann <nil>
	// middleware: token_revoked: the token was revoked, log in
}

// Several servers share a blacklist in Redis.
func Example_redis() {
	client, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress:      []string{"127.0.0.1:6379"},
		DisableCache:     true,
		ConnWriteTimeout: 2 * time.Second,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	blacklist, err := redisstore.New(client, redisstore.Options{Prefix: "shop:"})
	if err != nil {
		log.Fatal(err)
	}
	if err := blacklist.Check(context.Background()); err != nil {
		log.Fatal(err) // the settings of this Redis could lose revocations
	}
	auth, err := middleware.New(middleware.Config{
		Keys:  []middleware.Key{{Algorithm: middleware.HS256, Key: []byte(os.Getenv("JWT_SECRET"))}},
		Store: blacklist,
	})
	if err != nil {
		log.Fatal(err)
	}
	r := gin.New()
	r.POST("/logout", auth.LogoutHandler)
}

// To rotate keys, let the new key sign and the old one verify until its sessions are over.
func ExampleAuth_SetKeys() {
	newKey := func(id string) middleware.Key {
		return middleware.Key{ID: id, Algorithm: middleware.HS256, Key: []byte(rand.Text() + rand.Text())}
	}
	may, june := newKey("2025-05"), newKey("2025-06")
	auth, err := middleware.New(middleware.Config{Keys: []middleware.Key{may}, Store: store.NewMemory()})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	old, err := auth.Issue(ctx, middleware.Identity{Subject: "ann"})
	if err != nil {
		log.Fatal(err)
	}

	// First add the new key on every server, so that all can verify its tokens.
	if err := auth.SetKeys([]middleware.Key{may, june}); err != nil {
		log.Fatal(err)
	}
	// Then let it sign.
	if err := auth.SetKeys([]middleware.Key{june, may}); err != nil {
		log.Fatal(err)
	}
	next, err := auth.Refresh(ctx, old.AccessToken)
	if err != nil {
		log.Fatal(err)
	}
	// After RefreshTTL, all sessions of the old key are over: remove it.
	if err := auth.SetKeys([]middleware.Key{june}); err != nil {
		log.Fatal(err)
	}
	_, err = auth.Verify(ctx, old.AccessToken)
	fmt.Println(err)
	_, err = auth.Verify(ctx, next.AccessToken)
	fmt.Println(err)
	// Output:
	// middleware: token_invalid: the token is not valid
	// <nil>
}

// A WebSocket outlives its token. The token is verified when the connection opens. After that the server asks with every
// message whether the session still lives, so a refresh in another tab does not matter, and a logout ends the connection.
func ExampleAuth_Alive() {
	auth, err := middleware.New(middleware.Config{
		Keys:  []middleware.Key{{Algorithm: middleware.HS256, Key: []byte(rand.Text() + rand.Text())}},
		Store: store.NewMemory(),
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	tokens, err := auth.Issue(ctx, middleware.Identity{Subject: "ann"})
	if err != nil {
		log.Fatal(err)
	}

	claims, err := auth.Verify(ctx, tokens.AccessToken) // from the first message or FromQuery; or use a guard
	if err != nil {
		log.Fatal(err)
	}
	for _, message := range []string{"one", "two", "three"} {
		if e := (*middleware.Error)(nil); errors.As(auth.Alive(ctx, claims), &e) {
			fmt.Println("closing:", e.Code) // the client reconnects, and logs in before unless it is store_unavailable
			break
		}
		fmt.Println(claims.Subject, "says", message)
		switch message {
		case "one":
			tokens, _ = auth.Refresh(ctx, tokens.AccessToken) // in another tab
		case "two":
			_ = auth.Logout(ctx, tokens.AccessToken)
		}
	}
	// Output:
	// ann says one
	// ann says two
	// closing: token_revoked
}

// The application's claims are decoded into its own type. Large integers stay exact.
func ExampleClaims_Decode() {
	auth, err := middleware.New(middleware.Config{
		Keys:  []middleware.Key{{Algorithm: middleware.HS256, Key: []byte(rand.Text() + rand.Text())}},
		Store: store.NewMemory(),
	})
	if err != nil {
		log.Fatal(err)
	}
	type account struct {
		Number int64    `json:"account"`
		Roles  []string `json:"roles"`
	}
	ctx := context.Background()
	tokens, err := auth.Issue(ctx, middleware.Identity{
		Subject: "ann",
		Claims:  account{Number: 9007199254740993, Roles: []string{"reader", "writer"}},
	})
	if err != nil {
		log.Fatal(err)
	}
	claims, err := auth.Verify(ctx, tokens.AccessToken) // in a handler use middleware.MustClaims(c)
	if err != nil {
		log.Fatal(err)
	}
	var a account
	if err := claims.Decode(&a); err != nil {
		log.Fatal(err)
	}
	fmt.Println(claims.Subject, a.Number, a.Roles)
	// Output: ann 9007199254740993 [reader writer]
}

// Reload updates claims that change, such as roles, at each refresh. It can also end the session of a blocked user.
func ExampleConfig_reload() {
	roles := map[string]string{"ann": "reader"} // the user database
	auth, err := middleware.New(middleware.Config{
		Keys:  []middleware.Key{{Algorithm: middleware.HS256, Key: []byte(rand.Text() + rand.Text())}},
		Store: store.NewMemory(),
		Reload: func(_ context.Context, claims middleware.Claims) (any, error) {
			role, ok := roles[claims.Subject]
			if !ok {
				return nil, middleware.ErrRefused
			}
			return gin.H{"role": role}, nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	tokens, err := auth.Issue(ctx, middleware.Identity{Subject: "ann", Claims: gin.H{"role": "reader"}})
	if err != nil {
		log.Fatal(err)
	}

	roles["ann"] = "editor"
	tokens, err = auth.Refresh(ctx, tokens.AccessToken)
	if err != nil {
		log.Fatal(err)
	}
	var mine struct{ Role string }
	_ = tokens.Claims.Decode(&mine)
	fmt.Println(mine.Role)

	delete(roles, "ann")
	_, err = auth.Refresh(ctx, tokens.AccessToken)
	fmt.Println(err)
	// Output:
	// editor
	// middleware: subject_refused: the session must not continue, log in
}

// For "remember me", configure the long RefreshTTL, and ask for a shorter one if the box is not ticked.
func Example_rememberMe() {
	auth, err := middleware.New(middleware.Config{
		Keys:       []middleware.Key{{Algorithm: middleware.HS256, Key: []byte(rand.Text() + rand.Text())}},
		Store:      store.NewMemory(),
		RefreshTTL: 30 * 24 * time.Hour,
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, remember := range []bool{true, false} {
		id := middleware.Identity{Subject: "ann"} // the result of Authenticate
		if !remember {
			id.RefreshTTL = 12 * time.Hour
		}
		tokens, err := auth.Issue(context.Background(), id)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(remember, tokens.RefreshUntil.Sub(tokens.Claims.AuthTime))
	}
	// Output:
	// true 720h0m0s
	// false 12h0m0s
}

// After a password change all sessions of the user end. The user who changed it gets a new one.
func ExampleAuth_RevokeSubject() {
	auth, err := middleware.New(middleware.Config{
		Keys:  []middleware.Key{{Algorithm: middleware.HS256, Key: []byte(rand.Text() + rand.Text())}},
		Store: store.NewMemory(),
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	thief, err := auth.Issue(ctx, middleware.Identity{Subject: "ann"})
	if err != nil {
		log.Fatal(err)
	}

	// First change the password in the database, then revoke:
	if err := auth.RevokeSubject(ctx, "ann"); err != nil {
		log.Fatal(err)
	}
	owner, err := auth.Issue(ctx, middleware.Identity{Subject: "ann"})
	if err != nil {
		log.Fatal(err)
	}
	_, err = auth.Verify(ctx, thief.AccessToken)
	fmt.Println("thief:", err)
	_, err = auth.Verify(ctx, owner.AccessToken)
	fmt.Println("owner:", err)
	// Output:
	// thief: middleware: token_revoked: the token was revoked, log in
	// owner: <nil>
}

// Events can be logged. A reuse means that a token may have been stolen.
func ExampleEvent() {
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{} // so that the output of this example does not change
			}
			return a
		},
	}))
	auth, err := middleware.New(middleware.Config{
		Keys:  []middleware.Key{{Algorithm: middleware.HS256, Key: []byte(rand.Text() + rand.Text())}},
		Store: store.NewMemory(),
		Grace: -1, // no grace period
		OnEvent: func(ctx context.Context, e middleware.Event) {
			level := slog.LevelInfo
			if e.Kind == middleware.EventReuse {
				level = slog.LevelWarn
			}
			logger.Log(ctx, level, "auth", "event", e.Kind, "code", e.Code, "subject", e.Subject, "client", e.ClientIP)
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	tokens, err := auth.Issue(ctx, middleware.Identity{Subject: "ann"})
	if err != nil {
		log.Fatal(err)
	}
	_, _ = auth.Refresh(ctx, tokens.AccessToken)
	_, _ = auth.Refresh(ctx, tokens.AccessToken) // the replaced token again
	// Output:
	// level=INFO msg=auth event=login code="" subject=ann client=""
	// level=INFO msg=auth event=refresh code="" subject=ann client=""
	// level=WARN msg=auth event=reuse code=token_reused subject=ann client=""
}
