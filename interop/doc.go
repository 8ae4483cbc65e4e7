// Package interop contains only tests. They exchange tokens with JWT libraries of other languages, bind sessions with DPoP
// clients of other authors, and run the signature checks against the test vectors of Project Wycheproof.
package interop
