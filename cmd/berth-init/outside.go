package main

import (
	"syscall"

	"github.com/berth-cri/berth/runtime/oci/embedded/plan"
)

// usernsFd is the user namespace that ids are mapped through, -1 for none.
var usernsFd = -1

// workOutside is what the second berth-init of a container in a user namespace
// does, in the host's and in a mount namespace of its own: the Outside steps. It
// hands over what they made and is done.
func workOutside(steps []plan.Step) (step string, err error) {
	var inner []plan.Step
	for _, s := range steps {
		if s, ok := s.(*plan.Outside); ok {
			inner = append(inner, s.Step)
		}
	}
	o := &outsider{container: newContainer(inner), mapped: map[string]bool{}}
	// Nothing that is mounted here reaches the host.
	if err := just(syscall.SYS_MOUNT, 0, str("/"), 0, syscall.MS_SLAVE|syscall.MS_REC, 0); err != nil {
		return "mount propagation", err
	}
	if err := o.cloneSources(); err != nil {
		return "mount", err
	}
	var trees []int
	for _, s := range inner {
		tree, err := o.make(s)
		if err != nil {
			return s.String(), err
		}
		if tree >= 0 {
			trees = append(trees, tree)
		}
	}
	if err := sendAll(trees); err != nil {
		return "hand over mounts", err
	}
	if err := tell([]byte{plan.Ready}); err != nil {
		return "", nil
	}
	syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0)
	return "", nil
}

type outsider struct {
	*container
	mapped map[string]bool // layers that are shown under other ids
	under  string          // where the file system belongs that devices are made in
}

// make returns what there is to hand over, -1 for nothing.
func (o *outsider) make(s plan.Step) (tree int, err error) {
	switch s := s.(type) {
	case *plan.UserNamespace:
		usernsFd, err = openat(cwdFd, s.Path, syscall.O_RDONLY, 0)
		return -1, err
	case *plan.RootOverlay:
		return o.makeRoot(s)
	case *plan.Layers:
		if err := o.showMapped(s.Lower); err != nil {
			return -1, err
		}
		if tree, err = layerTree(s); err != nil {
			return -1, err
		}
		return tree, change(tree, s.Changes)
	case *plan.Bind:
		if tree = o.sources[s]; tree < 0 {
			return -1, whyNoSource(s)
		}
		return tree, change(tree, s.Changes)
	case *plan.Mount:
		if tree, err = newFilesystem(s.Type, s.Source, s.Options, s.Attributes); err != nil {
			return -1, err
		}
		o.root, o.under = tree, s.Target
		return tree, change(tree, s.Changes)
	case *plan.Device:
		d := *s
		d.Path = s.Path[len(o.under):]
		return -1, o.device(&d)
	}
	return -1, explained{syscall.ENOSYS, "not known to this berth-init"}
}

// makeRoot makes the container's root. Nothing in it is a device: the right to use
// those that an image brings is not the container's.
func (o *outsider) makeRoot(s *plan.RootOverlay) (int, error) {
	if err := o.showMapped(s.Lower); err != nil {
		return -1, err
	}
	l := overlayOf(s)
	tree, err := l.byLayers()
	if errnoOf(err) == syscall.EINVAL {
		if err = l.byString(s.Upper); err == nil {
			tree, err = openat(cwdFd, s.Upper, oPath|syscall.O_DIRECTORY, 0)
		}
		if err == nil {
			tree, err = clone(tree, 0)
		}
	}
	if err != nil {
		return -1, err
	}
	return tree, change(tree, []plan.Change{{Set: mountAttrNodev}})
}

// showMapped mounts directories over themselves, so that the user namespace's ids
// own what the same ids of the host own. An overlay takes its layers by path.
func (o *outsider) showMapped(dirs []string) error {
	for _, dir := range dirs {
		if o.mapped[dir] {
			continue
		}
		o.mapped[dir] = true
		tree, err := call(sysOpenTree, cwdFd, str(dir), openTreeClone|openTreeCloexec)
		if err == syscall.ENOENT {
			return missing(dir)
		}
		if err != nil {
			return explain(err, dir)
		}
		if err := change(tree, []plan.Change{{Set: mountAttrIdmap}}); err != nil {
			return explain(err, dir)
		}
		if _, err := call(sysMoveMount, fd(tree), str(""), cwdFd, str(dir), moveMountFromEmpty); err != nil {
			return explain(err, dir)
		}
		closeFd(tree)
	}
	return nil
}

// takeOver receives what the other berth-init has made.
func (c *container) takeOver() error {
	n := 0
	for _, s := range c.steps {
		if s, ok := s.(*plan.Outside); ok && s.Gives() {
			n++
		}
	}
	for len(c.given) < n {
		got, err := receive(plan.TreesFd, n-len(c.given))
		if err != nil {
			return err
		}
		if len(got) == 0 {
			return explained{syscall.EPIPE, "the process outside of the user namespace has ended"}
		}
		c.given = append(c.given, got...)
	}
	if n > 0 {
		closeFd(plan.TreesFd)
	}
	return nil
}

// attachGiven does what is left to do of an Outside step.
func (c *container) attachGiven(s *plan.Outside) error {
	if !s.Gives() {
		return nil
	}
	tree := c.given[0]
	c.given = c.given[1:]
	switch s := s.Step.(type) {
	case *plan.RootOverlay:
		// The path of the layers is not for this process to walk.
		return c.attachRoot(tree, "/")
	case *plan.Mount:
		target, err := c.mountTarget(s)
		if err != nil {
			return err
		}
		defer closeFd(target)
		defer closeFd(tree)
		return attach(tree, target)
	case *plan.Bind:
		defer closeFd(tree)
		return c.place(tree, "source "+s.Source, s.Target, s.InProc)
	case *plan.Layers:
		defer closeFd(tree)
		return c.place(tree, "the image volume", s.Target, false)
	}
	return explained{syscall.ENOSYS, "not known to this berth-init"}
}
