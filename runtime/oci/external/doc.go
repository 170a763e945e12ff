// Package external runs containers by an OCI runtime that is a program of its
// own: runc, crun and what has their command line.
//
// The same spec that the embedded runtime gets becomes the bundle's config.json.
// The root file system, and volumes that no such runtime can mount (layers of an
// image, a path in them, other ids), are mounted by a process that then becomes
// the runtime: "berth-monitor oci-create", in a mount namespace of its own. What
// it has mounted lives on in the container's mount namespace only, so nothing is
// left on the host whoever dies when.
//
// Owns: <state>/oci, the area. It is a mount of its own that neither propagates
// nor can be bound, for the mount points within it are used by all containers,
// each in its own mount namespace:
//
//	rootfs    where a container's root is mounted
//	volumes   where volumes are
//	tmp       files of one call of a runtime
//
// and <state>/runtimes/NAME, the runtime's own state, unless it is configured.
//
// Always true:
//   - The runtime's program is in nobody's way when it is killed, and dies with
//     the monitor: a half made container is found by its state, and deleted.
//   - The container's process is the monitor's child in the end, as the monitor is
//     a subreaper.
//   - An error has the runtime's own words.
//
// May import: linux, runtime/oci, errdefs, runtime-spec, moby/sys/mountinfo,
// golang.org/x/sys.
package external
