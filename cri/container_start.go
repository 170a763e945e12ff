package cri

import (
	"context"
	"fmt"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// StartContainer. CRI: from CREATED only.
func (s *Server) StartContainer(ctx context.Context, r *runtimeapi.StartContainerRequest) (*runtimeapi.StartContainerResponse, error) {
	if err := s.Containers.Start(ctx, r.GetContainerId()); err != nil {
		return nil, fmt.Errorf("start container %s: %w", r.GetContainerId(), err)
	}
	return &runtimeapi.StartContainerResponse{}, nil
}
