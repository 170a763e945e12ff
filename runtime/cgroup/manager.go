package cgroup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/berth-cri/berth/linux"
	"github.com/containerd/errdefs"
	"github.com/coreos/go-systemd/v22/util"
)

// Driver says who makes the cgroup that a pod's containers are in: Berth, or
// systemd for it, see scopes.
type Driver string

const (
	Cgroupfs Driver = "cgroupfs"
	Systemd  Driver = "systemd"
)

// Options configure a Manager; the zero value is the usual host.
type Options struct {
	Driver string // "" is systemd where it runs the host on cgroup v2, else cgroupfs
	Root   string // where the hierarchies are mounted; "" is /sys/fs/cgroup
	Parent string // of pods that name none; "" is /berth, or berth.slice
}

// Manager makes cgroups on one host. It is safe for concurrent use.
type Manager struct {
	mode   Mode
	parent string
	trees  []hierarchy
	place  map[string]int // controller -> index in trees
	track  int            // the tree that says which processes a cgroup has
	unify  int            // the cgroup2, -1 on pure v1
	scopes *scopes        // nil with the cgroupfs driver

	madeParent atomic.Bool // the default parent is ours to remove
}

// Open reads the host's hierarchies.
func Open(o Options) (*Manager, error) {
	root := o.Root
	if root == "" {
		root = "/sys/fs/cgroup"
	}
	trees, err := discover(path.Clean(root))
	if err != nil {
		return nil, fmt.Errorf("open cgroups: %w", err)
	}
	m, err := newManager(trees, o)
	if err != nil {
		return nil, fmt.Errorf("open cgroups: %w", err)
	}
	return m, nil
}

func newManager(trees []hierarchy, o Options) (*Manager, error) {
	mode, err := modeOf(trees)
	if err != nil {
		return nil, err
	}
	m := &Manager{mode: mode, trees: trees, place: map[string]int{}, unify: -1}
	for i, h := range trees {
		if h.v2 {
			m.unify = i
		}
		for _, c := range h.controllers {
			m.place[c] = i
		}
	}
	if err := m.drive(o); err != nil {
		return nil, err
	}
	m.track = m.unify
	if m.track < 0 {
		// Freezing makes a kill certain against a fork bomb, so its tree is
		// the best v1 tracker; any other only lists processes.
		m.track = 0
		for _, c := range []string{"pids", "freezer"} {
			if i, ok := m.place[c]; ok {
				m.track = i
			}
		}
	}
	return m, nil
}

// drive chooses the driver, and the default parent in its words.
func (m *Manager) drive(o Options) (err error) {
	driver, parent := Driver(o.Driver), o.Parent
	if driver == "" {
		driver = Cgroupfs
		if m.mode == V2 && util.IsRunningSystemd() {
			driver = Systemd
		}
	}
	switch driver {
	case Cgroupfs:
		parent = cmp.Or(parent, "/berth")
	case Systemd:
		if m.mode != V2 {
			return fmt.Errorf("the systemd driver needs cgroup v2 alone, this host has %s: %w", m.mode, errdefs.ErrFailedPrecondition)
		}
		parent = cmp.Or(parent, "berth.slice")
		m.scopes = newScopes(&m.trees[m.unify], systemdAddress)
	default:
		return fmt.Errorf("unknown driver %q: %w", driver, errdefs.ErrInvalidArgument)
	}
	m.parent, err = m.above(parent)
	return err
}

// Mode returns the kind of host.
func (m *Manager) Mode() Mode { return m.mode }

// Driver returns who makes the cgroups.
func (m *Manager) Driver() Driver {
	if m.scopes != nil {
		return Systemd
	}
	return Cgroupfs
}

// Controllers returns the host's controllers, sorted. "devices" is among them
// only on v1: v2 has device rules without a controller.
func (m *Manager) Controllers() []string {
	var all []string
	for _, h := range m.trees {
		all = append(all, h.controllers...)
	}
	slices.Sort(all)
	return all
}

// Parent is the path of a pod's cgroup_parent, which is the kubelet's, or of the
// default parent when the pod names none.
func (m *Manager) Parent(parent string) (string, error) {
	if parent == "" {
		return m.parent, nil
	}
	return m.above(parent)
}

func (m *Manager) above(parent string) (string, error) {
	if m.scopes != nil {
		return slicePath(parent)
	}
	return cleanParent(parent)
}

// Path names the cgroup of a container of a pod below the pod's cgroup_parent.
func (m *Manager) Path(parent, pod, id string) (string, error) {
	parent, err := m.Parent(parent)
	if err != nil {
		return "", err
	}
	if err := checkName(id); err != nil {
		return "", fmt.Errorf("cgroup of container %q: %w", id, err)
	}
	if m.scopes != nil {
		return path.Join(parent, scopeName(pod), id), nil
	}
	return path.Join(parent, id), nil
}

// Chosen is Path for a cgroup that somebody else has chosen in the place of own.
// Its last part must be the container's id: what is in a container's cgroup is
// killed with it, and by nothing else is it sure to be nobody's but the container's.
// A scope is the pod's, so with systemd there is no other place.
func (m *Manager) Chosen(p, own string) (string, error) {
	id := path.Base(own)
	if !path.IsAbs(p) || path.Base(p) != id {
		return "", fmt.Errorf("cgroup %q of container %s: must be a path that ends in the container's id: %w", p, id, errdefs.ErrInvalidArgument)
	}
	if m.scopes == nil {
		return m.Path(path.Dir(p), "", id)
	}
	if path.Clean(p) != own {
		return "", fmt.Errorf("cgroup %q of container %s: with the systemd driver it is %s: %w", p, id, own, errdefs.ErrInvalidArgument)
	}
	return own, nil
}

// RemovePod takes back what Create made for a pod besides the cgroups of its
// containers, which must be gone. nil when there is nothing.
func (m *Manager) RemovePod(ctx context.Context, parent, pod string) error {
	if m.scopes == nil {
		return nil
	}
	parent, err := m.Parent(parent)
	if err != nil {
		return nil // nothing can have been made there
	}
	return m.scopes.remove(ctx, m, path.Join(parent, scopeName(pod)))
}

// cleanParent makes the parent absolute. The kubelet's systemd driver sends
// slice names; limits in directories made behind systemd's back are undone by
// it, so such a parent is refused.
func cleanParent(parent string) (string, error) {
	if strings.HasSuffix(parent, ".slice") || strings.Count(parent, ":") == 2 {
		return "", fmt.Errorf("cgroup parent %q is a systemd slice, but the cgroup driver is cgroupfs; "+
			"kubelet and runtime must use the same driver: %w", parent, errdefs.ErrInvalidArgument)
	}
	for part := range strings.SplitSeq(strings.Trim(parent, "/"), "/") {
		if part == "" { // the root itself, or a doubled slash
			continue
		}
		if err := checkName(part); err != nil {
			return "", fmt.Errorf("cgroup parent %q: %w", parent, err)
		}
	}
	return path.Join("/", parent), nil
}

// checkName accepts one directory name. Line breaks would corrupt
// /proc/PID/cgroup; the kernel refuses them too.
func checkName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > 255 || strings.ContainsAny(name, "/\n\x00") {
		return fmt.Errorf("%q is not a name of a cgroup: %w", name, errdefs.ErrInvalidArgument)
	}
	return nil
}

// Load returns the handle of a cgroup that exists, or existed, at the path.
func (m *Manager) Load(p string) *Cgroup { return &Cgroup{m: m, path: path.Join("/", p)} }

// Prune removes the default parent if it was made here and is empty.
func (m *Manager) Prune() error {
	if !m.madeParent.Load() {
		return nil
	}
	var errs []error
	for i := range m.trees {
		if err := linux.Rmdir(m.trees[i].dir(m.parent)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
