package linux

import (
	"os"

	"golang.org/x/sys/unix"
)

// Mkfifo makes a named pipe with exactly this owner and mode.
func Mkfifo(path string, mode uint32, uid, gid int) error {
	if err := retryPath("mkfifo", path, func() error { return unix.Mkfifo(path, mode) }); err != nil {
		return err
	}
	if err := os.Lchown(path, uid, gid); err != nil {
		return err
	}
	return os.Chmod(path, os.FileMode(mode)) // the umask took bits away
}

// SetPipeSize sets the capacity of a pipe in bytes.
func SetPipeSize(f *os.File, size int) error {
	return control(f, func(fd int) error {
		return retry("fcntl F_SETPIPE_SZ", func() error {
			_, err := unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, size)
			return err
		})
	})
}
