package nri

import (
	"context"
	"fmt"

	"github.com/berth-cri/berth/runtime/container"
	"github.com/berth-cri/berth/runtime/pod"
	lib "github.com/containerd/nri/pkg/adaptation"
	"github.com/containerd/nri/pkg/api"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// CreateContainer is for container.Plugins, as are the others here.
func (s *Service) CreateContainer(ctx context.Context, p *pod.Pod, c *container.Container, sp *specs.Spec) (none container.Change, err error) {
	if !s.active() {
		return none, nil
	}
	s.known.add(c.Record().ID) // also if one refuses: another has heard of it
	n := s.containerOf(c, sp)
	reply, err := s.lib.CreateContainer(ctx, &api.CreateContainerRequest{Pod: podOf(p), Container: n})
	if err != nil {
		return none, refused(ctx, err)
	}
	remove(reply.GetAdjust(), sp, n)
	change, err := s.adjust(sp, reply.GetAdjust())
	if err != nil {
		return none, err
	}
	_, err = s.apply(ctx, reply.GetUpdate())
	return change, err
}

func (s *Service) ContainerCreated(ctx context.Context, c *container.Container) {
	s.tell(c, "PostCreateContainer", func(p *api.PodSandbox, c *api.Container) error {
		return s.lib.PostCreateContainer(ctx, &api.PostCreateContainerRequest{Pod: p, Container: c})
	})
}

func (s *Service) StartContainer(ctx context.Context, c *container.Container) error {
	defer s.Hold()()
	if !s.active() {
		return nil
	}
	p, n, err := s.both(c)
	if err != nil {
		return err
	}
	if err := s.lib.StartContainer(ctx, &api.StartContainerRequest{Pod: p, Container: n}); err != nil {
		return fmt.Errorf("plugins: %w", refused(ctx, err))
	}
	s.known.setStarted(n.Id)
	return nil
}

func (s *Service) ContainerStarted(ctx context.Context, c *container.Container) {
	k := s.known.get(c.Record().ID)
	if k == nil {
		return
	}
	k.alive(func() { // its process may have ended, and plugins have heard of it
		s.tell(c, "PostStartContainer", func(p *api.PodSandbox, c *api.Container) error {
			return s.lib.PostStartContainer(ctx, &api.PostStartContainerRequest{Pod: p, Container: c})
		})
	})
}

func (s *Service) UpdateContainer(ctx context.Context, c *container.Container, change container.Change) (container.Change, error) {
	if !s.active() {
		return change, nil
	}
	p, n, err := s.both(c)
	if err != nil {
		return change, err
	}
	reply, err := s.lib.UpdateContainer(ctx, &api.UpdateContainerRequest{Pod: p, Container: n, LinuxResources: fromCRI(change.Limits)})
	if err != nil {
		return change, refused(ctx, err)
	}
	// The last is that of the container itself, nil when nobody has changed it.
	updates := reply.GetUpdate()
	if len(updates) == 0 {
		return change, nil
	}
	own := updates[len(updates)-1]
	if _, err := s.apply(ctx, updates[:len(updates)-1]); err != nil {
		return change, err
	}
	if own.GetLinux().GetResources() == nil {
		return change, nil
	}
	score := change.Limits.GetOomScoreAdj() // NRI has none in an update
	if change, err = changeOf(own.Linux.Resources); err == nil && score != 0 {
		n := int(score)
		change.OOMScoreAdj = &n
	}
	return change, err
}

func (s *Service) ContainerUpdated(ctx context.Context, c *container.Container) {
	s.tell(c, "PostUpdateContainer", func(p *api.PodSandbox, c *api.Container) error {
		return s.lib.PostUpdateContainer(ctx, &api.PostUpdateContainerRequest{Pod: p, Container: c})
	})
}

func (s *Service) StopContainer(ctx context.Context, c *container.Container) {
	defer s.Hold()()
	k := s.known.get(c.Record().ID)
	if k == nil || !s.active() {
		return
	}
	k.stop(func() {
		s.tell(c, "StopContainer", func(p *api.PodSandbox, c *api.Container) error {
			ctx := context.WithoutCancel(ctx)
			reply, err := s.lib.StopContainer(ctx, &api.StopContainerRequest{Pod: p, Container: c})
			if err == nil {
				_, err = s.apply(ctx, reply.GetUpdate())
			}
			return err
		})
	})
}

func (s *Service) RemoveContainer(ctx context.Context, c *container.Container) {
	defer s.Hold()()
	id := c.Record().ID
	k := s.known.get(id)
	if k == nil {
		return
	}
	defer s.known.forget(id)
	k.remove(func() {
		s.tell(c, "RemoveContainer", func(p *api.PodSandbox, c *api.Container) error {
			return s.lib.RemoveContainer(context.WithoutCancel(ctx), &api.RemoveContainerRequest{Pod: p, Container: c})
		})
	})
}

// tell makes a call that nothing depends on.
func (s *Service) tell(c *container.Container, call string, f func(*api.PodSandbox, *api.Container) error) {
	if !s.active() {
		return
	}
	p, n, err := s.both(c)
	if err == nil {
		err = f(p, n)
	}
	s.told(err, call, "container", c.Record().ID)
}

// both translates a container and its pod. What a broken record leaves unknown
// stays empty: plugins have to hear of an end all the same.
func (s *Service) both(c *container.Container) (*api.PodSandbox, *api.Container, error) {
	sp, err := c.Spec()
	if err != nil {
		if c.Status().State != container.Removing && c.Status().State != container.Creating && c.Status().State != container.Exited {
			return nil, nil, err
		}
		sp = &specs.Spec{}
	}
	n := s.containerOf(c, sp)
	p, err := s.Pods.Get(c.Record().Pod)
	if err != nil {
		return &api.PodSandbox{Id: c.Record().Pod}, n, nil
	}
	return podOf(p), n, nil
}

// synchronize tells a plugin that joins what there is; nothing is made or
// started meanwhile.
func (s *Service) synchronize(ctx context.Context, call lib.SyncCB) error {
	var pods []*api.PodSandbox
	for _, p := range s.Pods.List() {
		s.known.add(p.Record().ID)
		pods = append(pods, podOf(p))
	}
	var containers []*api.Container
	for _, c := range s.Containers.List() {
		if !s.ahead(c) {
			continue
		}
		sp, err := c.Spec()
		if err != nil {
			s.Log.Warn("a container without its spec is not told to a plugin", "container", c.Record().ID, "error", err)
			continue
		}
		s.known.add(c.Record().ID)
		containers = append(containers, s.containerOf(c, sp))
	}
	updates, err := call(ctx, pods, containers)
	if err != nil {
		return fmt.Errorf("synchronize: %w", err)
	}
	if _, err := s.apply(ctx, updates); err != nil {
		s.Log.Warn("not all that a plugin wishes at its start can be done", "error", err)
	}
	return nil
}

// ahead says that plugins are still to hear of the container's end, so that one
// that joins must know it.
func (s *Service) ahead(c *container.Container) bool {
	k := s.known.get(c.Record().ID)
	switch c.Status().State {
	case container.Exited:
		return k != nil && !k.stopped.Load()
	case container.Removing:
		return k != nil && !k.removed.Load()
	case container.Gone:
		return false
	}
	return true
}
