package oci

import (
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// StepError says which step of becoming the container failed, and why.
// errors.Is finds a kind of errdefs and the errno.
type StepError struct {
	Step   string     // what was being done, with its object: "mount /data"
	Errno  unix.Errno // 0 when the reason was not a system call's
	Detail string     // the reason in words; when empty the errno's own text stands for it
}

func (e *StepError) Error() string {
	switch {
	case e.Detail != "":
		return e.Step + ": " + e.Detail
	case e.Errno != 0:
		return e.Step + ": " + e.Errno.Error()
	}
	return e.Step
}

func (e *StepError) Unwrap() []error {
	if e.Errno == 0 {
		return []error{errdefs.ErrInternal}
	}
	return []error{kind(e.Errno), e.Errno}
}

func kind(errno unix.Errno) error {
	switch errno {
	case unix.ENOENT:
		return errdefs.ErrNotFound
	case unix.EACCES, unix.EPERM, unix.EROFS:
		return errdefs.ErrPermissionDenied
	case unix.EINVAL, unix.ENOTDIR, unix.EISDIR, unix.ELOOP, unix.ENOEXEC, unix.E2BIG, unix.ENAMETOOLONG, unix.EXDEV:
		return errdefs.ErrInvalidArgument
	case unix.ENOSYS, unix.EOPNOTSUPP, unix.ENODEV:
		return errdefs.ErrNotImplemented
	case unix.ENOMEM, unix.EAGAIN, unix.ENOSPC, unix.EDQUOT, unix.EMFILE, unix.ENFILE, unix.EUSERS:
		return errdefs.ErrResourceExhausted
	case unix.ESRCH: // the container that was to be joined has ended
		return errdefs.ErrFailedPrecondition
	}
	return errdefs.ErrInternal
}
