// Package hooks runs the hooks of an OCI spec that the embedded runtime has to run
// itself, where they run on the host. Those that run in the container are started by
// package embedded.
//
// Owns: nothing.
// Always true: a hook gets the container's state on its standard input, its own
// environment and nothing of ours; one that takes longer than its timeout is
// killed, and that is its failure.
//
// May import: linux, runtime/oci, runtime-spec.
package hooks
