package pod

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/berth-cri/berth/fault"
	"github.com/berth-cri/berth/linux/namespace"
)

// stopLimit bounds one StopPodSandbox, whose work goes on without its caller.
const stopLimit = 4 * time.Minute

// Stop ends the pod: drain stops its containers, then network, reaper and
// namespaces go. ErrNotFound when there is no such pod; nil when nothing of it
// is left. A failed stop leaves the pod stopping, and is to be repeated.
func (s *Service) Stop(ctx context.Context, id string, drain func(ctx context.Context, pod string) error) error {
	p, err := s.index.Get(id)
	if err != nil {
		return err
	}
	id = p.Record().ID
	waiting := func() string { return "stop of sandbox " + id + ": " + *p.step.Load() }
	p.at("containers")
	_, err = s.join(ctx, "stop "+id, stopLimit, waiting, func(ctx context.Context) (string, error) {
		return "", s.stop(ctx, p, drain)
	})
	return err
}

func (s *Service) stop(ctx context.Context, p *Pod, drain func(context.Context, string) error) error {
	if r := p.Record(); r.Released && r.State != Ready {
		return nil
	}
	// From here on no container is created or started in it.
	if err := p.move(Stop); err != nil {
		return err
	}
	p.at("containers")
	if err := drain(ctx, p.Record().ID); err != nil {
		return fmt.Errorf("stop containers of pod sandbox: %w", err)
	}
	p.at("plugins")
	s.tellStop(ctx, p)
	if err := s.release(ctx, p); err != nil {
		return err
	}
	return p.move(Stopped)
}

// release gives back all that a pod holds but its record. Every step is
// idempotent and an error in one does not keep the others from running, but
// the namespaces stay for as long as the network could not be taken down:
// a plugin may need them.
func (s *Service) release(ctx context.Context, p *Pod) error {
	p.meter.Close()
	p.calls.hangUp() // an open socket would keep the network namespace
	p.at("network")
	if err := fault.Hit("pod.stop.network"); err != nil {
		return err
	}
	if p.Namespace(namespace.Net) != "" {
		n := networkPod(p)
		if ok, err := namespace.Is(n.Netns); err != nil || !ok {
			n.Netns = "" // features: CNI DEL runs all the same, with what was cached
		}
		if err := s.Network.Teardown(ctx, n); err != nil {
			return fmt.Errorf("tear down network of pod sandbox: %w", err)
		}
	}
	p.at("reaper and namespaces")
	var errs []error
	if err := s.stopReaper(ctx, p); err != nil {
		errs = append(errs, err)
	}
	if r := p.Record(); len(errs) == 0 {
		if err := s.Cgroups.RemovePod(ctx, r.Config.GetLinux().GetCgroupParent(), r.ID); err != nil {
			errs = append(errs, fmt.Errorf("remove cgroup of pod sandbox: %w", err))
		}
	}
	if err := namespace.Unpin(p.namespaces()); err != nil {
		errs = append(errs, fmt.Errorf("unpin namespaces of pod sandbox: %w", err))
	}
	if err := unmountShm(p.dir); err != nil {
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	return p.change(func(r *Record) error { r.Released, r.Reaper = true, nil; return nil })
}
