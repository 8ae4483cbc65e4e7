// Package interop contains only tests. They exchange tokens with JWT libraries of other languages, bind sessions with DPoP
// clients of other authors, run the signature checks against the test vectors of Project Wycheproof, and compare docs/openapi.yaml
// with the answers of a server.
package interop
