package cri

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// RemoveContainer. CRI: a running container is forcibly ended first; no error
// when there is no such container.
func (s *Server) RemoveContainer(ctx context.Context, r *runtimeapi.RemoveContainerRequest) (*runtimeapi.RemoveContainerResponse, error) {
	err := s.Containers.Remove(ctx, r.GetContainerId())
	if err != nil && !errdefs.IsNotFound(err) {
		return nil, fmt.Errorf("remove container %s: %w", r.GetContainerId(), err)
	}
	return &runtimeapi.RemoveContainerResponse{}, nil
}
