package container

import (
	"context"
	"fmt"

	"github.com/berth-cri/berth/runtime/pod"
	"github.com/berth-cri/berth/runtime/spec"
	"github.com/berth-cri/berth/undo"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Plugins are asked and told at the steps of a container's life (package nri).
// They are called with no lock held, and come back in bounded time. What only
// tells them has no error: nothing could be done about it.
type Plugins interface {
	Hold() (release func()) // see pod.Plugins
	// CreateContainer is called under a Hold. It may change the spec, all but its
	// resources: a change of those is returned.
	CreateContainer(ctx context.Context, p *pod.Pod, c *Container, sp *specs.Spec) (Change, error)
	ContainerCreated(ctx context.Context, c *Container)
	StartContainer(ctx context.Context, c *Container) error
	ContainerStarted(ctx context.Context, c *Container)
	// UpdateContainer returns what is to become of the change.
	UpdateContainer(ctx context.Context, c *Container, change Change) (Change, error)
	ContainerUpdated(ctx context.Context, c *Container)
	// StopContainer and RemoveContainer are told once, however often they are
	// called, and only of containers that were created before plugins' eyes.
	StopContainer(ctx context.Context, c *Container)
	RemoveContainer(ctx context.Context, c *Container)
}

// noPlugins is a node without.
type noPlugins struct{}

func (noPlugins) Hold() func() { return func() {} }
func (noPlugins) CreateContainer(context.Context, *pod.Pod, *Container, *specs.Spec) (Change, error) {
	return Change{}, nil
}
func (noPlugins) ContainerCreated(context.Context, *Container)     {}
func (noPlugins) StartContainer(context.Context, *Container) error { return nil }
func (noPlugins) ContainerStarted(context.Context, *Container)     {}
func (noPlugins) UpdateContainer(_ context.Context, _ *Container, change Change) (Change, error) {
	return change, nil
}
func (noPlugins) ContainerUpdated(context.Context, *Container) {}
func (noPlugins) StopContainer(context.Context, *Container)    {}
func (noPlugins) RemoveContainer(context.Context, *Container)  {}

// spec builds the OCI spec of a container and lets plugins change it; they hear
// of the end of one that they saw and that is not finished.
func (s *Service) spec(ctx context.Context, p *pod.Pod, c *Container, in spec.Input, u *undo.Stack) (*specs.Spec, error) {
	sp, err := spec.Build(in)
	if err != nil {
		return nil, err
	}
	if err := ready(p); err != nil { // a stop of the pod has passed by meanwhile
		return nil, err
	}
	u.Push("tell plugins of the end", func(ctx context.Context) error {
		s.Plugins.StopContainer(ctx, c)
		s.Plugins.RemoveContainer(ctx, c)
		return nil
	})
	change, err := s.Plugins.CreateContainer(ctx, p, c, sp)
	if err != nil {
		return nil, fmt.Errorf("plugins: %w", err)
	}
	if sp.Linux.CgroupsPath != c.rec.Cgroup {
		if c.rec.Cgroup, err = s.Cgroups.Chosen(sp.Linux.CgroupsPath, c.rec.Cgroup); err != nil {
			return nil, fmt.Errorf("plugins: %w", err)
		}
	}
	if change.empty() {
		return sp, nil
	}
	return sp, s.adjust(c, sp, change)
}

// adjust makes a change of limits part of a container that is being created.
func (s *Service) adjust(c *Container, sp *specs.Spec, change Change) error {
	now, err := s.changed(c, &Limits{
		Config: c.rec.Config.GetLinux().GetResources(), Resources: sp.Linux.Resources, OOMScoreAdj: sp.Process.OOMScoreAdj,
	}, change)
	if err != nil {
		return fmt.Errorf("plugins: %w", err)
	}
	sp.Linux.Resources, sp.Process.OOMScoreAdj = now.Resources, now.OOMScoreAdj
	return c.writeLimits(now)
}
