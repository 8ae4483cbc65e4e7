// Package interop contains only tests. They exchange tokens with JWT libraries of other languages, and run the signature
// check against the test vectors of Project Wycheproof.
package interop
