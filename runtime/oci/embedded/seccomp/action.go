package seccomp

import (
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// maxErrno is the largest errno that the kernel hands on (MAX_ERRNO).
const maxErrno = 4095

// action is what a filter returns (SECCOMP_RET_*), with its data.
type action uint32

const (
	enosys     = action(unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS))
	foreignABI = action(unix.SECCOMP_RET_KILL_PROCESS)
)

// actionOf reads an OCI action. Errno and trace carry EPERM when the profile
// says no errno, as in runc; with any other action an errno is an error (OCI
// runtime-spec, config-linux.md, errnoRet).
func actionOf(name specs.LinuxSeccompAction, errno *uint) (action, error) {
	data := uint32(unix.EPERM)
	if errno != nil {
		if name != specs.ActErrno && name != specs.ActTrace {
			return 0, fmt.Errorf("seccomp action %s takes no errno, the profile gives %d: %w", name, *errno, errdefs.ErrInvalidArgument)
		}
		if *errno > maxErrno {
			return 0, fmt.Errorf("seccomp errno %d is larger than %d: %w", *errno, maxErrno, errdefs.ErrInvalidArgument)
		}
		data = uint32(*errno)
	}
	switch name {
	case specs.ActAllow:
		return unix.SECCOMP_RET_ALLOW, nil
	case specs.ActErrno:
		return action(unix.SECCOMP_RET_ERRNO | data), nil
	case specs.ActTrace:
		return action(unix.SECCOMP_RET_TRACE | data), nil
	case specs.ActLog:
		return unix.SECCOMP_RET_LOG, nil
	case specs.ActTrap:
		return unix.SECCOMP_RET_TRAP, nil
	case specs.ActKill, specs.ActKillThread:
		return unix.SECCOMP_RET_KILL_THREAD, nil
	case specs.ActKillProcess:
		return unix.SECCOMP_RET_KILL_PROCESS, nil
	case specs.ActNotify:
		return 0, fmt.Errorf("seccomp action %s needs an agent that listens, Berth has none: %w", name, errdefs.ErrNotImplemented)
	}
	return 0, fmt.Errorf("seccomp action %q is unknown: %w", name, errdefs.ErrInvalidArgument)
}

// permissive says whether calls that the profile does not name go through. Trace
// counts: a tracer answers unknown calls itself (runc, patchbpf).
func permissive(name specs.LinuxSeccompAction) bool {
	return name == specs.ActAllow || name == specs.ActLog || name == specs.ActTrace
}

// flagsOf gives the flags for seccomp(2). A profile without a list gets
// SPEC_ALLOW, as in runc and crun: since 5.16 the kernel itself no longer slows
// filtered processes down for speculative store bypass.
func flagsOf(names []specs.LinuxSeccompFlag) (uint32, error) {
	if names == nil {
		return unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW, nil
	}
	var flags uint32
	for _, n := range names {
		switch n {
		case specs.LinuxSeccompFlagLog:
			flags |= unix.SECCOMP_FILTER_FLAG_LOG
		case specs.LinuxSeccompFlagSpecAllow:
			flags |= unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
		case "SECCOMP_FILTER_FLAG_TSYNC":
			// Nothing to do: the thread that loads the filter is the one that
			// calls execve, and no other thread outlives that.
		default:
			return 0, fmt.Errorf("seccomp flag %q is not supported: %w", n, errdefs.ErrInvalidArgument)
		}
	}
	return flags, nil
}
