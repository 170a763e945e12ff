package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/berth-cri/berth/linux"
	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// setting is one write to one file of the kernel, with what it takes to name
// the mistake and to take it back.
type setting struct {
	field      string // of the OCI resources, for the error
	controller string // "" is the cgroup2 itself
	file       string
	value      string

	// optional: without the file the kernel gives what was asked for anyway
	// (a limit of 0 huge pages where there are none).
	optional bool
	// initial: a new cgroup is born with this value, and without the
	// controller nothing else is possible.
	initial bool
	// undo makes the write that restores the file from its old content; nil
	// is the content itself.
	undo func(old []byte) string
	// instead is for a kernel without the file.
	instead *setting
}

// keyed makes the undo of a file that has one line per device or interface:
// its old line, or what removes the line when there was none.
func keyed(key, remove string) func([]byte) string {
	return func(old []byte) string {
		if line := lineOf(old, key); line != "" {
			return line
		}
		return remove
	}
}

// limit sets the resources of a cgroup that was just made.
func (c *Cgroup) limit(res *specs.LinuxResources) error {
	if res == nil {
		res = &specs.LinuxResources{}
	}
	settings, err := compile(res, c.m, nil)
	if err != nil {
		return err
	}
	have, why, err := c.m.delegate(c.path, c.m.wanted(settings))
	if err != nil {
		return err
	}
	for _, s := range settings {
		if s.initial {
			continue
		}
		dir, err := c.home(s, have, why)
		if err != nil {
			return err
		}
		if dir == "" {
			continue
		}
		s = s.in(dir)
		if err := s.write(dir, s.value); err != nil {
			return err
		}
	}
	if len(res.Devices) > 0 {
		return c.limitDevices(res.Devices)
	}
	return nil
}

// wanted lists the cgroup2 controllers to turn on: all on v2, where the
// kubelet's stats need them too; on a hybrid host, whose cgroup2 only tracks,
// the few that a limit asks for.
func (m *Manager) wanted(settings []setting) []string {
	if m.unify < 0 {
		return nil
	}
	if m.mode == V2 {
		return m.trees[m.unify].controllers
	}
	var want []string
	for _, s := range settings {
		if s.initial || slices.Contains(want, s.controller) {
			continue
		}
		if i, ok := m.place[s.controller]; ok && i == m.unify {
			want = append(want, s.controller)
		}
	}
	return want
}

// home finds the directory that a setting is for; "" when it may be dropped.
// have are the cgroup2 controllers that the cgroup got, why what stopped others.
func (c *Cgroup) home(s setting, have []string, why error) (string, error) {
	i, ok := c.m.place[s.controller]
	if s.controller == "" {
		i, ok = c.m.unify, c.m.unify >= 0
	} else if ok && i == c.m.unify {
		ok = slices.Contains(have, s.controller)
	}
	switch {
	case ok:
		return c.m.trees[i].dir(c.path), nil
	case s.optional || s.initial:
		return "", nil
	case why != nil:
		return "", fmt.Errorf("%s: the %s controller could not be enabled: %w: %w", s.field, s.controller, why, errdefs.ErrNotImplemented)
	}
	return "", fmt.Errorf("%s: no %s controller here: %w", s.field, s.controller, errdefs.ErrNotImplemented)
}

// in chooses the file that this kernel has.
func (s setting) in(dir string) setting {
	if s.instead == nil {
		return s
	}
	if _, err := os.Stat(dir + "/" + s.file); errors.Is(err, fs.ErrNotExist) {
		return *s.instead
	}
	return s
}

// write gives the setting's file a value and says in the field's name why the
// kernel did not want it.
func (s setting) write(dir, value string) error {
	if value == "" {
		value = "\n" // a write of nothing would not reach the kernel
	}
	err := linux.WriteKernel(dir+"/"+s.file, value)
	if err == nil || s.optional && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	kind := error(nil)
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ERANGE), errors.Is(err, unix.ENODEV),
		errors.Is(err, unix.EACCES), errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EPERM):
		kind = errdefs.ErrInvalidArgument
	case errors.Is(err, unix.EBUSY):
		kind = errdefs.ErrFailedPrecondition // a limit below what is in use
	case errors.Is(err, fs.ErrNotExist):
		kind = errdefs.ErrNotImplemented
	default:
		return fmt.Errorf("%s: set %q: %w", s.field, strings.TrimSpace(value), err)
	}
	return fmt.Errorf("%s: set %q: %w: %w", s.field, strings.TrimSpace(value), err, kind)
}

// Set changes the resources of a living cgroup, all or nothing. Devices cannot
// be changed: leave them out.
func (c *Cgroup) Set(res *specs.LinuxResources) error {
	_, err := c.Change(res)
	return err
}

// Change is Set for one who may have to take it back: restore writes what the
// files had in them before.
func (c *Cgroup) Change(res *specs.LinuxResources) (restore func() error, err error) {
	var undo []func() error
	restore = func() (err error) {
		for _, f := range slices.Backward(undo) {
			err = errors.Join(err, f())
		}
		return err
	}
	if res == nil {
		return restore, nil
	}
	if err := c.set(res, &undo); err != nil {
		if e := restore(); e != nil {
			err = errors.Join(err, fmt.Errorf("restore: %w", e))
		}
		return nil, fmt.Errorf("update cgroup %s: %w", c.path, err)
	}
	return restore, nil
}

// set leaves in undo what takes back each write that was made.
func (c *Cgroup) set(res *specs.LinuxResources, undo *[]func() error) error {
	if err := c.checkPath(); err != nil {
		return err
	}
	if len(res.Devices) > 0 {
		return fmt.Errorf("devices: they cannot be changed after creation: %w", errdefs.ErrNotImplemented)
	}
	settings, err := compile(res, c.m, c)
	if err != nil {
		return err
	}
	have, why, err := c.m.delegate(c.path, c.m.wanted(settings))
	if err != nil {
		return err
	}
	for _, s := range settings {
		dir, err := c.home(s, have, why)
		if err != nil {
			return err
		}
		if dir == "" {
			continue
		}
		s = s.in(dir)
		old, err := linux.ReadKernel(dir+"/"+s.file, nil)
		if s.optional && errors.Is(err, fs.ErrNotExist) && c.Exists() {
			continue
		}
		if errors.Is(err, fs.ErrNotExist) && !c.Exists() {
			return fmt.Errorf("%w: %w", err, errdefs.ErrNotFound)
		}
		// A file that cannot be read is written all the same: if the value
		// is refused nothing has changed, and the kernel's reason is better.
		if err := s.write(dir, s.value); err != nil {
			return err
		}
		*undo = append(*undo, func() error {
			if s.undo != nil {
				return s.write(dir, s.undo(old))
			}
			return s.write(dir, strings.TrimSpace(string(old)))
		})
	}
	return nil
}

// now reads the present value of a file, "" when it has none.
func (c *Cgroup) now(controller, file string) string {
	i, ok := c.m.place[controller]
	if !ok {
		return ""
	}
	b, err := linux.ReadKernel(c.m.trees[i].dir(c.path)+"/"+file, nil)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
