package linux

import (
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// OpenInRoot opens a path as a process with the directory as its root would:
// absolute links and ".." stay inside, and links to nowhere in particular (those of
// /proc) are refused. The path is resolved by the kernel, so that nobody who
// renames directories meanwhile can lead it out.
func OpenInRoot(root int, path string, flags int) (fd int, err error) {
	if flags&unix.O_PATH == 0 { // which openat2 takes with few others
		flags |= unix.O_NOCTTY
	}
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	err = retryPath("openat2", path, func() (err error) {
		// EAGAIN: the kernel could not rule out that a rename beside it
		// led ".." out; it is asked again a few times.
		for range 32 {
			fd, err = unix.Openat2(root, path, &how)
			if !errors.Is(err, unix.EAGAIN) {
				break
			}
		}
		return err
	})
	return fd, err
}

// Reopen opens what an O_PATH descriptor stands for, with other flags.
func Reopen(fd, flags int) (*os.File, error) {
	name := "/proc/thread-self/fd/" + strconv.Itoa(fd)
	n := -1
	err := retryPath("open", name, func() (err error) {
		n, err = unix.Open(name, flags|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
		return err
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(n), name), nil
}
