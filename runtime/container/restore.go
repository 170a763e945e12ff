package container

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/berth-cri/berth/linux"
	"github.com/berth-cri/berth/runtime/index"
	"github.com/berth-cri/berth/runtime/monitor"
	"golang.org/x/sync/errgroup"
)

// Restore reads the records of an earlier daemon, takes its containers' layers
// into the image store's holds and the descriptors of what runs, so that a new
// monitor can adopt it. A record that cannot be read is set aside and reported;
// it never stops the others.
func (s *Service) Restore() error {
	all, err := index.Restore(s.StateDir, recordFile, load, os.RemoveAll, s.Log)
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b *Container) int { return cmp.Compare(a.rec.CreatedAt, b.rec.CreatedAt) })
	for _, c := range all {
		s.tellOf(c)
		if err := s.index.Add(c.rec.ID, c.rec.Name, c); err != nil {
			s.Log.Error("container not restored", "container", c.rec.ID, "error", err)
			continue
		}
		s.SELinux.Reserve(c.rec.Labels)
		s.Images.Hold(c.rec.ID, c.rec.Layers)
		s.Images.Hold(c.rec.ID, c.rec.Volumes)
		if err := c.loadLimits(); err != nil {
			s.Log.Error("updated limits of container are lost: those of its creation count", "container", c.rec.ID, "error", err)
		}
		if err := s.reopen(c); err != nil {
			s.Log.Error("container not restored whole", "container", c.rec.ID, "error", err)
		}
	}
	return nil
}

// reopen takes the descriptors of a process that still runs.
func (s *Service) reopen(c *Container) (err error) {
	st := c.Status()
	if st.Pid == 0 {
		return nil
	}
	l := &live{}
	// The number may belong to another process by now, so the start time is
	// compared after the descriptor holds whoever it is.
	l.pidfd, err = linux.PidfdOpen(st.Pid)
	if err != nil || !linux.Alive(st.Pid, st.StartTime) {
		l.close()
		return nil
	}
	if !c.rec.Launch.Terminal {
		if l.keepers, err = monitor.OpenKeepers(c.dir); err != nil {
			l.close()
			return err
		}
	}
	c.hold(l)
	return nil
}

// Reconcile compares the restored records with the monitor, which has adopted
// what it did not know, and with the kernel. It notes the exits that nobody
// heard of and ends the starts that a killed daemon left.
func (s *Service) Reconcile(ctx context.Context) error {
	list, err := s.monitor.List(ctx)
	if err != nil {
		return fmt.Errorf("ask the monitor for its containers: %w", err)
	}
	known := map[string]*monitor.Container{}
	for i, m := range list {
		known[m.ID] = &list[i]
	}
	var wg sync.WaitGroup
	for _, c := range s.index.All() {
		wg.Go(func() {
			if err := s.reconcile(ctx, c, known[c.rec.ID]); err != nil {
				s.Log.Error("container not reconciled", "container", c.rec.ID, "error", err)
			}
		})
	}
	wg.Wait()
	return nil
}

func (s *Service) reconcile(ctx context.Context, c *Container, m *monitor.Container) error {
	st := c.Status().State
	if st != Starting && st != Running && st != Stopping {
		return nil
	}
	if e, ok, err := monitor.ReadExit(c.dir); err == nil && ok {
		s.Exited(e)
		return nil
	}
	switch {
	case m == nil && st == Starting: // killed before the monitor was asked
		return c.move(Exit, func(st *Status) {
			st.StartedAt, st.FinishedAt = 0, time.Now().UnixNano()
			st.ExitCode, st.Reason = exitStartError, ReasonStartError
			st.Message = "the daemon ended while the container was being started"
		})
	case m == nil:
		return s.watch(c)
	case st == Starting:
		if err := c.move(Started, func(st *Status) { st.Pid, st.StartTime = m.Pid, m.StartTime }); err != nil {
			return err
		}
		if err := s.reopen(c); err != nil {
			return err
		}
	}
	if m.Stdin && !monitor.HasStdin(c.dir) { // closing it was under way
		s.endStdin(ctx, c)
	}
	return s.takeConsole(ctx, c)
}

// watch waits for the end of a process that no monitor wants: its code is lost,
// but not its end.
func (s *Service) watch(c *Container) error {
	st := c.Status()
	pidfd, err := linux.PidfdOpen(st.Pid)
	if err != nil || !linux.Alive(st.Pid, st.StartTime) {
		s.lost(c)
		return nil
	}
	s.Log.Warn("container runs without a monitor", "container", c.rec.ID)
	go func() {
		defer pidfd.Close()
		linux.PidfdDead(pidfd, -1)
		s.lost(c)
	}()
	return nil
}

// takeConsole gets the terminal's master, which no path leads to.
func (s *Service) takeConsole(ctx context.Context, c *Container) error {
	if !c.rec.Launch.Terminal {
		return nil
	}
	pidfd, console, err := s.monitor.Take(ctx, c.rec.ID)
	if err != nil {
		return err
	}
	c.hold(&live{pidfd: pidfd, console: console})
	return nil
}

// Adoptable is what a new monitor must take over. The descriptors stay ours.
func (s *Service) Adoptable() []monitor.AdoptRequest {
	var all []monitor.AdoptRequest
	for _, c := range s.index.All() {
		st := c.Status()
		if st.State != Running && st.State != Stopping {
			continue
		}
		c.use(func(l *live) error {
			all = append(all, monitor.AdoptRequest{
				ID: c.rec.ID, Dir: c.dir, Pid: st.Pid, StartTime: st.StartTime, At: time.Unix(0, st.StartedAt),
				Pidfd: l.pidfd, Console: l.console, Terminal: c.rec.Launch.Terminal,
				KillCgroup: s.Cgroups.Load(c.rec.Cgroup).KillDir(), Log: c.rec.LogPath, Stdin: c.rec.Config.Stdin,
			})
			return nil
		})
	}
	return all
}

// Abandoned is what a killed daemon left half created or half removed. To be
// called before the first request.
func (s *Service) Abandoned() []*Container {
	var left []*Container
	for _, c := range s.index.All() {
		if st := c.Status().State; st == Creating || st == Removing {
			left = append(left, c)
		}
	}
	return left
}

// Abandon removes them, and the root file systems that belong to no container.
func (s *Service) Abandon(ctx context.Context, left []*Container) error {
	var all errgroup.Group
	all.SetLimit(4)
	for _, c := range left {
		all.Go(func() error { return s.takeAway(ctx, c) })
	}
	errs := []error{all.Wait(), s.deleteStrangers(ctx)}
	roots, err := s.Rootfs.List()
	errs = append(errs, err)
	for _, id := range roots {
		if _, err := s.index.Get(id); err != nil {
			errs = append(errs, s.Rootfs.Remove(id))
		}
	}
	return errors.Join(errs...)
}
