// Package selinux decides what containers and their files are labelled with.
//
// Owns: the categories that keep pods apart: which are in use on this node.
//
// Always true:
//   - Every pod has a level of its own, unless it asked for one; its containers
//     share it.
//   - Where it is off, or the host has none, nothing is labelled and no request
//     is refused for asking: pods name labels for those nodes that have SELinux
//     (Cilium's do, on every distribution), and the kubelet asks for volumes to be
//     relabelled everywhere. containerd and CRI-O do the same.
//
// May import: errdefs, cri-api, opencontainers/selinux, golang.org/x/sys.
package selinux
