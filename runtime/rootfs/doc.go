// Package rootfs makes the writable part of containers' root file systems and
// looks into their images.
//
// Owns: <root>/containers/<id>/{upper,work}, and lower where an image has no
// layers. The mount itself is made by berth-init inside the container's mount
// namespace, so the host has no mount to clean up.
//
// Always true:
//   - An upper belongs to one container and one start: it is mounted volatile,
//     so after a crash of the host it may be torn, and it is never used again.
//   - Remove is one rename into the trash.
//   - What an image holds is hostile. It is read through a read-only view
//     that is in no mount table, resolved inside that view by the kernel, only
//     from regular files and only up to a size.
//
// May import: linux, linux/namespace, trash; the CRI types.
package rootfs
