package main

import "strings"

// A row is a line of the table.
type row struct {
	means string // a few words, unique
	shows string // what holds if the tests pass
	tests bool   // count the passed tests
	jobs  []job
}

// A job is a command, and the tests that must pass when it runs.
type job struct {
	dir     string
	tests   []string
	command []string
}

// test runs some tests of the package in a directory.
func test(dir string, tests ...string) job {
	return job{dir, tests, []string{"go", "test", "-count=1", "-v", "-timeout=60m", "-run=^(" + strings.Join(tests, "|") + ")$", "."}}
}

// all runs all tests of a package, of which it names some.
func all(dir string, tests ...string) job {
	return job{dir, tests, []string{"go", "test", "-count=1", "-v", "."}}
}

func (j job) with(arguments ...string) job {
	j.command = append(j.command, arguments...)
	return j
}

// fuzz tries about n inputs, and those that are kept in testdata.
func fuzz(dir, name, n string) job {
	return job{dir, []string{name}, []string{"go", "test", "-v", "-run=^$", "-fuzz=^" + name + "$", "-fuzztime=" + n + "x", "."}}
}

var rows = []row{
	{
		means: "random programs against a model",
		shows: "The answers follow the rules R2–R13, for any sequence of logins, waits, requests, refreshes and logouts on two servers",
		jobs:  []job{test("middleware", "TestModel").with("-rapid.checks=10000", "-rapid.steps=60")},
	},
	{
		means: "every interleaving",
		shows: "The rules hold for two operations at the same time, in every order of their calls to the store, also with one failure, delay or loss of records, and for some triples",
		jobs:  []job{test("middleware/interleaving", "TestInterleavings")},
	},
	{
		means: "linearizability, Redis",
		shows: "Each call takes effect at one instant, also while Redis is killed. No token is accepted after the answer to its logout",
		jobs:  []job{test("store/redisstore", "TestLinearizable", "TestLinearizableThroughCrashes", "TestR11_LogoutIsLinearizableOverTwoServers")},
	},
	{
		means: "linearizability, SQL",
		shows: "The same for PostgreSQL, MariaDB and SQLite. Only the first two are killed",
		jobs:  []job{test("store/sqlstore/sqltest", "TestLinearizable", "TestLinearizableThroughCrashes")},
	},
	{
		means: "bounded staleness",
		shows: "With `MaxStaleness` no check uses a record that was replaced longer ago, also through freezes, failovers and moved slots",
		jobs: []job{test("store/redisstore", "TestNoReadIsTooStale", "TestNoReadIsTooStaleAfterFailover", "TestNoReadIsTooStaleInFleets",
			"TestNoReadIsTooStaleWhileSlotsMove", "TestNoReadIsTooStaleAfterSlotsMoved")},
	},
	{
		means: "crashes",
		shows: "Each answered swap is there after `kill -9` of the process (boltstore) or of the database",
		jobs:  []job{test("store/boltstore", "TestCrash"), test("store/sqlstore/sqltest", "TestAnsweredSwapsSurvive")},
	},
	{
		means: "damaged files",
		shows: "boltstore refuses a damaged file, or opens it with all records",
		jobs:  []job{test("store/boltstore", "TestDamage", "TestCraftedPages", "TestDamagedBranch")},
	},
	{
		means: "faults under load",
		shows: "What [stores.md](stores.md#measured) promises for restarts, freezes, failovers, partitions and restored backups",
		jobs:  []job{test("faults", "TestPromises")},
	},
	{
		means: "contract of a store",
		shows: "Every store passes `storetest`, and so keeps the contract of `middleware.Store`",
		tests: true,
		jobs: []job{test("store", "TestMemory"), test("store/boltstore", "TestStore"), test("store/redisstore", "TestStore"),
			test("store/sqlstore/sqltest", "TestStore")},
	},
	{
		means: "fuzzing",
		shows: "No input causes a panic. golang-jwt, encoding/json and crypto/ecdsa agree with what is accepted. A crafted file is refused or works",
		jobs: []job{fuzz("middleware", "FuzzDecode", "100000"), fuzz("middleware", "FuzzDecodeSigned", "100000"),
			fuzz("middleware/internal/jose", "FuzzScanObject", "100000"), fuzz("middleware/internal/jose", "FuzzReadProof", "20000"),
			fuzz("store/boltstore", "FuzzCrafted", "1000")},
	},
	{
		means: "Wycheproof",
		shows: "Signatures of tokens and of proofs are accepted and rejected as the vectors say. The few exceptions are in the tests, with reasons",
		jobs:  []job{test("interop", "TestWycheproof")},
	},
	{
		means: "libraries of others",
		shows: "They accept our tokens, and we accept theirs. DPoP clients log in and refresh",
		jobs:  []job{test("interop", "TestInterop", "TestDPoP")},
	},
	{
		means: "a browser",
		shows: "The example's page, bound sessions and DBSC work in Chromium",
		tests: true,
		jobs:  []job{all("example/browsertest", "TestStory", "TestLogoutEverywhere", "TestWithoutWebLocks", "TestBound", "TestDBSCPage", "TestDBSCEnds")},
	},
	{
		means: "race detector",
		shows: "No test of `middleware` or of the stores in memory and on disk has a data race. The gate runs all others as well",
		tests: true,
		jobs:  []job{{dir: ".", command: []string{"go", "test", "-race", "-count=1", "-v", "./middleware", "./middleware/internal/...", "./store", "./store/boltstore", "."}}},
	},
	{
		means: "coverage",
		shows: "The tests run nearly all of `middleware` and `store`. Below 95 % the gate fails",
		jobs:  []job{{dir: ".", command: []string{".ci/coverage"}}},
	},
	{
		means: "tests of the tests",
		shows: "A store or a history with a known mistake is found",
		jobs: []job{test("middleware/interleaving", "TestBrokenStoresAreNoticed"), test("store/storetest", "TestEveryBreachIsFound"),
			test("store/internal/lineartest", "TestForksAreFound")},
	},
}
