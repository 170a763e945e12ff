package layer

import (
	"errors"
	"fmt"
	"path"

	"github.com/berth-cri/berth/linux"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

const (
	whiteout       = ".wh."
	whiteoutMeta   = ".wh..wh." // files of aufs, of which only the next has a meaning today
	whiteoutOpaque = ".wh..wh..opq"
)

// whiteout hides a name of the layers below. It says nothing about this layer's
// own entry of that name, before it or after it: a file hides by itself, a
// directory has to become opaque.
func (u *untar) whiteout(dirPath, name string) error {
	if name == "" || name == "." || name == ".." {
		return fmt.Errorf("whiteout of no name: %w", errdefs.ErrInvalidArgument)
	}
	at, err := u.tree.open(dirPath)
	if err != nil {
		return err
	}
	err = linux.Mknodat(at.fd, name, unix.S_IFCHR, 0)
	if errors.Is(err, unix.EEXIST) {
		if known := u.tree.made[path.Join(at.path, name)]; known != nil {
			known.opaque = true
		}
		return nil
	}
	u.inodes++
	return err
}

// opaque hides everything that the layers below have in a directory.
func (u *untar) opaque(dirPath string) error {
	at, err := u.tree.open(dirPath)
	if err != nil {
		return err
	}
	u.tree.made[at.path].opaque = true
	return nil
}
