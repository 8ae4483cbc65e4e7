package jose

import (
	"crypto/hmac"
	"hash"
	"sync"

	"github.com/golang-jwt/jwt/v5"
)

// pooledHMAC is golang-jwt's HMAC with the keyed state reused from one token to the next. Setting up the state costs as
// much as hashing a token.
type pooledHMAC struct {
	*jwt.SigningMethodHMAC
	states *sync.Pool
}

// hmacState is a keyed hash with buffers. One goroutine uses it at a time.
type hmacState struct {
	mac  hash.Hash
	text []byte
	sum  []byte
}

func newPooledHMAC(method *jwt.SigningMethodHMAC, secret []byte) *pooledHMAC {
	return &pooledHMAC{SigningMethodHMAC: method, states: &sync.Pool{New: func() any {
		return &hmacState{mac: hmac.New(method.Hash.New, secret)}
	}}}
}

// compute sets s.sum to the MAC of text.
func (s *hmacState) compute(text string) {
	s.text = append(s.text[:0], text...)
	s.mac.Reset()
	_, _ = s.mac.Write(s.text) // a hash never returns an error
	s.sum = s.mac.Sum(s.sum[:0])
}

// Verify implements jwt.SigningMethod. It ignores the key argument, because the pooled states already have the key.
func (m *pooledHMAC) Verify(text string, signature []byte, _ any) error {
	state := m.states.Get().(*hmacState)
	state.compute(text)
	equal := hmac.Equal(signature, state.sum)
	m.states.Put(state)
	if !equal {
		return jwt.ErrSignatureInvalid
	}
	return nil
}

// Sign implements jwt.SigningMethod.
func (m *pooledHMAC) Sign(text string, _ any) ([]byte, error) {
	state := m.states.Get().(*hmacState)
	state.compute(text)
	signature := append([]byte(nil), state.sum...)
	m.states.Put(state)
	return signature, nil
}
