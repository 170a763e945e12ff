// Package namespace makes Linux namespaces that outlive the thread that made
// them, by bind-mounting ("pinning") them as files of a directory.
//
// Owns: the pin files <dir>/net, <dir>/ipc, <dir>/uts, <dir>/user, <dir>/pid.
//
// Always true: no thread that has left the namespaces of the process is ever
// given back to the Go scheduler; a pin that exists as a file but is not a
// namespace is never reported as one; Unpin leaves neither mount nor file.
//
// A pin made on a private or slave mount is invisible outside the mount
// namespace of its maker and dies with it, so whoever pins must live in the
// mount namespace of those who join (see Same).
//
// May import: standard library, golang.org/x/sys, containerd/errdefs.
package namespace
