package middleware

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware/internal/jose"
	"github.com/ginrefresh/ginrefresh/middleware/internal/session"
)

// JWKS is where another server publishes its public keys as a JWK Set (RFC 7517 §5), for example with
// [Auth.JWKSHandler]. Only keys with the member alg can be used, because the algorithm belongs to the key (R1).
//
// The keys are fetched when the first token comes, so the other server may start later. They are fetched again when a
// token names an unknown key, at most every ten seconds, and with the first token after five minutes. If that fails, the
// keys are used for up to an hour. Tokens that cannot be verified because the keys cannot be fetched are answered 503
// store_unavailable. A fetch takes no longer than [Config].StoreTimeout.
type JWKS struct {
	_ [0]func() // no unkeyed literals

	// URL is required, for example https://auth.example.org/.well-known/jwks.json. http is accepted for localhost only.
	// Redirects are not followed.
	URL string

	// Client sends the requests. It is for proxies, private certificate authorities and client certificates. Default: a
	// client with [http.DefaultTransport].
	Client *http.Client
}

const (
	keysFresh     = 5 * time.Minute  // the max-age of JWKSHandler
	keysUsable    = time.Hour        // a key that was removed is not accepted for longer, even if the other server is down
	fetchPause    = 10 * time.Second // between two fetches
	firstPause    = time.Second      // the same while there are no usable keys; as long as Retry-After
	maxJWKSBytes  = 256 << 10
	jwksMediaType = "application/jwk-set+json"
)

// mistakes checks the URL. The keys decide who is let in, so nobody on the network may replace them.
func (j *JWKS) mistakes() (m mistakes) {
	u, err := url.Parse(j.URL)
	if err != nil {
		u = &url.URL{} // the error contains the URL, and the URL may contain a password
	}
	ip := net.ParseIP(u.Hostname())
	loopback := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	m.check(u.Host != "" && u.User == nil && (u.Scheme == "https" || u.Scheme == "http" && loopback),
		"KeysFrom.URL must be like https://auth.example.org/.well-known/jwks.json: https, or http for localhost, and without a password")
	return m
}

// keyFetcher replaces the verifier of an Auth with KeysFrom. A verifier that is due has no cache, so that every token
// comes here. Until then, the guards do not notice the fetcher.
type keyFetcher struct {
	url     string
	client  http.Client
	timeout time.Duration
	auth    *Auth

	mu      sync.Mutex
	fetched time.Time     // when the fetch that returned the keys began; zero: there are no keys
	begun   time.Time     // when the last fetch began
	failure error         // of the last fetch
	flight  chan struct{} // closed when the fetch in progress ends; nil: none
}

func newKeyFetcher(j *JWKS, a *Auth, timeout time.Duration) *keyFetcher {
	f := &keyFetcher{url: j.URL, auth: a, timeout: timeout}
	if j.Client != nil {
		f.client = *j.Client
	}
	f.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return f
}

// decode is like Auth.decodeWith, with the keys of the other server.
func (f *keyFetcher) decode(text string) (*session.Token, error) {
	v := f.auth.verifier.Load()
	if v.due {
		var err error
		if v, err = f.renew(false); err != nil {
			return nil, newError(CodeStoreUnavailable, err)
		}
	}
	t, err := f.auth.decodeWith(v, v.cache.Hash(text), text)
	if err != jose.ErrUnknownKey {
		return t, err
	}
	if v, err = f.renew(true); err != nil {
		return nil, newError(CodeStoreUnavailable, err)
	}
	return f.auth.decodeWith(v, v.cache.Hash(text), text)
}

// renew returns the verifier to use in place of one that is due, or that lacks the key of a token. It fetches the keys
// unless that has just been tried. One request fetches. The others wait for it only if they cannot do without.
func (f *keyFetcher) renew(unknownKey bool) (*verifier, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now, pause := time.Now(), fetchPause
	if !f.usable(now) {
		pause = firstPause
	}
	switch {
	case f.flight == nil && now.Sub(f.begun) >= pause:
		f.fetch(now)
	case f.flight != nil && (unknownKey || !f.usable(now)):
		flight := f.flight
		f.mu.Unlock()
		<-flight
		f.mu.Lock()
	}
	if f.failure != nil && (unknownKey || !f.usable(time.Now())) {
		return nil, f.failure
	}
	return f.auth.verifier.Load(), nil
}

// usable reports whether the keys may be used, due or not. The caller holds f.mu.
func (f *keyFetcher) usable(now time.Time) bool {
	return !f.fetched.IsZero() && now.Sub(f.fetched) < keysUsable
}

// fetch fetches the keys and replaces the verifier. The caller holds f.mu, which is released in the meantime.
func (f *keyFetcher) fetch(now time.Time) {
	keys, err := (*jose.KeySet)(nil), errors.New("the fetch has panicked")
	f.begun, f.flight = now, make(chan struct{})
	defer func() {
		close(f.flight)
		f.flight, f.failure = nil, err
		f.replace(keys)
	}()
	f.mu.Unlock()
	defer f.mu.Lock()
	if keys, err = f.download(); err != nil {
		err = fmt.Errorf("middleware: fetching the keys: %w", err)
	}
}

// replace makes the verifier from new keys, or from the old ones if keys is nil. Identical keys keep their cache. The
// caller holds f.mu.
func (f *keyFetcher) replace(keys *jose.KeySet) {
	old, pause := f.auth.verifier.Load(), min(fetchPause, keysUsable-time.Since(f.fetched))
	next := &verifier{keys: old.keys, cache: cmp.Or(old.cache, old.parked)}
	if keys != nil {
		f.fetched, pause = f.begun, keysFresh
		if !keys.SamePublicKeys(old.keys) {
			next = newVerifier(keys, f.auth.cacheSize)
		}
	}
	if !f.usable(time.Now()) {
		return // still due
	}
	f.auth.verifier.Store(next)
	time.AfterFunc(pause, func() {
		f.auth.verifier.CompareAndSwap(next, &verifier{keys: next.keys, parked: next.cache, due: true})
	})
}

// download ends even if the client of the request has hung up: whoever hangs up must not delay the others.
func (f *keyFetcher) download() (*jose.KeySet, error) {
	ctx, cancel := context.WithTimeout(context.Background(), f.timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", jwksMediaType+", application/json")
	response, err := f.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the status of the response is %d", response.StatusCode)
	}
	document, err := io.ReadAll(io.LimitReader(response.Body, maxJWKSBytes+1))
	if err != nil {
		return nil, err
	}
	if len(document) > maxJWKSBytes {
		return nil, fmt.Errorf("the response is longer than %d bytes", maxJWKSBytes)
	}
	return jose.ParseJWKS(document, session.Types()...)
}
