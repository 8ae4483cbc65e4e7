// Package interop contains only tests. They exchange tokens with JWT libraries of other languages, bind sessions with DPoP
// clients of other authors, run the signature checks against the test vectors of Project Wycheproof, and compare docs/openapi.yaml
// with the answers of a server. They also read example/compose.yaml as Docker does, and run its commands without Docker.
package interop
