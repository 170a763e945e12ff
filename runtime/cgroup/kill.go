package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/berth-cri/berth/linux"
	"golang.org/x/sys/unix"
)

// Kill sends SIGKILL to every process here and below, also to those that are
// being forked, and waits until none is left or the context ends. The signal
// is sent in any case.
func (c *Cgroup) Kill(ctx context.Context) error {
	if err := c.checkPath(); err != nil {
		return fmt.Errorf("kill cgroup: %w", err)
	}
	err := c.kill(ctx)
	if err != nil {
		return fmt.Errorf("kill cgroup %s: %w", c.path, err)
	}
	return nil
}

func (c *Cgroup) kill(ctx context.Context) error {
	if c.m.unify >= 0 {
		// 5.14; one write, no race with fork.
		err := linux.WriteKernel(c.tracked()+"/cgroup.kill", "1")
		if err == nil {
			return c.waitByEvents(ctx)
		}
		if gone(err) && !c.Exists() {
			return nil
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errThreaded) {
			return err
		}
	}
	return c.killEach(ctx)
}

// killEach is the kill of v1: freeze, signal each, thaw, until nobody is left.
// Frozen processes cannot fork, so one round is enough where there is a
// freezer for them; without one, rounds go on until they win.
func (c *Cgroup) killEach(ctx context.Context) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		frozen := c.freeze()
		pids, err := c.Pids()
		for _, pid := range pids {
			// ESRCH: it is dead already. A number cannot be anybody else's
			// while its owner is frozen.
			if e := unix.Kill(pid, unix.SIGKILL); e != nil && !errors.Is(e, unix.ESRCH) {
				err = errors.Join(err, fmt.Errorf("kill %d: %w", pid, e))
			}
		}
		if frozen != nil {
			frozen()
		}
		if err != nil || len(pids) == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// freeze stops the processes of this cgroup, as far as it has a freezer of its
// own, and returns what lets them go again. It does not wait: a process that
// is not frozen yet cannot leave the kernel, so it cannot fork either.
func (c *Cgroup) freeze() (thaw func()) {
	file, on, off := "/freezer.state", "FROZEN", "THAWED"
	i, ok := c.m.place["freezer"]
	if c.m.mode == V2 {
		file, on, off = "/cgroup.freeze", "1", "0"
		i, ok = c.m.unify, true
	}
	if !ok || !c.own(i) {
		return nil // the container's own freezer would stop more than the exec
	}
	file = c.dir(i) + file
	if linux.WriteKernel(file, on) != nil {
		return nil
	}
	return func() { _ = linux.WriteKernel(file, off) }
}
