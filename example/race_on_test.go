//go:build race

package main

// raceEnabled says that a password check takes ten times as long as usual.
const raceEnabled = true
