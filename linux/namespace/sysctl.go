package namespace

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// ipcSysctls are the sysctls outside of fs.mqueue that an IPC namespace has for
// itself (ipc/ipc_sysctl.c).
var ipcSysctls = []string{
	"kernel/msgmax", "kernel/msgmnb", "kernel/msgmni", "kernel/msg_next_id",
	"kernel/sem", "kernel/sem_next_id",
	"kernel/shmall", "kernel/shmmax", "kernel/shmmni", "kernel/shm_next_id", "kernel/shm_rmid_forced",
	"kernel/auto_msgmni",
}

// CheckSysctl returns ErrInvalidArgument unless the sysctl belongs to one of the
// given kinds of namespace: any other would be written for the whole host.
func CheckSysctl(name string, kinds []Kind) error {
	file, err := sysctlFile(name)
	if err != nil {
		return err
	}
	need := Kind("")
	switch {
	case strings.HasPrefix(file, "net/"):
		need = Net
	case isIPC(file):
		need = IPC
	case file == "kernel/domainname":
		need = UTS
	case file == "kernel/hostname":
		return fmt.Errorf("sysctl %q: set by the pod's hostname: %w", name, errdefs.ErrInvalidArgument)
	default:
		return fmt.Errorf("sysctl %q: is not separated by any namespace: %w", name, errdefs.ErrInvalidArgument)
	}
	if !slices.Contains(kinds, need) {
		return fmt.Errorf("sysctl %q: the pod shares the %s namespace of the host: %w", name, need, errdefs.ErrInvalidArgument)
	}
	return nil
}

func isIPC(file string) bool {
	return strings.HasPrefix(file, "fs/mqueue/") || slices.Contains(ipcSysctls, file)
}

// SetSysctl writes a sysctl as the calling thread sees it, below /proc/sys,
// which is verified to be procfs. It does not ask whether the sysctl is
// namespaced; see CheckSysctl. For use in setup.
func SetSysctl(name, value string) error {
	file, err := sysctlFile(name)
	if err != nil {
		return err
	}
	proc, err := open("/proc", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return fmt.Errorf("set sysctl %q: %w", name, err)
	}
	defer unix.Close(proc)
	var st unix.Statfs_t
	if err := retry(func() error { return unix.Fstatfs(proc, &st) }); err != nil {
		return fmt.Errorf("set sysctl %q: statfs /proc: %w", name, err)
	}
	if st.Type != unix.PROC_SUPER_MAGIC {
		return fmt.Errorf("set sysctl %q: /proc is not procfs: %w", name, errdefs.ErrFailedPrecondition)
	}
	// Nothing mounted over /proc/sys and no link can lead the write elsewhere.
	how := unix.OpenHow{
		Flags:   unix.O_WRONLY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	}
	fd := -1
	err = retry(func() (err error) {
		fd, err = unix.Openat2(proc, "sys/"+file, &how)
		if err == unix.EAGAIN { // a rename somewhere raced with the walk
			err = unix.EINTR
		}
		return err
	})
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("set sysctl %q: this kernel has none: %w", name, errdefs.ErrInvalidArgument)
	}
	if err != nil {
		return fmt.Errorf("set sysctl %q: open: %w", name, err)
	}
	defer unix.Close(fd)
	err = retry(func() error { _, err := unix.Write(fd, []byte(value)); return err })
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ERANGE) {
		return fmt.Errorf("set sysctl %q to %q: %w: %w", name, value, err, errdefs.ErrInvalidArgument)
	}
	if err != nil {
		return fmt.Errorf("set sysctl %q to %q: %w", name, value, err)
	}
	return nil
}

// sysctlFile turns a sysctl name into its path below /proc/sys. As in sysctl(8)
// the first separator decides: "net.ipv4.conf.eth0/1.mtu" means the interface
// eth0.1, and so does "net/ipv4/conf/eth0.1/mtu".
func sysctlFile(name string) (string, error) {
	file := name
	if i := strings.IndexAny(name, "./"); i >= 0 && name[i] == '.' {
		file = strings.Map(func(r rune) rune {
			switch r {
			case '.':
				return '/'
			case '/':
				return '.'
			}
			return r
		}, name)
	}
	if file == "" || strings.HasPrefix(file, "/") || path.Clean(file) != file || strings.HasPrefix(file, "../") || file == ".." || strings.ContainsRune(file, 0) {
		return "", fmt.Errorf("sysctl %q: not a name: %w", name, errdefs.ErrInvalidArgument)
	}
	return file, nil
}
