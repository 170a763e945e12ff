// Package telemetry counts and times what the daemon does, for Prometheus and
// for OpenTelemetry. Package export carries it out of the process.
//
// Owns: the metrics, as package variables: they are the process's.
// Always true: every metric's name is here or in cmd/berth/telemetry.go, and a test
// holds the dashboard against them; nothing here waits or fails; a step of an
// operation costs a fraction of a microsecond and, without tracing, no memory.
//
// May import: client_golang, the OpenTelemetry API (not its SDK).
package telemetry
