package embedded

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/linux"
	"github.com/berth-cri/berth/runtime/oci"
)

var _ oci.Runtime = (*Launcher)(nil)

// Launcher starts the processes of prepared containers and execs. It is safe for
// concurrent use.
type Launcher struct {
	program *os.File // berth-init; kept, or the garbage collector would close it
	sealed  bool
	null    *os.File
	home    map[specs.LinuxNamespaceType]*os.File // the host's namespaces
	slots   chan struct{}                         // one for each thread that may be abroad
}

// maxThreads bounds the threads that are in other namespaces. Forks of one
// process exclude each other in any case (syscall.ForkLock).
const maxThreads = 4

// NewLauncher takes berth-init from the path, into memory where the host allows
// that to be executed. Otherwise the file is run in place, through a mount that
// cannot be written.
func NewLauncher(initPath string) (*Launcher, error) {
	l := &Launcher{home: map[specs.LinuxNamespaceType]*os.File{}, slots: make(chan struct{}, maxThreads)}
	if err := l.load(initPath); err != nil {
		return nil, fmt.Errorf("load berth-init: %w", err)
	}
	var err error
	if l.null, err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
		l.Close()
		return nil, err
	}
	for kind, name := range namespaceFiles {
		if l.home[kind], err = os.Open("/proc/self/ns/" + name); err != nil {
			l.Close()
			return nil, fmt.Errorf("the host's namespaces: %w", err)
		}
	}
	return l, nil
}

// namespaceFiles are the names in /proc/PID/ns of what a thread joins for a
// child. A mount namespace is joined by the child itself.
var namespaceFiles = map[specs.LinuxNamespaceType]string{
	specs.PIDNamespace:     "pid",
	specs.NetworkNamespace: "net",
	specs.IPCNamespace:     "ipc",
	specs.UTSNamespace:     "uts",
	specs.CgroupNamespace:  "cgroup",
}

// load is tried: whether an anonymous file may be executed is a matter of
// sysctls and security modules.
func (l *Launcher) load(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	program, err := linux.SealedProgram("berth-init", file)
	if err != nil {
		return l.loadFromDisk(path)
	}
	l.program, l.sealed = program, true
	return nil
}

func (l *Launcher) loadFromDisk(path string) (err error) {
	l.program, err = linux.ReadonlyProgram(path)
	return err
}

// Sealed says whether berth-init runs from sealed memory, not from the disk.
func (l *Launcher) Sealed() bool { return l.sealed }

// Close lets go of the launcher's descriptors. No start may be in progress.
func (l *Launcher) Close() {
	for _, f := range l.home {
		f.Close()
	}
	if l.null != nil {
		l.null.Close()
	}
	if l.program != nil {
		l.program.Close()
	}
}

// Start implements oci.Runtime.
func (l *Launcher) Start(ctx context.Context, s Start) (*Process, error) {
	select {
	case l.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	child, err := l.fork(s)
	if err != nil {
		return nil, err
	}
	defer child.control.Close()
	if child.outside != nil {
		defer child.outside.leave()
	}
	p, err := child.release(ctx, l, s)
	if err != nil {
		child.end()
		return nil, err
	}
	p.Warning = poststart(ctx, s, p.Pid)
	return p, nil
}

// fork runs on a thread that leaves its slot free when it is home again.
func (l *Launcher) fork(s Start) (c *child, err error) {
	var done sync.WaitGroup
	done.Add(1)
	go func() {
		defer done.Done()
		runtime.LockOSThread()
		var joined []specs.LinuxNamespaceType
		outside, trees, err1 := l.forkOutside(s) // before the thread leaves
		if err = err1; err == nil {
			joined, err = l.join(s)
		}
		if err == nil {
			c, err = l.clone(s, trees)
		}
		if trees >= 0 {
			unix.Close(trees)
		}
		switch {
		case err == nil:
			c.outside = outside
		case outside != nil:
			outside.leave()
		}
		if l.comeHome(joined) == nil {
			runtime.UnlockOSThread()
		} // otherwise the thread ends with this function
		<-l.slots
	}()
	done.Wait()
	return c, err
}
