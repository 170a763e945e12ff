package embedded

import (
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/runtime/oci/embedded/plan"
)

var propagations = map[string]uint64{
	"private": unix.MS_PRIVATE, "rprivate": unix.MS_PRIVATE | unix.MS_REC,
	"slave": unix.MS_SLAVE, "rslave": unix.MS_SLAVE | unix.MS_REC,
	"shared": unix.MS_SHARED, "rshared": unix.MS_SHARED | unix.MS_REC,
	"unbindable": unix.MS_UNBINDABLE, "runbindable": unix.MS_UNBINDABLE | unix.MS_REC,
}

// propagation is that of the host's mounts in the new mount namespace: without
// a wish they are slaves, as with runc.
func (c *compilation) propagation() error {
	flags := uint64(unix.MS_SLAVE | unix.MS_REC)
	if wish := c.spec.Linux.RootfsPropagation; wish != "" {
		var ok bool
		if flags, ok = propagations[wish]; !ok {
			return invalid("linux.rootfsPropagation", "is "+wish)
		}
		if c.user != nil && flags&unix.MS_SHARED != 0 {
			return invalid("linux.rootfsPropagation", "is "+wish+" with a user namespace, whose mounts the host does not share")
		}
	}
	c.add(&plan.Propagate{Flags: flags})
	return nil
}

func (c *compilation) root(o Overlay) error {
	if len(o.Lower) == 0 {
		if c.spec.Root == nil || !filepath.IsAbs(c.spec.Root.Path) {
			return invalid("root.path", "is not absolute, and there are no layers")
		}
		if c.spec.Linux.MountLabel != "" {
			return unsupported("linux.mountLabel for a root without layers")
		}
		if c.user != nil {
			return unsupported("a user namespace with a root without layers")
		}
		c.add(&plan.RootBind{Source: filepath.Clean(c.spec.Root.Path)})
		return nil
	}
	for _, dir := range append([]string{o.Upper, o.Work}, o.Lower...) {
		if !filepath.IsAbs(dir) {
			return invalid("layer "+dir, "is not an absolute path")
		}
	}
	c.addOutside(&plan.RootOverlay{
		Lower: o.Lower, Upper: filepath.Clean(o.Upper), Work: o.Work, Volatile: o.Volatile, Options: c.label(),
	})
	return nil
}

// label is the option that gives a file system the container's SELinux label.
func (c *compilation) label() []string {
	if c.spec.Linux.MountLabel == "" {
		return nil
	}
	return []string{"context=" + c.spec.Linux.MountLabel}
}

// workingDirectory is made when it is missing, as runc does. It happens before
// anything becomes read-only.
func (c *compilation) workingDirectory() error {
	c.add(&plan.MakeDir{Path: inside(c.spec.Process.Cwd)})
	return nil
}

func (c *compilation) hiddenPaths() error {
	for _, path := range c.spec.Linux.ReadonlyPaths {
		c.add(&plan.ReadonlyPath{Path: inside(path)})
	}
	for _, path := range c.spec.Linux.MaskedPaths {
		c.add(&plan.MaskedPath{Path: inside(path), Options: c.label()})
	}
	return nil
}

// readonlyMounts come when nothing has to be made in them any more.
func (c *compilation) readonlyMounts() error {
	for _, path := range c.readonly {
		c.add(&plan.ReadonlyMount{Path: path})
	}
	if c.spec.Root != nil && c.spec.Root.Readonly {
		c.add(&plan.ReadonlyMount{Path: "/"})
	}
	return nil
}

func (c *compilation) pivot() error {
	c.add(&plan.PivotRoot{Propagation: propagations[c.spec.Linux.RootfsPropagation]})
	return nil
}

// inside is a clean absolute path in the container.
func inside(path string) string { return filepath.Join("/", path) }
