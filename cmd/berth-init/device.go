package main

import (
	"syscall"

	"github.com/berth-cri/berth/runtime/oci/embedded/plan"
)

// entry opens the directory of a path and returns the name in it.
func (c *container) entry(path string) (dir int, name string, err error) {
	parent, name := split(path)
	dir, err = c.directory(parent)
	return dir, name, err
}

func (c *container) device(s *plan.Device) error {
	dir, name, err := c.entry(s.Path)
	if err != nil {
		return err
	}
	defer closeFd(dir)
	number := deviceNumber(s.Major, s.Minor)
	_, err = call(syscall.SYS_MKNODAT, fd(dir), str(name), uintptr(s.Mode), uintptr(number))
	switch err {
	case nil:
		if s.UID == 0 && s.GID == 0 {
			return nil
		}
		return just(syscall.SYS_FCHOWNAT, fd(dir), str(name), uintptr(s.UID), uintptr(s.GID), atSymlinkNofollow)
	case syscall.EEXIST:
		return sameDevice(dir, name, s)
	case syscall.EPERM:
		return c.bindDevice(s)
	}
	return err
}

func deviceNumber(major, minor uint32) uint32 {
	return minor&0xff | major<<8 | (minor&^0xff)<<12
}

// sameDevice accepts a node that is there already when it is the right one.
func sameDevice(dir int, name string, s *plan.Device) error {
	n, err := openat(fd(dir), name, oPath|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer closeFd(n)
	st, err := fstat(n)
	if err != nil {
		return err
	}
	if !isDevice(&st, s) {
		return explained{syscall.EEXIST, "something else is in its place"}
	}
	return nil
}

func isDevice(st *syscall.Stat_t, s *plan.Device) bool {
	const kind = syscall.S_IFMT
	return st.Mode&kind == s.Mode&kind &&
		(s.Mode&kind == syscall.S_IFIFO || uint64(st.Rdev) == uint64(deviceNumber(s.Major, s.Minor)))
}

// bindDevice stands in for mknod where that is not permitted.
func (c *container) bindDevice(s *plan.Device) error {
	tree, err := call(sysOpenTree, cwdFd, str(s.Path), openTreeClone|openTreeCloexec)
	if err != nil {
		return explained{syscall.EPERM, "mknod is not permitted here, and the host has no " + s.Path}
	}
	defer closeFd(tree)
	st, err := fstat(tree)
	if err != nil {
		return err
	}
	if !isDevice(&st, s) {
		return explained{syscall.EPERM, "mknod is not permitted here, and the host's is another device"}
	}
	target, err := c.target(s.Path, false)
	if err != nil {
		return err
	}
	defer closeFd(target)
	return attach(tree, target)
}

func (c *container) symlink(s *plan.Symlink) error {
	dir, name, err := c.entry(s.Path)
	if err != nil {
		return err
	}
	defer closeFd(dir)
	_, err = call(syscall.SYS_SYMLINKAT, str(s.Target), fd(dir), str(name))
	if err == syscall.EEXIST {
		return nil
	}
	return err
}

func (c *container) file(s *plan.File) error {
	dir, name, err := c.entry(s.Path)
	if err != nil {
		return err
	}
	defer closeFd(dir)
	n, err := openat(fd(dir), name, syscall.O_CREAT|syscall.O_EXCL|syscall.O_NOFOLLOW|syscall.O_WRONLY, s.Mode)
	if err != nil {
		return err
	}
	defer closeFd(n)
	return writeAll(n, s.Data)
}

func (c *container) makeDir(s *plan.MakeDir) error {
	n, err := c.directory(s.Path)
	if err != nil {
		return err
	}
	closeFd(n)
	return nil
}
