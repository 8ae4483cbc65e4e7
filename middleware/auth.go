// Package middleware lets requests through Gin that carry a JWT, for as long as the token lives, swaps
// expired tokens for new ones inside the refresh window of their session, and revokes.
//
// Most programs need [New], the handlers [Auth.LoginHandler], [Auth.RefreshHandler] and
// [Auth.LogoutHandler], the guard [Auth.Required], and [MustClaims] behind it:
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
// The handlers are made of the steps [Auth.Issue], [Auth.Verify], [Auth.Refresh], [Auth.Logout], which know
// no HTTP: use them for a WebSocket, for gRPC, or after a login through OAuth.
//
// A refresh replaces the token. The replaced one still passes for the grace of 10 seconds, and its refresh
// gives the same successor again, as does a refresh of that successor; after that the return of the replaced
// token counts as theft and ends the session. So a client must keep the newest token it got, and all its tabs
// must share it.
//
// With [Config].Pair a login gives an access and a refresh token, and what is said here of a replaced token
// is said of the latter. With [Config].Cookie tokens travel in cookies. R1 to R16 in these comments are the
// rules in docs/model.md.
package middleware

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
)

// Auth issues, verifies, refreshes and revokes tokens. It is made by [New], used by many goroutines at once,
// and not to be copied.
type Auth struct {
	sessions     sessions
	codec        codec
	verifier     atomic.Pointer[verifier]
	cacheSize    int
	sources      []Source   // of a request's token
	headers      []Source   // those that refresh and logout look into as well
	cookies      *cookieJar // nil: tokens travel in headers and bodies
	protection   *http.CrossOriginProtection
	authenticate func(c *gin.Context) (Identity, error)
	reload       func(ctx context.Context, claims Claims) (any, error)
	onError      func(c *gin.Context, err *Error)
	onEvent      func(ctx context.Context, e Event)
	realm        string
	refusals     map[Code]refusal
}

// New returns an Auth, or one error that lists every mistake in the configuration (R15).
func New(config Config) (*Auth, error) {
	config = config.withDefaults()
	keys, err := config.validate()
	if err != nil {
		return nil, err
	}
	auth := &Auth{
		sessions: sessions{
			blacklist:   newBlacklist(config.Store, config.StoreTimeout),
			ttl:         config.TTL,
			refreshTTL:  config.RefreshTTL,
			idleTTL:     config.IdleTTL,
			grace:       config.Grace,
			leeway:      config.Leeway,
			pair:        config.Pair,
			keepOnReuse: config.KeepSessionOnReuse,
			server:      randomText(serverBytes),
		},
		codec:        codec{issuer: config.Issuer, audience: config.Audience},
		sources:      config.Sources,
		headers:      config.headerSources(),
		authenticate: config.Authenticate,
		reload:       config.Reload,
		onError:      config.OnError,
		onEvent:      config.OnEvent,
		realm:        config.Realm,
		refusals:     prepareRefusals(config.Realm),
		cacheSize:    config.TokenCache,
	}
	auth.verifier.Store(newVerifier(keys, auth.cacheSize))
	if auth.protection, err = config.protection(); err != nil {
		return nil, err
	}
	if config.Cookie != nil {
		auth.cookies = newCookieJar(*config.Cookie, config.Pair)
		auth.sources = append(slices.Clone(auth.sources), FromCookie(auth.cookies.name))
	}
	return auth, nil
}

// SetKeys replaces the keys while requests run: the first one signs from now on, all verify. A token whose
// key is gone is refused at once, so keep the old key for as long as its sessions are to live. Keys that can
// sign cannot be replaced by keys that cannot, nor the other way round where there is no Store. If it fails,
// nothing has changed.
func (a *Auth) SetKeys(keys []Key) error {
	set, wrong := newKeySet(keys)
	_, blind := a.sessions.store.(noStore)
	switch {
	case wrong != nil:
	case set.signer == nil && a.verifier.Load().keys.signer != nil:
		wrong = []error{errors.New("Keys[0] is public only, but this Auth issues tokens")}
	case set.signer != nil && blind:
		wrong = []error{errors.New("Keys[0] can sign, but this Auth ignores revocations: DangerouslyIgnoreRevocation is for public keys")}
	}
	if wrong != nil {
		return joinMistakes(wrong)
	}
	a.verifier.Store(newVerifier(set, a.cacheSize))
	return nil
}

// Tokens is what a login or a refresh gives the client.
type Tokens struct {
	// AccessToken is used on requests until ExpiresAt. In one-token mode it is also what is refreshed.
	AccessToken string
	ExpiresAt   time.Time

	// RefreshToken is what is refreshed in pair mode, "" in one-token mode.
	RefreshToken string

	// RefreshUntil is the session's deadline: then only a login helps.
	RefreshUntil time.Time

	// Claims are those of AccessToken.
	Claims Claims
}

// Issue starts a session for somebody whose identity the application has checked, and returns its first
// tokens. It fails with an [*Error] if the store does, and with another error if the identity is unusable:
// no subject, claims that are no JSON object, take a reserved name or make the token longer than 8 KiB.
//
// LoginHandler refuses a login whose subject was revoked while the password was checked (R12). Issue cannot
// know when a check began, so call it right after the check.
func (a *Auth) Issue(ctx context.Context, id Identity) (Tokens, error) {
	tokens, t, err := a.issue(ctx, id, login{began: a.sessions.instant(0)})
	a.report(ctx, "", EventLogin, t, err)
	return tokens, err
}

func (a *Auth) issue(ctx context.Context, id Identity, l login) (tokens Tokens, t *token, err error) {
	if id.Subject == "" {
		return Tokens{}, nil, errors.New("middleware: Identity.Subject is empty: it must say who logs in")
	}
	if err := checkText("Identity.Subject", id.Subject); err != nil {
		return Tokens{}, nil, err
	}
	l.subject = id.Subject
	if l.own, err = ownMembers(id.Claims); err != nil {
		return Tokens{}, nil, err
	}
	if l.ttl, l.refreshTTL, err = a.lifetimes(id); err != nil {
		return Tokens{}, nil, err
	}
	if t, err = a.sessions.start(ctx, l); err != nil {
		return Tokens{}, nil, err
	}
	tokens, err = a.sign(a.verifier.Load(), t)
	return tokens, t, err
}

// lifetimes are the configured ones or what the login asks for, if that is shorter (R13). Tokens of a
// session never outlive a window that is shorter than they are.
func (a *Auth) lifetimes(id Identity) (ttl, refreshTTL time.Duration, err error) {
	shorter := func(asked, configured time.Duration) time.Duration {
		if asked == 0 {
			return configured
		}
		return min(asked.Truncate(time.Second), configured)
	}
	refreshTTL = shorter(id.RefreshTTL, a.sessions.refreshTTL)
	ttl = min(shorter(id.TTL, a.sessions.ttl), refreshTTL)
	if ttl < time.Second {
		return 0, 0, fmt.Errorf("middleware: Identity.TTL %v and RefreshTTL %v: a lifetime is at least one second", id.TTL, id.RefreshTTL)
	}
	return ttl, refreshTTL, nil
}

var errVerifyOnly = errors.New("middleware: this Auth has public keys only: it verifies tokens and cannot issue any")

// sign makes the client's answer of a session's newest token. A step signs with the keys that it verified with:
// were it to sign with newer ones, a token of a key that leaked would get a successor that outlives the key (R1a).
func (a *Auth) sign(v *verifier, t *token) (tokens Tokens, err error) {
	signer := v.keys.signer
	if signer == nil {
		return Tokens{}, errVerifyOnly
	}
	tokens.RefreshUntil = time.Unix(t.deadline, 0)
	if t.kind == refreshKind {
		if tokens.RefreshToken, err = a.codec.encode(signer, t); err != nil {
			return Tokens{}, err
		}
		t = companion(t)
	}
	if tokens.AccessToken, err = a.codec.encode(signer, t); err != nil {
		return Tokens{}, err
	}
	if err := a.cookies.fits(tokens); err != nil {
		return Tokens{}, err
	}
	t.owner = a
	tokens.Claims = claimsOf(t)
	tokens.ExpiresAt = tokens.Claims.ExpiresAt
	return tokens, nil
}

// Verify returns the claims of a token that is good for a request, as [Auth.Required] does (R1–R4). The
// error is an [*Error].
func (a *Auth) Verify(ctx context.Context, text string) (Claims, error) {
	t, err := a.verify(ctx, text)
	if err != nil {
		a.report(ctx, "", EventRejected, t, err)
		return Claims{}, err
	}
	return claimsOf(t), nil
}

// decode returns what a genuine token says.
func (a *Auth) decode(text string) (*token, error) {
	t, _, err := a.recall(a.verifier.Load(), text)
	return t, err
}

// recall returns what a genuine token says, and its watch if it came before and is in the cache.
func (a *Auth) recall(v *verifier, text string) (*token, *watch, error) {
	hash := v.cache.hash(text)
	if known := v.cache.get(hash, text); known != nil {
		return &known.token, &known.watch, nil
	}
	t, err := a.codec.decode(v.keys, text)
	if err != nil {
		return nil, nil, err
	}
	t.owner = a
	v.cache.put(hash, text, t, &a.sessions.blacklist)
	return t, nil, nil
}

// verify returns the token with the error where it is genuine, for the report.
func (a *Auth) verify(ctx context.Context, text string) (*token, error) {
	t, w, err := a.recall(a.verifier.Load(), text)
	if err != nil {
		return nil, err
	}
	return t, a.sessions.verify(ctx, t, w)
}

// Refresh swaps a token, expired or not, for the next one of its session (R5–R10); in pair mode a refresh
// token for the next pair. A token that was itself made by a refresh less than [Config].Grace ago is returned
// again (R6a). The error is an [*Error] unless Reload's claims are unusable.
//
// A token that comes back after it was replaced ends its session even if ctx is cancelled meanwhile; that
// takes no longer than [Config].StoreTimeout.
func (a *Auth) Refresh(ctx context.Context, text string) (Tokens, error) {
	tokens, t, err := a.refresh(ctx, text)
	a.report(ctx, "", EventRefresh, t, err)
	return tokens, err
}

func (a *Auth) refresh(ctx context.Context, text string) (Tokens, *token, error) {
	v := a.verifier.Load()
	t, _, err := a.recall(v, text)
	if err != nil {
		return Tokens{}, nil, err
	}
	tokens, _, err := a.swap(ctx, v, t)
	return tokens, t, err
}

// swap refreshes t. unanswerable reports that it failed because the answer could not be made, and so for no fault
// of the token.
func (a *Auth) swap(ctx context.Context, v *verifier, t *token) (tokens Tokens, unanswerable bool, err error) {
	renewal, err := a.sessions.refresh(ctx, t)
	if err != nil {
		return Tokens{}, false, err
	}
	own := t.own
	if a.reload != nil {
		if own, err = a.reloaded(ctx, t); err != nil {
			return Tokens{}, !hasCode(err, CodeSubjectRefused), err
		}
		if err := renewal.look(); err != nil { // much may have happened while Reload took its time
			return Tokens{}, false, err
		}
	}
	err = renewal.finish(func(next *token) (err error) {
		next.own = own
		tokens, err = a.sign(v, next)
		unanswerable = err != nil
		return err
	})
	if err != nil {
		return Tokens{}, unanswerable, err
	}
	return tokens, false, nil
}

// renew is refresh for a token that has expired or has less than within left, and verify for all others: then
// it returns no tokens. So it does for one that still lives if Reload or signing fails.
func (a *Auth) renew(ctx context.Context, text string, within time.Duration) (Tokens, *token, error) {
	v := a.verifier.Load()
	t, w, err := a.recall(v, text)
	if err != nil {
		return Tokens{}, nil, err
	}
	if due, must := a.sessions.due(t, within); due {
		tokens, unanswerable, err := a.swap(ctx, v, t)
		if must || !unanswerable {
			return tokens, t, err
		}
	}
	return Tokens{}, t, a.sessions.confirm(ctx, t, w)
}

func (a *Auth) reloaded(ctx context.Context, t *token) ([]byte, error) {
	claims, err := a.reload(ctx, claimsOf(t))
	switch {
	case errors.Is(err, ErrRefused):
		return nil, failed(CodeSubjectRefused, err)
	case err != nil:
		return nil, failed(CodeStoreUnavailable, err)
	}
	return ownMembers(claims)
}

// Logout ends the session of a token (R11): any genuine one of the session, expired or replaced as well, until the
// last token of the session is dead. To end one that is ended already is no error. When Logout returns nil, no
// server that shares the store accepts any token of the session. It runs to its end within
// [Config].StoreTimeout even if ctx is cancelled. The error is an [*Error].
func (a *Auth) Logout(ctx context.Context, text string) error {
	t, err := a.logout(ctx, text)
	a.report(ctx, "", EventLogout, t, err)
	return err
}

func (a *Auth) logout(ctx context.Context, text string) (*token, error) {
	t, err := a.decode(text)
	if err != nil {
		return nil, err
	}
	return t, a.sessions.logout(ctx, t)
}

func (a *Auth) logoutAll(ctx context.Context, text string) (*token, error) {
	t, err := a.decode(text)
	if err != nil {
		return nil, err
	}
	return t, a.sessions.logoutAll(ctx, t)
}

// RevokeSession ends a session by its id ([Claims].SessionID), for a list of devices or an administrator. It
// remembers that for as long as a session lives by the configured lifetimes. Like [Auth.Logout] it does not stop
// when ctx is cancelled. The error is an [*Error].
func (a *Auth) RevokeSession(ctx context.Context, sessionID string) error {
	if sessionID == "" {
		return errors.New("middleware: RevokeSession was given no session")
	}
	err := a.sessions.revokeSession(ctx, sessionID)
	a.report(ctx, "", EventLogout, &token{session: sessionID}, err)
	return err
}

// RevokeSubject revokes all sessions of a subject that have begun (R12): after a change of password, say. Call it
// after the new password is stored. A login afterwards works at once, but for LoginHandler on another server within
// two seconds: that answers 503, as it cannot tell which password it has checked. RevokeSubject remembers the
// revocation for as long as a session lives by the configured lifetimes: see docs/deployment.md before you shorten
// these. Like [Auth.Logout] it does not stop when ctx is cancelled. The error is an [*Error].
func (a *Auth) RevokeSubject(ctx context.Context, subject string) error {
	if subject == "" {
		return errors.New("middleware: RevokeSubject was given no subject")
	}
	err := a.sessions.revokeSubject(a.sessions.visit(context.WithoutCancel(ctx)), subject)
	a.report(ctx, "", EventLogoutAll, &token{subject: subject}, err)
	return err
}
