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

// metrics holds the metrics that Prometheus reads at GET /metrics. They come from OnEvent and from a wrapper around the
// store: the library itself does not depend on Prometheus. Labels contain no user and no session: each label value is a
// separate series, and user data does not belong in a monitoring system.
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
			Help: "Logins, refreshes, logouts and rejected requests, by event and error code.",
		}, []string{"event", "code"}),
		storeSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "ginrefresh_store_duration_seconds",
			Help:    "Duration of calls to the store. Reads from this process's memory (Peek, PeekRecent) are not measured.",
			Buckets: prometheus.ExponentialBuckets(50e-6, 2, 16), // 50 µs to 1.6 s, which is more than StoreTimeout
		}, []string{"operation"}),
		storeErrors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ginrefresh_store_errors_total",
			Help: "Failed calls to the store. Each of these requests was answered 503.",
		}, []string{"operation"}),
	}
	m.registry.MustRegister(m.events, m.storeSeconds, m.storeErrors,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	// Prometheus sees the first event as an increase only if the series existed before, with the value 0.
	for _, kind := range []middleware.EventKind{middleware.EventLogin, middleware.EventRefresh, middleware.EventLogout, middleware.EventLogoutAll} {
		m.events.WithLabelValues(string(kind), "")
	}
	m.events.WithLabelValues(string(middleware.EventLoginFailed), string(middleware.CodeInvalidCredentials))
	m.events.WithLabelValues(string(middleware.EventReuse), string(middleware.CodeTokenReused))
	m.events.WithLabelValues(string(middleware.EventStoreForgot), string(middleware.CodeTokenRevoked))
	for _, operation := range []string{"get", "swap"} {
		m.storeErrors.WithLabelValues(operation)
	}
	return m
}

// count counts an event. It is called by OnEvent.
func (m *metrics) count(e middleware.Event) {
	m.events.WithLabelValues(string(e.Kind), string(e.Code)).Inc()
}

// handler serves GET /metrics. The metrics are for the operator: do not publish the path through a proxy.
func (m *metrics) handler() gin.HandlerFunc {
	return gin.WrapH(promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
}

// observe returns a store that measures the calls to store. If store can be read from memory, so can the result: the guards
// prefer that.
func (m *metrics) observe(store middleware.Store) middleware.Store {
	if counted, ok := store.(interface{ Len() int }); ok {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "ginrefresh_blacklist_records",
			Help: "Records in the blacklist: one for each session that was refreshed or ended, one for each user who logged out everywhere, and one for the list of sessions of each user, until they expire.",
		}, func() float64 { return float64(counted.Len()) }))
	}
	observed := observedStore{store, m}
	if peeker, ok := store.(middleware.Peeker); ok {
		return observedPeeker{observed, peeker}
	}
	if peeker, ok := store.(middleware.RecentPeeker); ok {
		return observedRecentPeeker{observed, peeker}
	}
	return observed
}

// watch exports the statistics of the token cache.
func (m *metrics) watch(auth *middleware.Auth) {
	counter := func(result string, value func() uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name:        "ginrefresh_token_cache_total",
			Help:        "Lookups of genuine tokens in the token cache, by result.",
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

// observedPeeker does not measure Peek, which takes less time than the measurement.
type observedPeeker struct {
	observedStore
	middleware.Peeker
}

// observedRecentPeeker does not measure PeekRecent, for the same reason.
type observedRecentPeeker struct {
	observedStore
	middleware.RecentPeeker
}

func (o observedStore) Get(ctx context.Context, keys ...string) ([]string, time.Time, error) {
	start := time.Now()
	values, since, err := o.store.Get(ctx, keys...)
	o.metrics.took("get", start, err)
	return values, since, err
}

func (o observedStore) CompareAndSwap(ctx context.Context, key, old, new string, expires time.Time) (bool, error) {
	start := time.Now()
	swapped, err := o.store.CompareAndSwap(ctx, key, old, new, expires)
	o.metrics.took("swap", start, err)
	return swapped, err
}

func (m *metrics) took(operation string, start time.Time, err error) {
	m.storeSeconds.WithLabelValues(operation).Observe(time.Since(start).Seconds())
	if err != nil && !errors.Is(err, context.Canceled) { // canceled: the client hung up, which is not a fault of the store
		m.storeErrors.WithLabelValues(operation).Inc()
	}
}
