package pod

import (
	"context"
	"fmt"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Resources are what a ready pod as a whole may use since the kubelet has
// changed its cgroup. The configuration keeps what it was made with, so that
// the same request for it is still known.
type Resources struct {
	Overhead *runtimeapi.LinuxContainerResources `json:"overhead,omitempty"`
	Sum      *runtimeapi.LinuxContainerResources `json:"resources,omitempty"` // of all containers
}

// Update takes note of them when plugins do not object; the cgroup is the kubelet's.
func (s *Service) Update(ctx context.Context, id string, overhead, sum *runtimeapi.LinuxContainerResources) error {
	p, err := s.index.Get(id)
	if err != nil {
		return err
	}
	now := &Resources{Overhead: overhead, Sum: sum}
	if err := updatable(p.Record()); err != nil {
		return err
	}
	if err := s.Plugins.UpdatePod(ctx, p, now); err != nil {
		return fmt.Errorf("plugins: %w", err)
	}
	err = p.change(func(r *Record) error {
		if err := updatable(r); err != nil {
			return err
		}
		r.Resources = now
		return nil
	})
	if err == nil {
		s.Plugins.PodUpdated(ctx, p)
	}
	return err
}

func updatable(r *Record) error {
	if r.State != Ready {
		return &TransitionError{From: r.State, Event: "update resources"}
	}
	return nil
}
