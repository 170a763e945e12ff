package linux

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// maxKernelFile bounds what is read from one file of a kernel file system:
// cgroup.procs with four million pids is 32 MiB.
const maxKernelFile = 64 << 20

// ReadKernel reads a whole file of a kernel file system (cgroupfs, procfs) in
// three system calls, into buf when it is large enough. os.ReadFile makes six
// and asks for a size that these files do not have.
func ReadKernel(path string, buf []byte) ([]byte, error) {
	fd, err := openKernel(path, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return PreadKernel(fd, path, buf)
}

// PreadKernel reads the file from its start again: such files are made anew by
// the kernel for each read at offset 0, so a kept descriptor stays true.
func PreadKernel(fd int, path string, buf []byte) ([]byte, error) {
	buf = buf[:cap(buf)]
	if len(buf) < 512 {
		buf = make([]byte, 4096)
	}
	have := 0
	for {
		n := 0
		err := retryPath("read", path, func() (err error) {
			n, err = unix.Pread(fd, buf[have:], int64(have))
			return err
		})
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return buf[:have], nil
		}
		if have += n; have < len(buf) {
			continue
		}
		if have >= maxKernelFile {
			return nil, &os.PathError{Op: "read", Path: path, Err: unix.EFBIG}
		}
		buf = append(buf, make([]byte, len(buf))...)
	}
}

// PreadRecord is PreadKernel for a file that the kernel writes as one record
// (all of cgroupfs but lists of processes): one read that leaves room in the
// buffer has read everything.
func PreadRecord(fd int, path string, buf []byte) ([]byte, error) {
	n := 0
	err := retryPath("read", path, func() (err error) {
		n, err = unix.Pread(fd, buf[:cap(buf)], 0)
		return err
	})
	if err != nil {
		return nil, err
	}
	if n < cap(buf) {
		return buf[:n], nil
	}
	return PreadKernel(fd, path, make([]byte, 4*cap(buf)))
}

// OpenKernel opens a file for PreadKernel and PreadRecord.
func OpenKernel(path string) (fd int, err error) { return openKernel(path, unix.O_RDONLY) }

// WriteKernel gives the data to an existing file in one write, as files of the
// kernel want it; the file is never created.
func WriteKernel(path, data string) error {
	fd, err := openKernel(path, unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return retryPath("write", path, func() error {
		n, err := unix.Write(fd, []byte(data))
		if err == nil && n < len(data) {
			return unix.EIO
		}
		return err
	})
}

func openKernel(path string, flags int) (fd int, err error) {
	err = retryPath("open", path, func() (err error) {
		fd, err = unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
		return err
	})
	return fd, err
}

// Mkdir is mkdir(2).
func Mkdir(path string, mode uint32) error {
	return retryPath("mkdir", path, func() error { return unix.Mkdir(path, mode) })
}

// Rmdir is rmdir(2); os.Remove would try unlink(2) first.
func Rmdir(path string) error {
	return retryPath("rmdir", path, func() error { return unix.Rmdir(path) })
}

// WaitPriority waits until the descriptor reports POLLPRI, which kernel files
// such as cgroup.events do when they change, for at most the milliseconds.
func WaitPriority(fd, milliseconds int) error {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLPRI}}
	_, err := unix.Poll(p, milliseconds)
	if errors.Is(err, unix.EINTR) {
		return nil // the caller looks again anyway
	}
	return os.NewSyscallError("poll", err)
}
