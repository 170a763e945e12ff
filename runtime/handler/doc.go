// Package handler says by which runtime handlers pods can be run.
//
// Owns: what a handler is made of, and which one the empty name means.
// Always true: a set has the empty name, and it never changes.
//
// May import: runtime/oci/external, errdefs.
package handler
