package cgroup

import (
	"errors"
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"
)

// errThreaded is what cgroup.procs of a threaded cgroup answers.
const errThreaded = unix.EOPNOTSUPP

// gone says that the cgroup was removed: before the file was opened, or while
// it was open (ENODEV is what the kernel answers to a read then).
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV)
}

func links(fi fs.FileInfo) uint64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Nlink)
	}
	return 0
}
