// Package probe finds out what the running kernel and this process's place in
// it offer, by trying.
//
// Owns: the list of kernel facts that Berth's behaviour depends on.
//
// Always true: a probe leaves nothing behind (mounts are made in a mount
// namespace that dies with its thread, children are killed and reaped), and a
// try counts more than a version number. What cannot be found out counts as
// absent, with the reason.
//
// May import: the standard library, golang.org/x/sys, moby/sys, netlink,
// nftables, and linux with linux/namespace.
package probe
