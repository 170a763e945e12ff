// Package kubelet runs a real kubelet against Berth.
//
// Owns: the node that the tests make: a daemon of Berth's and the kubelet, each on
// directories of its own, in mount, pid and network namespaces of their own, with
// their cgroups below one parent; everything ends with the test process.
// Always true: what a pod does is asked of the kubelet, over its API; Berth's own
// is not asked what the kubelet knows.
//
// May import: anything; nothing imports it. The module is a separate one, so that
// Berth's does not get the kubelet's dependencies.
package kubelet
