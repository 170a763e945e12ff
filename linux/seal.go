package linux

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// SealedProgram copies a program into an anonymous file that can be executed but
// never again be written or, but by root, be read. It is an error where the host forbids such files
// (vm.memfd_noexec=2).
func SealedProgram(name string, program io.Reader) (*os.File, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd := -1
	create := func(flags int) error {
		return retry("memfd_create", func() (err error) {
			fd, err = unix.MemfdCreate(name, flags)
			return err
		})
	}
	err := create(flags | unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before 6.3, when every one was executable
		err = create(flags)
	}
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := io.Copy(f, program); err != nil {
		f.Close()
		return nil, err
	}
	// To be executed and not read: so the kernel keeps the memory of a process that
	// runs it as somebody who cannot read everything, as root of a user namespace,
	// from everybody but root of the host.
	if err := retry("fchmod", func() error { return unix.Fchmod(fd, 0o111) }); err != nil {
		f.Close()
		return nil, err
	}
	err = retry("fcntl F_ADD_SEALS", func() error {
		_, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS,
			unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
		return err
	})
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// ReadonlyProgram opens a program through a mount of its own that nobody can
// write through, the program by way of /proc/PID/exe included.
func ReadonlyProgram(path string) (*os.File, error) {
	fd := -1
	err := retryPath("open_tree", path, func() (err error) {
		fd, err = unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		return err
	})
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID}
	err = retryPath("mount_setattr", path, func() error {
		return unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr)
	})
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
