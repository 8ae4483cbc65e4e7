package middleware

import "github.com/ginrefresh/ginrefresh/middleware/internal/jose"

// ScanObject is here for its fuzz test, which holds it against encoding/json.
func ScanObject(object []byte, visit func(name string, value []byte) error) error {
	return jose.ScanObject(object, func(name string, value, _ []byte) error { return visit(name, value) })
}
