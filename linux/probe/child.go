package probe

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/linux"
	"github.com/berth-cri/berth/linux/namespace"
)

type childAttr = syscall.SysProcAttr

// newUserNamespace are the attributes of a child in a user namespace that maps
// nothing but root to itself.
func newUserNamespace() *childAttr {
	return &childAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}},
	}
}

// userNamespace makes one, and with the child's remains looks whether a pidfd
// tells the exit code after the reap.
func nothing(int) error { return nil }

func userNamespace() (userns, exitInfo Feature) {
	pidfd := -1
	attr := newUserNamespace()
	attr.PidFD = &pidfd
	err := namespace.WithChild(attr, nothing)
	if err != nil {
		// Without user namespaces an ordinary child tells about pidfds.
		attr = &childAttr{PidFD: &pidfd}
		if errPlain := namespace.WithChild(attr, nothing); errPlain != nil {
			return present(err), present(errPlain)
		}
	}
	return present(err), pidfdExitInfo(pidfd)
}

func pidfdExitInfo(fd int) Feature {
	if fd < 0 {
		return Feature{Why: "no pidfd"}
	}
	pidfd := os.NewFile(uintptr(fd), "pidfd")
	defer pidfd.Close()
	status, ok, err := linux.PidfdExit(pidfd)
	switch {
	case err != nil:
		return present(err)
	case !ok:
		return Feature{Why: "the kernel is older than 6.15"}
	case status.Signal() != unix.SIGKILL:
		return present(errors.New("the exit status is not that of the process"))
	}
	return Feature{OK: true}
}
