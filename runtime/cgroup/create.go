package cgroup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/berth-cri/berth/linux"
	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Create makes the cgroup in every hierarchy and sets its limits. An empty one
// of the same name, left by a start that failed, is replaced, counters and
// all; one with processes is ErrAlreadyExists.
func (m *Manager) Create(ctx context.Context, p string, res *specs.LinuxResources) (*Cgroup, error) {
	c := m.Load(p)
	if err := c.checkPath(); err != nil {
		return nil, fmt.Errorf("create cgroup: %w", err)
	}
	if m.scopes != nil {
		if err := m.scopes.ensure(ctx, path.Dir(c.path)); err != nil {
			return nil, fmt.Errorf("create cgroup %s: %w", c.path, err)
		}
	}
	for i := range m.trees {
		if err := m.makeLeaf(ctx, i, c.path); err != nil {
			c.discard(i)
			return nil, fmt.Errorf("create cgroup %s: %w", c.path, err)
		}
	}
	if err := c.limit(res); err != nil {
		c.discard(len(m.trees))
		return nil, fmt.Errorf("create cgroup %s: %w", c.path, err)
	}
	return c, nil
}

// discard takes back the directories that a failed Create made, in the first n
// trees. Nothing has run in them, so a plain rmdir is enough.
func (c *Cgroup) discard(n int) {
	for i := range n {
		_ = linux.Rmdir(c.m.trees[i].dir(c.path))
	}
}

// makeLeaf makes the container's directory in one tree.
func (m *Manager) makeLeaf(ctx context.Context, i int, p string) error {
	h := &m.trees[i]
	dir := h.dir(p)
	// More than one try: a parent may go between our two calls (the kubelet
	// tidies, Prune), a left-over may still be dying.
	for try := 0; ; try++ {
		err := linux.Mkdir(dir, 0o755)
		switch {
		case err == nil:
			return m.fillCpuset(h, p)
		case try == 3:
			return err
		case errors.Is(err, fs.ErrNotExist) && m.scopes != nil:
			err = m.scopes.ensure(ctx, path.Dir(p))
		case errors.Is(err, fs.ErrNotExist):
			err = m.makeParents(h, path.Dir(p))
		case errors.Is(err, fs.ErrExist):
			err = removeEmpty(dir)
		}
		if errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("%s has processes: %w", dir, errdefs.ErrAlreadyExists)
		}
		if err != nil {
			return err
		}
	}
}

// makeParents makes what is missing above a container.
func (m *Manager) makeParents(h *hierarchy, p string) error {
	if p == "/" {
		return nil // the mount point; if that is missing, the caller's mkdir says so
	}
	err := linux.Mkdir(h.dir(p), 0o755)
	if errors.Is(err, fs.ErrNotExist) {
		if err := m.makeParents(h, path.Dir(p)); err != nil {
			return err
		}
		err = linux.Mkdir(h.dir(p), 0o755)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if p == m.parent {
		m.madeParent.Store(true)
	}
	if h.has("cpuset") && !h.v2 {
		// Children of this one are born with its processors and memory nodes.
		// Writing them instead makes the kernel rebuild its scheduling
		// domains, 0.1 ms for each container. A failure costs only that.
		_ = linux.WriteKernel(h.dir(p)+"/cgroup.clone_children", "1")
	}
	return m.fillCpuset(h, p)
}

// fillCpuset gives a new v1 cpuset the processors and memory nodes of its
// parent: it is born empty, and no process can join an empty one. A parent
// that somebody else left empty is filled on the way.
func (m *Manager) fillCpuset(h *hierarchy, p string) error {
	if h.v2 || !h.has("cpuset") {
		return nil
	}
	for _, file := range []string{"/cpuset.cpus", "/cpuset.mems"} {
		if _, err := inherit(h, p, file); err != nil {
			return err
		}
	}
	return nil
}

// inherit returns the set of the cgroup, taken from above where it is empty.
func inherit(h *hierarchy, p, file string) (string, error) {
	name := h.dir(strings.TrimSuffix(p, "/")) + file
	b, err := linux.ReadKernel(name, nil)
	if err != nil {
		return "", err
	}
	have := string(bytes.TrimSpace(b))
	if have != "" || p == "/" {
		return have, nil
	}
	above, err := inherit(h, path.Dir(p), file)
	if err != nil {
		return "", err
	}
	return above, linux.WriteKernel(name, above)
}

// delegate turns the wanted controllers on for the cgroup (v2: a controller
// reaches a cgroup when subtree_control of everything above it says so) and
// returns those that it has then. Some may be impossible (a parent with
// processes of its own, a real-time task): why is kept for the limit that
// needs one; others do not fail for it.
func (m *Manager) delegate(p string, want []string) (have []string, why, err error) {
	if len(want) == 0 {
		return nil, nil, nil
	}
	h := &m.trees[m.unify]
	read := func() ([]string, error) {
		b, err := linux.ReadKernel(h.dir(p)+"/cgroup.controllers", nil)
		return strings.Fields(string(b)), err
	}
	have, err = read()
	if err != nil {
		return nil, nil, err
	}
	missing := subtract(want, have)
	if len(missing) == 0 {
		return have, nil, nil
	}
	dir := h.mount
	for part := range strings.SplitSeq(path.Dir(p), "/") {
		if part != "" {
			dir += "/" + part
		} else if dir != h.mount {
			continue
		}
		if err := enable(dir, missing); err != nil && why == nil {
			why = err
		}
	}
	have, err = read()
	return have, why, err
}

// enable asks for all at once, which is one walk of the tree in the kernel,
// and one by one only when that is refused, since one refusal stops all.
func enable(dir string, controllers []string) error {
	file := dir + "/cgroup.subtree_control"
	if linux.WriteKernel(file, "+"+strings.Join(controllers, " +")) == nil {
		return nil
	}
	var errs []error
	for _, c := range controllers {
		if err := linux.WriteKernel(file, "+"+c); err != nil {
			errs = append(errs, fmt.Errorf("enable %s: %w", c, err))
		}
	}
	return errors.Join(errs...)
}

func subtract(from, what []string) []string {
	var left []string
	for _, s := range from {
		if !slices.Contains(what, s) {
			left = append(left, s)
		}
	}
	return left
}
