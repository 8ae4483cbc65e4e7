package middleware

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"time"
)

// This file keeps keys and tokens out of logs. fmt calls Format for every verb, and also for a value inside a Config, a
// slice, a map or another struct. It cannot reach three places: an unexported field, whose methods fmt does not call;
// the verbs %p and %w, which fmt handles itself; and JSON, which has to contain the text of Tokens and of a Proof.

// Format implements [fmt.Formatter]. Every verb prints the ID and the algorithm, never the key.
func (k Key) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "Key{ID:%q Algorithm:%q}", k.ID, string(k.Algorithm))
}

// MarshalJSON writes the ID and the algorithm, never the key. Use [Auth.JWKSHandler] to publish public keys.
func (k Key) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		ID        string
		Algorithm Algorithm
	}{k.ID, k.Algorithm})
}

// Format implements [fmt.Formatter]. Every verb prints the session and the times, never a token.
func (t Tokens) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "Tokens{Subject:%q SessionID:%q ExpiresAt:%s RefreshUntil:%s}",
		t.Claims.Subject, t.Claims.SessionID, t.ExpiresAt.Format(time.RFC3339), t.RefreshUntil.Format(time.RFC3339))
}

// LogValue implements [slog.LogValuer] and shows the same as Format. A JSON handler uses encoding/json for Tokens inside
// another value, and that includes the tokens: log a Tokens value as an attribute of its own.
func (t Tokens) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("subject", t.Claims.Subject),
		slog.String("session_id", t.Claims.SessionID),
		slog.Time("expires_at", t.ExpiresAt),
		slog.Time("refresh_until", t.RefreshUntil),
	)
}

// Format implements [fmt.Formatter]. Every verb prints the request, never the proof.
func (p Proof) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "Proof{Method:%q URL:%q}", p.Method, p.URL)
}

// LogValue implements [slog.LogValuer] and shows the same as Format. For a JSON handler, see [Tokens.LogValue].
func (p Proof) LogValue() slog.Value {
	return slog.GroupValue(slog.String("method", p.Method), slog.String("url", p.URL))
}
