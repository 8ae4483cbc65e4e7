package main

import (
	"math"
	"time"
)

// profile is how the sessions of an application live.
type profile struct {
	name       string
	ttl        time.Duration
	refreshTTL time.Duration
	pause      time.Duration // between one use and the next, on average; each may need a refresh
	logout     time.Duration // until a session is ended by a logout, on average
	requests   float64       // per session that has not ended, per day
}

const day = 24 * time.Hour

var profiles = []profile{
	{name: "now and then: 3 uses and 30 requests a day, tokens of 1 h", ttl: time.Hour, refreshTTL: 14 * day, pause: 8 * time.Hour, logout: 30 * day, requests: 30},
	{name: "at work: a use each hour, 1,000 requests a day, tokens of 1 h", ttl: time.Hour, refreshTTL: 14 * day, pause: time.Hour, logout: 30 * day, requests: 1000},
	{name: "always on: a request every 15 s, tokens of 15 min", ttl: 15 * time.Minute, refreshTTL: 14 * day, pause: 15 * time.Second, logout: 30 * day, requests: 5760},
}

// load is what a number of sessions means for the store. Rates are per second.
type load struct {
	sessions  float64 // begun in the last refreshTTL, ended ones included
	records   float64
	logins    float64
	refreshes float64
	logouts   float64
	requests  float64
	perToken  float64 // records, had each replaced token one of its own until the session's deadline
}

// reads are round trips that ask. A login asks for one key, all else for two.
func (l load) reads() float64 { return l.requests + l.logins + l.refreshes + l.logouts }

// swaps are round trips that write.
func (l load) swaps() float64 { return l.refreshes + l.logouts }

// expect is the formula, for sessions that begin at a steady rate.
//
// A session gets its one record at its first refresh or logout, whichever is first, and the record goes at the
// deadline and one lifetime of a token after it (R13). Uses come at random (Poisson), so with T the lifetime, D the
// refresh window, u the rate of uses and h that of logouts, a session of age a has no record with probability
//
//	S(a) = e^(-ha) up to T, e^(-ha - u(a-T)) after it
//
// and λ sessions begun per second keep λ·(∫₀ᴰ 1-S(a) da + T·(1-S(D))) records. A refresh comes T + 1/u after
// the one before, on average, for as long as nobody has logged out.
func (p profile) expect(sessions float64) load {
	t, d := p.ttl.Seconds(), p.refreshTTL.Seconds()
	u, h := 1/p.pause.Seconds(), 1/p.logout.Seconds()
	without := (1-math.Exp(-h*t))/h + math.Exp(-h*t)*(1-math.Exp(-(h+u)*(d-t)))/(h+u)
	never := math.Exp(-h*d - u*(d-t))
	begun := sessions / d
	alive := begun * (1 - math.Exp(-h*d)) / h
	cycle := t + 1/u
	return load{
		sessions:  sessions,
		records:   begun * (d - without + t*(1-never)),
		logins:    begun,
		refreshes: alive / cycle,
		logouts:   begun * (1 - math.Exp(-h*d)),
		requests:  alive * p.requests / day.Seconds(),
		perToken:  begun / cycle * (d/h - (1-math.Exp(-h*d))/(h*h)),
	}
}
