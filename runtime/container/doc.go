// Package container is the life of a container: from an image and a
// configuration to a process, its end and its removal.
//
// Owns: <state>/containers/<id>/ :
//
//	container.json  what was asked for and decided at creation (Record); never changed
//	status.json     where it is now (Status)
//	limits.json     what updates have made of its limits since (Limits)
//	config.json     the OCI runtime-spec
//	plan, exec      the same for berth-init: for the container, for a command in it
//	                (of an external runtime: what to mount, and a process)
//	poststop        there while hooks are owed (owesPoststop)
//	stdin, stdout, stderr, carry, exit.json   see package monitor
//
// Always true: nothing runs between Create and Start; a status is on tmpfs
// before anybody hears of it; a process is known by pidfd, or by pid and start
// time, never by pid alone; an exit is believed whether the monitor told it,
// left it in exit.json or the pidfd shows it; stopping converges from every
// state, and no lock is held while anything starts, ends or is deleted.
//
// May import: linux, atomicfile, undo, fault, runtime/index, runtime/pod,
// runtime/spec, runtime/rootfs, runtime/cdi, runtime/cgroup, runtime/handler, runtime/selinux, runtime/stats, runtime/oci,
// runtime/monitor, imageservice/store, the CRI types.
package container
