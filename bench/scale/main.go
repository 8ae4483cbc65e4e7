// Command scale works out what many sessions ask of each store, and writes docs/scale.md:
//
//	go run ./scale [-quick]
//
// It measures what one record takes and how many checks a store answers, simulates sessions to see that the
// formula holds, and then reckons with the formula up to 100 million.
package main

import (
	"flag"
	"fmt"
	"log"
	"path/filepath"
	"time"

	"github.com/ginrefresh/ginrefresh/bench/internal/redisserver"
	"github.com/ginrefresh/ginrefresh/bench/internal/report"
)

type options struct {
	docs     string
	sample   int
	duration time.Duration
	largest  int
	quick    bool
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("scale: ")
	var o options
	flag.StringVar(&o.docs, "docs", "../docs", "where the document goes")
	flag.IntVar(&o.sample, "sample", 1_000_000, "records that are measured in memory; a fifth of them in the other stores")
	flag.DurationVar(&o.duration, "duration", 3*time.Second, "how long each store is asked")
	flag.IntVar(&o.largest, "largest", 1_000_000, "sessions in the largest simulation")
	flag.BoolVar(&o.quick, "quick", false, "small samples and simulations, to see that everything works; no document is written")
	flag.Parse()
	if o.quick {
		o.sample, o.duration, o.largest = 20_000, 200*time.Millisecond, 10_000
	}
	if err := run(o); err != nil {
		log.Fatal(err)
	}
}

func run(o options) error {
	stores, err := measureAll(o)
	if err != nil {
		return err
	}
	d := document{options: o, stores: stores, simulations: simulateAll(o)}
	text := d.text()
	fmt.Print(text)
	if o.quick {
		return nil
	}
	return report.Write(filepath.Join(o.docs, "scale.md"), text)
}

func measureAll(o options) ([]costs, error) {
	s := takeSample()
	measured := []func() (costs, error){
		func() (costs, error) { return s.measureMemory(o.sample, o.duration) },
		func() (costs, error) { return s.measureBolt(o.sample/5, o.duration) },
	}
	if redisserver.Available() {
		measured = append(measured, func() (costs, error) { return s.measureRedis(o.sample/5, o.duration) })
	}
	var all []costs
	for _, measure := range measured {
		c, err := measure()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		log.Printf("%s measured", c.name)
		all = append(all, c)
	}
	return all, nil
}

// simulation is one beside its formula.
type simulation struct {
	profile
	got, expected load
}

func simulateAll(o options) []simulation {
	var all []simulation
	for i, p := range profiles {
		for n := 10_000; n <= o.largest; n *= 10 {
			if n > 100_000 && p.pause < time.Minute {
				break // a thousand refreshes each: it shows nothing more, and takes minutes
			}
			all = append(all, simulation{p, p.simulate(n, uint64(i)), p.expect(float64(n))})
			log.Printf("%s sessions simulated", report.Thousands(float64(n)))
		}
	}
	return all
}
