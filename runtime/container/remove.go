package container

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/berth-cri/berth/fault"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Remove kills the container when it runs, and removes it. The name is free
// when it returns; the file system goes to the trash and is deleted later, so
// that nothing about it can keep the name (cri-o#8596). ErrNotFound when there
// is no such container.
func (s *Service) Remove(ctx context.Context, id string) error {
	c, err := s.index.Get(id)
	if err != nil {
		return err
	}
	if err := s.Stop(ctx, c.rec.ID, 0); err != nil {
		return err
	}
	return s.takeAway(ctx, c)
}

// takeAway removes a container that does not run, once for all who ask.
func (s *Service) takeAway(ctx context.Context, c *Container) error {
	id := c.rec.ID
	done := s.flights.DoChan("remove "+id, func() (any, error) {
		if _, err := s.index.Get(id); err != nil {
			return nil, nil // another call has removed it since
		}
		if c.Status().State != Creating { // its state is all that tells it from a whole one
			if err := c.move(Remove, nil); err != nil {
				return nil, err
			}
			ctx := context.WithoutCancel(ctx)
			s.Plugins.StopContainer(ctx, c) // of one that was never started
			s.Plugins.RemoveContainer(ctx, c)
		}
		return nil, s.discard(context.WithoutCancel(ctx), c)
	})
	select {
	case r := <-done:
		return r.Err
	case <-ctx.Done():
		return fmt.Errorf("wait for the removal of container %s: %w", id, ctx.Err())
	}
}

// discard takes away everything that a container may have; each step is
// idempotent, and the records go last.
func (s *Service) discard(ctx context.Context, c *Container) error {
	ctx, cancel := context.WithTimeout(ctx, exitLimit)
	defer cancel()
	c.release()
	if c.rec.Cgroup != "" {
		cg := s.Cgroups.Load(c.rec.Cgroup)
		if err := errors.Join(cg.Kill(ctx), c.forgetExternal(ctx), cg.Remove(ctx)); err != nil {
			return fmt.Errorf("remove cgroup of container: %w", err)
		}
	}
	s.poststop(ctx, c)
	if err := fault.Hit("container.remove.rootfs"); err != nil {
		return err
	}
	if err := s.Rootfs.Remove(c.rec.ID); err != nil {
		return fmt.Errorf("remove root of container: %w", err)
	}
	s.Images.Release(c.rec.ID)
	// The records first: a directory without them is nobody's.
	for _, name := range []string{recordFile, statusFile} {
		if err := os.Remove(c.file(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove record of container: %w", err)
		}
	}
	if err := os.RemoveAll(c.dir); err != nil {
		return fmt.Errorf("remove directory of container: %w", err)
	}
	s.index.Remove(c.rec.ID, c.rec.Name)
	if c.Status().State != Creating { // of which nobody has heard
		c.changed(runtimeapi.ContainerEventType_CONTAINER_DELETED_EVENT)
	}
	return nil
}
