package probe

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

func openat2() Feature {
	fd, err := unix.Openat2(unix.AT_FDCWD, "/", &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return present(os.NewSyscallError("openat2", err))
	}
	unix.Close(fd)
	return Feature{OK: true}
}

// mountSetattr makes a detached copy of /proc read-only.
func mountSetattr() Feature {
	fd, err := unix.OpenTree(unix.AT_FDCWD, "/proc", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return present(os.NewSyscallError("open_tree", err))
	}
	defer unix.Close(fd)
	err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	return present(os.NewSyscallError("mount_setattr", err))
}

// hostMounts compares with process 1: a pin made in a copy of the host's mount
// namespace is seen by nobody outside and dies with it. A copy has new mount
// ids, and unlike /proc/1/ns/mnt they may be read without ptrace rights over
// process 1.
func hostMounts() Feature {
	own, err := rootMount("self")
	if err != nil {
		return present(err)
	}
	host, err := rootMount("1")
	if err == nil && own != host {
		err = errors.New("the mount namespace is not that of process 1")
	}
	return present(err)
}

// rootMount is the id of the mount that a process sees at /.
func rootMount(pid string) (int, error) {
	f, err := os.Open("/proc/" + pid + "/mountinfo")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	mounts, err := mountinfo.GetMountsFromReader(f, mountinfo.SingleEntryFilter("/"))
	if err == nil && len(mounts) == 0 {
		err = fmt.Errorf("%s has no line for /", f.Name())
	}
	if err != nil {
		return 0, err
	}
	return mounts[0].ID, nil
}

// sharedRoot looks whether / is in a peer group.
func sharedRoot() Feature {
	mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter("/"))
	if err != nil {
		return present(err)
	}
	for _, m := range mounts {
		if strings.Contains(m.Optional, "shared:") {
			return Feature{OK: true}
		}
	}
	return Feature{Why: "/ is a private mount"}
}

// memfdExec makes an executable anonymous file, as berth-init is run from one.
func memfdExec() Feature {
	fd, err := unix.MemfdCreate("berth-probe", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before 6.3 all were executable
		fd, err = unix.MemfdCreate("berth-probe", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return present(fmt.Errorf("%w (sysctl vm.memfd_noexec)", os.NewSyscallError("memfd_create", err)))
	}
	unix.Close(fd)
	return Feature{OK: true}
}
