package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/berth-cri/berth/linux"
	"github.com/containerd/errdefs"
)

// Driver says who makes cgroups. The systemd driver (a transient scope per
// container, asked for over D-Bus) has its place here and is not served yet.
type Driver string

const (
	Cgroupfs Driver = "cgroupfs"
	Systemd  Driver = "systemd"
)

// Options configure a Manager; the zero value is the usual host.
type Options struct {
	Driver string // "" is cgroupfs
	Root   string // where the hierarchies are mounted; "" is /sys/fs/cgroup
	Parent string // of containers whose pod names none; "" is /berth
}

// Manager makes cgroups on one host. It is safe for concurrent use.
type Manager struct {
	mode   Mode
	parent string
	trees  []hierarchy
	place  map[string]int // controller -> index in trees
	track  int            // the tree that says which processes a cgroup has
	unify  int            // the cgroup2, -1 on pure v1

	madeParent atomic.Bool // the default parent is ours to remove
}

// Open reads the host's hierarchies.
func Open(o Options) (*Manager, error) {
	switch Driver(o.Driver) {
	case "", Cgroupfs:
	case Systemd:
		return nil, fmt.Errorf("open cgroups: driver %q: %w", o.Driver, errdefs.ErrNotImplemented)
	default:
		return nil, fmt.Errorf("open cgroups: unknown driver %q: %w", o.Driver, errdefs.ErrInvalidArgument)
	}
	root := o.Root
	if root == "" {
		root = "/sys/fs/cgroup"
	}
	trees, err := discover(path.Clean(root))
	if err != nil {
		return nil, fmt.Errorf("open cgroups: %w", err)
	}
	m, err := newManager(trees, o.Parent)
	if err != nil {
		return nil, fmt.Errorf("open cgroups: %w", err)
	}
	return m, nil
}

func newManager(trees []hierarchy, parent string) (*Manager, error) {
	mode, err := modeOf(trees)
	if err != nil {
		return nil, err
	}
	if parent == "" {
		parent = "/berth"
	}
	if parent, err = cleanParent(parent); err != nil {
		return nil, err
	}
	m := &Manager{mode: mode, parent: parent, trees: trees, place: map[string]int{}, unify: -1}
	for i, h := range trees {
		if h.v2 {
			m.unify = i
		}
		for _, c := range h.controllers {
			m.place[c] = i
		}
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

// Mode returns the kind of host.
func (m *Manager) Mode() Mode { return m.mode }

// Driver returns who makes the cgroups.
func (m *Manager) Driver() Driver { return Cgroupfs }

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

// Path names the cgroup of a container below the pod's cgroup_parent, or below
// the default parent when the pod names none.
func (m *Manager) Path(parent, id string) (string, error) {
	if parent == "" {
		parent = m.parent
	}
	parent, err := cleanParent(parent)
	if err != nil {
		return "", err
	}
	if err := checkName(id); err != nil {
		return "", fmt.Errorf("cgroup of container %q: %w", id, err)
	}
	return path.Join(parent, id), nil
}

// Chosen is Path for a cgroup that somebody else has chosen. Its last part must be
// the container's id: what is in a container's cgroup is killed with it, and by
// nothing else is it sure to be nobody's but the container's.
func (m *Manager) Chosen(p, id string) (string, error) {
	if !path.IsAbs(p) || path.Base(p) != id {
		return "", fmt.Errorf("cgroup %q of container %s: must be a path that ends in the container's id: %w", p, id, errdefs.ErrInvalidArgument)
	}
	return m.Path(path.Dir(p), id)
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
