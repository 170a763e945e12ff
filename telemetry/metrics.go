package telemetry

import (
	"context"
	"errors"
	"time"

	"github.com/containerd/errdefs"
	"github.com/prometheus/client_golang/prometheus"
)

// Registry has every metric of the process.
var Registry = prometheus.NewRegistry()

var (
	rpcBuckets  = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 120}
	stepBuckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5, 15, 60}
	pullBuckets = []float64{.01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600}
)

var (
	rpcs = register(prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "berth_rpc_duration_seconds", Help: "Time of RPCs by method and gRPC code; long streams of events are not among them.", Buckets: rpcBuckets,
	}, []string{"method", "code"}))
	inFlight = register(prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "berth_rpc_in_flight", Help: "RPCs that are being answered.",
	}))

	// PulledBytes are the bytes of layers that came from registries, UnpackedBytes
	// those of the tars in them.
	PulledBytes = register(prometheus.NewCounter(prometheus.CounterOpts{
		Name: "berth_image_pull_downloaded_bytes_total", Help: "Bytes of layers that came from registries.",
	}))
	UnpackedBytes = register(prometheus.NewCounter(prometheus.CounterOpts{
		Name: "berth_image_pull_unpacked_bytes_total", Help: "Bytes of layers after decompression.",
	}))
	pulls = register(prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "berth_image_pull_duration_seconds", Help: "Time of pulls by result: ok, or the kind of failure.", Buckets: pullBuckets,
	}, []string{"result"}))
	pullFailures = register(prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "berth_image_pull_failures_total", Help: "Pulls that failed, by kind.",
	}, []string{"kind"}))
)

func register[C prometheus.Collector](c C) C {
	Registry.MustRegister(c)
	return c
}

// RPCBegan and RPCEnded stand around an RPC. A method without a time, such as a
// stream that goes on for ever, is counted as in flight only.
func RPCBegan() { inFlight.Inc() }

// RPCEnded takes the gRPC code as text.
func RPCEnded(method, code string, took time.Duration, timed bool) {
	inFlight.Dec()
	if timed {
		rpcs.WithLabelValues(method, code).Observe(took.Seconds())
	}
}

// PullEnded counts a pull.
func PullEnded(took time.Duration, err error) {
	result := "ok"
	if err != nil {
		result = Kind(err)
		pullFailures.WithLabelValues(result).Inc()
	}
	pulls.WithLabelValues(result).Observe(took.Seconds())
}

var kinds = []struct {
	is   func(error) bool
	name string
}{
	{func(e error) bool { return errors.Is(e, context.Canceled) || errdefs.IsCanceled(e) }, "canceled"},
	{func(e error) bool { return errors.Is(e, context.DeadlineExceeded) || errdefs.IsDeadlineExceeded(e) }, "timeout"},
	{errdefs.IsUnauthorized, "unauthorized"},
	{errdefs.IsPermissionDenied, "denied"},
	{errdefs.IsNotFound, "not_found"},
	{errdefs.IsDataLoss, "corrupt"},
	{errdefs.IsResourceExhausted, "exhausted"},
	{errdefs.IsInvalidArgument, "invalid"},
	{errdefs.IsNotImplemented, "unsupported"},
	{errdefs.IsUnavailable, "unavailable"},
}

// Kind is the kind of an error as the value of a label: one of a few words.
func Kind(err error) string {
	for _, k := range kinds {
		if k.is(err) {
			return k.name
		}
	}
	return "other"
}

// Gauge adds a metric that is looked up when it is asked for.
func Gauge(name, help string, value func() float64) {
	register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
}

// Counter is Gauge for what only grows.
func Counter(name, help string, value func() float64) {
	register(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, value))
}

// Info adds a metric that is 1, for its labels.
func Info(name, help string, labels map[string]string) {
	register(prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels})).Set(1)
}

// Gauges adds a metric with a label, which is looked up when it is asked for.
func Gauges(name, help, label string, values func() map[string]float64) {
	register(&gauges{desc: prometheus.NewDesc(name, help, []string{label}, nil), values: values})
}

type gauges struct {
	desc   *prometheus.Desc
	values func() map[string]float64
}

func (g *gauges) Describe(to chan<- *prometheus.Desc) { to <- g.desc }

func (g *gauges) Collect(to chan<- prometheus.Metric) {
	for label, v := range g.values() {
		to <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, v, label)
	}
}
