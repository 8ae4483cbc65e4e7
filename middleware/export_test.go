package middleware

// ScanObject is here for its fuzz test, which holds it against encoding/json.
func ScanObject(object []byte, visit func(name string, value []byte) error) error {
	return scanObject(object, func(name string, value, _ []byte) error { return visit(name, value) })
}
