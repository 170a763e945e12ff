package embedded

import (
	"errors"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/linux"
)

// child is a berth-init that was started.
type child struct {
	pid     int
	pidfd   *os.File
	control *os.File // our end of the control socket
	outside *child   // the one that does a part of the plan outside of a user namespace; nil
}

// initEnv are Go's own settings for berth-init: it is one thread that makes a
// handful of small objects and is gone. The container's environment is in its plan.
var initEnv = []string{"GOMAXPROCS=1", "GOGC=off", "GODEBUG=asyncpreemptoff=1"}

// clone forks the calling thread, with its namespaces, into berth-init. trees is
// the socket for what is handed over from outside of a user namespace, -1 for none.
func (l *Launcher) clone(s Start, trees int) (_ *child, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, stepError("control socket", err)
	}
	defer unix.Close(pair[1])
	// Only our end: the mode belongs to the open file description.
	if err := unix.SetNonblock(pair[0], true); err != nil {
		unix.Close(pair[0])
		return nil, stepError("control socket", err)
	}
	c := &child{control: os.NewFile(uintptr(pair[0]), "control")}
	defer func() {
		if err != nil {
			c.control.Close()
		}
	}()
	fds, err := l.files(s, pair[1])
	if err != nil {
		return nil, err
	}
	if trees >= 0 {
		fds = append(fds, trees)
	}
	if user := userOf(s); user != "" {
		err = l.cloneInto(c, s, user, fds)
	} else {
		err = l.cloneAtHome(c, s, fds)
	}
	runtime.KeepAlive(s)
	return c, err
}

// cloneAtHome uses Go's own fork.
func (l *Launcher) cloneAtHome(c *child, s Start, fds []int) (err error) {
	pidfd := -1
	attr := &syscall.ProcAttr{Env: initEnv, Sys: &syscall.SysProcAttr{
		Cloneflags: s.Prepared.CloneFlags, PidFD: &pidfd,
	}}
	for _, fd := range fds {
		attr.Files = append(attr.Files, uintptr(fd))
	}
	if s.Cgroup.V2Dir != "" {
		dir, err := unix.Open(s.Cgroup.V2Dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return stepError("cgroup "+s.Cgroup.V2Dir, err)
		}
		defer unix.Close(dir)
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, dir
	}
	// The program has a place among the child's descriptors: ForkExec moves
	// those that are in its way to just above the highest of them, over
	// whatever is open there.
	program := len(attr.Files)
	attr.Files = append(attr.Files, l.program.Fd())
	c.pid, err = syscall.ForkExec("/proc/self/fd/"+strconv.Itoa(program), []string{"berth-init"}, attr)
	if err != nil {
		return forkError(s, err)
	}
	_ = unix.SetNonblock(pidfd, true) // as PIDFD_NONBLOCK; for Go's poller
	c.pidfd = os.NewFile(uintptr(pidfd), "pidfd:"+strconv.Itoa(c.pid))
	return nil
}

// files are the child's descriptors from 0 on.
func (l *Launcher) files(s Start, control int) (fds []int, err error) {
	if s.Plan == nil {
		return nil, &StepError{Step: "read the plan", Errno: unix.EINVAL, Detail: "there is none"}
	}
	streams := []*os.File{s.Stdin, s.Stdout, s.Stderr}
	for _, f := range streams {
		if f == nil || s.Prepared.Terminal {
			f = l.null
		}
		err := withFd(f, func(fd int) error {
			fds = append(fds, fd)
			// Go opens pipes non-blocking; programs do not expect that.
			return unix.SetNonblock(fd, false)
		})
		if err != nil {
			return nil, stepError("standard streams", err)
		}
	}
	fds = append(fds, control)
	for _, f := range []*os.File{s.Plan, s.TargetPidfd} {
		if f == nil {
			continue
		}
		err := withFd(f, func(fd int) error {
			fds = append(fds, fd)
			return nil
		})
		if err != nil {
			return nil, stepError("pass descriptors", err)
		}
	}
	return fds, nil
}

// forkError says what an errno of clone means here.
func forkError(s Start, err error) error {
	errno, _ := err.(syscall.Errno)
	e := &StepError{Step: "start berth-init", Errno: errno}
	joinsPID := s.TargetPidfd != nil
	for _, ns := range s.Prepared.Join {
		joinsPID = joinsPID || namespaceFiles[ns.Type] == "pid"
	}
	switch {
	case errno == unix.ENOMEM && joinsPID:
		// What the kernel says when process 1 of a PID namespace has ended.
		return &StepError{Step: e.Step, Errno: unix.ESRCH, Detail: "the PID namespace has ended, or memory is short"}
	case errno == unix.EBUSY && s.Cgroup.V2Dir != "":
		e.Detail = "cgroup " + s.Cgroup.V2Dir + " has controllers enabled for cgroups below it, and can have no process itself"
	}
	return e
}

// end kills and reaps a child that did not become the container.
func (c *child) end() {
	_ = linux.PidfdSignal(c.pidfd, unix.SIGKILL)
	reap(c.pid)
	c.pidfd.Close()
}

// stepError is nil for a nil error.
func stepError(step string, err error) error {
	if err == nil {
		return nil
	}
	var errno syscall.Errno
	errors.As(err, &errno)
	e := &StepError{Step: step, Errno: errno}
	if errno == 0 || err.Error() != errno.Error() {
		e.Detail = err.Error()
	}
	return e
}
