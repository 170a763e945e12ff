package main

import (
	"syscall"

	"github.com/berth-cri/berth/runtime/oci/embedded/plan"
)

// layers mounts an image as a volume.
func (c *container) layers(s *plan.Layers) error {
	tree, err := layerTree(s)
	if err != nil {
		return err
	}
	defer closeFd(tree)
	if err := change(tree, s.Changes); err != nil {
		return err
	}
	return c.place(tree, "the image volume", s.Target, false)
}

// layerTree returns what is to be mounted, which is mounted nowhere yet.
func layerTree(s *plan.Layers) (int, error) {
	over := s.Lower[0]
	if len(s.Lower) == 1 { // an overlay wants two
		dir, err := openat(cwdFd, over, oPath|syscall.O_DIRECTORY, 0)
		if err == syscall.ENOENT {
			return -1, missing(over)
		}
		if err != nil {
			return -1, explain(err, over)
		}
		defer closeFd(dir)
		return cloneBelow(dir, s.SubPath)
	}
	o := overlay{lower: s.Lower, options: s.Options}
	tree, err := o.byLayers()
	if err == nil && s.SubPath == "" {
		return tree, nil
	}
	if err != nil && errnoOf(err) != syscall.EINVAL {
		return -1, err
	}
	// Only of a mount that is attached can a part be cloned (before 6.15), and
	// by a string it cannot be mounted but attached. So for a moment it lies over
	// a directory of the host, in this mount namespace only.
	if err := privateParent(over); err != nil {
		return -1, explain(err, "make the mount of "+over+" private")
	}
	if err == nil {
		_, err = call(sysMoveMount, fd(tree), str(""), cwdFd, str(over), moveMountFromEmpty)
	} else if err = o.byString(over); err == nil {
		tree, err = openat(cwdFd, over, oPath|syscall.O_DIRECTORY, 0)
	}
	if err != nil {
		return -1, explain(err, "attach to "+over)
	}
	defer closeFd(tree)
	below, err := cloneBelow(tree, s.SubPath)
	if err != nil {
		return -1, err
	}
	return below, explain(detach(tree), "detach from "+over)
}

// cloneBelow clones the mount that a directory is on from there on down, or from
// a path in it, resolved as if the directory were the root.
func cloneBelow(dir int, path string) (int, error) {
	if path == "" {
		return clone(dir, 0)
	}
	n, err := openat2(dir, path, oPath, resolveInRoot|resolveNoMagiclinks)
	if err == syscall.ENOENT || err == syscall.ENOTDIR {
		return -1, explained{err.(syscall.Errno), "the image has no " + path}
	}
	if err != nil {
		return -1, explain(err, path+" of the image")
	}
	defer closeFd(n)
	return clone(n, 0)
}

// detach unmounts the mount whose root a descriptor is, whatever lies on its path.
func detach(tree int) error {
	if err := just(syscall.SYS_FCHDIR, fd(tree)); err != nil {
		return err
	}
	if err := just(syscall.SYS_UMOUNT2, str("."), umountDetach); err != nil {
		return err
	}
	return just(syscall.SYS_CHDIR, str("/"))
}
