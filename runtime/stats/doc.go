// Package stats reads what a container uses, cheaply enough to do it for all
// containers of a node at once.
//
// Owns: descriptors of cgroup files, kept open for the container's life: a
// read is one pread(2) then, without a walk of the path.
//
// Always true: a Sample is read in one go and carries its time; what the host
// cannot say is nil, never 0. Numbers have the same meaning on v1 and v2: times
// are nanoseconds, memory counts the whole subtree.
//
// May import: linux.
package stats
