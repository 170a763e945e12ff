// Package pod is the life of a pod sandbox: namespaces, files, network, and the
// states that it goes through.
//
// Owns: <state>/pods/<id>/ with everything in it:
//
//	pod.json     the record (Record); written by this package only
//	ns/          the pinned namespaces, see package namespace
//	hosts, hostname, resolv.conf, shm/   what its containers get bound in
//
// Always true: the record names a thing before the thing is made, so a crash
// leaves nothing that nobody knows; a pod that could not be taken down stays
// listed as not ready, with its name, until a Stop succeeds; there is no pause
// process, and only a pod that shares its PID namespace has a process at all.
//
// May import: linux, linux/namespace, atomicfile, undo, fault, runtime/index,
// runtime/monitor, runtime/oci, runtime/cgroup, runtime/handler, runtime/selinux, runtime/spec, runtime/stats,
// cni/network, the CRI types.
package pod
