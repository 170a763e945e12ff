package main

import (
	"syscall"

	"github.com/berth-cri/berth/runtime/oci/embedded/plan"
)

// present opens a path that may be missing; -1 then.
func (c *container) present(path string) (int, error) {
	n, err := c.inRoot(path, oPath)
	if err == syscall.ENOENT || err == syscall.ENOTDIR {
		return -1, nil
	}
	return n, err
}

// readonlyPath mounts what is at the path over itself, read-only.
func (c *container) readonlyPath(s *plan.ReadonlyPath) error {
	at, err := c.present(s.Path)
	if at < 0 {
		return err
	}
	defer closeFd(at)
	tree, err := clone(at, atRecursive)
	if err != nil {
		return err
	}
	defer closeFd(tree)
	if err := change(tree, []plan.Change{{Set: mountAttrRdonly}}); err != nil {
		return err
	}
	return attach(tree, at)
}

// clone copies the mount that a descriptor is on, from there on down. The mount
// has to be one of this namespace.
func clone(n int, flags uintptr) (int, error) {
	return call(sysOpenTree, fd(n), str(""), openTreeClone|openTreeCloexec|atEmptyPath|flags)
}

// maskedPath mounts nothing over the path: the host's /dev/null over a file, an
// empty directory over a directory.
func (c *container) maskedPath(s *plan.MaskedPath) error {
	at, err := c.present(s.Path)
	if at < 0 {
		return err
	}
	defer closeFd(at)
	st, err := fstat(at)
	if err != nil {
		return err
	}
	if isDirectory(st) {
		return c.maskDirectory(at, s.Options)
	}
	if c.nothing < 0 {
		if c.nothing, err = hostNull(); err != nil {
			return explain(err, "the host's /dev/null")
		}
	}
	tree, err := clone(c.nothing, 0)
	if err != nil {
		return err
	}
	defer closeFd(tree)
	return attach(tree, at)
}

// maskDirectory uses one empty file system for all directories: the first is a
// mount of it, the others are clones of that mount.
func (c *container) maskDirectory(at int, options []string) error {
	if c.empty >= 0 {
		tree, err := clone(c.empty, 0)
		if err != nil {
			return err
		}
		defer closeFd(tree)
		return attach(tree, at)
	}
	const sealed = mountAttrRdonly | mountAttrNosuid | mountAttrNodev | mountAttrNoexec
	options = append([]string{"nr_blocks=1", "nr_inodes=1", "mode=0755"}, options...)
	tree, err := newFilesystem("tmpfs", "tmpfs", options, sealed)
	if err != nil {
		return err
	}
	c.empty = tree
	return attach(tree, at)
}

// hostNull is /dev/null of the host, and truly that (CVE-2025-31133).
func hostNull() (int, error) {
	n, err := openat(cwdFd, "/dev/null", oPath|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return -1, err
	}
	st, err := fstat(n)
	if err != nil {
		return -1, err
	}
	if !isDevice(&st, &plan.Device{Mode: syscall.S_IFCHR, Major: 1, Minor: 3}) {
		return -1, explained{syscall.ENODEV, "the host's /dev/null is another file"}
	}
	return n, nil
}

func (c *container) readonlyMount(s *plan.ReadonlyMount) error {
	n := c.root
	if s.Path != "/" {
		var err error
		if n, err = c.inRoot(s.Path, oPath); err != nil {
			return err
		}
		defer closeFd(n)
	}
	return change(n, []plan.Change{{Set: mountAttrRdonly}})
}

// proc opens a file of a procfs that nobody can have tampered with: it is new,
// and mounted nowhere.
func (c *container) proc(path string) (int, error) {
	if c.procfs < 0 {
		n, err := newFilesystem("proc", "proc", nil, mountAttrNosuid|mountAttrNodev|mountAttrNoexec)
		if err != nil {
			return -1, err
		}
		c.procfs = n
	}
	n, err := openat2(c.procfs, path, syscall.O_WRONLY, resolveBeneath|resolveNoMagiclinks|resolveNoXdev)
	if err == nil && !onFilesystem(n, procSuperMagic) {
		closeFd(n)
		return -1, syscall.EXDEV
	}
	return n, err
}

func (c *container) writeProc(path, value string) error {
	n, err := c.proc(path)
	if err != nil {
		return err
	}
	defer closeFd(n)
	return writeAll(n, []byte(value))
}

// execLabel is for the program; the security module takes it at execve.
func (c *container) execLabel(s *plan.ExecLabel) error {
	err := c.writeProc("self/attr/"+s.Path, s.Value)
	if err == syscall.ENOENT || err == syscall.EINVAL {
		return explain(err, "the host has no such security module, or not this profile")
	}
	return err
}
