package linux

import "golang.org/x/sys/unix"

// OpenTree opens a mount, or with OPEN_TREE_CLONE a copy that is mounted nowhere.
func OpenTree(dir int, path string, flags uint) (fd int, err error) {
	err = retryPath("open_tree", path, func() (err error) {
		fd, err = unix.OpenTree(dir, path, flags)
		return err
	})
	return fd, err
}

// MapTree shows a mount that is mounted nowhere through a user namespace (5.12),
// and with below all mounts in it.
func MapTree(fd, userns int, below bool) error {
	flags := uint(unix.AT_EMPTY_PATH)
	if below {
		flags |= unix.AT_RECURSIVE
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(userns)}
	return retry("mount_setattr", func() error { return unix.MountSetattr(fd, "", flags, &attr) })
}

// MoveMount mounts a tree on a path.
func MoveMount(fd int, path string) error {
	return retryPath("move_mount", path, func() error {
		return unix.MoveMount(fd, "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH)
	})
}
