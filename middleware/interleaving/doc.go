// Package interleaving tests the session rules of package middleware on every interleaving of concurrent
// operations. It contains tests only.
//
// An operation is what one client causes: a login, a guarded request, a refresh, a logout, a log-out everywhere,
// a password change, a replacement of the keys. Two or three of them run at once on two servers that share a
// store. Each is stopped before it begins, before every call to the store and, for pairs, once more before it
// hears the answer. A scheduler lets one of them continue at a time, and tries every order. In some runs one
// thing goes wrong at every possible point: a store call fails before or after it took effect, a client hangs up,
// the store is slow, the grace or the lifetime of the tokens passes.
//
// Files:
//
//   - scheduler_test.go enumerates the orders,
//   - store_test.go has the stores whose calls wait for the scheduler,
//   - world_test.go sets up the servers and the session,
//   - operations_test.go lists the operations,
//   - reference_test.go says what must hold after every schedule, in the words of docs/model.md,
//   - interleaving_test.go chooses what runs together and reports.
//
// go test runs a fixed part of the combinations. GINREFRESH_FULL=1 runs all of them, which takes about two
// minutes. With -v each combination is listed with its number of schedules.
package interleaving
