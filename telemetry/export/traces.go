package export

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
)

// Tracing says where spans go.
type Tracing struct {
	Endpoint string  // HOST:PORT
	Protocol string  // grpc or http
	Insecure bool    // without TLS
	Ratio    float64 // of the requests whose client has not decided; 0 to 1
	Version  string  // of Berth
}

// Traces is the way out for spans.
type Traces struct{ provider *sdktrace.TracerProvider }

// StartTracing connects when there is something to send; it fails for wrong
// settings only.
func StartTracing(ctx context.Context, o Tracing, log *slog.Logger) (*Traces, error) {
	var client otlptrace.Client
	switch o.Protocol {
	case "grpc":
		options := []otlptracegrpc.Option{otlptracegrpc.WithEndpoint(o.Endpoint)}
		if o.Insecure {
			options = append(options, otlptracegrpc.WithInsecure())
		}
		client = otlptracegrpc.NewClient(options...)
	case "http":
		options := []otlptracehttp.Option{otlptracehttp.WithEndpoint(o.Endpoint)}
		if o.Insecure {
			options = append(options, otlptracehttp.WithInsecure())
		}
		client = otlptracehttp.NewClient(options...)
	default:
		return nil, fmt.Errorf("tracing.protocol: %q is neither grpc nor http", o.Protocol)
	}
	exporter, err := otlptrace.New(ctx, client)
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	host, _ := os.Hostname() // without one, the resource has none
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("traces", "error", err) }))
	return &Traces{sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter),
		// The client's decision counts: a kubelet that samples wants the whole of
		// what it sampled.
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(o.Ratio))),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "berth"), attribute.String("service.version", o.Version), attribute.String("host.name", host),
		)),
	)}, nil
}

// Option puts a span around every RPC, below that of the client.
func (t *Traces) Option() grpc.ServerOption {
	return grpc.StatsHandler(otelgrpc.NewServerHandler(
		otelgrpc.WithTracerProvider(t.provider), otelgrpc.WithPropagators(propagation.TraceContext{}),
	))
}

// flushLimit is what the last spans get at a stop of the daemon.
const flushLimit = 2 * time.Second

// Close sends what waits.
func (t *Traces) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), flushLimit)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		otel.Handle(err)
	}
}
