package embedded

import (
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/linux"
	"github.com/berth-cri/berth/runtime/oci/embedded/plan"
)

// CompileReaper makes the plan of the process 1 of a pod whose containers share
// one PID namespace: it reaps until SIGTERM or SIGINT, and with it everything in
// the namespace ends. join are the pod's pinned namespaces; the PID namespace is
// new. user is who it runs as; of the SELinux labels, either may be empty.
//
// The process is a program of a few instructions in an otherwise empty root: 500
// pods should not carry 500 Go runtimes. The kernel reaps for it, since SIGCHLD
// is ignored, and keeps the blocked SIGTERM for it; both survive execve.
func CompileReaper(join []Namespace, user uint32, processLabel, mountLabel string) (Prepared, error) {
	c := &compilation{spec: &specs.Spec{Linux: &specs.Linux{MountLabel: mountLabel}}, prepared: Prepared{Join: join, CloneFlags: unix.CLONE_NEWNS | unix.CLONE_NEWPID}}
	const program = "/berth-reaper"
	signals := uint64(1)<<(unix.SIGTERM-1) | 1<<(unix.SIGINT-1)
	c.add(
		&plan.Keyring{},
		&plan.Propagate{Flags: unix.MS_PRIVATE | unix.MS_REC},
		&plan.RootTmpfs{Options: c.label()},
		&plan.File{Path: program, Mode: 0o555, Data: linux.TinyProgram(reaperCode(signals))},
		&plan.ReadonlyMount{Path: "/"},
		&plan.PivotRoot{},
		&plan.Session{},
	)
	if err := c.labels(&specs.Process{SelinuxLabel: processLabel}); err != nil {
		return Prepared{}, err
	}
	c.add(
		&plan.NoNewPrivileges{},
		&plan.Bounding{},
		&plan.Chdir{Path: "/"},
		&plan.User{UID: user, GID: user},
		&plan.Capabilities{},
		&plan.Umask{Mask: 0o077},
		&plan.Program{Args: []string{program}, KeepSignals: signals, IgnoreChildren: true},
		&plan.Exec{},
	)
	return c.finish()
}

// Nobody is the user that pause containers run as.
const Nobody = 65535
