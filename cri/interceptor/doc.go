// Package interceptor is what all RPCs share: the gate that is closed until the
// daemon has recovered, a log line, the guard against panics, and the one place
// where kinds of errors become gRPC codes.
//
// Owns: no state but the gate.
// Always true: a handler returns errors with a kind of errdefs and never a gRPC
// status; a secret of a request is never logged.
//
// May import: telemetry, errdefs, cri-api errors, grpc.
package interceptor
