// Package cgroup puts containers into control groups: limits, tracking, kill
// and the truth about who was killed for memory.
//
// Owns: the directories <parent>/<id> that Create made, in every hierarchy of
// the host, and the default parent; under the systemd driver the scopes
// berth-<pod>.scope, the directories in them and the process that holds each.
// Any other directory belongs to the kubelet or the host; one that is missing
// above a container is made, none is removed.
//
// Always true:
//   - The mount table is read once, by Open. A hierarchy is a mount; a
//     controller lives in exactly one of them. v1, v2 and hybrid (v1 plus a
//     cgroup2 for tracking) differ only in that table.
//   - A cgroup exists in all hierarchies or, after an error, in none.
//   - A resource that is set and cannot be enforced is an error with the
//     field's name. Only what asks for nothing ("unlimited") may be dropped.
//   - Set changes all or nothing.
//   - What systemd manages Berth does not write, but for turning on controllers
//     that systemd does not know (hugetlb, rdma, misc), as runc does.
//   - Paths are absolute from the hierarchies' mount points, also when Berth
//     itself lives in a cgroup below (as runc does it).
//
// May import: linux; github.com/opencontainers/cgroups for device rules and
// weights; github.com/coreos/go-systemd and github.com/godbus for systemd.
package cgroup
