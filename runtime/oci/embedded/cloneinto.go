package embedded

import (
	"encoding/binary"
	"path/filepath"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/linux"
)

// userOf is the path of the user namespace that a start joins; empty for the
// host's.
func userOf(s Start) string {
	for _, ns := range s.Prepared.Join {
		if ns.Type == specs.UserNamespace {
			return ns.Path
		}
	}
	return ""
}

// lowest is a descriptor number above those that berth-init gets.
const lowest = 64

// cloneInto forks the calling thread, with its namespaces, into a berth-init in
// the user namespace.
func (l *Launcher) cloneInto(c *child, s Start, user string, fds []int) (err error) {
	own(fds[:3], s.Prepared.UID)
	var open []int // to be closed again; the fork's are closed by execve
	defer func() {
		for _, fd := range open {
			unix.Close(fd)
		}
	}()
	keep := func(fd int, err error) (uintptr, error) {
		if err == nil {
			open = append(open, fd)
		}
		return uintptr(fd), err
	}
	e := &entry{flags: s.Prepared.CloneFlags, clone: cloneArgs{exitSignal: uint64(unix.SIGCHLD)}}
	if e.userns, err = keep(unix.Open(user, unix.O_RDONLY|unix.O_CLOEXEC, 0)); err != nil {
		return stepError("user namespace "+user, err)
	}
	if dir := s.Cgroup.V2Dir; dir != "" {
		cgroup, err := keep(unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0))
		if err != nil {
			return stepError("cgroup "+dir, err)
		}
		e.clone.flags, e.clone.cgroup = unix.CLONE_INTO_CGROUP, uint64(cgroup)
	}
	for _, procs := range s.Cgroup.Procs {
		if dir := filepath.Dir(procs); dir != s.Cgroup.V2Dir {
			tasks, err := syscall.BytePtrFromString(dir + "/tasks")
			if err != nil {
				return stepError("cgroup "+dir, err)
			}
			e.tasks = append(e.tasks, tasks)
		}
	}
	for _, fd := range fds {
		high, err := keep(unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, lowest))
		if err != nil {
			return stepError("pass descriptors", err)
		}
		e.fds = append(e.fds, high)
	}
	if e.program, err = keep(unix.FcntlInt(l.program.Fd(), unix.F_DUPFD_CLOEXEC, lowest)); err != nil {
		return stepError("pass descriptors", err)
	}
	e.name = new(byte)
	argv, _ := syscall.SlicePtrFromStrings([]string{"berth-init"})
	env, _ := syscall.SlicePtrFromStrings(initEnv)
	e.argv, e.env = &argv[0], &env[0]
	if c.pid, err = e.fork(s); err != nil {
		return err
	}
	if c.pidfd, err = linux.PidfdOpen(c.pid); err != nil { // nobody has reaped it
		_ = unix.Kill(c.pid, unix.SIGKILL)
		reap(c.pid)
		return stepError("start berth-init", err)
	}
	return nil
}

// fork returns when the child has become berth-init.
func (e *entry) fork(s Start) (pid int, err error) {
	var notes [2]int
	if err := unix.Pipe2(notes[:], unix.O_CLOEXEC); err != nil {
		return 0, stepError("start berth-init", err)
	}
	defer unix.Close(notes[0])
	high, err := unix.FcntlInt(uintptr(notes[1]), unix.F_DUPFD_CLOEXEC, lowest)
	unix.Close(notes[1])
	if err != nil {
		return 0, stepError("pass descriptors", err)
	}
	e.notes = uintptr(high)

	syscall.ForkLock.Lock()
	first, errno := enter(e)
	syscall.ForkLock.Unlock()
	unix.Close(high)
	if errno != 0 {
		return 0, forkError(s, errno)
	}
	pid = int(first)
	for b := make([]byte, 8); ; {
		n, err := unix.Read(notes[0], b)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n != len(b) { // the end: execve has closed it
			break
		}
		told := note{binary.NativeEndian.Uint32(b), binary.NativeEndian.Uint32(b[4:])}
		if told.step == noteChild {
			pid = int(told.value)
			continue
		}
		reap(int(first))
		if pid != int(first) {
			reap(pid)
		}
		if int(told.step) >= len(noteSteps) {
			told.step = noteFork
		}
		return 0, &StepError{Step: noteSteps[told.step], Errno: syscall.Errno(told.value)}
	}
	if pid != int(first) {
		reap(int(first))
	}
	return pid, nil
}

// reap waits for a process that has ended or is about to.
func reap(pid int) {
	for {
		if _, err := unix.Wait4(pid, nil, unix.WALL, nil); err != unix.EINTR {
			return // ECHILD: the monitor reaps every child
		}
	}
}

// raiseLimits gives the process hard limits that it has no right to itself.
func raiseLimits(pid int, wanted []HardLimit) error {
	for _, w := range wanted {
		var has unix.Rlimit
		if err := unix.Prlimit(pid, w.Resource, nil, &has); err != nil {
			return stepError("resource limits", err)
		}
		if w.Limit <= has.Max {
			continue
		}
		has.Max = w.Limit
		if err := unix.Prlimit(pid, w.Resource, &has, nil); err != nil {
			return stepError("resource limits", err)
		}
	}
	return nil
}

// own gives the user of a container the pipes that are its standard streams. In a
// user namespace berth-init has no right to.
func own(fds []int, uid uint32) {
	for _, fd := range fds {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO && st.Uid != uid {
			_ = unix.Fchown(fd, int(uid), -1)
		}
	}
}
