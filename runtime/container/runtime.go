package container

import (
	"context"
	"errors"
	"fmt"

	"github.com/berth-cri/berth/runtime/cgroup"
	"github.com/berth-cri/berth/runtime/handler"
	"github.com/berth-cri/berth/runtime/oci"
	"github.com/berth-cri/berth/runtime/oci/embedded"
	"github.com/berth-cri/berth/runtime/oci/external"
	"github.com/berth-cri/berth/runtime/pod"
	"github.com/berth-cri/berth/runtime/rootfs"
	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// What differs between the embedded runtime and one that is a program of its own.
// A container keeps the one that it was created with.

// handler is that of a pod. It may be gone from the configuration since the pod
// was run.
func (s *Service) handler(p *pod.Pod) (*handler.Handler, error) {
	h, err := s.settings.Load().Handlers.Get(p.Record().Handler)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrFailedPrecondition)
	}
	return h, nil
}

// prepare makes the plan of the container. An external runtime's spec is changed
// into what the runtime can read.
func (c *Container) prepare(h *handler.Handler, sp *specs.Spec, overlay rootfs.Overlay) (embedded.Prepared, error) {
	if h.External == nil {
		p, err := embedded.Compile(sp, embedded.Overlay(overlay))
		if sp.Hooks != nil {
			p.Hooked = &oci.Bundle{ID: c.rec.ID, Dir: c.dir}
		}
		return p, err
	}
	return h.External.Compile(sp, external.Overlay(overlay), c.rec.ID, c.dir)
}

// compileExec makes the plan of a command in the container of a launch.
func compileExec(launch embedded.Prepared, sp *specs.Spec, p *specs.Process) (embedded.Prepared, error) {
	if launch.External == nil {
		return embedded.CompileExec(sp, p)
	}
	return external.CompileExec(*launch.External, sp, p)
}

// execCgroup makes the cgroup of a command. Some external runtimes put it there
// before it runs.
func execCgroup(cg *cgroup.Cgroup, p embedded.Prepared, name string) (*cgroup.Cgroup, error) {
	if p.External != nil && p.External.ExecCgroup {
		return cg.WholeChild(name)
	}
	return cg.Child(name)
}

// withCommand is a plan of the container's own exec with other arguments.
func withCommand(p embedded.Prepared, plan []byte, args []string) ([]byte, error) {
	if p.External == nil {
		return embedded.WithCommand(plan, args)
	}
	return external.WithCommand(plan, args, p.OOMScoreAdj)
}

// deleteExternal makes an external runtime forget the container; idempotent.
func (c *Container) deleteExternal(ctx context.Context) error {
	if c.rec.Launch.External == nil {
		return nil
	}
	c.stopping.Lock() // two calls would run the hooks twice
	defer c.stopping.Unlock()
	return external.Delete(ctx, c.rec.Launch.External)
}

// forgetExternal is deleteExternal at the removal of the container.
func (c *Container) forgetExternal(ctx context.Context) error {
	if c.rec.Launch.External == nil {
		return nil
	}
	c.stopping.Lock()
	defer c.stopping.Unlock()
	return external.Forget(ctx, c.rec.Launch.External)
}

// deleteStrangers deletes what external runtimes know and no record tells of.
func (s *Service) deleteStrangers(ctx context.Context) error {
	var errs []error
	for _, r := range s.settings.Load().Handlers.External() {
		list, err := r.Strangers(func(id string) bool { _, err := s.index.Get(id); return err == nil })
		errs = append(errs, err)
		for _, c := range list {
			s.Log.Warn("deleting a container without record", "handler", r.Name, "id", c.ID)
			errs = append(errs, external.Forget(ctx, &c))
		}
	}
	return errors.Join(errs...)
}

// updateExternal tells an external runtime of limits that the cgroup has already.
func (c *Container) updateExternal(ctx context.Context, r *specs.LinuxResources) error {
	if c.rec.Launch.External == nil {
		return nil
	}
	return external.Update(ctx, c.rec.Launch.External, r)
}
