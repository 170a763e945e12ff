package main

import (
	"syscall"

	"github.com/berth-cri/berth/runtime/oci/embedded/plan"
)

// container is what the steps so far have made. Descriptors are -1 until then.
type container struct {
	steps []plan.Step

	root    int                // the container's root directory
	sources map[*plan.Bind]int // clones of the mounts to be bound
	shared  bool               // mounts may propagate to the host
	cgroups map[string]string  // own cgroup by hierarchy
	nothing int                // a mounted /dev/null and
	empty   int                // a mounted empty directory, for masks

	given []int // trees from outside of the user namespace, in the order of their steps

	procfs   int // a procfs that is mounted nowhere
	terminal int // the slave

	cwd string // a working directory that root could not enter

	program   string // as it was asked for
	path      *byte  // where it was found
	argv, env []*byte
	mask      uint64 // signals that stay blocked
}

func newContainer(steps []plan.Step) *container {
	return &container{steps: steps, root: -1, nothing: -1, empty: -1, procfs: -1, terminal: -1}
}

func (c *container) carryOut(s plan.Step) error {
	switch s := s.(type) {
	case *plan.Keyring:
		return joinKeyring()
	case *plan.Propagate:
		return c.propagate(s)
	case *plan.RootOverlay:
		return c.rootOverlay(s)
	case *plan.RootBind:
		return c.rootBind(s)
	case *plan.RootTmpfs:
		return c.rootTmpfs(s)
	case *plan.RememberCgroups:
		return c.rememberCgroups()
	case *plan.CgroupNamespace:
		return just(syscall.SYS_UNSHARE, cloneNewCgroup)
	case *plan.Join:
		return c.join(s)
	case *plan.Loopback:
		return loopbackUp()
	case *plan.Sysctl:
		return c.writeProc("sys/"+s.Path, s.Value)
	case *plan.Hostname:
		return just(syscall.SYS_SETHOSTNAME, str(s.Name), uintptr(len(s.Name)))
	case *plan.Domainname:
		return just(syscall.SYS_SETDOMAINNAME, str(s.Name), uintptr(len(s.Name)))
	case *plan.Mount:
		return c.mount(s)
	case *plan.Bind:
		return c.bind(s)
	case *plan.Layers:
		return c.layers(s)
	case *plan.Outside:
		return c.attachGiven(s)
	case *plan.CgroupV1:
		return c.cgroupV1(s)
	case *plan.Device:
		return c.device(s)
	case *plan.Symlink:
		return c.symlink(s)
	case *plan.File:
		return c.file(s)
	case *plan.MakeDir:
		return c.makeDir(s)
	case *plan.ReadonlyPath:
		return c.readonlyPath(s)
	case *plan.MaskedPath:
		return c.maskedPath(s)
	case *plan.ReadonlyMount:
		return c.readonlyMount(s)
	case *plan.Terminal:
		return c.openTerminal(s)
	case *plan.PivotRoot:
		return c.pivotRoot(s)
	case *plan.Session:
		return c.session()
	case *plan.Pause:
		return pause(s)
	}
	return c.carryOutOnProcess(s)
}

// pause waits while the launcher runs hooks. Its errors are the launcher's to tell.
func pause(s *plan.Pause) error {
	if err := tell([]byte{plan.Paused, byte(s.Stage)}); err != nil {
		return err
	}
	if _, ok := released(); !ok {
		return syscall.ECANCELED
	}
	return nil
}

// carryOutOnProcess does the steps that change nothing but this process.
func (c *container) carryOutOnProcess(s plan.Step) error {
	switch s := s.(type) {
	case *plan.ExecLabel:
		return c.execLabel(s)
	case *plan.Scheduler:
		return setScheduler(s)
	case *plan.IOPriority:
		return just(sysIoprioSet, ioprioWhoProcess, 0, uintptr(s.Value))
	case *plan.Personality:
		return just(syscall.SYS_PERSONALITY, uintptr(s.Value))
	case *plan.NoNewPrivileges:
		return just(syscall.SYS_PRCTL, prSetNoNewPrivs, 1, 0, 0, 0)
	case *plan.Seccomp:
		return loadSeccomp(s)
	case *plan.Rlimit:
		return setRlimit(s)
	case *plan.Bounding:
		return limitBounding(s)
	case *plan.Chdir:
		return c.chdir(s)
	case *plan.User:
		return c.becomeUser(s)
	case *plan.Capabilities:
		return setCapabilities(s)
	case *plan.Umask:
		return just(syscall.SYS_UMASK, uintptr(s.Mask))
	case *plan.Program:
		return c.findProgram(s)
	case *plan.Exec:
		return c.exec()
	}
	return explained{syscall.ENOSYS, "not known to this berth-init"}
}

// just makes a system call of which only the success matters.
func just(number uintptr, a ...uintptr) error {
	_, err := call(number, a...)
	return err
}
