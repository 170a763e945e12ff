package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/berth-cri/berth/linux/namespace"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// MakeDirs makes directories that the image promises and does not have, in the
// writable layer that Prepare has made: programs expect the volumes that their
// image declares. Paths are the image's, so they are resolved inside of it.
func (s *Store) MakeDirs(o Overlay, paths []string, ids *namespace.Mapping) error {
	if len(paths) == 0 {
		return nil
	}
	v, err := OpenView(o.Lower)
	if err != nil {
		return err
	}
	defer v.Close()
	for _, p := range paths {
		if err := v.makeDir(o.Upper, path.Clean("/"+p), ids); err != nil {
			return fmt.Errorf("make %.200q: %w", p, err)
		}
	}
	return nil
}

// makeDir makes one with its parents. Those that the image has get the owner and
// mode that they have there, as overlay does when it copies a directory up.
func (v *View) makeDir(upper, p string, ids *namespace.Mapping) error {
	if len(p) > maxPath || strings.ContainsRune(p, 0) {
		return fmt.Errorf("not a path: %w", errdefs.ErrInvalidArgument)
	}
	there, err := v.deepest(p)
	if err != nil || there == p {
		return err
	}
	at, inImage, rest := upper, "/", strings.TrimPrefix(p, there)
	if there, err = v.resolve(there); err != nil {
		return err
	}
	root := unix.Stat_t{Mode: 0o755}
	root.Uid, root.Gid = ids.Owner(0, 0)
	for i, name := range strings.Split(strings.Trim(path.Join(there, rest), "/"), "/") {
		like := root
		if inImage = path.Join(inImage, name); i < depth(there) {
			if like, err = v.stat(inImage); err != nil {
				return err
			}
			if like.Mode&unix.S_IFMT != unix.S_IFDIR {
				return fmt.Errorf("%s is not a directory: %w", inImage, errdefs.ErrFailedPrecondition)
			}
			like.Uid, like.Gid = ids.Owner(like.Uid, like.Gid)
		}
		at = filepath.Join(at, name)
		// Another of the paths may have made it. Nobody else writes here yet.
		if err := makeDir(at, like); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// maxPath is the longest path of a system call.
const maxPath = 4095

func depth(p string) int { return len(strings.FieldsFunc(p, func(r rune) bool { return r == '/' })) }

// deepest is the longest beginning of a path that is there.
func (v *View) deepest(p string) (string, error) {
	for ; p != "/"; p = path.Dir(p) {
		err := v.Find(p)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return p, nil
}

// resolve is the path without links of something that is there.
func (v *View) resolve(p string) (string, error) {
	if p == "/" || v.root == nil {
		return "/", nil
	}
	fd, err := v.open(p)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	of := func(fd int) (string, error) { return os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)) }
	whole, err := of(fd)
	if err != nil {
		return "", err
	}
	root, err := of(int(v.root.Fd()))
	if err != nil {
		return "", err
	}
	return path.Clean("/" + strings.TrimPrefix(whole, strings.TrimSuffix(root, "/"))), nil
}

func (v *View) stat(p string) (st unix.Stat_t, err error) {
	fd, err := v.open(p)
	if err != nil {
		return st, err
	}
	defer unix.Close(fd)
	if err := unix.Fstat(fd, &st); err != nil {
		return st, &fs.PathError{Op: "fstat", Path: p, Err: err}
	}
	return st, nil
}
