package main

import "math/rand/v2"

// watched is how long, in seconds, the simulation counts events.
const watched = float64(24 * 60 * 60)

// simulate lets sessions live, one by one, and counts the records at the end and the events of the last day. No
// session has to do with another, so they need no common clock. It begins early enough for everything that could
// still have a record or an event then.
func (p profile) simulate(sessions int, seed uint64) load {
	random := rand.New(rand.NewPCG(seed, uint64(sessions)))
	t, d := p.ttl.Seconds(), p.refreshTTL.Seconds()
	begun := float64(sessions) / d
	end := d + t + watched
	l := load{sessions: float64(sessions)}
	var logins, refreshes, logouts int
	for login := random.ExpFloat64() / begun; login < end; login += random.ExpFloat64() / begun {
		s := p.live(random, end-watched-login, min(d, end-login))
		refreshes += s.refreshes
		logouts += s.logouts
		if s.recorded && login+d+t > end {
			l.records++
		}
		if login > end-watched {
			logins++
		}
	}
	l.logins, l.refreshes, l.logouts = float64(logins)/watched, float64(refreshes)/watched, float64(logouts)/watched
	return l
}

// life is what one session has done.
type life struct {
	recorded  bool
	refreshes int
	logouts   int
}

// live runs one session up to an age, and counts its events from an age on.
func (p profile) live(random *rand.Rand, from, until float64) (l life) {
	t, pause := p.ttl.Seconds(), p.pause.Seconds()
	logout := random.ExpFloat64() * p.logout.Seconds()
	for age := t + random.ExpFloat64()*pause; age < min(until, logout); age += t + random.ExpFloat64()*pause {
		l.recorded = true
		if age >= from {
			l.refreshes++
		}
	}
	if logout < until {
		l.recorded = true
		if logout >= from {
			l.logouts++
		}
	}
	return l
}
