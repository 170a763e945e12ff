package main

import (
	"syscall"

	"github.com/berth-cri/berth/runtime/oci/embedded/plan"
)

// rememberCgroups reads /proc/self/cgroup, the host's: a cgroup namespace shows
// its own root only.
func (c *container) rememberCgroups() error {
	n, err := openat(cwdFd, "/proc/self/cgroup", syscall.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer closeFd(n)
	b, err := readAll(n)
	if err != nil {
		return err
	}
	c.cgroups = parseCgroups(string(b))
	return nil
}

// parseCgroups reads lines of "number:controllers:path"; cgroup2 has no
// controllers there.
func parseCgroups(text string) map[string]string {
	own := map[string]string{}
	for text != "" {
		var line, key string
		line, text = cut(text, '\n')
		_, line = cut(line, ':')
		key, line = cut(line, ':')
		if line != "" {
			own[key] = line
		}
	}
	return own
}

func cut(s string, at byte) (before, after string) {
	for i := range len(s) {
		if s[i] == at {
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

// cgroupV1 shows the container its own cgroups where programs look for the
// hierarchies of the host.
func (c *container) cgroupV1(s *plan.CgroupV1) error {
	target, err := c.checkedTarget(s.Target, true, false)
	if err != nil {
		return err
	}
	const closed = mountAttrNosuid | mountAttrNodev | mountAttrNoexec
	view, err := newFilesystem("tmpfs", "tmpfs", []string{"mode=0755"}, closed)
	if err != nil {
		return err
	}
	if err := attach(view, target); err != nil {
		return err
	}
	closeFd(target)
	defer closeFd(view)
	for _, h := range s.Hierarchies {
		if err := c.cgroupOf(h, view, s.Attributes); err != nil {
			return explain(err, "cgroup "+h.Name)
		}
	}
	for _, l := range s.Links {
		if err := just(syscall.SYS_SYMLINKAT, str(l.Target), fd(view), str(l.Path)); err != nil {
			return explain(err, "symlink "+l.Path)
		}
	}
	return change(view, []plan.Change{{Set: s.Attributes}})
}

func (c *container) cgroupOf(h plan.Hierarchy, view int, attributes uint64) error {
	path := c.cgroups[h.Key]
	if h.Root != "/" { // the host is in a container itself
		if len(path) < len(h.Root) || path[:len(h.Root)] != h.Root {
			return nil // our cgroup is not below what is mounted
		}
		path = path[len(h.Root):]
	}
	tree, err := call(sysOpenTree, cwdFd, str(h.Mount+path), openTreeClone|openTreeCloexec)
	if err != nil {
		return explain(err, h.Mount+path)
	}
	defer closeFd(tree)
	if err := change(tree, []plan.Change{{Set: attributes, Propagation: syscall.MS_PRIVATE}}); err != nil {
		return err
	}
	if err := just(syscall.SYS_MKDIRAT, fd(view), str(h.Name), 0o755); err != nil {
		return err
	}
	place, err := openat(fd(view), h.Name, oPath|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer closeFd(place)
	return attach(tree, place)
}
