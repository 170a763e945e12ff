package embedded

import (
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// joinedByExec are the namespaces of a running container that a child must be
// born in or that are joined along the way. Its mount and cgroup namespaces
// berth-init joins itself.
var joinedByExec = []specs.LinuxNamespaceType{
	specs.PIDNamespace, specs.NetworkNamespace, specs.IPCNamespace, specs.UTSNamespace,
}

// join brings the calling thread into the namespaces of the start and returns
// those that it has to come home from.
func (l *Launcher) join(s Start) (joined []specs.LinuxNamespaceType, err error) {
	if s.TargetPidfd != nil {
		flags := 0
		for _, kind := range joinedByExec {
			flags |= cloneFlag[kind]
		}
		err := withFd(s.TargetPidfd, func(fd int) error { return setns(fd, flags) })
		if err == unix.ESRCH {
			return joinedByExec, &StepError{Step: "join the container", Errno: unix.ESRCH, Detail: "it is not running"}
		}
		// On an error none was joined, but coming home from none is harmless.
		return joinedByExec, stepError("join the container", err)
	}
	for _, ns := range s.Prepared.Join {
		if ns.Type == specs.UserNamespace {
			continue // see cloneInto
		}
		step := "join the " + string(ns.Type) + " namespace " + ns.Path
		if namespaceFiles[ns.Type] == "" {
			return joined, &StepError{Step: step, Errno: unix.EINVAL, Detail: "namespaces of this type cannot be joined"}
		}
		fd, err := unix.Open(ns.Path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return joined, stepError(step, err)
		}
		err = setns(fd, cloneFlag[ns.Type])
		unix.Close(fd)
		if err != nil {
			return joined, stepError(step, err)
		}
		joined = append(joined, ns.Type)
	}
	return joined, nil
}

// comeHome brings the calling thread back into the host's namespaces.
func (l *Launcher) comeHome(joined []specs.LinuxNamespaceType) error {
	for _, kind := range joined {
		if err := withFd(l.home[kind], func(fd int) error { return setns(fd, cloneFlag[kind]) }); err != nil {
			return err
		}
	}
	return nil
}

func setns(fd, flags int) error {
	for {
		if err := unix.Setns(fd, flags); err != unix.EINTR {
			return err
		}
	}
}

// withFd uses a file's descriptor without making it blocking, as Fd does.
func withFd(f *os.File, use func(fd int) error) error {
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
