package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/berth-cri/berth/fault"
	"github.com/berth-cri/berth/linux"
	"github.com/berth-cri/berth/runtime/cgroup"
	"github.com/berth-cri/berth/runtime/spec"
	"github.com/berth-cri/berth/undo"
	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Update changes the limits of a container that was created or runs, as a client
// wishes and plugins let it, all or nothing. What the change does not speak of
// stays. A memory limit below what is used now is refused: the kernel would kill
// for it.
func (s *Service) Update(ctx context.Context, id string, limits *runtimeapi.LinuxContainerResources) error {
	c, err := s.index.Get(id)
	if err != nil {
		return err
	}
	change := Change{Limits: limits}
	if err := updatable(c.Status().State); err != nil {
		return err
	}
	if _, err := s.changed(c, c.Limits(), change); err != nil {
		return err // plugins are not asked about nonsense
	}
	if change, err = s.Plugins.UpdateContainer(ctx, c, change); err != nil {
		return fmt.Errorf("plugins: %w", err)
	}
	if err := s.update(ctx, c, change); err != nil {
		return err
	}
	s.Plugins.ContainerUpdated(ctx, c)
	return nil
}

// Set is Update without asking plugins: for what they wish themselves.
func (s *Service) Set(ctx context.Context, id string, change Change) error {
	c, err := s.index.Get(id)
	if err != nil {
		return err
	}
	return s.update(ctx, c, change)
}

func updatable(st State) error {
	switch st {
	case Created, Starting, Running:
		return nil
	}
	return &TransitionError{From: st, Event: "update resources"}
}

func (s *Service) update(ctx context.Context, c *Container, change Change) error {
	c.updating.Lock()
	defer c.updating.Unlock()
	for c.Status().State == Starting { // a start is short
		if err := pause(ctx, c, 2*time.Millisecond); err != nil {
			return fmt.Errorf("wait for the start of container %s: %w", c.rec.ID, err)
		}
	}
	state := c.Status().State
	if err := updatable(state); err != nil {
		return err
	}
	old := c.Limits()
	now, err := s.changed(c, old, change)
	if err != nil {
		return err
	}
	var u undo.Stack
	// Half an update is none: it goes on when the client has gone away.
	ctx = context.WithoutCancel(ctx)
	if state == Running {
		err = precondition(s.apply(ctx, c, old, now, &u))
	}
	if err == nil {
		err = fault.Hit("container.update.record")
	}
	if err == nil {
		err = c.storeLimits(now)
	}
	return u.Run(ctx, err)
}

// changed are the limits after a valid change.
func (s *Service) changed(c *Container, old *Limits, change Change) (*Limits, error) {
	cfg := merged(old.Config, change.Limits)
	if change.OOMScoreAdj != nil {
		cfg.OomScoreAdj = int64(*change.OOMScoreAdj)
	}
	if err := spec.ValidateResources("linux", cfg); err != nil {
		return nil, err
	}
	host := s.settings.Load().Spec.Host
	translated, err := spec.Resources(cfg, host)
	if err != nil {
		return nil, fmt.Errorf("linux.%w", err)
	}
	translated.Devices = old.Resources.Devices
	carry(translated, old.Resources)
	carry(translated, change.More)
	adj := spec.OOMScoreAdj(cfg, host)
	return &Limits{Version: recordVersion, Config: cfg, Resources: translated, OOMScoreAdj: &adj}, nil
}

// apply gives the limits to the running container, and the old ones back to the
// undo stack.
func (s *Service) apply(ctx context.Context, c *Container, old, now *Limits, u *undo.Stack) error {
	cg := s.Cgroups.Load(c.rec.Cgroup)
	restore, err := cg.Change(settable(now.Resources))
	if err != nil {
		return err
	}
	u.Push("set the old limits", func(context.Context) error { return restore() })
	u.Push("tell the runtime of the old limits", func(ctx context.Context) error { return c.updateExternal(ctx, old.Resources) })
	if err := c.updateExternal(ctx, settable(now.Resources)); err != nil {
		return err
	}
	if old.OOMScoreAdj != nil && *old.OOMScoreAdj == *now.OOMScoreAdj {
		return nil
	}
	if old.OOMScoreAdj != nil {
		u.Push("set the old oom_score_adj", func(context.Context) error { return setOOMScore(cg, *old.OOMScoreAdj) })
	}
	return setOOMScore(cg, *now.OOMScoreAdj)
}

// settable are the limits that a living cgroup takes.
func settable(r *specs.LinuxResources) *specs.LinuxResources {
	all := *r
	all.Devices = nil // fixed at creation
	if r.Memory != nil {
		m, check := *r.Memory, true
		m.CheckBeforeUpdate = &check
		all.Memory = &m
	}
	return &all
}

// setOOMScore changes every process of a container; those that are born later
// inherit it.
func setOOMScore(cg *cgroup.Cgroup, adj int) error {
	pids, err := cg.Pids()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		err := linux.WriteKernel("/proc/"+strconv.Itoa(pid)+"/oom_score_adj", strconv.Itoa(adj))
		switch {
		case errors.Is(err, unix.ESRCH), errors.Is(err, os.ErrNotExist): // it has ended
		case errors.Is(err, unix.EACCES):
			return fmt.Errorf("linux.oom_score_adj: %d: to go lower takes CAP_SYS_RESOURCE: %w: %w", adj, err, errdefs.ErrFailedPrecondition)
		case err != nil:
			return fmt.Errorf("linux.oom_score_adj: %w", err)
		}
	}
	return nil
}
