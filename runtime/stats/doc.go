// Package stats reads what a container or a pod uses, cheaply enough to do it
// for all of a node at once.
//
// Owns: descriptors of cgroup files, kept open for as long as their container
// runs: a read is one pread(2) then, without a walk of the path (40 µs for a
// container instead of 250). They are opened at the first question, closed with
// the container, and never take more than half of the descriptors that the
// process may have; what comes after that is opened for each read.
//
// Always true: a Sample is read in one go and carries its time; what the host
// cannot say is nil, never 0. Numbers have the same meaning on v1 and v2: times
// are nanoseconds, memory counts the whole subtree.
//
// May import: linux, linux/namespace.
package stats
