package namespace

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Pin makes new namespaces of the given kinds (net, ipc, uts), runs setup
// inside all of them (nil: nothing) and pins each as dir/<kind>. It returns the
// path of every pin. On error nothing of it stays.
//
// dir is made when missing. A pin that is already there is ErrAlreadyExists:
// mounting over it would hide a namespace that somebody may still use.
func Pin(dir string, kinds []Kind, setup func() error) (map[Kind]string, error) {
	flags := 0
	for _, k := range kinds {
		if err := checkUnshared(k); err != nil {
			return nil, err
		}
		flags |= k.CloneFlag()
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("pin namespaces: %w", err)
	}
	pins := make(map[Kind]string, len(kinds))
	err := OnThread(func() error {
		if flags != 0 {
			if err := unix.Unshare(flags); err != nil {
				return fmt.Errorf("unshare %v: %w", kinds, err)
			}
		}
		if setup != nil {
			if err := setup(); err != nil {
				return fmt.Errorf("set up namespaces: %w", err)
			}
		}
		for _, k := range kinds {
			path := Path(dir, k)
			// thread-self: the other threads are still at home.
			if err := bind("/proc/thread-self/ns/"+string(k), path); err != nil {
				return fmt.Errorf("pin %s namespace: %w", k, err)
			}
			pins[k] = path
		}
		return nil
	})
	if err == nil {
		return pins, nil
	}
	for _, path := range pins {
		err = errors.Join(err, unpin(path))
	}
	_ = os.Remove(dir) // only when empty, so only when nobody else uses it
	return nil, err
}

func checkUnshared(k Kind) error {
	if !slices.Contains([]Kind{Net, IPC, UTS}, k) {
		return fmt.Errorf("pin %s namespace: not made by unshare: %w", k, errdefs.ErrInvalidArgument)
	}
	return nil
}

// PinProcess pins a namespace of a living process as dir/<kind> and returns the
// path. The caller keeps the process from being reaped meanwhile.
func PinProcess(dir string, pid int, k Kind) (string, error) {
	if k.CloneFlag() == 0 {
		return "", fmt.Errorf("pin %s namespace: unknown kind: %w", k, errdefs.ErrInvalidArgument)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("pin %s namespace of process %d: %w", k, pid, err)
	}
	path := Path(dir, k)
	if err := bind("/proc/"+strconv.Itoa(pid)+"/ns/"+string(k), path); err != nil {
		return "", fmt.Errorf("pin %s namespace of process %d: %w", k, pid, err)
	}
	return path, nil
}

// Unpin unmounts and unlinks every pin below dir, then removes dir when nothing
// else is in it. It is idempotent; a dir that is gone is success.
//
// Both are needed: a mount namespace that holds a private copy of the mount
// keeps the network alive after our umount, and only the unlink of the mount
// point detaches it there.
func Unpin(dir string) error {
	var errs []error
	for k := range cloneFlags {
		if err := unpin(Path(dir, k)); err != nil {
			errs = append(errs, fmt.Errorf("unpin %s namespace: %w", k, err))
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTEMPTY) {
		errs = append(errs, fmt.Errorf("unpin namespaces: %w", err))
	}
	return errors.Join(errs...)
}

// Pinned lists the pins below dir that are namespaces now. A bare file, left by
// an interrupted Pin or by a reboot on a disk, is not one.
func Pinned(dir string) (map[Kind]string, error) {
	pins := map[Kind]string{}
	for k := range cloneFlags {
		path := Path(dir, k)
		is, err := Is(path)
		if err != nil {
			return nil, err
		}
		if is {
			pins[k] = path
		}
	}
	return pins, nil
}

// Is tells whether path is a namespace: an inode of nsfs. A path that does not
// exist is not.
func Is(path string) (bool, error) {
	var st unix.Statfs_t
	err := retry(func() error { return unix.Statfs(path, &st) })
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look at namespace %s: %w", path, err)
	}
	return st.Type == unix.NSFS_MAGIC, nil
}

// Same tells whether two paths (/proc/PID/ns/mnt, a pin) are one namespace.
func Same(a, b string) (bool, error) {
	var sa, sb unix.Stat_t
	if err := retry(func() error { return unix.Stat(a, &sa) }); err != nil {
		return false, fmt.Errorf("look at namespace %s: %w", a, err)
	}
	if err := retry(func() error { return unix.Stat(b, &sb) }); err != nil {
		return false, fmt.Errorf("look at namespace %s: %w", b, err)
	}
	return sa.Dev == sb.Dev && sa.Ino == sb.Ino, nil
}

// bind mounts the namespace source on a new file at path.
func bind(source, path string) error {
	fd, err := open(path, unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_RDONLY, 0o600)
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("%s: %w", path, errdefs.ErrAlreadyExists)
	}
	if err != nil {
		return err
	}
	unix.Close(fd)
	err = retry(func() error { return unix.Mount(source, path, "", unix.MS_BIND, "") })
	if err != nil {
		_ = unix.Unlink(path)
		return &os.PathError{Op: "bind " + source, Path: path, Err: err}
	}
	return nil
}

func unpin(path string) error {
	// More than one mount can lie on the file when a shared mount came back by
	// propagation; EINVAL says that none is left.
	for {
		err := retry(func() error { return unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) })
		if errors.Is(err, unix.EINVAL) {
			break
		}
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
			return nil
		}
		if err != nil {
			return &os.PathError{Op: "umount", Path: path, Err: err}
		}
	}
	err := retry(func() error { return unix.Unlink(path) })
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "unlink", Path: path, Err: err}
	}
	return nil
}

func open(path string, flags int, perm uint32) (int, error) {
	fd := -1
	err := retry(func() (err error) {
		fd, err = unix.Open(path, flags|unix.O_CLOEXEC, perm)
		return err
	})
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

func retry(fn func() error) error {
	for {
		if err := fn(); err != unix.EINTR {
			return err
		}
	}
}
