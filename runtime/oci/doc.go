// Package oci is what the monitor knows of the thing that turns an OCI spec
// into a process.
//
// Owns: the words for it (Prepared, Start, Process, Placement, StepError) and the
// interface Runtime. Package embedded is Berth's own runtime; a runtime that is
// a program of its own (runc, crun, runsc) takes its place beside it.
//
// Always true: a Start that returned an error has left no process behind, and a
// process that was returned has executed the user's program (of an external
// runtime: has been told to).
//
// May import: the standard library, errdefs, runtime-spec, golang.org/x/sys.
package oci
