package overlay

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/berth-cri/berth/linux"
	"github.com/berth-cri/berth/linux/namespace"
	"golang.org/x/sys/unix"
)

// maxFsconfigString is what the kernel copies of a string given to fsconfig(2),
// its final NUL included.
const maxFsconfigString = 256

// View mounts at least two directories, topmost first, and returns the root.
func View(lower []string) (*os.File, error) {
	fd, err := -1, errors.ErrUnsupported
	if !refused.Load() {
		fd, err = byDescriptor(lower)
	}
	if errors.Is(err, errors.ErrUnsupported) {
		// A try costs a line in the log of such a kernel: once is enough.
		if errors.Is(err, unix.EINVAL) {
			refused.Store(true)
		}
		fd, err = byThread(lower)
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "overlay"), nil
}

var refused atomic.Bool

// byDescriptor uses the mount API, with one "lowerdir+" for each layer (6.8).
func byDescriptor(lower []string) (int, error) {
	config, err := call("fsopen overlay", func() (int, error) { return unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC) })
	if err != nil {
		return -1, err
	}
	defer linux.Close(config)
	for _, dir := range lower {
		if len(dir) >= maxFsconfigString {
			return -1, fmt.Errorf("lowerdir+ of %d bytes: %w", len(dir), errors.ErrUnsupported)
		}
		_, err := call("fsconfig lowerdir+ "+dir, func() (int, error) { return 0, unix.FsconfigSetString(config, "lowerdir+", dir) })
		if err != nil {
			return -1, orUnsupported(err)
		}
	}
	if _, err := call("fsconfig create overlay", func() (int, error) { return 0, unix.FsconfigCreate(config) }); err != nil {
		return -1, orUnsupported(err)
	}
	const attrs = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
	return call("fsmount overlay", func() (int, error) { return unix.Fsmount(config, unix.FSMOUNT_CLOEXEC, attrs) })
}

// orUnsupported marks what a kernel without lowerdir+ answers: at once, or (6.1,
// where any option is taken until the end) when the file system is created.
func orUnsupported(err error) error {
	if errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("%w: %w", err, errors.ErrUnsupported)
	}
	return err
}

// call makes a system call again when a signal interrupts it.
func call(name string, f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if err == nil {
			return n, nil
		}
		if !errors.Is(err, unix.EINTR) {
			return -1, os.NewSyscallError(name, err)
		}
	}
}

// byThread is for kernels without lowerdir+: mount(2) in a mount namespace of a
// thread's own, which ends with the thread; the descriptor keeps the mount.
func byThread(lower []string) (fd int, err error) {
	err = namespace.OnThread(func() (err error) {
		fd, err = mountHere(lower)
		return err
	})
	if err != nil {
		return -1, err
	}
	return fd, nil
}

// mountHere changes the calling thread's mount namespace. The mount's options
// must fit into one page, so the layers are named by the numbers of
// descriptors, relative to the directory that lists them.
func mountHere(lower []string) (int, error) {
	if _, err := call("unshare", func() (int, error) { return 0, unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS) }); err != nil {
		return -1, err
	}
	// Before anything is mounted: a shared directory would show it to the host.
	if err := linux.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return -1, err
	}
	// After the unshare: overlay wants layers of this mount namespace.
	names := make([]string, len(lower))
	for i, dir := range lower {
		fd, err := linux.Openat(unix.AT_FDCWD, dir, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return -1, err
		}
		defer linux.Close(fd)
		names[i] = strconv.Itoa(fd)
	}
	if _, err := call("chdir", func() (int, error) { return 0, unix.Chdir("/proc/thread-self/fd") }); err != nil {
		return -1, err
	}
	const place = "/proc" // any directory: nobody else sees what is mounted on it here
	const flags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := linux.Mount("overlay", place, "overlay", flags, "lowerdir="+strings.Join(names, ":")); err != nil {
		return -1, err
	}
	return linux.Openat(unix.AT_FDCWD, place, unix.O_PATH|unix.O_DIRECTORY, 0)
}
