package linux

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Tmpfile makes a file without a name on the file system of a directory
// (O_TMPFILE: ext4, xfs, btrfs, tmpfs, which is all that can carry an overlay's
// upper layer). Its space is free again with its last descriptor.
func Tmpfile(dir string) (*os.File, error) {
	var fd int
	err := retryPath("open O_TMPFILE", dir, func() (err error) {
		fd, err = unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
		return err
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), filepath.Join(dir, "tmpfile")), nil
}

// PunchHole gives back the space of a part of a file, which reads as zeros then.
func PunchHole(f *os.File, from, length int64) error {
	return control(f, func(fd int) error {
		return retry("fallocate", func() error {
			return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, from, length)
		})
	})
}

// Allocated is the space that a file takes, holes left out.
func Allocated(f *os.File) (int64, error) {
	var st unix.Stat_t
	err := control(f, func(fd int) error {
		return retry("fstat", func() error { return unix.Fstat(fd, &st) })
	})
	return st.Blocks * 512, err
}
