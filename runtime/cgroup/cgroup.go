package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/berth-cri/berth/linux"
	"github.com/containerd/errdefs"
)

// Cgroup is a container's cgroup, or the child of one that tracks an exec. It
// is a name, not a resource: there is nothing to close.
type Cgroup struct {
	m    *Manager
	path string // of the container, below every mount point
	sub  string // the exec's child in the tracking tree, "" for the container itself

	whole bool // the child is in every tree
}

// Path returns the path below the mount points, for records and Load.
func (c *Cgroup) Path() string { return c.path }

// dir is where a process of this cgroup is, in tree i. An exec has a directory
// of its own in the tracking tree only, unless it is whole: the limits are the
// container's.
func (c *Cgroup) dir(i int) string {
	d := c.m.trees[i].dir(c.path)
	if c.own(i) && c.sub != "" {
		d += "/" + c.sub
	}
	return d
}

// tracked is the directory that says which processes belong here.
func (c *Cgroup) tracked() string { return c.dir(c.m.track) }

// Dir finds the directory that has a controller's files, for reading; "" when
// there is none. The controller "" stands for the cgroup2 itself.
func (c *Cgroup) Dir(controller string) (dir string, v2 bool) {
	i, ok := c.m.place[controller]
	if controller == "" {
		i, ok = c.m.unify, c.m.unify >= 0
	}
	if !ok {
		return "", false
	}
	return c.m.trees[i].dir(c.path), c.m.trees[i].v2
}

// KillDir is the directory whose processes, with those below, are the ones to
// kill: the monitor does it there (cgroup.kill, else its cgroup.procs).
func (c *Cgroup) KillDir() string { return c.tracked() }

// owned lists the trees in which this cgroup has a directory of its own.
func (c *Cgroup) owned() []int {
	var all []int
	for i := range c.m.trees {
		if c.own(i) {
			all = append(all, i)
		}
	}
	return all
}

func (c *Cgroup) own(i int) bool { return c.sub == "" || c.whole || i == c.m.track }

// checkPath keeps a damaged record from naming the host's root cgroup.
func (c *Cgroup) checkPath() error {
	if c.path == "/" || c.path == c.m.parent {
		return fmt.Errorf("%q is not a container's cgroup: %w", c.path, errdefs.ErrInvalidArgument)
	}
	return nil
}

// Placement says how a process gets in. v2Dir is for CLONE_INTO_CGROUP, "" on
// pure v1. procs are the cgroup.procs files, one per hierarchy, that a blocked
// child's pid is written to; nil on v2, where the birth in v2Dir is all. On a
// hybrid host procs holds the cgroup2's as well, for those who cannot clone
// into it; writing it after such a clone changes nothing.
func (c *Cgroup) Placement() (v2Dir string, procs []string) {
	if c.m.unify >= 0 {
		v2Dir = c.dir(c.m.unify)
	}
	if c.m.mode == V2 {
		return v2Dir, nil
	}
	for i := range c.m.trees {
		procs = append(procs, c.dir(i)+"/cgroup.procs")
	}
	return v2Dir, procs
}

// Child makes a cgroup for an exec, so that everything that it started can be
// told from the container's own processes, and killed.
func (c *Cgroup) Child(name string) (*Cgroup, error) {
	if err := c.checkPath(); err != nil {
		return nil, err
	}
	if err := checkName(name); err != nil {
		return nil, err
	}
	if c.sub != "" {
		return nil, fmt.Errorf("child %q of an exec's cgroup: %w", name, errdefs.ErrInvalidArgument)
	}
	child := &Cgroup{m: c.m, path: c.path, sub: name}
	err := linux.Mkdir(child.tracked(), 0o755)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil, fmt.Errorf("exec cgroup %q: %w", name, errdefs.ErrAlreadyExists)
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("exec cgroup %q: container's cgroup %s: %w", name, c.path, errdefs.ErrNotFound)
	case err != nil:
		return nil, fmt.Errorf("exec cgroup %q: %w", name, err)
	}
	return child, nil
}

// WholeChild is Child in every tree, for a runtime that puts the process there
// itself and takes one path for all.
func (c *Cgroup) WholeChild(name string) (*Cgroup, error) {
	child, err := c.Child(name)
	if err != nil {
		return nil, err
	}
	child.whole = true
	for i := range c.m.trees {
		if i == c.m.track {
			continue
		}
		err := linux.Mkdir(child.dir(i), 0o755)
		if err == nil {
			err = c.m.fillCpuset(&c.m.trees[i], c.path+"/"+name)
		}
		if err != nil {
			for j := range c.m.trees {
				_ = linux.Rmdir(child.dir(j)) // nothing has run in it
			}
			return nil, fmt.Errorf("exec cgroup %q: %w", name, err)
		}
	}
	return child, nil
}

// Exists says whether the cgroup is there to track processes.
func (c *Cgroup) Exists() bool {
	_, err := os.Stat(c.tracked())
	return err == nil
}

// Pids lists the processes here and below; none when the cgroup is gone.
func (c *Cgroup) Pids() ([]int, error) {
	pids, err := pidsBelow(c.tracked())
	if err != nil {
		return nil, fmt.Errorf("processes of cgroup %s: %w", c.path, err)
	}
	return pids, nil
}

func pidsBelow(dir string) ([]int, error) {
	b, err := linux.ReadKernel(dir+"/cgroup.procs", nil)
	if errors.Is(err, errThreaded) {
		// A threaded cgroup has no processes of its own: they are listed by
		// the domain above, which is in this walk.
		b, err = nil, nil
	}
	if gone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	pids, err := parsePids(b)
	if err != nil {
		return nil, err
	}
	children, err := childDirs(dir)
	if err != nil {
		return nil, err
	}
	for _, child := range children {
		more, err := pidsBelow(child)
		if err != nil {
			return nil, err
		}
		pids = append(pids, more...)
	}
	return pids, nil
}

// childDirs lists the cgroups directly below; none when dir is gone. The link
// count spares most containers the listing: it is 2 without children.
func childDirs(dir string) ([]string, error) {
	fi, err := os.Stat(dir)
	if gone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if links(fi) == 2 {
		return nil, nil
	}
	entries, err := os.ReadDir(dir)
	if gone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, e := range entries {
		if e.IsDir() {
			dirs = append(dirs, dir+"/"+e.Name())
		}
	}
	return dirs, nil
}
