package embedded

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A user namespace can be joined by a process of one thread only, so Go's own
// fork is of no use: what it starts is berth-init, which has several. Here the
// fork, a copy of this process with one thread, joins first and then becomes
// berth-init. A new PID namespace has to belong to the user namespace: it comes
// with a second fork, whose parent is nevertheless this process (CLONE_PARENT).

// entry is what the fork needs.
type entry struct {
	clone   cloneArgs
	tasks   []*byte // of cgroup v1, joined as root of the host
	userns  uintptr // a descriptor, as the following ones
	program uintptr
	fds     []uintptr // become 0, 1, …; none is one of these numbers
	notes   uintptr   // where the fork tells what becomes of it
	flags   uintptr   // CLONE_NEW* that the user namespace is to own
	name    *byte     // of the program, which is empty: it is a descriptor
	argv    **byte
	env     **byte
	note    note
}

// note is what the fork tells: the id of the second one, or what failed.
type note struct{ step, value uint32 }

const (
	noteChild = iota // no failure: value is the id of the second fork
	noteCgroup
	noteJoin
	noteIDs
	noteFork
	noteNamespaces
	noteDescriptors
	noteExec
)

var noteSteps = [...]string{
	noteCgroup: "cgroup", noteJoin: "join the user namespace", noteIDs: "become root of the user namespace",
	noteFork: "start berth-init", noteNamespaces: "new namespaces", noteDescriptors: "pass descriptors",
	noteExec: "execute berth-init",
}

// cloneArgs is struct clone_args.
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// What the runtime does around a fork; also gVisor links to these, which keeps
// them (go.dev/issue/67401).

//go:linkname beforeFork syscall.runtime_BeforeFork
func beforeFork()

//go:linkname afterFork syscall.runtime_AfterFork
func afterFork()

//go:linkname afterForkInChild syscall.runtime_AfterForkInChild
func afterForkInChild()

// enter forks. It returns in the parent only.
//
// In the child nothing is possible but system calls with arguments that were
// made before: no other thread is there to give back a lock, to collect garbage
// or to grow the stack (see syscall.forkAndExecInChild).
//
//go:noinline
//go:norace
//go:nocheckptr
func enter(e *entry) (pid uintptr, errno syscall.Errno) {
	var (
		zero = [1]byte{'0'}
		n    uintptr
		i    int
	)
	beforeFork()
	pid, _, errno = syscall.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&e.clone)), unsafe.Sizeof(e.clone), 0)
	if errno != 0 || pid != 0 {
		afterFork()
		return pid, errno
	}
	afterForkInChild()
	// In a shared PID namespace others could look into this copy of the monitor.
	syscall.RawSyscall6(syscall.SYS_PRCTL, syscall.PR_SET_DUMPABLE, 0, 0, 0, 0, 0)
	e.note.step = noteCgroup
	for i = 0; i < len(e.tasks); i++ {
		n, _, errno = syscall.RawSyscall6(syscall.SYS_OPENAT, atCwd, uintptr(unsafe.Pointer(e.tasks[i])), syscall.O_WRONLY|syscall.O_CLOEXEC, 0, 0, 0)
		if errno != 0 {
			goto failed
		}
		if _, _, errno = syscall.RawSyscall(syscall.SYS_WRITE, n, uintptr(unsafe.Pointer(&zero)), 1); errno != 0 { // 0: this thread
			goto failed
		}
		syscall.RawSyscall(syscall.SYS_CLOSE, n, 0, 0)
	}
	e.note.step = noteJoin
	if _, _, errno = syscall.RawSyscall(unix.SYS_SETNS, e.userns, unix.CLONE_NEWUSER, 0); errno != 0 {
		goto failed
	}
	e.note.step = noteIDs
	if _, _, errno = syscall.RawSyscall(syscall.SYS_SETGROUPS, 0, 0, 0); errno != 0 {
		goto failed
	}
	if _, _, errno = syscall.RawSyscall(syscall.SYS_SETRESGID, 0, 0, 0); errno != 0 {
		goto failed
	}
	if _, _, errno = syscall.RawSyscall(syscall.SYS_SETRESUID, 0, 0, 0); errno != 0 {
		goto failed
	}
	if e.flags&syscall.CLONE_NEWPID != 0 {
		e.note.step = noteFork
		n, _, errno = syscall.RawSyscall6(syscall.SYS_CLONE, e.flags|syscall.CLONE_PARENT|uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
		if errno != 0 {
			goto failed
		}
		if n != 0 {
			e.note.step, e.note.value = noteChild, uint32(n)
			syscall.RawSyscall(syscall.SYS_WRITE, e.notes, uintptr(unsafe.Pointer(&e.note)), unsafe.Sizeof(e.note))
			for {
				syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0)
			}
		}
	} else if e.flags != 0 {
		e.note.step = noteNamespaces
		if _, _, errno = syscall.RawSyscall(syscall.SYS_UNSHARE, e.flags, 0, 0); errno != 0 {
			goto failed
		}
	}
	e.note.step = noteDescriptors
	for i = 0; i < len(e.fds); i++ {
		if _, _, errno = syscall.RawSyscall(syscall.SYS_DUP3, e.fds[i], uintptr(i), 0); errno != 0 {
			goto failed
		}
	}
	e.note.step = noteExec
	_, _, errno = syscall.RawSyscall6(unix.SYS_EXECVEAT, e.program, uintptr(unsafe.Pointer(e.name)),
		uintptr(unsafe.Pointer(e.argv)), uintptr(unsafe.Pointer(e.env)), unix.AT_EMPTY_PATH, 0)
failed:
	e.note.value = uint32(errno)
	syscall.RawSyscall(syscall.SYS_WRITE, e.notes, uintptr(unsafe.Pointer(&e.note)), unsafe.Sizeof(e.note))
	for {
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 1, 0, 0)
	}
}

const atCwd = ^uintptr(99) // AT_FDCWD
