package linux

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxFsconfigString is what the kernel copies of a string given to fsconfig(2),
// its final NUL included.
const maxFsconfigString = 256

// readOnlyView are the attributes of a mount that is only looked at.
const readOnlyView = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC

// OverlayView mounts at least two directories, topmost first, as a read-only
// overlay that has no place in any mount table, and returns its root. The
// mount goes with the descriptor.
func OverlayView(lower []string) (*os.File, error) {
	fd, err := overlayByFd(lower)
	if errors.Is(err, errors.ErrUnsupported) {
		fd, err = overlayByThread(lower)
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "overlay"), nil
}

// overlayByFd uses the mount API, with one "lowerdir+" per layer (6.8).
func overlayByFd(lower []string) (int, error) {
	fs := -1
	err := retry("fsopen overlay", func() (err error) {
		fs, err = unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
		return err
	})
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	for _, dir := range lower {
		if len(dir) >= maxFsconfigString {
			return -1, fmt.Errorf("lowerdir+ of %d bytes: %w", len(dir), errors.ErrUnsupported)
		}
		err := retryPath("fsconfig lowerdir+", dir, func() error { return unix.FsconfigSetString(fs, "lowerdir+", dir) })
		if errors.Is(err, unix.EINVAL) {
			return -1, fmt.Errorf("%w: %w", err, errors.ErrUnsupported)
		}
		if err != nil {
			return -1, err
		}
	}
	if err := retry("fsconfig create overlay", func() error { return unix.FsconfigCreate(fs) }); err != nil {
		return -1, err
	}
	mnt := -1
	err = retry("fsmount overlay", func() (err error) {
		mnt, err = unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, readOnlyView)
		return err
	})
	return mnt, err
}

// overlayByThread is for kernels without lowerdir+: mount(2) in a mount
// namespace of a thread's own, which ends with the thread; the descriptor keeps
// the mount. Its options must fit into one page, so the layers are named by
// descriptor numbers, relative to the directory that lists them.
func overlayByThread(lower []string) (int, error) {
	type result struct {
		fd  int
		err error
	}
	done := make(chan result)
	go func() {
		// Never unlocked: the thread is in another namespace and must go.
		runtime.LockOSThread()
		fd, err := overlayHere(lower)
		done <- result{fd, err}
	}()
	r := <-done
	return r.fd, r.err
}

func overlayHere(lower []string) (int, error) {
	names := make([]string, len(lower))
	for i, dir := range lower {
		fd, err := Openat(unix.AT_FDCWD, dir, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return -1, err
		}
		defer unix.Close(fd)
		names[i] = strconv.Itoa(fd)
	}
	if err := retry("unshare", func() error { return unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS) }); err != nil {
		return -1, err
	}
	// Before anything is mounted: a shared /tmp would show it to the host.
	if err := Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return -1, err
	}
	if err := retry("chdir", func() error { return unix.Chdir("/proc/thread-self/fd") }); err != nil {
		return -1, err
	}
	const place = "/proc" // any directory: nobody else sees what is mounted on it here
	const flags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := Mount("overlay", place, "overlay", flags, "lowerdir="+strings.Join(names, ":")); err != nil {
		return -1, err
	}
	return Openat(unix.AT_FDCWD, place, unix.O_PATH|unix.O_DIRECTORY, 0)
}
