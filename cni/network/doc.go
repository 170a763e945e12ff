// Package network attaches pods to networks through CNI: it loads and watches
// the configuration, runs the plugins through libcni, built-in ones in this
// process and all others as programs, and keeps account of what was attached.
//
// Owns: <StateDir>/attachments/<pod id>.json, one record per pod that a plugin
// was asked to attach (see Record), and libcni's result cache in CacheDir. Both
// have to outlive a reboot, as the leases of most plugins do.
//
// Always true: a record is written before the first ADD and goes only when DEL
// succeeded for all of it, by the configuration that ADD was given; DEL runs
// even when the caller's context has ended; only what this package recorded is
// ever freed, except by GC, which is sent only when configured. Status never
// waits for a plugin or a disk.
//
// Whoever calls sees to it that Setup and Teardown of one pod do not overlap.
//
// May import: cni/builtin, cni/netns, linux/..., atomicfile, fault,
// containernetworking/cni, containerd/errdefs, fsnotify.
package network
