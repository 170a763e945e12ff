package telemetry

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Operation is something that goes in steps, each with a time of its own.
type Operation struct {
	hist  *prometheus.HistogramVec
	steps map[string]prometheus.Observer // looked up once; never changed
}

func operation(name, help string, buckets []float64, steps ...string) *Operation {
	o := &Operation{
		hist:  register(prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, []string{"step"})),
		steps: map[string]prometheus.Observer{},
	}
	for _, s := range steps {
		o.steps[s] = o.hist.WithLabelValues(s)
	}
	return o
}

// The operations. Steps that begin with "monitor." are parts of the step monitor,
// timed by the monitor itself.
var (
	SandboxStart = operation("berth_sandbox_start_step_duration_seconds", "Time of the steps of RunPodSandbox.", stepBuckets,
		"labels", "namespaces", "reaper", "network", "files")
	ContainerStart = operation("berth_container_start_step_duration_seconds", "Time of the steps of StartContainer.", stepBuckets,
		"pipes", "cgroup", "monitor", "monitor.prepare", "monitor.init")
	ImagePull = operation("berth_image_pull_stage_duration_seconds", "Time of the stages of pulls. Layers are downloaded and unpacked in one pass, which is the stage layers.", pullBuckets,
		"resolve", "read", "layers", "record")
)

// Step is one under way.
type Step struct {
	observer prometheus.Observer
	began    time.Time
	Span
}

// Begin begins a step. What happens in it gets the returned context.
func (o *Operation) Begin(ctx context.Context, step string) (context.Context, Step) {
	observer, known := o.steps[step]
	if !known {
		observer = o.hist.WithLabelValues(step)
	}
	ctx, span := Begin(ctx, step)
	return ctx, Step{observer: observer, began: time.Now(), Span: span}
}

// End ends it; a step that failed is timed as well.
func (s Step) End(err error) {
	s.observer.Observe(time.Since(s.began).Seconds())
	s.Span.End(err)
}

// Did is a step that another process has done and timed.
func (o *Operation) Did(ctx context.Context, step string, began time.Time, took time.Duration) {
	if observer, known := o.steps[step]; known {
		observer.Observe(took.Seconds())
	}
	if parent := trace.SpanFromContext(ctx); parent.IsRecording() {
		_, span := parent.TracerProvider().Tracer(tracerName).Start(ctx, step, trace.WithTimestamp(began))
		span.End(trace.WithTimestamp(began.Add(took)))
	}
}

const tracerName = "github.com/berth-cri/berth"

// Span is a part of a traced request; of any other it is empty, and free.
type Span struct{ span trace.Span }

// Begin begins a part of the request that the context belongs to.
func Begin(ctx context.Context, name string) (context.Context, Span) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, Span{}
	}
	ctx, span := parent.TracerProvider().Tracer(tracerName).Start(ctx, name)
	return ctx, Span{span}
}

// Set adds what the span is about.
func (s Span) Set(key, value string) {
	if s.span != nil {
		s.span.SetAttributes(attribute.String(key, value))
	}
}

// End ends it.
func (s Span) End(err error) {
	if s.span == nil {
		return
	}
	if err != nil {
		s.span.SetStatus(codes.Error, err.Error())
	}
	s.span.End()
}

// Tag says about the request's own span what it was about.
func Tag(ctx context.Context, key, value string) {
	if s := trace.SpanFromContext(ctx); s.IsRecording() {
		s.SetAttributes(attribute.String(key, value))
	}
}

// TraceID is that of the request, or empty.
func TraceID(ctx context.Context) string {
	if c := trace.SpanContextFromContext(ctx); c.IsSampled() {
		return c.TraceID().String()
	}
	return ""
}
