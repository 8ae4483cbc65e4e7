// Package interleaving tests the session rules of package middleware on every interleaving of concurrent
// operations. It contains tests only.
//
// An operation is one request of a client or one call of the application: a login, a guarded request, a refresh, a
// logout, a log-out everywhere, a password change, a replacement of the keys. Two or three of them run concurrently on
// two servers that share a store. Each stops before it begins, before every call to the store and, for pairs, again
// before the call returns. A scheduler lets one of them continue at a time, and tries every order. Some runs add one
// disturbance, at every possible point: a store call fails before or after it took effect, a client hangs up, the store
// is slow, or the grace period or the TTL passes.
//
// Files:
//
//   - scheduler_test.go enumerates the orders,
//   - store_test.go contains the stores, whose calls wait for the scheduler,
//   - world_test.go sets up the servers and the session,
//   - operations_test.go lists the operations,
//   - reference_test.go states what must hold after every schedule, in the terms of docs/model.md,
//   - interleaving_test.go chooses the combinations of operations and reports the results.
//
// go test runs a fixed part of the combinations. GINREFRESH_FULL=1 runs all of them, which takes a few
// minutes. With -v, each combination is listed with its number of schedules.
package interleaving
