package main

import (
	"syscall"

	"github.com/berth-cri/berth/runtime/oci/embedded/plan"
)

// findProgram looks the program up as the user and in the directory that it
// will run with, and prepares everything that execve needs: after the seccomp
// filter nothing but execve itself may be possible.
func (c *container) findProgram(s *plan.Program) error {
	if len(s.Args) == 0 {
		return explained{syscall.EINVAL, "no program is given"}
	}
	path, err := lookUp(s.Args[0], s.Env)
	if err != nil {
		return err
	}
	c.program = s.Args[0]
	c.path = cstring(path)
	c.argv = vector(s.Args)
	c.env = vector(s.Env)
	if err := resetSignals(s.IgnoreChildren); err != nil {
		return explain(err, "signals")
	}
	c.mask = s.KeepSignals
	// Whatever is still open ends with execve, the control socket too.
	if err := just(sysCloseRange, 3, allFds, closeRangeCloexec); err != nil {
		return explain(err, "close descriptors")
	}
	// From here on the launcher might not hear of a failure any more. It being
	// gone is one: nobody would be the container's parent.
	return tell([]byte{plan.Ready})
}

func vector(texts []string) []*byte {
	v := make([]*byte, 0, len(texts)+1)
	for _, t := range texts {
		v = append(v, cstring(t))
	}
	return append(v, nil)
}

// defaultPath is searched for a container without PATH in its environment.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func lookUp(name string, env []string) (string, error) {
	quoted := `"` + name + `": `
	for i := range len(name) {
		if name[i] != '/' {
			continue
		}
		err := executable(name)
		switch err {
		case nil:
			return name, nil
		case syscall.ENOENT, syscall.ENOTDIR:
			return "", explain(err, quoted+"stat "+name)
		case syscall.EISDIR:
			return "", explained{syscall.EISDIR, quoted + "is a directory"}
		}
		return "", explained{err.(syscall.Errno), quoted + err.Error()}
	}
	list := defaultPath
	for _, e := range env {
		if len(e) >= 5 && e[:5] == "PATH=" {
			list = e[5:] // the last one counts, as for a shell
		}
	}
	failure := explained{syscall.ENOENT, quoted + "executable file not found in $PATH"}
	for list != "" && name != "" {
		var dir string
		dir, list = cut(list, ':')
		if dir == "" || dir[0] != '/' {
			continue // nothing of the working directory is run unasked
		}
		err := executable(dir + "/" + name)
		if err == nil {
			return dir + "/" + name, nil
		}
		if err == syscall.EACCES {
			failure = explained{syscall.EACCES, quoted + err.Error()}
		}
	}
	return "", failure
}

func executable(path string) error {
	st := new(syscall.Stat_t)
	if err := just(sysNewfstatat, cwdFd, str(path), ptr(st), 0); err != nil {
		return err
	}
	if st.Mode&syscall.S_IFMT == syscall.S_IFDIR {
		return syscall.EISDIR
	}
	return just(syscall.SYS_FACCESSAT, cwdFd, str(path), 1) // X_OK, for the real user
}

// resetSignals gives every signal its default action. Caught ones go by execve,
// but what the monitor ignores the program would ignore as well.
func resetSignals(ignoreChildren bool) error {
	action := new([4]uint64) // struct sigaction of the kernel, the handler first
	for n := uintptr(1); n <= 64; n++ {
		if _, err := call(syscall.SYS_RT_SIGACTION, n, 0, ptr(action), sizeofKernelSigset); err != nil {
			return err
		}
		wanted := uint64(0)
		if ignoreChildren && n == uintptr(syscall.SIGCHLD) {
			wanted = ignoreSignal
		}
		if action[0] != ignoreSignal && wanted == 0 || n == uintptr(syscall.SIGKILL) || n == uintptr(syscall.SIGSTOP) {
			continue
		}
		*action = [4]uint64{wanted}
		if err := just(syscall.SYS_RT_SIGACTION, n, ptr(action), 0, sizeofKernelSigset); err != nil {
			return err
		}
	}
	return nil
}

// loadSeccomp loads the filter for this thread, the only one that will be left.
func loadSeccomp(s *plan.Seccomp) error {
	const size = 8 // of an instruction
	if len(s.Filter) == 0 || len(s.Filter)%size != 0 {
		return explained{syscall.EINVAL, "the filter is damaged"}
	}
	type program struct { // struct sock_fprog
		length uint16
		filter uintptr
	}
	p := &program{uint16(len(s.Filter) / size), ptr(&s.Filter[0])}
	return just(sysSeccomp, seccompSetFilter, uintptr(s.Flags), ptr(p))
}

func (c *container) exec() error {
	if len(c.argv) == 0 {
		return explained{syscall.EINVAL, "no program was looked up"}
	}
	mask := new(uint64)
	*mask = c.mask
	if err := just(syscall.SYS_RT_SIGPROCMASK, signalSetMask, ptr(mask), 0, sizeofKernelSigset); err != nil {
		return explain(err, "signal mask")
	}
	err := just(syscall.SYS_EXECVE, ptr(c.path), ptr(&c.argv[0]), ptr(&c.env[0]))
	quoted := `"` + c.program + `": `
	if err == syscall.ENOENT {
		// It was there when it was looked up.
		return explained{syscall.ENOENT, quoted + "its interpreter does not exist"}
	}
	return explained{err.(syscall.Errno), quoted + err.Error()}
}
