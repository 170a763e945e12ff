package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/berth-cri/berth/linux"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// OOMKills returns how many processes the kernel has killed in this cgroup and
// below for its memory limit. It must be asked before Remove: afterwards it is
// ErrNotFound. 0 on a host without the memory controller, where no cgroup's
// limit can kill.
func (c *Cgroup) OOMKills() (uint64, error) {
	i, ok := c.m.place["memory"]
	if !ok {
		return 0, nil
	}
	kills, err := oomKills(c.m.trees[i].dir(c.path), c.m.trees[i].v2)
	if errors.Is(err, fs.ErrNotExist) && c.m.trees[i].v2 && c.Exists() {
		return 0, nil // the controller was not delegated to us
	}
	if gone(err) {
		return 0, fmt.Errorf("oom kills of cgroup %s: %w: %w", c.path, err, errdefs.ErrNotFound)
	}
	if err != nil {
		return 0, fmt.Errorf("oom kills of cgroup %s: %w", c.path, err)
	}
	return kills, nil
}

// oomKills reads memory.events, which counts the whole subtree, or v1's
// memory.oom_control, which counts one cgroup, so that those of a nested
// runtime are added.
func oomKills(dir string, v2 bool) (uint64, error) {
	file := "/memory.oom_control"
	if v2 {
		file = "/memory.events"
	}
	var buf [512]byte
	b, err := linux.ReadKernel(dir+file, buf[:])
	if err != nil {
		return 0, err
	}
	kills, _, err := parseKey(b, "oom_kill")
	if err != nil || v2 {
		return kills, err
	}
	children, err := childDirs(dir)
	if err != nil {
		return 0, err
	}
	for _, child := range children {
		n, err := oomKills(child, v2)
		if err != nil && !gone(err) {
			return 0, err
		}
		kills += n
	}
	return kills, nil
}

// Populated says whether live processes are here or below. Zombies do not
// count.
func (c *Cgroup) Populated() (bool, error) {
	if c.m.unify < 0 {
		pids, err := c.Pids()
		return len(pids) > 0, err
	}
	var buf [512]byte
	b, err := linux.ReadKernel(c.tracked()+"/cgroup.events", buf[:])
	return populated(b, err)
}

func populated(events []byte, err error) (bool, error) {
	if gone(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	n, ok, err := parseKey(events, "populated")
	if err == nil && !ok {
		err = fmt.Errorf("cgroup.events has no %q: %w", "populated", errdefs.ErrDataLoss)
	}
	return n != 0, err
}

// WaitEmpty returns when the last process has left, or with the context's
// error. A removed cgroup is empty.
func (c *Cgroup) WaitEmpty(ctx context.Context) error {
	wait := c.waitByPolling
	if c.m.unify >= 0 {
		wait = c.waitByEvents
	}
	if err := wait(ctx); err != nil {
		return fmt.Errorf("wait until cgroup %s is empty: %w", c.path, err)
	}
	return nil
}

// waitSlice is how long one wait in the kernel lasts before the context is
// looked at again.
const waitSlice = 50 * time.Millisecond

// waitByEvents sleeps in poll(2) on cgroup.events. Only a read re-arms it, so
// read first and no change can be missed.
func (c *Cgroup) waitByEvents(ctx context.Context) error {
	file := c.tracked() + "/cgroup.events"
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "open", Path: file, Err: err}
	}
	defer unix.Close(fd)
	var buf [512]byte
	for {
		if some, err := populated(linux.PreadKernel(fd, file, buf[:])); err != nil || !some {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		slice := waitSlice
		if d, ok := ctx.Deadline(); ok {
			slice = max(min(slice, time.Until(d)), time.Millisecond)
		}
		if err := linux.WaitPriority(fd, int(slice.Milliseconds())); err != nil {
			return err
		}
	}
}

func (c *Cgroup) waitByPolling(ctx context.Context) error {
	for pause := time.Millisecond; ; pause = min(2*pause, waitSlice) {
		if some, err := c.Populated(); err != nil || !some {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}
