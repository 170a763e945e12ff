package cgroup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/berth-cri/berth/linux"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// removePatience bounds how long Remove waits for dying processes to leave.
const removePatience = 5 * time.Second

// Remove deletes the cgroup and what was made below it (by execs, by a nested
// runtime), children first. It kills nobody: a process that lives makes it fail
// at once with ErrFailedPrecondition. nil when there is nothing.
func (c *Cgroup) Remove(ctx context.Context) error {
	if err := c.checkPath(); err != nil {
		return fmt.Errorf("remove cgroup: %w", err)
	}
	var errs []error
	for _, i := range c.owned() {
		if err := removeTree(ctx, c.dir(i)); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove cgroup %s: %w", c.path, err)
	}
	return nil
}

// removeTree tries again while the kernel says EBUSY and lists no process: a
// task stays in its cgroup until it has run its exit to the end.
func removeTree(ctx context.Context, dir string) error {
	deadline := time.Now().Add(removePatience)
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := removeEmpty(dir)
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		pids, pidErr := pidsBelow(dir)
		if pidErr != nil {
			return pidErr
		}
		if len(pids) > 0 || time.Now().After(deadline) {
			return fmt.Errorf("%s has processes %v: %w", dir, pids, errdefs.ErrFailedPrecondition)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", err, ctx.Err())
		case <-time.After(pause):
		}
	}
}

// removeEmpty deletes a directory and its children, once; EBUSY when there are
// processes in one of them.
func removeEmpty(dir string) error {
	err := linux.Rmdir(dir)
	if gone(err) {
		return nil
	}
	// EBUSY says both "processes" and "children": look only now.
	if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOTEMPTY) {
		return err
	}
	children, listErr := childDirs(dir)
	if listErr != nil {
		return listErr
	}
	if len(children) == 0 {
		return err
	}
	for _, child := range children {
		if err := removeEmpty(child); err != nil {
			return err
		}
	}
	if err := linux.Rmdir(dir); !gone(err) {
		return err
	}
	return nil
}
