package container

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/berth-cri/berth/linux"
	"github.com/berth-cri/berth/runtime/monitor"
	"golang.org/x/sync/errgroup"
)

// lookAgain is how often a stop looks at the process itself instead of waiting
// for an event that may never come (containerd#12678).
const lookAgain = 500 * time.Millisecond

// Stop ends the container's processes: its stop signal, sent once however often
// Stop is called, and SIGKILL to all of them after grace (0: at once). A later
// call can only shorten the wait. It returns when the exit is recorded, and
// plugins have heard of it. nil when nothing runs; ErrNotFound when there is no
// such container.
func (s *Service) Stop(ctx context.Context, id string, grace time.Duration) error {
	c, err := s.index.Get(id)
	if err != nil {
		return err
	}
	if err := s.end(ctx, c, grace); err != nil {
		return err
	}
	if c.Status().State == Exited {
		s.Plugins.StopContainer(ctx, c)
	}
	return nil
}

func (s *Service) end(ctx context.Context, c *Container, grace time.Duration) error {
	for {
		switch st := c.Status().State; st {
		case Starting:
			// A start is short and cannot be interrupted.
			if err := pause(ctx, c, 2*time.Millisecond); err != nil {
				return fmt.Errorf("wait for the start of container %s: %w", c.rec.ID, err)
			}
		case Running, Stopping:
			return s.stop(ctx, c, grace)
		default:
			return nil
		}
	}
}

func (s *Service) stop(ctx context.Context, c *Container, grace time.Duration) error {
	if err := c.move(Stop, nil); err != nil {
		return nil // it has exited
	}
	began := time.Now()
	killed := false
	for {
		if !killed {
			killed = s.kill(ctx, c, grace-time.Since(began))
		}
		if err := pause(ctx, c, lookAgain); err != nil {
			return fmt.Errorf("wait for container %s to end, %s into its grace of %s: %w",
				c.rec.ID, time.Since(began).Round(time.Millisecond), grace, err)
		}
		select {
		case <-c.exited:
			return nil
		default:
		}
		if s.gone(ctx, c) {
			s.lost(c)
			return nil
		}
		if over := time.Since(began) - grace; over > s.settings.Load().KillTimeout {
			return fmt.Errorf("container %s still runs %s after SIGKILL: %w", c.rec.ID, over.Round(time.Millisecond), context.DeadlineExceeded)
		}
		// A monitor that died forgot when to send SIGKILL.
		killed = killed && time.Since(began) < grace+lookAgain
	}
}

// kill hands the stop to the monitor, which sees it through whatever becomes of
// the daemon. false when it could not be handed over, and is to be tried again.
func (s *Service) kill(ctx context.Context, c *Container, grace time.Duration) bool {
	err := s.monitor.Kill(ctx, monitor.KillRequest{ID: c.rec.ID, Signal: int(c.rec.StopSignal), After: max(grace, 0)})
	if err != nil && ctx.Err() == nil {
		s.Log.Warn("stop by the monitor", "container", c.rec.ID, "error", err)
		if grace <= 0 {
			if err := s.Cgroups.Load(c.rec.Cgroup).Kill(ctx); err != nil {
				s.Log.Error("kill container", "container", c.rec.ID, "error", err)
			}
		}
	}
	return err == nil
}

// gone says that the container's process has ended, and that the monitor will not
// tell how: it was asked some time after the end, and does not have the container, or
// has told somebody who did not hear it. One that has it without an exit still reads
// what something left behind may write, or waits for the parent of an adopted
// process to reap it.
func (s *Service) gone(ctx context.Context, c *Container) bool {
	st := c.Status()
	if st.Pid == 0 || linux.Alive(st.Pid, st.StartTime) {
		return false
	}
	if pause(ctx, c, lookAgain) != nil {
		return false
	}
	list, err := s.monitor.List(ctx)
	if err != nil {
		return false // the next monitor tells
	}
	for _, m := range list {
		if m.ID == c.rec.ID && m.Exit == nil {
			return false
		}
	}
	select {
	case <-c.exited:
		return false
	default:
		return true
	}
}

// pause waits until the container has exited or the time is over.
func pause(ctx context.Context, c *Container, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-c.exited:
	case <-t.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// StopPod kills every container of a pod. The pod admits no new ones.
func (s *Service) StopPod(ctx context.Context, pod string) error {
	var all errgroup.Group
	for _, c := range s.inPod(pod) {
		all.Go(func() error { return s.Stop(ctx, c.rec.ID, 0) })
	}
	return all.Wait()
}

// RemovePod removes every container of a pod.
func (s *Service) RemovePod(ctx context.Context, pod string) error {
	var errs []error
	for _, c := range s.inPod(pod) {
		errs = append(errs, s.Remove(ctx, c.rec.ID))
	}
	return errors.Join(errs...)
}
