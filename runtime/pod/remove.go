package pod

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/berth-cri/berth/fault"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Remove stops the pod when it is not stopped, and removes it; clear removes
// its containers. ErrNotFound when there is no such pod.
func (s *Service) Remove(ctx context.Context, id string, drain, clear func(ctx context.Context, pod string) error) error {
	p, err := s.index.Get(id)
	if err != nil {
		return err
	}
	id = p.Record().ID
	if err := s.Stop(ctx, id, drain); err != nil {
		return err
	}
	return s.remove(ctx, p, clear)
}

// remove takes a stopped pod away, once for all who ask.
func (s *Service) remove(ctx context.Context, p *Pod, clear func(ctx context.Context, pod string) error) error {
	id := p.Record().ID
	waiting := func() string { return "removal of sandbox " + id }
	_, err := s.join(ctx, "remove "+id, stopLimit, waiting, func(ctx context.Context) (string, error) {
		if _, err := s.index.Get(id); err != nil {
			return "", nil // another call has removed it since
		}
		if err := p.move(Remove); err != nil {
			return "", err
		}
		if err := clear(ctx, id); err != nil {
			return "", fmt.Errorf("remove containers of pod sandbox: %w", err)
		}
		if err := fault.Hit("pod.remove.record"); err != nil {
			return "", err
		}
		defer s.Plugins.Hold()()
		s.Plugins.RemovePod(ctx, p)
		return "", s.forget(p)
	})
	return err
}

// forget removes the pod's directory, the record first: a directory without a
// record is nobody's, and the next start removes it.
func (s *Service) forget(p *Pod) error {
	if err := os.Remove(p.File(recordFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove pod record: %w", err)
	}
	if err := os.RemoveAll(p.dir); err != nil {
		return fmt.Errorf("remove pod directory: %w", err)
	}
	r := p.Record()
	s.SELinux.Release(r.Labels)
	s.index.Remove(r.ID, r.Name)
	if r.State != Creating { // of which nobody has heard
		p.changed(runtimeapi.ContainerEventType_CONTAINER_DELETED_EVENT)
	}
	return nil
}
