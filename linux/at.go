package linux

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls below work beneath a directory descriptor and follow no symbolic
// link in the last component. Descriptors are plain numbers: os.File would put
// each file of a layer through the runtime's poller first.

// Openat opens a name without following it.
func Openat(dir int, name string, flags int, mode uint32) (fd int, err error) {
	err = retryPath("openat", name, func() (err error) {
		fd, err = unix.Openat(dir, name, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW, mode)
		return err
	})
	return fd, err
}

// Mkdirat makes a directory.
func Mkdirat(dir int, name string, mode uint32) error {
	return retryPath("mkdirat", name, func() error { return unix.Mkdirat(dir, name, mode) })
}

// Mknodat makes a device or a FIFO.
func Mknodat(dir int, name string, mode uint32, dev uint64) error {
	return retryPath("mknodat", name, func() error { return unix.Mknodat(dir, name, mode, int(dev)) })
}

// Symlinkat makes a symbolic link.
func Symlinkat(target string, dir int, name string) error {
	return retryPath("symlinkat", name, func() error { return unix.Symlinkat(target, dir, name) })
}

// Linkat makes a hard link; a symbolic link as its source is linked itself.
func Linkat(fromDir int, from string, dir int, name string) error {
	return retryPath("linkat", name, func() error { return unix.Linkat(fromDir, from, dir, name, 0) })
}

// Unlinkat removes a name that is no directory.
func Unlinkat(dir int, name string) error {
	return retryPath("unlinkat", name, func() error { return unix.Unlinkat(dir, name, 0) })
}

// Readlinkat reads a symbolic link.
func Readlinkat(dir int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n := 0
	err := retryPath("readlinkat", name, func() (err error) {
		n, err = unix.Readlinkat(dir, name, buf)
		return err
	})
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// Lstatat describes a name without following it.
func Lstatat(dir int, name string) (st unix.Stat_t, err error) {
	err = retryPath("fstatat", name, func() error {
		return unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	})
	return st, err
}

// Lchownat sets the owner of a name without following it.
func Lchownat(dir int, name string, uid, gid int) error {
	return retryPath("fchownat", name, func() error {
		return unix.Fchownat(dir, name, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
	})
}

// Fchmodat sets the mode of a name. The kernel follows a symbolic link here
// (a flag against it exists since 6.6 only), so the name must be known to be none.
func Fchmodat(dir int, name string, mode uint32) error {
	return retryPath("fchmodat", name, func() error { return unix.Fchmodat(dir, name, mode, 0) })
}

// Lutimesat sets access and modification time of a name without following it.
func Lutimesat(dir int, name string, times *[2]unix.Timespec) error {
	return retryPath("utimensat", name, func() error {
		return unix.UtimesNanoAt(dir, name, times[:], unix.AT_SYMLINK_NOFOLLOW)
	})
}

// Futimens sets access and modification time of an open file. x/sys has the
// call only with a path.
func Futimens(fd int, times *[2]unix.Timespec) error {
	return retry("utimensat", func() error {
		_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(times)), 0, 0, 0)
		if errno != 0 {
			return errno
		}
		return nil
	})
}

// Fchown sets the owner of an open file.
func Fchown(fd, uid, gid int) error {
	return retry("fchown", func() error { return unix.Fchown(fd, uid, gid) })
}

// Fchmod sets the mode of an open file, whatever the umask is.
func Fchmod(fd int, mode uint32) error {
	return retry("fchmod", func() error { return unix.Fchmod(fd, mode) })
}

// Fsetxattr sets an extended attribute of an open file.
func Fsetxattr(fd int, name string, value []byte) error {
	return retry("fsetxattr", func() error { return unix.Fsetxattr(fd, name, value, 0) })
}

// Lsetxattr sets an extended attribute of a path without following its last component.
func Lsetxattr(path, name string, value []byte) error {
	return retryPath("lsetxattr", path, func() error { return unix.Lsetxattr(path, name, value, 0) })
}

// WriteAt writes all of data at an offset.
func WriteAt(fd int, data []byte, offset int64) error {
	for len(data) > 0 {
		n := 0
		err := retry("pwrite", func() (err error) {
			n, err = unix.Pwrite(fd, data, offset)
			return err
		})
		if err != nil {
			return err
		}
		data, offset = data[n:], offset+int64(n)
	}
	return nil
}

// Ftruncate sets the size of an open file.
func Ftruncate(fd int, size int64) error {
	return retry("ftruncate", func() error { return unix.Ftruncate(fd, size) })
}

// Close closes a descriptor. It is not made again after EINTR: the descriptor
// is gone all the same, and its number may be somebody else's by then.
func Close(fd int) error {
	if err := unix.Close(fd); err != nil && err != unix.EINTR {
		return err
	}
	return nil
}
