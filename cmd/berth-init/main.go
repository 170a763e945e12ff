// A limit of processors is of no use to one thread, and Go would read it from
// files of the cgroup, then keep one of them open.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

package main

import (
	"syscall"

	"github.com/berth-cri/berth/runtime/oci/embedded/plan"
)

// Everything happens in init. The runtime keeps the main thread to it, the one
// that namespaces, ids and execve need, without the spare thread that it starts
// for a program that locks one itself. That is a fifteenth of the start-up.
func init() {
	if st, err := fstat(plan.ControlFd); err != nil || st.Mode&syscall.S_IFMT != syscall.S_IFSOCK {
		return // nobody to listen to
	}
	// The first thing, before anybody in a shared PID namespace can find us.
	call(syscall.SYS_PRCTL, syscall.PR_SET_DUMPABLE, 0, 0, 0)
	call(syscall.SYS_PRCTL, syscall.PR_SET_NAME, str("berth-init"))
	step, err := become()
	if err != nil {
		report(step, err)
	}
	syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 1, 0, 0)
}

func main() {
	writeAll(2, []byte("berth-init is started by berth-monitor and does nothing by itself\n"))
	syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 2, 0, 0)
}

// become carries out the plan. It returns only when something failed.
func become() (step string, err error) {
	steps, err := readPlan()
	if err != nil {
		return "read the plan", err
	}
	release, ok := released()
	if !ok {
		return "", nil // the launcher has gone; there is nobody to tell
	}
	for _, tasks := range release.Tasks {
		if err := writeFile(tasks, "0"); err != nil { // 0: this thread
			return "cgroup " + tasks, err
		}
	}
	call(syscall.SYS_UMASK, 0) // modes are exact until the container's mask is set
	if release.Outside {
		return workOutside(steps)
	}
	c := newContainer(steps)
	if err := c.takeOver(); err != nil {
		return "take over mounts", err
	}
	for _, s := range steps {
		if err := c.carryOut(s); err != nil {
			return s.String(), err
		}
	}
	return "exec", explained{syscall.EINVAL, "the plan ends without it"}
}

// readPlan takes the plan in and lets go of every descriptor that has no use.
func readPlan() ([]plan.Step, error) {
	var st syscall.Stat_t
	if _, err := call(syscall.SYS_FSTAT, plan.PlanFd, ptr(&st)); err != nil {
		return nil, err
	}
	if st.Size <= 0 || st.Size > plan.MaxSize {
		return nil, explained{syscall.EINVAL, "it is empty or too large"}
	}
	b := make([]byte, st.Size)
	for n := 0; n < len(b); {
		got, err := call(syscall.SYS_PREAD64, plan.PlanFd, ptr(&b[n]), uintptr(len(b)-n), uintptr(n))
		if err != nil {
			return nil, err
		}
		if got == 0 {
			return nil, explained{syscall.EIO, "it became shorter"}
		}
		n += got
	}
	steps, err := plan.Decode(b)
	if err != nil {
		return nil, explained{syscall.EINVAL, err.Error()}
	}
	closeFd(plan.PlanFd)
	first := uintptr(plan.TargetFd)
	for _, s := range steps {
		switch s.(type) {
		case *plan.Join, *plan.Outside: // TargetFd or TreesFd
			first = plan.TargetFd + 1
		}
	}
	_, err = call(sysCloseRange, first, allFds, 0)
	return steps, err
}

// released waits for the launcher's word.
func released() (plan.Release, bool) {
	b := make([]byte, plan.MaxMessage)
	n, err := call(syscall.SYS_READ, plan.ControlFd, ptr(&b[0]), uintptr(len(b)))
	if err != nil {
		return plan.Release{}, false
	}
	return plan.ParseRelease(b[:n])
}

func writeFile(path, text string) error {
	n, err := openat(cwdFd, path, syscall.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer closeFd(n)
	return writeAll(n, []byte(text))
}

// tell sends a message to the launcher. A dead launcher is no signal, but an error.
func tell(b []byte) error {
	_, err := call(syscall.SYS_SENDTO, plan.ControlFd, ptr(&b[0]), uintptr(len(b)), syscall.MSG_NOSIGNAL, 0, 0)
	return err
}

func report(step string, err error) {
	f := plan.Failure{Step: step, Errno: uint32(errnoOf(err))}
	if err, ok := err.(explained); ok {
		f.Detail = err.why
	}
	_ = tell(f.Append(nil))
}

// explained is an errno whose own text would not tell the user enough.
type explained struct {
	errno syscall.Errno
	why   string
}

func (e explained) Error() string { return e.why }

// errnoOf is the errno of an error, explained or not; 0 of none.
func errnoOf(err error) syscall.Errno {
	switch err := err.(type) {
	case syscall.Errno:
		return err
	case explained:
		return err.errno
	}
	return 0
}

// explain puts words in front of the errno's own.
func explain(err error, words string) error {
	if errno, ok := err.(syscall.Errno); ok {
		return explained{errno, words + ": " + errno.Error()}
	}
	return err
}
