package linux

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// PidfdOpen returns a descriptor of the process. It is non-blocking (5.10), so
// that Go's poller can wait on it.
func PidfdOpen(pid int) (*os.File, error) {
	var fd int
	err := retry("pidfd_open", func() (err error) {
		fd, err = unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
		return err
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), fmt.Sprintf("pidfd:%d", pid)), nil
}

// PidfdSignal sends a signal to the process behind the descriptor; ESRCH when
// it is gone, whoever has its number now.
func PidfdSignal(pidfd *os.File, sig unix.Signal) error {
	return control(pidfd, func(fd int) error {
		return retry("pidfd_send_signal", func() error { return unix.PidfdSendSignal(fd, sig, nil, 0) })
	})
}

// PidfdDead says whether the process has ended (it may still be a zombie).
// It waits for at most d; a negative d waits for ever.
func PidfdDead(pidfd *os.File, d time.Duration) (bool, error) {
	ms := int(d / time.Millisecond)
	if d < 0 {
		ms = -1
	}
	dead := false
	err := control(pidfd, func(fd int) error {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n := 0
		if err := retry("poll", func() (err error) { n, err = unix.Poll(p, ms); return err }); err != nil {
			return err
		}
		dead = n > 0 && p[0].Revents&unix.POLLIN != 0
		return nil
	})
	return dead, err
}

// PidfdExit asks the kernel for the wait status of a process that has been
// reaped by somebody else (PIDFD_GET_INFO with exit information, 6.15). ok is
// false while the process has not been reaped and on older kernels.
func PidfdExit(pidfd *os.File) (status unix.WaitStatus, ok bool, err error) {
	err = control(pidfd, func(fd int) error {
		info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
		if err := unix.IoctlPidfdInfo(fd, &info); err != nil {
			if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ESRCH) {
				return nil
			}
			return os.NewSyscallError("ioctl PIDFD_GET_INFO", err)
		}
		if info.Mask&unix.PIDFD_INFO_EXIT != 0 {
			status, ok = unix.WaitStatus(info.Exit_code), true
		}
		return nil
	})
	return status, ok, err
}

// control runs f with the file's descriptor, which cannot be closed meanwhile.
func control(f *os.File, use func(fd int) error) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := c.Control(func(fd uintptr) { inner = use(int(fd)) }); err != nil {
		return err
	}
	return inner
}
