// Package builtin holds the CNI plugins that Berth brings along: bridge, ptp,
// host-local, portmap, loopback and bandwidth as plain Go functions over netlink
// and nftables. They answer to the standard names, read the standard
// configuration and keep the standard files on disk, so that a conflist can be
// shared with the reference plugins.
//
// Owns: host-local's lease files, the host ends of the veth pairs and the ifb
// devices that it makes, the bridges it makes (never deleted: other plugins
// share them), and the nftables tables "inet berth_masq", "inet berth_hostports"
// and "bridge berth_macspoof".
//
// Always true: DEL succeeds when there is nothing left to delete, never waits
// for the kernel to delete a veth pair, and first takes the host end down, so that
// whoever still holds the namespace cannot answer for an address that somebody
// else gets next. A configuration that asks for something not done here is
// Unsupported before anything was touched, so that the caller can run the
// reference plugin instead.
//
// May import: cni/netns, linux/..., containernetworking/cni/pkg, vishvananda/netlink,
// google/nftables, containerd/errdefs, golang.org/x/sys.
package builtin
