package middleware

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware/internal/jose"
	"github.com/ginrefresh/ginrefresh/middleware/internal/session"
)

// Auth issues, verifies, refreshes and revokes tokens. Use [New] to create one. It is safe for concurrent use and must
// not be copied.
type Auth struct {
	rules        *session.Rules
	codec        session.Codec
	verifier     atomic.Pointer[verifier]
	fetcher      *keyFetcher // nil without Config.KeysFrom
	cacheSize    int
	sources      []Source   // where a request's token may be
	headers      []Source   // the headers among them, which refresh and logout read as well
	cookies      *cookieJar // nil: tokens travel in headers and bodies
	protection   *http.CrossOriginProtection
	authenticate func(c *gin.Context) (Identity, error)
	reload       func(ctx context.Context, claims Claims) (any, error)
	onTokens     func(c *gin.Context, tokens Tokens)
	onError      func(c *gin.Context, err *Error)
	onEvent      func(ctx context.Context, e Event)
	binding      Binding
	publicURL    string
	realm        string
	responses    map[Code]errorResponse
}

// New returns an Auth, or one error that lists every mistake in the configuration (R15).
func New(config Config) (*Auth, error) {
	config = config.withDefaults()
	keys, protection, err := config.validate()
	if err != nil {
		return nil, err
	}
	rules, err := session.New(config.rules())
	if err != nil {
		return nil, fmt.Errorf("middleware: Config.Store cannot be read: %w", err)
	}
	auth := &Auth{
		rules:        rules,
		codec:        session.Codec{Issuer: config.Issuer, Audience: config.Audience},
		cacheSize:    config.TokenCache,
		sources:      config.Sources,
		headers:      config.headerSources(),
		protection:   protection,
		authenticate: config.Authenticate,
		reload:       config.Reload,
		onTokens:     config.OnTokens,
		onError:      config.OnError,
		onEvent:      config.OnEvent,
		binding:      config.Bind,
		publicURL:    config.PublicURL,
		realm:        config.Realm,
		responses:    prepareResponses(config.Realm),
	}
	if config.KeysFrom != nil {
		auth.fetcher = newKeyFetcher(config.KeysFrom, auth, config.StoreTimeout)
		auth.verifier.Store(&verifier{keys: keys, due: true})
	} else {
		auth.verifier.Store(newVerifier(keys, auth.cacheSize))
	}
	if config.Cookie != nil {
		auth.cookies = newCookieJar(*config.Cookie, config.Pair)
		auth.cookies.dbsc = newDBSC(config)
		auth.sources = append(slices.Clone(auth.sources), FromCookie(auth.cookies.access.Name))
	}
	return auth, nil
}

// Tokens are the result of a login or a refresh.
type Tokens struct {
	// AccessToken is used on requests until ExpiresAt. In one-token mode it is also the token to refresh.
	AccessToken string
	ExpiresAt   time.Time

	// RefreshToken is the token to refresh in pair mode, "" in one-token mode.
	RefreshToken string

	// RefreshUntil is the session's deadline. After that the user must log in again.
	RefreshUntil time.Time

	// ProofChallenge is the nonce for the proof of the next refresh, "" if the session is not bound to a key (R18).
	ProofChallenge string

	// Claims are the claims of AccessToken.
	Claims Claims

	refresh *session.Token // RefreshToken
}

// Issue starts a session for a user whose identity the application has checked, and returns its first tokens. The error
// is an [*Error] if the store or a crypto.Signer fails or the proof is not valid, and another error if the application made
// a mistake: the identity has no subject or too short a lifetime, its claims are not a JSON object, use a reserved name or
// make the token too long, or the Auth has only public keys.
//
// LoginHandler refuses a login whose subject was revoked while the password was checked (R12). Issue does not know when
// the check began, so call it right after the check.
//
// With [Config].Bind, the session is bound to the key of the client's proof. Pass at most one.
func (a *Auth) Issue(ctx context.Context, id Identity, proof ...Proof) (Tokens, error) {
	l := session.Login{Began: a.rules.Now()}
	var tokens Tokens
	var t *session.Token
	err := a.givenProof(proof).bind(&l)
	if err == nil {
		tokens, t, err = a.issue(ctx, id, l)
	}
	a.report(ctx, "", EventLogin, t, err)
	return tokens, err
}

func (a *Auth) issue(ctx context.Context, id Identity, l session.Login) (tokens Tokens, t *session.Token, err error) {
	if id.Subject == "" || !utf8.ValidString(id.Subject) { // two subjects must not become one in JSON
		return Tokens{}, nil, errors.New("middleware: Identity.Subject is empty or not valid UTF-8: it must be the user's id")
	}
	l.Subject, l.Label = id.Subject, label(id.Label)
	if l.AppClaims, err = encodeClaims(id.Claims); err != nil {
		return Tokens{}, nil, err
	}
	if l.AuthTime, err = authTime(id); err != nil {
		return Tokens{}, nil, err
	}
	if l.TTL, l.RefreshTTL, err = a.lifetimes(id, l.AuthTime); err != nil {
		return Tokens{}, nil, err
	}
	if t, err = a.rules.Login(ctx, l); err != nil {
		return Tokens{}, nil, fromVerdict(err)
	}
	if tokens, err = a.sign(a.verifier.Load(), t); err != nil {
		return Tokens{}, nil, err
	}
	ended, err := a.rules.Enlist(ctx, t, l)
	for _, s := range ended {
		a.report(ctx, "", EventLogout, &session.Token{Session: s.ID, Subject: t.Subject, Label: s.Label}, nil)
	}
	if err != nil {
		return Tokens{}, nil, fromVerdict(err)
	}
	return tokens, t, nil
}

// encodeClaims turns the claims of an Identity or of Reload into JSON. Its error is not an *Error: it is a mistake in the
// application.
func encodeClaims(claims any) ([]byte, error) {
	own, err := session.EncodeClaims(claims)
	if err != nil {
		return nil, fmt.Errorf("middleware: %w", err)
	}
	return own, nil
}

// authTime returns when the user authenticated, the zero time for now. The clock of an identity provider may be a little
// ahead.
func authTime(id Identity) (time.Time, error) {
	now := time.Now()
	switch at := id.AuthTime; {
	case at.IsZero() || at.After(now) && !at.After(now.Add(session.FutureTolerance)):
		return time.Time{}, nil
	case at.After(now) || at.Unix() <= 0:
		return time.Time{}, fmt.Errorf("middleware: Identity.AuthTime is %v, which is in the future or before 1970", at)
	default:
		return at, nil
	}
}

// lifetimes returns the configured lifetimes, or those of the identity where they are shorter (R13). The first token does
// not outlive a refresh window that is shorter than TTL.
func (a *Auth) lifetimes(id Identity, authTime time.Time) (ttl, refreshTTL time.Duration, err error) {
	shorter := func(asked, configured time.Duration) time.Duration {
		if asked == 0 {
			return configured
		}
		return min(asked.Truncate(time.Second), configured)
	}
	refreshTTL = shorter(id.RefreshTTL, a.rules.RefreshTTL)
	left := refreshTTL // of the refresh window, which counts from the authentication
	if !authTime.IsZero() && refreshTTL >= time.Second {
		left = (refreshTTL - time.Since(authTime)).Truncate(time.Second)
		if left < time.Second {
			e := newError(CodeLoginTooOld, nil)
			e.MaxAge = refreshTTL
			return 0, 0, e
		}
	}
	ttl = min(shorter(id.TTL, a.rules.TTL), left)
	if ttl < time.Second {
		return 0, 0, fmt.Errorf("middleware: Identity.TTL is %v and RefreshTTL %v: a lifetime is at least one second", id.TTL, id.RefreshTTL)
	}
	return ttl, refreshTTL, nil
}

// errVerifyOnly is a mistake in the application, so it is not an *Error.
var errVerifyOnly = errors.New("middleware: this Auth has only public keys: it verifies tokens and cannot issue any")

// sign makes the client's answer from the newest token of a session. A step signs with the keys that it verified with.
// With newer keys, a token whose key has leaked would get a successor that outlives the key (R1a).
func (a *Auth) sign(v *verifier, t *session.Token) (tokens Tokens, err error) {
	if !v.keys.CanSign() {
		return Tokens{}, errVerifyOnly
	}
	tokens.RefreshUntil = time.Unix(t.Deadline, 0)
	if t.Kind == session.RefreshToken {
		if tokens.RefreshToken, err = a.encode(v, t); err != nil {
			return Tokens{}, err
		}
		if t.Key() != nil {
			tokens.ProofChallenge = t.ID
		}
		tokens.refresh = t
		t = t.AccessToken()
	}
	if tokens.AccessToken, err = a.encode(v, t); err != nil {
		return Tokens{}, err
	}
	if err := a.cookies.checkSize(tokens); err != nil {
		return Tokens{}, err
	}
	t.Owner = a
	tokens.Claims = claimsOf(t)
	tokens.ExpiresAt = tokens.Claims.ExpiresAt
	return tokens, nil
}

// encode signs one token. A crypto.Signer that fails is like a store that fails (R14); a token that is too long is a
// mistake in the application.
func (a *Auth) encode(v *verifier, t *session.Token) (string, error) {
	text, err := a.codec.Encode(v.keys, t)
	switch {
	case errors.Is(err, jose.ErrSigning):
		return "", newError(CodeStoreUnavailable, err)
	case err != nil:
		return "", fmt.Errorf("middleware: %w", err)
	}
	return text, nil
}

// Verify returns the claims of a token that is good for a request. It applies the same rules as [Auth.Required]
// (R1–R4). The error is an [*Error].
func (a *Auth) Verify(ctx context.Context, text string) (Claims, error) {
	t, err := a.verify(ctx, text)
	if err != nil {
		a.report(ctx, "", EventRejected, t, err)
		return Claims{}, err
	}
	return claimsOf(t), nil
}

// Alive returns nil while the session of the claims lives, and an [*Error] once it was logged out, revoked, idle for
// [Config].IdleTTL, or is past its last token. It does not matter that the token of the claims has expired or was replaced.
// Use it in handlers that outlive the token, such as WebSockets and long jobs, before each thing that they do for the user.
// If the store fails, the code is [CodeStoreUnavailable], and the session may still live. The claims must come from this
// Auth.
func (a *Auth) Alive(ctx context.Context, claims Claims) error {
	if claims.token == nil {
		return newError(CodeTokenInvalid, errNoClaims)
	}
	return fromVerdict(a.rules.Alive(ctx, claims.token))
}

var errNoClaims = errors.New("middleware: Alive needs the claims of a token that this Auth has verified or issued")

// verify returns a genuine token even with an error, for the report.
func (a *Auth) verify(ctx context.Context, text string) (*session.Token, error) {
	t, memo, err := a.decode(a.verifier.Load(), text)
	if err != nil {
		return nil, err
	}
	return t, fromVerdict(a.rules.Verify(ctx, t, memo))
}

// Refresh exchanges a token, expired or not, for the next one of its session (R5–R10), and in pair mode a refresh token
// for the next pair. If the token was itself returned by a refresh less than [Config].Grace ago, Refresh returns it
// again (R6a). The error is an [*Error] unless the application made a mistake: the claims from Reload cannot be used or make
// the token too long, or the Auth has only public keys.
//
// A token that is presented long after it was replaced ends its session, even if ctx is cancelled in the meantime. That
// takes no longer than [Config].StoreTimeout.
//
// A session that is bound to a key needs the client's proof (R18). Pass at most one. Without a proof over
// [Error].ProofChallenge the error's code is [CodeProofRequired].
func (a *Auth) Refresh(ctx context.Context, text string, proof ...Proof) (Tokens, error) {
	tokens, t, err := a.refresh(ctx, text, a.givenProof(proof))
	a.report(ctx, "", EventRefresh, t, err)
	return tokens, err
}

func (a *Auth) refresh(ctx context.Context, text string, prove prove) (Tokens, *session.Token, error) {
	v := a.verifier.Load()
	t, _, err := a.decode(v, text)
	if err != nil {
		return Tokens{}, nil, err
	}
	proof, err := prove(t)
	if err != nil {
		return Tokens{}, t, err
	}
	tokens, _, err := a.replace(ctx, v, t, proof)
	return tokens, t, err
}

// replace refreshes a token. noAnswer reports that Reload or signing failed, so the token itself is fine.
func (a *Auth) replace(ctx context.Context, v *verifier, t *session.Token, proof *session.Proof) (tokens Tokens, noAnswer bool, err error) {
	refresh, err := a.rules.BeginRefresh(ctx, t, proof)
	if err != nil {
		return Tokens{}, false, fromVerdict(err)
	}
	own := t.AppClaims
	if a.reload != nil {
		if own, err = a.reloadClaims(ctx, t); err != nil {
			return Tokens{}, !hasCode(err, CodeSubjectRefused), err
		}
		if err := refresh.Recheck(); err != nil { // Reload may have taken long
			return Tokens{}, false, fromVerdict(err)
		}
	}
	err = refresh.Commit(func(next *session.Token) (err error) {
		next.AppClaims = own
		tokens, err = a.sign(v, next)
		noAnswer = err != nil
		return err
	})
	if err != nil {
		return Tokens{}, noAnswer, fromVerdict(err)
	}
	return tokens, false, nil
}

// autoRefresh refreshes a token that has expired or has less than within left. It verifies all others, and returns no
// tokens for them. If Reload or signing fails, a token that is still alive is verified instead.
func (a *Auth) autoRefresh(ctx context.Context, text string, within time.Duration) (Tokens, *session.Token, error) {
	v := a.verifier.Load()
	t, memo, err := a.decode(v, text)
	if err != nil {
		return Tokens{}, nil, err
	}
	if needed, expired := a.rules.NeedsRefresh(t, within); needed {
		tokens, noAnswer, err := a.replace(ctx, v, t, nil)
		if expired || !noAnswer {
			return tokens, t, err
		}
	}
	return Tokens{}, t, fromVerdict(a.rules.VerifyUnrefreshed(ctx, t, memo))
}

// reloadClaims asks the application for the claims of the next token (R9).
func (a *Auth) reloadClaims(ctx context.Context, t *session.Token) ([]byte, error) {
	claims, err := a.reload(ctx, claimsOf(t))
	switch {
	case errors.Is(err, ErrRefused):
		return nil, newError(CodeSubjectRefused, err)
	case err != nil:
		return nil, newError(CodeStoreUnavailable, err)
	}
	return encodeClaims(claims)
}

// Logout ends the session of a token (R11). It takes any genuine token of the session, even an expired or replaced one,
// until the last token of the session has expired. Ending a session twice is not an error. When Logout returns nil, no
// server that shares the store accepts any token of the session. Logout runs to its end within [Config].StoreTimeout
// even if ctx is cancelled. The error is an [*Error].
func (a *Auth) Logout(ctx context.Context, text string) error {
	t, err := a.logout(ctx, text)
	a.report(ctx, "", EventLogout, t, err)
	return err
}

// logout and logoutEverywhere return a genuine token even with an error, for the report.
func (a *Auth) logout(ctx context.Context, text string) (*session.Token, error) {
	return a.end(ctx, text, a.rules.Logout)
}

func (a *Auth) logoutEverywhere(ctx context.Context, text string) (*session.Token, error) {
	return a.end(ctx, text, a.rules.LogoutEverywhere)
}

func (a *Auth) end(ctx context.Context, text string, rule func(context.Context, *session.Token) error) (*session.Token, error) {
	t, _, err := a.decode(a.verifier.Load(), text)
	if err != nil {
		return nil, err
	}
	return t, fromVerdict(rule(ctx, t))
}

// RevokeSession ends a session by its id ([Claims].SessionID), for a list of devices or for an administrator. The
// blacklist remembers it for as long as a session lives with the configured lifetimes. Like [Auth.Logout], it does not
// stop when ctx is cancelled. The error is an [*Error].
func (a *Auth) RevokeSession(ctx context.Context, sessionID string) error {
	err := error(newError(CodeServerError, errors.New("middleware: RevokeSession needs a session id")))
	if sessionID != "" {
		err = fromVerdict(a.rules.RevokeSession(ctx, sessionID))
	}
	a.report(ctx, "", EventLogout, &session.Token{Session: sessionID}, err)
	return err
}

// RevokeSubject revokes all sessions of a subject that have begun (R12), for example after a password change. Call it
// after the new password is stored. A login afterwards works at once, except through LoginHandler on another server
// within two seconds: that answers 503, because it cannot tell which password it has checked.
//
// The blacklist remembers the revocation for as long as a session lives with the configured lifetimes: see
// docs/deployment.md before you shorten them. Like [Auth.Logout], RevokeSubject does not stop when ctx is cancelled. The
// error is an [*Error].
func (a *Auth) RevokeSubject(ctx context.Context, subject string) error {
	err := error(newError(CodeServerError, errors.New("middleware: RevokeSubject needs a subject")))
	if subject != "" {
		err = fromVerdict(a.rules.RevokeSubject(ctx, subject))
	}
	a.report(ctx, "", EventLogoutAll, &session.Token{Subject: subject}, err)
	return err
}
