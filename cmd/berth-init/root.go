package main

import (
	"syscall"

	"github.com/berth-cri/berth/runtime/oci/embedded/plan"
)

func (c *container) propagate(s *plan.Propagate) error {
	c.shared = s.Flags&syscall.MS_SHARED != 0
	return just(syscall.SYS_MOUNT, 0, str("/"), 0, uintptr(s.Flags), 0)
}

// attachRoot mounts the detached tree as the container's root, over a directory
// of the host, as long as this mount namespace is a copy of the host's.
func (c *container) attachRoot(tree int, over string) error {
	if err := c.cloneSources(); err != nil {
		return err
	}
	if err := privateParent(over); err != nil {
		return explain(err, "make the mount of "+over+" private")
	}
	if _, err := call(sysMoveMount, fd(tree), str(""), cwdFd, str(over), moveMountFromEmpty); err != nil {
		return explain(err, "attach to "+over)
	}
	c.root = tree
	return nil
}

// cloneSources takes the mounts to be bound before the mount beneath the root
// becomes private: a volume with bidirectional propagation may lie on the same.
func (c *container) cloneSources() error {
	c.sources = map[*plan.Bind]int{}
	for _, s := range c.steps {
		b, ok := s.(*plan.Bind)
		if !ok {
			continue
		}
		flags := uintptr(openTreeClone | openTreeCloexec)
		if b.Recursive {
			flags |= atRecursive
		}
		n, err := call(sysOpenTree, cwdFd, str(b.Source), flags)
		if err != nil {
			c.sources[b] = -1 // told by the step itself
			continue
		}
		c.sources[b] = n
	}
	return nil
}

// privateParent makes the mount that a directory is on private. Otherwise what
// is mounted there would appear on the host, and pivot_root refuses.
func privateParent(path string) error {
	for {
		b := make([]byte, 256) // struct statx
		if _, err := call(sysStatx, cwdFd, str(path), atSymlinkNofollow, 0, ptr(&b[0])); err != nil {
			return err
		}
		if attributes := uint32(b[8]) | uint32(b[9])<<8; attributes&statxAttrMountRoot != 0 || path == "/" {
			return just(syscall.SYS_MOUNT, 0, str(path), 0, syscall.MS_PRIVATE, 0)
		}
		path, _ = split(path)
	}
}

func (c *container) rootBind(s *plan.RootBind) error {
	tree, err := call(sysOpenTree, cwdFd, str(s.Source), openTreeClone|openTreeCloexec|atRecursive)
	if err != nil {
		return explain(err, s.Source)
	}
	// The clone is a peer of the host's mount: what is mounted in it would
	// appear there as well.
	private := []plan.Change{{Recursive: true, Propagation: syscall.MS_PRIVATE}}
	if err := change(tree, private); err != nil {
		return err
	}
	return c.attachRoot(tree, s.Source)
}

// rootTmpfs needs a directory that is there on every host.
func (c *container) rootTmpfs(s *plan.RootTmpfs) error {
	options := append([]string{"mode=0755", "size=64k"}, s.Options...)
	tree, err := newFilesystem("tmpfs", "tmpfs", options, mountAttrNosuid|mountAttrNodev)
	if err != nil {
		return err
	}
	return c.attachRoot(tree, "/proc")
}

func (c *container) pivotRoot(s *plan.PivotRoot) error {
	old, err := openat(cwdFd, "/", oPath|syscall.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	if err := just(syscall.SYS_FCHDIR, fd(c.root)); err != nil {
		return err
	}
	// The old root goes on top of the new one: no directory of the image is used.
	if err := just(syscall.SYS_PIVOT_ROOT, str("."), str(".")); err != nil {
		return err
	}
	if err := just(syscall.SYS_FCHDIR, fd(old)); err != nil {
		return err
	}
	closeFd(old)
	if c.shared { // or the host would lose its mounts with us
		if err := just(syscall.SYS_MOUNT, 0, str("."), 0, syscall.MS_SLAVE|syscall.MS_REC, 0); err != nil {
			return err
		}
	}
	if err := just(syscall.SYS_UMOUNT2, str("."), umountDetach); err != nil {
		return explain(err, "let go of the host's mounts")
	}
	if err := just(syscall.SYS_CHDIR, str("/")); err != nil {
		return err
	}
	if s.Propagation == 0 {
		return nil
	}
	return just(syscall.SYS_MOUNT, 0, str("/"), 0, uintptr(s.Propagation), 0)
}

// join enters the container's namespaces. Go's threads share their root and
// working directory, with which no thread may change its mount namespace.
func (c *container) join(s *plan.Join) error {
	if err := just(syscall.SYS_UNSHARE, syscall.CLONE_FS); err != nil {
		return err
	}
	if err := just(sysSetns, plan.TargetFd, uintptr(s.Flags)); err != nil {
		if err == syscall.ESRCH {
			return explained{syscall.ESRCH, "it is not running"}
		}
		return err
	}
	closeFd(plan.TargetFd)
	var err error
	c.root, err = openat(cwdFd, "/", oPath|syscall.O_DIRECTORY, 0)
	return err
}

// joinKeyring starts a new session keyring: else keys of the monitor could be
// seen, and keys of one container by another. Kernels without keys are fine.
func joinKeyring() error {
	_, err := call(sysKeyctl, keyctlJoinSession, 0)
	switch err {
	case syscall.ENOSYS:
		return nil
	case syscall.EDQUOT:
		return explain(err, "kernel.keys.maxkeys or root_maxkeys is reached")
	}
	return err
}

// loopbackUp is for a network namespace that nobody else has set up.
func loopbackUp() error {
	n, err := call(syscall.SYS_SOCKET, syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer closeFd(n)
	type request struct { // struct ifreq
		name  [syscall.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}
	r := &request{flags: syscall.IFF_UP}
	copy(r.name[:], "lo")
	return just(syscall.SYS_IOCTL, fd(n), syscall.SIOCSIFFLAGS, ptr(r))
}
