package namespace

import (
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Kind is a kind of namespace, named as in /proc/PID/ns.
type Kind string

// The kinds that can be pinned. PID and User come from a process (PinProcess,
// PinUser): the first is made by a clone, and unshare(CLONE_NEWUSER) is refused to
// a process with several threads.
const (
	Net  Kind = "net"
	IPC  Kind = "ipc"
	UTS  Kind = "uts"
	PID  Kind = "pid"
	User Kind = "user"
)

var cloneFlags = map[Kind]int{
	Net:  unix.CLONE_NEWNET,
	IPC:  unix.CLONE_NEWIPC,
	UTS:  unix.CLONE_NEWUTS,
	PID:  unix.CLONE_NEWPID,
	User: unix.CLONE_NEWUSER,
}

// CloneFlag is the CLONE_NEW* bit of the kind, 0 for an unknown kind.
func (k Kind) CloneFlag() int { return cloneFlags[k] }

// Path is where the pin of a kind lies below dir.
func Path(dir string, k Kind) string { return filepath.Join(dir, string(k)) }
