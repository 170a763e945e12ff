package main

import (
	"syscall"

	"github.com/berth-cri/berth/runtime/oci/embedded/plan"
)

// mount makes a file system and moves it to its target.
func (c *container) mount(s *plan.Mount) error {
	target, err := c.mountTarget(s)
	if err != nil {
		return err
	}
	defer closeFd(target)
	tree, err := newFilesystem(s.Type, s.Source, s.Options, s.Attributes)
	if err != nil {
		return err
	}
	defer closeFd(tree)
	if s.Label != "" {
		if err := setLabel(tree, s.Label); err != nil {
			return explain(err, "label "+s.Label)
		}
	}
	if err := change(tree, s.Changes); err != nil {
		return err
	}
	return attach(tree, target)
}

// setLabel gives a label to the root directory of a tree.
func setLabel(tree int, label string) error {
	n, err := openat(fd(tree), ".", syscall.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer closeFd(n)
	return just(syscall.SYS_FSETXATTR, fd(n), str("security.selinux"), str(label), uintptr(len(label)), 0)
}

func (c *container) mountTarget(s *plan.Mount) (int, error) {
	if s.PlainTarget {
		n, err := openat2(c.root, s.Target, oPath, resolveInRoot|resolveNoSymlinks)
		if err == syscall.ELOOP {
			return -1, explained{err.(syscall.Errno), "the image has a symbolic link there"}
		}
		if err != syscall.ENOENT {
			return n, err
		}
	}
	return c.checkedTarget(s.Target, true, s.InProc)
}

// checkedTarget refuses a target in procfs unless the plan expects it: a mount
// over what a program of the host trusts there deceives it.
func (c *container) checkedTarget(path string, directory, inProc bool) (int, error) {
	n, err := c.target(path, directory)
	if err != nil {
		return -1, explain(err, "prepare the mount point")
	}
	if !inProc && onFilesystem(n, procSuperMagic) {
		closeFd(n)
		return -1, explained{syscall.EPERM, "the mount point is in /proc"}
	}
	return n, nil
}

func (c *container) bind(s *plan.Bind) error {
	tree := c.sources[s]
	if tree < 0 {
		return whyNoSource(s)
	}
	defer closeFd(tree)
	if err := change(tree, s.Changes); err != nil {
		return err
	}
	return c.place(tree, "source "+s.Source, s.Target, s.InProc)
}

// place attaches a tree at a path of the container: a directory at a directory,
// a file at a file.
func (c *container) place(tree int, source, path string, inProc bool) error {
	st, err := fstat(tree)
	if err != nil {
		return err
	}
	directory := isDirectory(st)
	target, err := c.checkedTarget(path, directory, inProc)
	if err != nil {
		return err
	}
	defer closeFd(target)
	if there, err := fstat(target); err != nil {
		return err
	} else if isDirectory(there) && !directory {
		return explained{syscall.ENOTDIR, source + " is a file, but the mount point is a directory"}
	} else if !isDirectory(there) && directory {
		return explained{syscall.ENOTDIR, source + " is a directory, but the mount point is a file"}
	}
	return attach(tree, target)
}

func isDirectory(st syscall.Stat_t) bool { return st.Mode&syscall.S_IFMT == syscall.S_IFDIR }

// whyNoSource repeats what failed when the sources were taken.
func whyNoSource(s *plan.Bind) error {
	_, err := call(sysOpenTree, cwdFd, str(s.Source), openTreeClone|openTreeCloexec)
	switch err {
	case syscall.ENOENT:
		return explained{syscall.ENOENT, "source " + s.Source + " does not exist"}
	case nil:
		return explained{syscall.EAGAIN, "source " + s.Source + " was not there at first"}
	}
	return explain(err, "source "+s.Source)
}

func attach(tree, target int) error {
	return just(sysMoveMount, fd(tree), str(""), fd(target), str(""), moveMountFromEmpty|moveMountToEmpty)
}

// attributes is struct mount_attr.
type attributes struct{ set, clear, propagation, userns uint64 }

func change(tree int, changes []plan.Change) error {
	for _, ch := range changes {
		flags := uintptr(atEmptyPath)
		if ch.Recursive {
			flags |= atRecursive
		}
		a := &attributes{set: ch.Set, clear: ch.Clear, propagation: ch.Propagation}
		mapped := ch.Set&mountAttrIdmap != 0
		if mapped {
			a.userns = uint64(usernsFd)
		}
		err := just(sysMountSetattr, fd(tree), str(""), flags, ptr(a), 32)
		if err == syscall.EINVAL && mapped {
			return explained{syscall.EOPNOTSUPP, "its file system cannot be shown under other ids (idmapped mount)"}
		}
		if err != nil {
			return explain(err, "set the mount's attributes")
		}
	}
	return nil
}

// newFilesystem returns a file system that is mounted nowhere yet.
func newFilesystem(kind, source string, options []string, attributes uint64) (int, error) {
	fs, err := call(sysFsopen, str(kind), fsopenCloexec)
	if err == syscall.ENODEV {
		return -1, explained{syscall.ENODEV, "the kernel has no file system " + kind}
	}
	if err != nil {
		return -1, err
	}
	defer closeFd(fs)
	return makeFilesystem(fs, source, options, attributes)
}

func makeFilesystem(fs int, source string, options []string, attributes uint64) (int, error) {
	if err := set(fs, "source", source); err != nil {
		return -1, fsError(fs, err, "source "+source)
	}
	for _, o := range options {
		if err := setOption(fs, o); err != nil {
			return -1, fsError(fs, err, "option "+o)
		}
	}
	if err := just(sysFsconfig, fd(fs), fsconfigCmdCreate, 0, 0, 0); err != nil {
		return -1, fsError(fs, err, "")
	}
	n, err := call(sysFsmount, fd(fs), fsmountCloexec, uintptr(attributes))
	if err != nil {
		return -1, fsError(fs, err, "")
	}
	return n, nil
}

func setOption(fs int, option string) error {
	for i := range len(option) {
		if option[i] == '=' {
			return set(fs, option[:i], option[i+1:])
		}
	}
	return just(sysFsconfig, fd(fs), fsconfigSetFlag, str(option), 0, 0)
}

func set(fs int, key, value string) error {
	return just(sysFsconfig, fd(fs), fsconfigSetString, str(key), str(value), 0)
}

// fsError adds what the file system itself says about the error: it keeps
// messages ("e tmpfs: Bad value for 'size'") for whoever reads its descriptor.
func fsError(fs int, err error, about string) error {
	errno, ok := err.(syscall.Errno)
	if !ok {
		return err
	}
	b := make([]byte, 512)
	for {
		n, rerr := call(syscall.SYS_READ, fd(fs), ptr(&b[0]), uintptr(len(b)))
		if rerr != nil || n == 0 {
			break
		}
		if n > 2 && b[0] == 'e' {
			for n > 2 && b[n-1] == '\n' {
				n--
			}
			about = string(b[2:n])
		}
	}
	if about == "" {
		return err
	}
	return explain(errno, about)
}
