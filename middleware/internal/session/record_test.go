package session

import (
	"strings"
	"testing"

	"github.com/ginrefresh/ginrefresh/middleware/internal/jose"
)

func TestRecordsSurviveEncoding(t *testing.T) {
	for _, r := range []record{
		{},
		{cutoff: endOfTime, expires: 1_700_000_000_000_000},
		{cutoff: 1_700_000_000_000_000, previous: 1_699_999_999_000_000, iat: 1_700_000_000},
		{cutoff: 1_700_000_001_000_000, previous: 1_699_999_999_000_000, iat: 1_700_000_000},
		{cutoff: 1_700_000_001_000_000, previous: 1_699_999_999_000_000, iat: 1_700_000_001, key: jose.ClientKey{1}.Digest()},
		{cutoff: 1_700_000_001_000_000, previous: 1_699_999_999_000_000, iat: 1_700_000_001, extended: 1_700_000_009_000_000},
		{cutoff: 1_700_000_001_000_000, previous: 1_699_999_999_000_000, iat: 1_700_000_000, extended: 1_700_000_009_000_000},
	} {
		value := ""
		if r != (record{}) {
			value = r.encode()
		}
		if got, err := decodeRecord(value); err != nil || got != r {
			t.Errorf("%+v was encoded as %q and decoded as %+v, %v", r, value, got, err)
		}
	}
}

// A file of version 0.1 has such records.
func TestAnEndedRecordWithoutItsExpiry(t *testing.T) {
	if r, err := decodeRecord("ended"); err != nil || !r.ended() {
		t.Errorf("decoded as %+v, %v", r, err)
	}
}

// A record that has lost its key, or a part of it, must not look like one of a session that is not bound.
func TestARecordWithoutItsKey(t *testing.T) {
	whole := record{cutoff: 1_700_000_000_000_000, previous: 1_699_999_999_000_000, iat: 1_700_000_000, key: jose.ClientKey{1}.Digest()}.encode()
	for end := strings.Index(whole, keyMark) + 1; end < len(whole); end++ {
		if r, err := decodeRecord(whole[:end]); err == nil {
			t.Errorf("%q was decoded as %+v", whole[:end], r)
		}
	}
}
