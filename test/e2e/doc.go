// Package e2e runs the real daemon on the real kernel and speaks gRPC to it.
//
// Owns: nothing outside of the directories, bridges, cgroups and processes that
// each test makes and, in a check after it, misses none of.
// Always true: a test has a node (daemon, monitor, state, root, network, cgroup
// parent) of its own; images come from a registry inside the test process;
// nothing is skipped but for what the machine lacks, with the reason.
//
// May import: anything; nothing imports it.
package e2e
