package session

import "testing"

func TestRecordsSurviveEncoding(t *testing.T) {
	for _, r := range []record{
		{},
		{cutoff: endOfTime, expires: 1_700_000_000_000_000},
		{cutoff: 1_700_000_000_000_000, previous: 1_699_999_999_000_000, iat: 1_700_000_000},
		{cutoff: 1_700_000_001_000_000, previous: 1_699_999_999_000_000, iat: 1_700_000_000},
		{cutoff: 1_700_000_001_000_000, previous: 1_699_999_999_000_000, iat: 1_700_000_001, key: "AAAAAAAAAAAAAAAAAAAAA-"},
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
