package probe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/linux"
	"github.com/berth-cri/berth/linux/namespace"
)

// Place is a file system that Berth puts things on.
type Place struct {
	Dir        string `json:"dir"` // the directory asked for, or the nearest above it that exists
	Filesystem string `json:"filesystem"`
	Free       uint64 `json:"free_bytes"`
	FreeInodes uint64 `json:"free_inodes"` // 0 where the file system has no such number
}

var filesystems = map[int64]string{
	unix.BTRFS_SUPER_MAGIC:     "btrfs",
	unix.EXT4_SUPER_MAGIC:      "ext4",
	unix.F2FS_SUPER_MAGIC:      "f2fs",
	unix.NFS_SUPER_MAGIC:       "nfs",
	unix.OVERLAYFS_SUPER_MAGIC: "overlay",
	unix.RAMFS_MAGIC:           "ramfs",
	unix.TMPFS_MAGIC:           "tmpfs",
	unix.XFS_SUPER_MAGIC:       "xfs",
	0x2fc12fc1:                 "zfs",
}

// At looks at the file system of dir, which need not exist yet.
func At(dir string) (Place, error) {
	dir, err := nearest(dir)
	if err != nil {
		return Place{}, err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return Place{}, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	name, ok := filesystems[int64(st.Type)]
	if !ok {
		name = fmt.Sprintf("type %#x", st.Type)
	}
	return Place{Dir: dir, Filesystem: name, Free: st.Bavail * uint64(st.Bsize), FreeInodes: st.Ffree}, nil
}

// nearest is dir or the lowest directory above it that exists.
func nearest(dir string) (string, error) {
	for {
		info, err := os.Stat(dir)
		if err == nil && !info.IsDir() {
			err = &os.PathError{Op: "use", Path: dir, Err: unix.ENOTDIR}
		}
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return dir, err
		}
		dir = filepath.Dir(dir)
	}
}

// Overlay is what overlayfs can do with writable layers on a file system.
type Overlay struct {
	Mount       Feature `json:"mount"`
	Volatile    Feature `json:"volatile"`     // no sync at unmount, 5.10
	AppendLower Feature `json:"append_lower"` // one call per lower layer, so any number, 6.8
	IDMapped    Feature `json:"id_mapped"`    // layers can show themselves under other ids, 5.19
}

// OverlayAt tries real mounts on the file system of dir, in a directory that
// it makes and removes.
func OverlayAt(dir string) Overlay {
	absent := func(err error) Overlay {
		f := present(err)
		return Overlay{Mount: f, Volatile: f, AppendLower: f, IDMapped: f}
	}
	dir, err := nearest(dir)
	if err != nil {
		return absent(err)
	}
	dir, err = os.MkdirTemp(dir, tryPrefix+"*")
	if err != nil {
		return absent(err)
	}
	defer os.RemoveAll(dir)

	o := Overlay{
		Mount: present(tryOverlay(dir, "plain", func(lower, upper, work, target string) error {
			return linux.Mount("overlay", target, "overlay", 0, "lowerdir="+lower+",upperdir="+upper+",workdir="+work)
		})),
		Volatile: present(tryOverlay(dir, "volatile", func(lower, upper, work, target string) error {
			return linux.Mount("overlay", target, "overlay", 0, "volatile,lowerdir="+lower+",upperdir="+upper+",workdir="+work)
		})),
		AppendLower: present(tryOverlay(dir, "append", func(lower, _, _, _ string) error {
			return appendLower(lower)
		})),
	}
	o.IDMapped = present(idMapped(dir))
	return o
}

// UserNamespacesAt says whether containers with layers on the file system of dir
// can have a user namespace of their own. It tries that in a directory that it
// makes and removes.
func UserNamespacesAt(dir string) Feature {
	dir, err := nearest(dir)
	if err != nil {
		return present(err)
	}
	if dir, err = os.MkdirTemp(dir, tryPrefix+"*"); err != nil {
		return present(err)
	}
	defer os.RemoveAll(dir)
	return present(idMapped(dir))
}

// tryPrefix starts the names of the directories that tries are made in.
const tryPrefix = ".berth-probe-"

// tryLimit is far longer than any try takes.
const tryLimit = time.Minute

// RemoveLeftovers removes from dir what a process that was killed during a try
// has left. Mounts are none: they ended with it.
func RemoveLeftovers(dir string) error {
	all, err := filepath.Glob(filepath.Join(dir, tryPrefix+"*")) // dir has no pattern in it, or nothing is found
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range all {
		if info, err := os.Lstat(path); err == nil && info.IsDir() && time.Since(info.ModTime()) > tryLimit {
			errs = append(errs, os.RemoveAll(path))
		}
	}
	return errors.Join(errs...)
}

// tryOverlay calls mount in a mount namespace of its own. Each try has its own
// directories, since a volatile mount marks them.
func tryOverlay(dir, name string, mount func(lower, upper, work, target string) error) error {
	paths := map[string]string{}
	for _, d := range []string{"lower", "upper", "work", "target"} {
		paths[d] = filepath.Join(dir, name, d)
		if err := os.MkdirAll(paths[d], 0o755); err != nil {
			return err
		}
	}
	return namespace.OnThread(func() error {
		// The file system context belongs to all threads; setting a mount
		// namespace alone wants it unshared.
		if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			return os.NewSyscallError("unshare", err)
		}
		if err := linux.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return err
		}
		return mount(paths["lower"], paths["upper"], paths["work"], paths["target"])
	})
}

// appendLower makes a detached read-only overlay of two lower layers by the
// new mount API.
func appendLower(lower string) error {
	second := lower + "2"
	if err := os.Mkdir(second, 0o755); err != nil {
		return err
	}
	fd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(fd)
	for _, l := range []string{lower, second} {
		if err := unix.FsconfigSetString(fd, "lowerdir+", l); err != nil {
			return os.NewSyscallError("fsconfig lowerdir+", err)
		}
	}
	if err := unix.FsconfigCreate(fd); err != nil {
		return os.NewSyscallError("fsconfig create", err)
	}
	mnt, err := unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("fsmount", err)
	}
	return unix.Close(mnt)
}

// idMapped mounts an overlay over a directory that shows itself through a user
// namespace (5.19).
func idMapped(dir string) error {
	return namespace.WithChild(newUserNamespace(), func(pid int) error {
		userns, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", pid))
		if err != nil {
			return err
		}
		defer userns.Close()
		return tryOverlay(dir, "idmapped", func(lower, upper, _, target string) error {
			tree, err := unix.OpenTree(unix.AT_FDCWD, lower, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
			if err != nil {
				return os.NewSyscallError("open_tree", err)
			}
			defer unix.Close(tree)
			err = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{
				Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(userns.Fd()),
			})
			if err != nil {
				return os.NewSyscallError("mount_setattr idmap", err)
			}
			if err := unix.MoveMount(tree, "", unix.AT_FDCWD, lower, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
				return os.NewSyscallError("move_mount", err)
			}
			// Not written to, or its end would sync the whole file system.
			return linux.Mount("overlay", target, "overlay", 0, "lowerdir="+lower+":"+upper)
		})
	})
}
