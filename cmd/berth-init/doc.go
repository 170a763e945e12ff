// Berth-init becomes a container's program. The launcher starts it, in a new
// mount namespace and already in the pod's other namespaces, with a control
// socket and a plan; it waits for the word that it is in its cgroups, carries
// the plan out step by step and ends in execve. When a step fails it says which
// and why, and exits.
//
// Owns: how each step of a plan is done.
//
// Always true:
//   - It starts in well under a millisecond: it links package syscall, its plan
//     and nothing else, allocates little and never collects garbage.
//   - Everything that belongs to a thread (namespaces, ids, filters) is changed on
//     the main thread, the one that survives execve, by raw system calls.
//   - A path in the container is resolved in the container's root by openat2 and
//     used as a descriptor from there on; a mount has no path at all until it is
//     moved onto such a descriptor. An image cannot lead out of its root with a
//     symbolic link, nor can a volume that changes meanwhile (CVE-2019-16884,
//     CVE-2021-30465, CVE-2025-31133, CVE-2025-52565).
//   - What is written to /proc is written to a procfs that it has just made itself
//     (CVE-2025-52881).
//   - Other processes cannot look into it (not dumpable), its binary cannot be
//     written (CVE-2019-5736), and no descriptor survives execve (CVE-2024-21626).
//
// May import: package syscall, unsafe, runtime/oci/embedded/plan.
package main
