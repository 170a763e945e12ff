// Package reconcile brings records and kernel together when the daemon starts,
// and sees to it that what an earlier daemon left half done does not stay.
//
// Owns: the order of the start-up; no record of its own.
// Always true: everything that a client may ask for is right when Recover
// returns; the rest (deleting, freeing) goes on behind the open gate; one
// broken pod never delays the others.
//
// May import: runtime/pod, runtime/container, runtime/monitor, runtime/cgroup,
// cni/network, fault, errdefs.
package reconcile
