// Package netns runs Go code inside pinned network namespaces.
//
// Owns: nothing; a pin belongs to linux/namespace, an NS is an open descriptor
// of it.
//
// Always true: a thread that could not be brought back to the namespace it came
// from is thrown away, and the process's main thread never leaves it.
//
// May import: linux/..., vishvananda/netlink, containerd/errdefs, golang.org/x/sys.
package netns
