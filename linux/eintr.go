package linux

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// retry makes a call again for as long as a signal interrupts it: Go's
// preemption signal reaches any thread that is in a system call.
func retry(call string, f func() error) error {
	for {
		err := f()
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError(call, err)
		}
	}
}

// retryPath is retry for a call whose error should name a path.
func retryPath(call, path string, f func() error) error {
	for {
		err := f()
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return &os.PathError{Op: call, Path: path, Err: err}
		}
	}
}
