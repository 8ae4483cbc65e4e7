package main

import (
	"context"
	"errors"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// metrics are what Prometheus reads at GET /metrics. They come from OnEvent and from a store around the
// store: the library itself knows nothing of them. No label has a user or a session in it, as each value
// of a label is a series of its own, and none of Prometheus' business.
type metrics struct {
	registry     *prometheus.Registry
	events       *prometheus.CounterVec
	storeSeconds *prometheus.HistogramVec
	storeErrors  *prometheus.CounterVec
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ginrefresh_events_total",
			Help: "Logins, refreshes, logouts and refusals, by what happened and, if it was refused, why.",
		}, []string{"event", "code"}),
		storeSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "ginrefresh_store_duration_seconds",
			Help:    "How long the store took. Reads from this process's memory (Peek) are not measured.",
			Buckets: prometheus.ExponentialBuckets(50e-6, 2, 16), // 50 µs to 1.6 s: past the StoreTimeout
		}, []string{"operation"}),
		storeErrors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ginrefresh_store_errors_total",
			Help: "Calls that the store failed. Each is a request that was answered 503.",
		}, []string{"operation"}),
	}
	m.registry.MustRegister(m.events, m.storeSeconds, m.storeErrors,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	// A series that begins at 0 shows its first event as an increase; one that begins at 1 does not.
	for _, kind := range []middleware.EventKind{middleware.EventLogin, middleware.EventRefresh, middleware.EventLogout, middleware.EventLogoutAll} {
		m.events.WithLabelValues(string(kind), "")
	}
	m.events.WithLabelValues(string(middleware.EventLoginFailed), string(middleware.CodeInvalidCredentials))
	m.events.WithLabelValues(string(middleware.EventReuse), string(middleware.CodeTokenReused))
	for _, operation := range []string{"get", "swap"} {
		m.storeErrors.WithLabelValues(operation)
	}
	return m
}

// count takes in what OnEvent hears.
func (m *metrics) count(e middleware.Event) {
	m.events.WithLabelValues(string(e.Kind), string(e.Code)).Inc()
}

// handler answers GET /metrics. What it says is for the operator: behind a proxy, keep the path inside.
func (m *metrics) handler() gin.HandlerFunc {
	return gin.WrapH(promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
}

// observe returns the same store, measured. If the store can be read without waiting (Peek), so can what is
// returned: the guards look for that.
func (m *metrics) observe(store middleware.Store) middleware.Store {
	if counted, ok := store.(interface{ Len() int }); ok {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "ginrefresh_blacklist_records",
			Help: "Records in the blacklist: one for each session that was refreshed or ended, until it is over.",
		}, func() float64 { return float64(counted.Len()) }))
	}
	observed := observedStore{store, m}
	if peeker, ok := store.(middleware.Peeker); ok {
		return observedPeeker{observed, peeker}
	}
	return observed
}

// watch reads the cache of verified tokens.
func (m *metrics) watch(auth *middleware.Auth) {
	counter := func(result string, value func() uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name:        "ginrefresh_token_cache_total",
			Help:        "Genuine tokens that were found in the cache of verified tokens, and those that were not.",
			ConstLabels: prometheus.Labels{"result": result},
		}, func() float64 { return float64(value()) })
	}
	m.registry.MustRegister(
		counter("hit", func() uint64 { hits, _ := auth.CacheStats(); return hits }),
		counter("miss", func() uint64 { _, misses := auth.CacheStats(); return misses }))
}

type observedStore struct {
	store   middleware.Store
	metrics *metrics
}

type observedPeeker struct {
	observedStore
	middleware.Peeker
}

// Self says that Peek may be used: what it reads is what Get reads.
func (o observedPeeker) Self() any { return o }

func (o observedStore) Get(ctx context.Context, keys ...string) ([]string, error) {
	start := time.Now()
	values, err := o.store.Get(ctx, keys...)
	o.metrics.took("get", start, err)
	return values, err
}

func (o observedStore) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	start := time.Now()
	swapped, err := o.store.CompareAndSwap(ctx, key, old, new, expires)
	o.metrics.took("swap", start, err)
	return swapped, err
}

func (m *metrics) took(operation string, start time.Time, err error) {
	m.storeSeconds.WithLabelValues(operation).Observe(time.Since(start).Seconds())
	if err != nil && !errors.Is(err, context.Canceled) { // canceled: the client has gone, and the store is well
		m.storeErrors.WithLabelValues(operation).Inc()
	}
}
