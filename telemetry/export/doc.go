// Package export carries metrics and traces out of the process: a page for
// Prometheus, and spans by OTLP.
//
// Owns: the listener of the metrics, and the queue of spans on their way.
// Always true: nothing here is started that the configuration does not ask for;
// a receiver that is slow or away costs the daemon no more than the queue, and
// spans are dropped.
//
// May import: telemetry, client_golang, OpenTelemetry's SDK and exporters, grpc.
package export
