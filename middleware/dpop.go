package middleware

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware/internal/jose"
	"github.com/ginrefresh/ginrefresh/middleware/internal/session"
)

// This file reads proofs of possession in the DPoP header (RFC 9449). They come with a login and with a refresh, and
// with nothing else: access tokens are not bound, so their token_type is still Bearer.

// Proof is a DPoP proof (RFC 9449 §4.2) and the request that it was made for, for [Auth.Issue] and [Auth.Refresh].
// LoginHandler and RefreshHandler read it from their request.
type Proof struct {
	_ [0]func() // no unkeyed literals

	// DPoP is the proof itself: the value of the DPoP header, of which a request has at most one. "" means none.
	DPoP string

	// Method and URL are those of the request as its client sees it. The query and the fragment of URL do not count.
	Method, URL string
}

// How old a proof at login may be, and how far in the future (RFC 9449 §11.1), unless Leeway is longer.
const (
	maxProofAge   = time.Minute
	maxProofAhead = 30 * time.Second
)

// dpopProofs returns the proofs in a request's headers. There should be at most one.
func dpopProofs(r *http.Request, publicURL string) (proofs []Proof) {
	for _, text := range r.Header.Values("DPoP") {
		proofs = append(proofs, Proof{DPoP: text, Method: r.Method, URL: clientURL(r, publicURL)})
	}
	return proofs
}

// clientURL returns the URL of a request as its client sees it. It does not read the headers of a proxy, because anyone
// can send those.
func clientURL(r *http.Request, publicURL string) string {
	base := strings.TrimSuffix(publicURL, "/")
	switch {
	case base != "":
	case r.TLS != nil:
		base = "https://" + r.Host
	default:
		base = "http://" + r.Host
	}
	return base + r.URL.EscapedPath()
}

// givenProof returns the prove of the proofs that the application has passed to a step.
func (a *Auth) givenProof(proofs []Proof) prove {
	return a.prove(slices.DeleteFunc(slices.Clone(proofs), func(p Proof) bool { return p.DPoP == "" }))
}

// prove verifies a proof for the token that is to be refreshed, or for a login if there is no token. If sessions are not
// bound, no proof is looked at, except for a token that was bound earlier.
func (a *Auth) prove(proofs []Proof) prove {
	return func(t *session.Token) (*session.Proof, error) {
		bound := t != nil && t.Key() != nil
		switch {
		case len(proofs) == 0 || a.binding == BindOff && !bound:
			return nil, nil
		case len(proofs) > 1:
			return nil, proofInvalid("there is more than one proof")
		}
		proof, issued, err := readDPoP(proofs[0])
		if err != nil {
			return nil, newError(CodeProofInvalid, err)
		}
		if t == nil && !a.isRecent(issued) {
			return nil, proofInvalid("iat is not recent")
		}
		return proof, nil
	}
}

func proofInvalid(reason string) error { return newError(CodeProofInvalid, jose.Malformed(reason)) }

// isRecent decides about a proof at login, where the client has no challenge yet. At a refresh the challenge shows that
// the proof is new, so a client whose clock is wrong can refresh (RFC 9449 §11.1).
func (a *Auth) isRecent(issued int64) bool {
	age := time.Since(time.Unix(issued, 0))
	return age <= max(maxProofAge, a.rules.Leeway) && -age <= max(maxProofAhead, a.rules.Leeway)
}

// readDPoP checks a proof against its request (RFC 9449 §4.3). Every error is a [jose.Malformed]. Whether nonce is the
// challenge is decided later, together with the session's record (R18).
func readDPoP(p Proof) (*session.Proof, int64, error) {
	read, err := jose.ReadProof(p.DPoP, nil)
	if err != nil {
		return nil, 0, err
	}
	var jti, htm, htu string
	var issued int64
	proof := &session.Proof{Key: read.Key}
	err = jose.ScanObject(read.Payload, func(name string, value, _ []byte) (err error) {
		switch name {
		case "jti":
			jti, err = jose.String(value)
		case "htm":
			htm, err = jose.String(value)
		case "htu":
			htu, err = jose.String(value)
		case "iat":
			issued, err = jose.Seconds(value)
		case "nonce":
			proof.Challenge, err = jose.String(value)
		}
		return err
	})
	switch {
	case err != nil:
	case read.Type != "dpop+jwt":
		err = jose.Malformed("typ is not dpop+jwt")
	case jti == "":
		err = jose.Malformed("jti is missing")
	case issued == 0:
		err = jose.Malformed("iat is missing")
	case htm == "" || htm != p.Method:
		err = jose.Malformed("htm is not the method of the request")
	case !sameURL(htu, p.URL):
		err = jose.Malformed("htu is not the URL of the request: behind a proxy, set Config.PublicURL")
	}
	return proof, issued, err
}

// sameURL compares two URLs without query and fragment, after the normalization of RFC 3986 §6.2.2 and §6.2.3.
func sameURL(a, b string) bool {
	first, ok := normalize(a)
	second, fine := normalize(b)
	return ok && fine && first == second
}

// normalURL is a URL in normal form, without query and fragment. Its path is decoded, because Gin's routes are.
type normalURL struct{ scheme, host, port, path string }

func normalize(text string) (n normalURL, ok bool) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil {
		return n, false
	}
	u.RawPath = ""                           // so that an escaped dot is a dot
	path := new(url.URL).ResolveReference(u) // removes dot segments
	n = normalURL{u.Scheme, strings.ToLower(u.Hostname()), u.Port(), "/" + strings.TrimPrefix(path.Path, "/")}
	if n.port == "" {
		n.port = map[string]string{"https": "443", "http": "80"}[n.scheme]
	}
	return n, true
}

// sendChallenge tells the client which nonce its next proof must contain (RFC 9449 §8). "" is none.
func sendChallenge(h http.Header, challenge string) {
	if challenge != "" {
		h.Set("DPoP-Nonce", challenge)
		h.Add("Access-Control-Expose-Headers", "DPoP-Nonce")
	}
}
